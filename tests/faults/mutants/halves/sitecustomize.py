"""A build that applies a file in parts: added workers first, then the rest. Python runs this file at the start."""

from __future__ import annotations

from workermon import failpoints, ports
from workermon.on_redis import setup, workers

_put = setup.RedisSetup.put


def put(self: setup.RedisSetup, change: ports.Change) -> bool:
    """Write the added workers. The crash point after the step means this part of it."""
    workers.RedisWorkers(self._client).add(change.added)
    failpoints.reach("apply.written")
    fleet = {**change.fleet, **{worker.id: worker for worker in change.added}}
    return _put(self, change._replace(added=(), fleet=fleet))


setup.RedisSetup.put = put  # type: ignore[method-assign]  # the mutant
