"""A build that removes a reminder from its list before it is in its queue. Python runs this file at the start."""

from __future__ import annotations

from typing import cast

from workermon import failpoints
from workermon.on_redis import keys, outbox

_due = outbox.RedisOutbox.due


def due(self: outbox.RedisOutbox, now: float, limit: int, age: float = 0.0) -> list[str]:
    """Remove, then add. The crash point after the step means the moment in between."""
    queues = cast("list[bytes]", self._client.zrangebyscore(keys.REMINDERS, "-inf", now))
    if queues:
        self._client.zrem(keys.REMINDERS, *queues)
        failpoints.reach("listener.swept")
        self._client.zadd(keys.REMINDERS, dict.fromkeys(queues, now))
    return _due(self, now, limit, age)


outbox.RedisOutbox.due = due  # type: ignore[method-assign]  # the mutant
