"""Beat's signs of life, read without Celery: commands that only read need none of it."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models, settings
from workermon.on_redis import client, keys, unreadable_records


class RedisBeatStatus:
    """``ports.BeatStatus`` on Redis. A value that is not a number counts as absent, because beat writes it again."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def last_tick(self) -> float | None:
        """Return when beat last looked for due entries. A stock RedBeat shows it by extending its lock each time."""
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            pipe.get(settings.SCHEDULE_TICK)
            pipe.pttl(keys.BEAT_LOCK)
            pipe.time()
            replies: list[Any] = pipe.execute()
        raw, lock_milliseconds, (seconds, microseconds) = replies
        ticked = _number(raw)
        times = [] if ticked is None else [ticked]
        if lock_milliseconds > 0:
            extended_ago = max(0.0, settings.BEAT_LOCK_SECONDS - lock_milliseconds / 1000)
            times.append(seconds + microseconds / 1e6 - extended_ago)
        return max(times, default=None)

    def canaries(self) -> models.Sent | None:
        """Return how many canaries beat has sent. A stock RedBeat sends none."""
        with client.guard(self._client):
            fields: Any = self._client.hmget(settings.SCHEDULE_CANARY, "at", "times")
        at, times = map(_number, fields)
        return None if at is None else models.Sent(at, int(times or 0))


def _number(raw: bytes | None) -> float | None:
    try:
        return None if raw is None else unreadable_records.finite(raw)
    except ValueError:
        return None
