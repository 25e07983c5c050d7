"""Pausing workers, and resuming them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import failpoints, logs, models, ports
from workermon.fleet.cleanup import AccountClosing
from workermon.fleet.lookup import Lookup
from workermon.fleet.scheduling import Scheduling

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """Stops collecting workers for a while."""

    lookup: Lookup
    closing: AccountClosing
    workers: ports.Workers
    schedule: ports.Schedule
    samples: ports.Samples
    now: ports.Clock

    def pause(self, names: Sequence[str]) -> tuple[models.Worker, ...]:
        """Stop collecting workers. A paused worker stays paused.

        Datapoints stay. Open alerts resolve with the reason at the next evaluation.
        """
        paused = _with_monitoring(self.lookup.resolve(names), "paused")
        for worker in paused:
            self.workers.update(worker)
            failpoints.reach("pause.stored")
            log.info("worker.paused", worker_id=worker.id)
        # Before the entry is deleted: after a crash here, a reconciliation finds the entry.
        self.samples.mark_pending([worker.id for worker in paused], self.now())
        failpoints.reach("pause.marked")
        self.schedule.delete([worker.id for worker in paused])
        failpoints.reach("pause.unscheduled")
        self.closing.close_unused_accounts()
        return paused


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resuming:
    """Collects paused workers again."""

    lookup: Lookup
    scheduling: Scheduling
    workers: ports.Workers
    samples: ports.Samples
    now: ports.Clock

    def resume(self, names: Sequence[str]) -> tuple[models.Worker, ...]:
        """Collect workers again. A worker that is not paused keeps its rhythm, and gets an entry if it has none."""
        resumed = _with_monitoring(self.lookup.resolve(names), "active")
        for worker in resumed:
            self.workers.update(worker)
            failpoints.reach("resume.stored")
            log.info("worker.resumed", worker_id=worker.id)
        self.scheduling.put_entries(resumed)
        failpoints.reach("resume.scheduled")
        self.samples.mark_pending([worker.id for worker in resumed], self.now())
        failpoints.reach("resume.marked")
        return resumed


def _with_monitoring(records: Sequence[ports.Record], monitoring: models.Monitoring) -> tuple[models.Worker, ...]:
    return tuple(record.worker.model_copy(update={"monitoring": monitoring}) for record in records)
