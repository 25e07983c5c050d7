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

_TAKE = client.Script.load("take_message")

_PAUSE = client.Script.load("pause_channel")


_WINDOW = client.Script.load("open_window")


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
