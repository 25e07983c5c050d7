"""Retires terminated workers: their entry in the schedule is deleted, so they are no longer collected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import logs, models, ports
from workermon.collect.account_run import Run

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Retirement:
    """Unschedules the terminated workers of one run."""

    run: Run
    workers: ports.Workers
    schedule: ports.Schedule

    def retire(self, workers: Mapping[str, models.Worker]) -> None:
        """Unschedule these workers, by id."""
        self.schedule.delete(list(workers))
        log.info("worker.retired", region=self.run.scope.region, worker_ids=list(workers))
        # A worker that was added again meanwhile (perhaps in another account) must keep its entry.
        added_again = [
            record.worker
            for worker_id, record in self.workers.get(list(workers)).items()
            if record.worker.incarnation != workers[worker_id].incarnation and record.worker.monitoring == "active"
        ]
        if added_again:
            self.schedule.put(added_again, self.run.at)
