"""Signs of life and counts."""

from __future__ import annotations

from typing import Any

import redis

from workermon import ports
from workermon.on_redis import client, keys

#: What is kept beside the marks.
_BESIDE = {b"listener:since", b"collect:since"}

# KEYS: pulse. ARGV: part, time, longest break, whether it is a judgement that begins.
_MARK = client.Script("""
local part, at = ARGV[1], tonumber(ARGV[2])
local began = tonumber(redis.call('HGET', KEYS[1], 'listener:since') or '')
if part == 'listener' then
  local had = tonumber(redis.call('HGET', KEYS[1], 'listener') or '')
  local away = not had or at - had > tonumber(ARGV[3])
  local set_back = had and had - at > tonumber(ARGV[3]) and ARGV[4] == '0'
  if away and (had or ARGV[4] == '0') or set_back then
    redis.call('HSET', KEYS[1], 'listener:since', ARGV[2])
  end
  if set_back then redis.call('HDEL', KEYS[1], 'collect:since') end
elseif part == 'collect' and began then
  local first = tonumber(redis.call('HGET', KEYS[1], 'collect:since') or '')
  if not first or first < began then redis.call('HSET', KEYS[1], 'collect:since', ARGV[2]) end
end
if ARGV[4] == '0' then redis.call('HSET', KEYS[1], part, ARGV[2]) end
return 1
""")


class RedisPulse:
    """``ports.Pulse`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def mark(self, part: str, at: float) -> None:
        """Note that a part did its work."""
        _MARK.run(self._client, [keys.PULSE], [part, repr(at), ports.BREAK, 0])

    def judges(self, at: float) -> None:
        """Note that somebody judges, whom the listener need not have woken."""
        _MARK.run(self._client, [keys.PULSE], ["listener", repr(at), ports.BREAK, 1])

    def marks(self) -> dict[str, float]:
        """Return when each part last did its work."""
        with client.guard(self._client):
            found: Any = self._client.hgetall(keys.PULSE)
        return {part.decode(): float(at) for part, at in found.items() if part not in _BESIDE}

    def monitoring_since(self) -> float | None:
        """Return since when listener and collection are there without a break."""
        with client.guard(self._client):
            found: Any = self._client.hmget(keys.PULSE, ["listener:since", "collect:since"])
        began, first = (None if at is None else float(at) for at in found)
        if began is None:
            return None
        return first if first is not None and first >= began else began + ports.START_UP

    def count(self, what: str, number: int = 1) -> None:
        """Count something; where the connection breaks it may be counted twice."""
        with client.guard(self._client):
            self._client.hincrby(keys.COUNTS, what, number)

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        with client.guard(self._client):
            found: Any = self._client.hgetall(keys.COUNTS)
        return {what.decode(): int(number) for what, number in found.items()}
