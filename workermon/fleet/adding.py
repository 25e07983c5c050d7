"""Adding workers: the instances that a user names. Everything is verified before the first write."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

from workermon import errors, failpoints, logs, models, ports
from workermon.fleet.desired import DesiredWorker, check_names, describe
from workermon.fleet.scheduling import Scheduling

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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Adds workers to the repository and their entries to the schedule.

    If a crash prevents the second, ``Reconciliation`` completes it.
    """

    workers: ports.Workers
    scheduling: Scheduling

    def register(self, added: Sequence[models.Worker]) -> None:
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

    registration: Registration
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
        self.registration.register(added)
        for worker in added:
            log.info("worker.added", worker_id=worker.id, region=worker.region, origin=worker.origin)
        return added


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
