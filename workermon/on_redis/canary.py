"""The trace that canaries leave: one small hash, and their own channel."""

from __future__ import annotations

from typing import Any

import redis

from workermon import ports
from workermon.on_redis import client, keys

#: Before the name of a step, the field that counts those that did not come there.
_LOST = "lost:"

# KEYS: canary. ARGV: step, the step after it ('' for none), "<begun> <at>", time, longest break, how many were sent and
# the channel (both '' unless it is published).
_REACH = client.Script("""
local step, after, at = ARGV[1], ARGV[2], tonumber(ARGV[4])
if ARGV[6] ~= '' then
  local before = tonumber(string.match(redis.call('HGET', KEYS[1], step) or '', '^%S+ (%S+)$') or '')
  if not before or at - before > tonumber(ARGV[5]) then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.find(field, 'lost:', 1, true) == 1 then redis.call('HDEL', KEYS[1], field) end
    end
  end
  redis.call('HSET', KEYS[1], 'sent', ARGV[6])
end
redis.call('HSET', KEYS[1], step, ARGV[3])
redis.call('HDEL', KEYS[1], 'lost:' .. step)
if after ~= '' then redis.call('HINCRBY', KEYS[1], 'lost:' .. after, 1) end
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], string.match(ARGV[3], '^%S+')) end
return 1
""")


class RedisCanary:
    """``ports.Canary`` on Redis; it is heard on ``<channel>:canary``."""

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client, self._channel = redis_client, f"{channel}:canary"

    def publish(self, begun: float, at: float, sent: int) -> None:
        """Note that it is published, and publish it."""
        self._reach(ports.CANARY_STEPS[0], begun, at, str(sent), self._channel)

    def reach(self, step: str, begun: float, at: float) -> None:
        """Note that it came to a later step."""
        self._reach(step, begun, at, "", "")

    def trace(self) -> ports.Trace:
        """Return how far they came."""
        with client.guard(self._client):
            found: Any = self._client.hgetall(keys.CANARY)
        held = {name.decode(): value.decode() for name, value in found.items()}
        return ports.Trace(
            {step: ports.Reached(*map(float, held[step].split())) for step in ports.CANARY_STEPS if step in held},
            {name.removeprefix(_LOST): int(value) for name, value in held.items() if name.startswith(_LOST)},
            int(held.get("sent", 0)),
        )

    def _reach(self, step: str, begun: float, at: float, sent: str, channel: str) -> None:
        after = ports.CANARY_STEPS[ports.CANARY_STEPS.index(step) + 1 :][:1]
        _REACH.run(
            self._client,
            [keys.CANARY],
            [step, *(after or ("",)), f"{begun!r} {at!r}", repr(at), ports.CANARY_BREAK, sent, channel],
        )
