"""Counts the work that waits for a sweep, and keeps the lead, in one call."""

from __future__ import annotations

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, leases


class LeadAndCount(lua.Script[list[int]], shared="leases liveness"):
    """Extend the leader's lease and count the work for a sweep.

    Return the numbers in the order of ``ports.BacklogCounts``; return nothing if another owner holds the lease.
    """

    lease: lua.Key
    liveness: lua.Key
    configuration: lua.Key
    workers: lua.Key
    silences: lua.Key
    failing: lua.Key
    pending: lua.Key
    outbox: lua.Key
    reminders: lua.Key
    escalations: lua.Key
    owner: lua.Argument
    milliseconds: lua.Argument
    works: lua.Argument
    longest_break: lua.Argument
    now: lua.Argument
    written_by: lua.Argument
    latest: lua.Argument
    latest_escalation: lua.Argument


class RedisSweepBacklog:
    """``ports.SweepBacklog`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def look(self, claim: ports.LeaseClaim, now: float, age: float, *, works: bool) -> ports.BacklogCounts | None:
        """Extend the lease and count the work that waits."""
        looking = LeadAndCount(
            lease=keys.lease(claim.lease),
            liveness=keys.LIVENESS,
            configuration=keys.CONFIGURATION,
            workers=keys.WORKERS,
            silences=keys.SILENCES,
            failing=keys.FAILING_CHANNELS,
            pending=keys.PENDING,
            outbox=keys.OUTBOX,
            reminders=keys.REMINDERS,
            escalations=keys.ESCALATIONS,
            owner=claim.owner,
            milliseconds=leases.milliseconds(claim.seconds),
            works=int(works),
            longest_break=ports.BREAK,
            now=repr(now),
            written_by=repr(now - age),
            latest=repr(now + models.MAX_LEAD),
            latest_escalation=repr(now + models.MAX_ESCALATION + models.MAX_LEAD),
        )
        numbers = client.run(self._client, looking)
        return ports.BacklogCounts(*numbers) if numbers else None
