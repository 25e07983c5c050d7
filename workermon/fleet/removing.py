"""Removing workers that a user names, with everything stored about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import logs, models, ports
from workermon.fleet.cleanup import AccountClosing, Retiring
from workermon.fleet.lookup import match, unknown_error

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """The workers that were removed, and the instance ids that were not monitored."""

    workers: tuple[models.Worker, ...]
    unknown: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Removing:
    """Stops monitoring workers for good."""

    retiring: Retiring
    closing: AccountClosing
    workers: ports.Workers
    schedule: ports.Schedule
    silences: ports.Silences

    def remove(self, names: Sequence[str]) -> Removed:
        """Delete workers with their datapoints, state and silences. Open alerts resolve with the reason.

        An instance id that is not monitored is skipped. A *name* that no worker has raises ``errors.UnknownWorker``,
        and then nothing is removed.
        """
        matches = match(self.workers, names)
        if unreadable := self.workers.monitored(matches.unknown):
            self.workers.reset_unreadable(sorted(unreadable))
            matches = match(self.workers, names)
        if unknown_names := [name for name in matches.unknown if not models.INSTANCE_ID.fullmatch(name)]:
            raise unknown_error(self.workers, unknown_names)
        removed = tuple(record.worker for record in matches.records)
        for worker in removed:
            self.retiring.retire(worker.id, "removed")
            log.info("worker.removed", worker_id=worker.id)
        worker_ids = {worker.id for worker in removed}
        self.silences.remove([silence.id for silence in self.silences.every() if silence.worker in worker_ids])
        self.schedule.delete(matches.unknown)  # an entry without a worker would be a ghost
        self.closing.close_unused_accounts()
        return Removed(removed, tuple(matches.unknown))
