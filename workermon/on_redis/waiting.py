"""Counts the work that waits for a sweep, in one call."""

from __future__ import annotations

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys


class CountWaiting(lua.Script[list[int]]):
    """Count the work for a sweep; return the numbers in the order of ``ports.Waiting``."""

    configuration: lua.Key
    workers: lua.Key
    silences: lua.Key
    failing: lua.Key
    pending: lua.Key
    outbox: lua.Key
    reminders: lua.Key
    escalations: lua.Key
    now: lua.Argument
    written_by: lua.Argument
    latest: lua.Argument
    latest_escalation: lua.Argument


class RedisWaitingWork:
    """``ports.WaitingWork`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def look(self, now: float, age: float) -> ports.Waiting:
        """Count what waits."""
        counting = CountWaiting(
            configuration=keys.CONFIGURATION,
            workers=keys.WORKERS,
            silences=keys.SILENCES,
            failing=keys.FAILING_CHANNELS,
            pending=keys.PENDING,
            outbox=keys.OUTBOX,
            reminders=keys.REMINDERS,
            escalations=keys.ESCALATIONS,
            now=repr(now),
            written_by=repr(now - age),
            latest=repr(now + models.MAX_LEAD),
            latest_escalation=repr(now + models.MAX_ESCALATION + models.MAX_LEAD),
        )
        return ports.Waiting(*client.run_directly(self._client, counting))
