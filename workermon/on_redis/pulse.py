"""Signs of life and counts."""

from __future__ import annotations

from typing import Any

import redis

from workermon.on_redis import client, keys

#: Seconds without a mark after which the listener has been away.
BREAK = 30

# KEYS: pulse. ARGV: part, time, longest break.
_MARK = client.Script("""
if ARGV[1] == 'listener' then
  local had = redis.call('HGET', KEYS[1], 'listener')
  if not had or tonumber(ARGV[2]) - tonumber(had) > tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[1], 'listener:since', ARGV[2])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
""")


class RedisPulse:
    """``ports.Pulse`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def mark(self, part: str, at: float) -> None:
        """Note that a part did its work."""
        _MARK.run(self._client, [keys.PULSE], [part, repr(at), BREAK])

    def marks(self) -> dict[str, float]:
        """Return when each part last did its work."""
        with client.guard(self._client):
            found: Any = self._client.hgetall(keys.PULSE)
        return {part.decode(): float(at) for part, at in found.items() if part != b"listener:since"}

    def monitoring_since(self) -> float | None:
        """Return since when the listener marks itself without a break."""
        with client.guard(self._client):
            found: Any = self._client.hget(keys.PULSE, "listener:since")
        return float(found) if found else None

    def count(self, what: str, number: int = 1) -> None:
        """Count something; where the connection breaks it may be counted twice."""
        with client.guard(self._client):
            self._client.hincrby(keys.COUNTS, what, number)

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        with client.guard(self._client):
            found: Any = self._client.hgetall(keys.COUNTS)
        return {what.decode(): int(number) for what, number in found.items()}
