"""How much is sent to each channel: a token bucket in Redis, so that it survives its senders."""

from __future__ import annotations

import redis

from workermon import lua, models
from workermon.on_redis import client, keys

#: Seconds. An unused bucket is full by then, so it need not be kept.
LIFETIME = 3600

#: Seconds. A refused sender asks again within that time, however many wait.
MAX_WAIT = 30.0

#: Seconds after which the count of refused senders starts again.
COUNT_WINDOW = 30.0


class TakeMessage(lua.Script[bytes]):
    """Take a token for one message to a channel. Return the seconds to wait."""

    bucket: lua.Key
    capacity: lua.Argument
    rate: lua.Argument
    critical: lua.Argument
    now: lua.Argument
    lifetime: lua.Argument
    longest_wait: lua.Argument
    count_window: lua.Argument
    max_lead: lua.Argument


class PauseChannel(lua.Script[int]):
    """Send no message to a channel until a given time, unless it is already paused for longer."""

    bucket: lua.Key
    now: lua.Argument
    paused_until: lua.Argument
    lifetime: lua.Argument
    max_lead: lua.Argument


class OpenWindow(lua.Script[bytes]):
    """Return when the group window of a notification closes. Open a new one if none is open."""

    window: lua.Key
    created: lua.Argument
    next_close: lua.Argument
    lifetime_milliseconds: lua.Argument
    max_lead: lua.Argument


class RedisThrottle:
    """``ports.Throttle`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def take(self, channel: str, limit: models.Limit, *, critical: bool, now: float) -> float:
        """Take a token, or return how long to wait."""
        taking = TakeMessage(
            bucket=keys.throttle(channel),
            capacity=limit.bucket,
            rate=limit.rate,
            critical=int(critical),
            now=repr(now),
            lifetime=LIFETIME,
            longest_wait=MAX_WAIT,
            count_window=COUNT_WINDOW,
            max_lead=models.MAX_LEAD,
        )
        return float(client.run(self._client, taking))

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group of a notification created at that time closes."""
        opening = OpenWindow(
            window=keys.window(group),
            created=repr(created),
            next_close=repr(now + wait),
            lifetime_milliseconds=int(1000 * (4 * wait + 60)),
            max_lead=models.MAX_LEAD,
        )
        return float(client.run(self._client, opening))

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Send nothing to a channel for that long."""
        pausing = PauseChannel(
            bucket=keys.throttle(channel),
            now=repr(now),
            paused_until=repr(now + seconds),
            lifetime=LIFETIME,
            max_lead=models.MAX_LEAD,
        )
        client.run(self._client, pausing)
