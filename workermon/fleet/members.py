"""Adding, pausing, resuming and removing workers. Every call verifies everything before its first write."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

from workermon import errors, failpoints, logs, models, ports
from workermon.fleet.cleanup import AccountClosing, Retiring
from workermon.fleet.desired import DesiredWorker, check_names, describe
from workermon.fleet.lookup import Lookup, match, unknown_error

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How instances are added.

    ``name`` is for a single one. Without it the instance's ``Name`` tag is used, otherwise its id. ``interval`` is in
    seconds. ``verify`` asks EC2 first.
    """

    scope: models.AccountRegion
    name: str | None = None
    interval: int = 60
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    verify: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """The workers that were removed, and the instance ids that were not monitored."""

    workers: tuple[models.Worker, ...]
    unknown: tuple[str, ...]


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Adds workers to the repository and their entries to the schedule.

    If a crash prevents the second, ``Reconciliation`` completes it.
    """

    workers: ports.Workers
    scheduling: Scheduling

    def enrol(self, added: Sequence[models.Worker]) -> None:
        """Add new workers to the repository, then to the schedule."""
        if not added:
            return
        self.workers.add(added)
        failpoints.reach("add.stored")
        self.scheduling.put_entries(added)
        failpoints.reach("add.scheduled")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adding:
    """Starts to monitor instances that a user names."""

    enrolment: Enrolment
    workers: ports.Workers
    ec2: ports.Ec2
    now: ports.Clock

    def add(self, instance_ids: Sequence[str], options: AddOptions) -> tuple[models.Worker, ...]:
        """Monitor instances: all of them or none.

        Raises ``errors.InvalidInput`` for an instance that is already monitored or a name that is taken, and
        ``errors.NotFound`` with every instance that EC2 does not have.
        """
        _check_ids(instance_ids, options.name)
        if existing := self.workers.get(instance_ids):
            raise _monitored(existing)
        desired = [
            DesiredWorker(
                id=instance_id,
                scope=options.scope,
                name=options.name,
                interval=options.interval,
                labels=options.labels,
                origin="command",
            )
            for instance_id in instance_ids
        ]
        check_names(desired, self.workers)
        instances: Mapping[str, models.Instance] = {}
        if options.verify:
            described = describe(desired, self.ec2)
            if described.missing:
                raise described.not_found()
            instances = described.instances
        added = tuple(worker.to_worker(instances.get(worker.id), self.now()) for worker in desired)
        self.enrolment.enrol(added)
        for worker in added:
            log.info("worker.added", worker_id=worker.id, region=worker.region, origin=worker.origin)
        return added


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


def _with_monitoring(records: Sequence[ports.Record], monitoring: models.Monitoring) -> tuple[models.Worker, ...]:
    return tuple(record.worker.model_copy(update={"monitoring": monitoring}) for record in records)


def _check_ids(instance_ids: Sequence[str], name: str | None) -> None:
    """Raise ``errors.InvalidInput`` for input that is invalid whatever is monitored."""
    if name is not None and len(instance_ids) > 1:
        raise errors.InvalidInput("--name", f"names one worker, not {len(instance_ids)}", "add them one by one")
    for instance_id in instance_ids:
        if not models.INSTANCE_ID.fullmatch(instance_id):
            raise errors.InvalidInput(instance_id[:64], "is not an instance id", "write it as i-0abc123def4567890")
    if repeated := [worker_id for worker_id, number in collections.Counter(instance_ids).items() if number > 1]:
        raise errors.InvalidInput(", ".join(repeated), "given more than once", "name each instance once")


def _monitored(worker_ids: Collection[str]) -> errors.InvalidInput:
    verb = "is" if len(worker_ids) == 1 else "are"
    return errors.InvalidInput(
        ", ".join(worker_ids), f"{verb} monitored already", "see 'workermon show', or remove first"
    )
