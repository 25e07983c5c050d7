"""Scheduling workers: their entries in the schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import models, ports


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """Schedules workers."""

    workers: ports.Workers
    schedule: ports.Schedule
    now: ports.Clock

    def put_entries(self, scheduled: Sequence[models.Worker]) -> None:
        """Schedule workers. Remove the entries of those that were removed or paused meanwhile."""
        if not scheduled:
            return
        self.schedule.put(scheduled, self.now())
        records = self.workers.get([worker.id for worker in scheduled])
        active = {worker_id for worker_id, record in records.items() if record.worker.monitoring == "active"}
        if inactive := [worker.id for worker in scheduled if worker.id not in active]:
            self.schedule.delete(inactive)
