"""The order in which workers come into repository and schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import failpoints, models, ports


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Puts workers into the repository and their entries into the schedule.

    If a crash leaves the second undone, ``Reconciliation`` completes it.
    """

    workers: ports.Workers
    schedule: ports.Schedule
    now: ports.Clock

    def enrol(self, added: Sequence[models.Worker]) -> None:
        """Put new workers into the repository, then into the schedule."""
        if not added:
            return
        self.workers.add(added)
        failpoints.reach("add.stored")
        self.put_entries(added)
        failpoints.reach("add.scheduled")

    def put_entries(self, scheduled: Sequence[models.Worker]) -> None:
        """Schedule workers. Take back the entries of those that were removed or paused meanwhile."""
        if not scheduled:
            return
        self.schedule.put(scheduled, self.now())
        records = self.workers.get([worker.id for worker in scheduled])
        active = {worker_id for worker_id, record in records.items() if record.worker.monitoring == "active"}
        if gone := [worker.id for worker in scheduled if worker.id not in active]:
            self.schedule.delete(gone)
