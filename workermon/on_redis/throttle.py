"""How much goes out to each channel: a token bucket in Redis, so that it survives whoever sends."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models
from workermon.on_redis import client, keys

#: Seconds. A bucket that nobody takes from is full by then, so it need not be kept.
KEPT = 3600

#: Seconds. Who is refused asks again within that time, however many wait.
LONGEST = 30.0

#: Seconds. How many were refused lately is counted anew after that time.
LATELY = 30.0

# KEYS: bucket. ARGV: capacity, rate, 1 for a critical, now, kept, longest, lately. Returns the seconds to wait.
# Those who are refused are told to come back one after another, for else all of them would ask at once.
_TAKE = client.Script("""
local capacity, rate, critical = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local now = tonumber(ARGV[4])
local field = critical and 'critical' or 'others'
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'paused', 'since', field)
local paused = tonumber(had[3])
if paused and now < paused then return string.format('%.3f', paused - now) end
local tokens = math.min(capacity, (tonumber(had[1]) or capacity) + math.max(0, now - (tonumber(had[2]) or now)) * rate)
local need = critical and 1 or 1 + math.floor(capacity / 2)
local refused = tonumber(had[5]) or 0
if now - (tonumber(had[4]) or 0) > tonumber(ARGV[7]) then
  redis.call('HDEL', KEYS[1], 'critical', 'others')
  redis.call('HSET', KEYS[1], 'since', string.format('%.3f', now))
  refused = 0
end
local wait = 0
if tokens >= need then
  tokens = tokens - 1
else
  wait = math.max(0.001, math.min(tonumber(ARGV[6]), (need - tokens + refused) / rate))
  redis.call('HSET', KEYS[1], field, refused + 1)
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return string.format('%.3f', wait)
""")

# KEYS: bucket. ARGV: until, kept.
_PAUSE = client.Script("""
if (tonumber(redis.call('HGET', KEYS[1], 'paused')) or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'paused', ARGV[1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")


# KEYS: window. ARGV: created, when a new one closes, lifetime in milliseconds. Returns when it closes.
_WINDOW = client.Script("""
local closes = redis.call('GET', KEYS[1])
if closes and tonumber(ARGV[1]) < tonumber(closes) then return closes end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
""")


class RedisThrottle:
    """``ports.Throttle`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def take(self, channel: str, limit: models.Limit, *, critical: bool, now: float) -> float:
        """Take a token, or return how long to wait."""
        reply: Any = _TAKE.run(
            self._client,
            [keys.throttle(channel)],
            [limit.bucket, limit.rate, int(critical), repr(now), KEPT, LONGEST, LATELY],
        )
        return float(reply)

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group closes that a notification created then belongs to."""
        lifetime = int(1000 * (4 * wait + 60))
        reply: Any = _WINDOW.run(self._client, [keys.window(group)], [repr(created), repr(now + wait), lifetime])
        return float(reply)

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Let nothing out for that long."""
        _PAUSE.run(self._client, [keys.throttle(channel)], [repr(now + seconds), KEPT])
