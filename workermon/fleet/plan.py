"""The plan: what a config file would change. Computing it checks everything, and writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from workermon import config, errors, models, ports, rules
from workermon.fleet.account_regions import discover_scopes
from workermon.fleet.desired import Described, DesiredWorker, check_names, describe
from workermon.fleet.discovery import Defaults, DiscoverComparison


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How a config file is applied.

    ``interval`` (seconds) and ``region`` are for workers without their own; ``min_interval`` is the shortest allowed.
    ``verify`` asks EC2 about new workers and for those of ``[discover]`` (otherwise a reconciliation adds them later).
    ``missing`` says how to treat workers that EC2 does not have, ``past_silences`` the same for silences that have
    ended. ``count_series`` asks CloudWatch how many series new workers have, for the price. ``revision`` must be the
    one in force; ``None`` for any.
    """

    region: str | None
    interval: int = 60
    min_interval: int = 10
    verify: bool = True
    missing: Literal["refuse", "skip"] = "refuse"
    past_silences: Literal["refuse", "keep"] = "refuse"
    count_series: bool = True
    revision: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a config file changes: the configuration ``before`` and ``after``, and the changes of the fleet.

    ``fleet`` is the present one; ``skipped`` are workers of the file that EC2 does not have, ``taken_over`` those of
    ``updated`` that belong to ``[discover]`` from now on.
    """

    file: config.File
    before: models.Configuration
    after: models.Configuration
    fleet: tuple[ports.Record, ...]
    added: tuple[models.Worker, ...]
    updated: tuple[models.Worker, ...]
    removed: tuple[str, ...]
    taken_over: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the parts of the configuration that change."""
        return tuple(
            name
            for name in models.Configuration.model_fields
            if name != "revision" and getattr(self.after, name) != getattr(self.before, name)
        )

    @property
    def is_empty(self) -> bool:
        """Return whether nothing changes."""
        return not (self.added or self.updated or self.removed or self.changed)

    def fleet_after(self) -> list[models.Worker]:
        """Return the workers that are monitored afterwards, without terminated ones."""
        present = (record.worker for record in self.fleet if record.condition.status not in models.GONE)
        workers = {worker.id: worker for worker in (*present, *self.updated, *self.added)}
        return [worker for worker in workers.values() if worker.id not in self.removed]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _FleetChanges:
    """What a part of a file changes of the fleet; ``kept_ids`` are the ids of all workers that it lists."""

    added: tuple[models.Worker, ...] = ()
    updated: tuple[models.Worker, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    kept_ids: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Compares the set-up with a config file."""

    discover_comparison: DiscoverComparison
    workers: ports.Workers
    configurations: ports.Configurations
    ec2: ports.Ec2
    secrets: ports.Secrets
    kinds: rules.Kinds
    now: ports.Clock

    def plan(self, file: config.File, options: ApplyOptions) -> Plan:
        """Return what a file changes of the set-up. Raises the same errors as ``Application.apply``."""
        before = self.configurations.load()
        if options.revision not in (None, before.revision):
            raise errors.RevisionChanged(file.source, options.revision, before.revision)
        if options.past_silences == "refuse":
            config.check_silences(file, self.now())
        after = config.to_configuration(file, before, self.kinds)
        records = {record.worker.id: record for record in self.workers.every()}
        listed_changes = self._changes_of_listed(file, after, records, options)
        discovered_changes = _FleetChanges()
        if file.discover is not None and options.verify:
            discovered_changes = self._changes_of_discovered(records, listed_changes, after, options)
        return Plan(
            file=file,
            before=before,
            after=after,
            fleet=tuple(records.values()),
            added=(*listed_changes.added, *discovered_changes.added),
            updated=(*listed_changes.updated, *discovered_changes.updated),
            removed=tuple(
                worker_id
                for worker_id in (*listed_changes.removed, *discovered_changes.removed)
                if worker_id not in discovered_changes.taken_over
            ),
            taken_over=discovered_changes.taken_over,
            skipped=listed_changes.skipped,
        )

    def _changes_of_listed(
        self,
        file: config.File,
        after: models.Configuration,
        records: Mapping[str, ports.Record],
        options: ApplyOptions,
    ) -> _FleetChanges:
        """Return the changes by the workers that a file lists. Raises for those that EC2 does not have."""
        desired = self._desired(file, options, after)
        check_names(desired, self.workers)
        new = [worker for worker in desired if worker.id not in records]
        described = describe(new, self.ec2) if options.verify else Described({}, {})
        if described.missing and options.missing == "refuse":
            raise described.not_found()
        at = self.now()
        listed_ids = frozenset(worker.id for worker in desired)
        leaving: list[str] = []
        if file.workers is not None:
            fleet = (record.worker for record in records.values())
            leaving = [worker.id for worker in fleet if worker.origin == "file" and worker.id not in listed_ids]
        existing = [(worker, records[worker.id].worker) for worker in desired if worker.id in records]
        updated = [_changed(worker, before, after) for worker, before in existing]
        return _FleetChanges(
            added=tuple(
                worker.to_worker(described.instances.get(worker.id), at)
                for worker in new
                if worker.id not in described.missing
            ),
            updated=tuple(worker for worker in updated if worker is not None),
            removed=tuple(leaving),
            skipped=tuple(described.missing),
            kept_ids=listed_ids,
        )

    def _changes_of_discovered(
        self,
        records: Mapping[str, ports.Record],
        listed_changes: _FleetChanges,
        after: models.Configuration,
        options: ApplyOptions,
    ) -> _FleetChanges:
        """Return the changes of the fleet by ``[discover]``, beside the workers that the file lists."""
        other_records = {
            worker_id: record for worker_id, record in records.items() if worker_id not in listed_changes.kept_ids
        }
        for worker_id in listed_changes.removed:
            # The file no longer lists it. If its tags match, it stays.
            worker = other_records[worker_id].worker.model_copy(update={"found_by_tag": True})
            other_records[worker_id] = other_records[worker_id]._replace(worker=worker)
        defaults = Defaults(region=options.region, interval=options.interval)
        comparison = self.discover_comparison.compare(other_records, after, defaults)
        for error in comparison.failed.values():
            raise error
        removed_ids = [repair.worker_id for repair in comparison.repairs if repair.action == "remove"]
        # A terminated worker is left to a reconciliation, which waits until its end was notified.
        doubtful = [worker_id for worker_id in removed_ids if self._may_be_unnotified(other_records[worker_id], after)]
        alive = self._alive([other_records[worker_id].worker for worker_id in doubtful])
        return _FleetChanges(
            added=tuple(worker for worker in comparison.added if worker.id not in listed_changes.kept_ids),
            updated=tuple(comparison.updated),
            removed=tuple(worker_id for worker_id in removed_ids if worker_id not in doubtful or worker_id in alive),
            taken_over=tuple(repair.worker_id for repair in comparison.repairs if repair.action == "take over"),
        )

    def _desired(self, file: config.File, options: ApplyOptions, after: models.Configuration) -> list[DesiredWorker]:
        """Return the workers of a file. Raises ``errors.InvalidInput`` for invalid ones."""
        desired = []
        for place, section in enumerate(file.workers or ()):
            path = f"workers[{place}]"
            region = section.region or options.region
            if region is None:
                reason = "is missing, and none is configured"
                raise errors.InvalidInput(file.location(f"{path}.region"), reason, "add it, or set AWS_REGION")
            interval = section.interval or options.interval
            config.check_interval(file, f"{path}.interval", interval, options.min_interval)
            desired.append(
                DesiredWorker(
                    id=section.id,
                    scope=after.account_region(region, section.account, self.secrets),
                    name=section.name,
                    interval=interval,
                    labels=section.labels,
                    origin="file",
                )
            )
        if file.discover is not None and after.discover is not None:
            interval = after.discover.interval or options.interval
            config.check_interval(file, "discover.interval", interval, options.min_interval)
            discover_scopes(after, self.secrets, options.region)
        return desired

    def _alive(self, workers: Sequence[models.Worker]) -> set[str]:
        """Return which workers EC2 knows as not terminated."""
        by_scope: dict[models.AccountRegion, list[str]] = {}
        for worker in workers:
            by_scope.setdefault(worker.scope, []).append(worker.id)
        instances = (instance for scope, ids in by_scope.items() for instance in self.ec2.describe(scope, ids).values())
        return {instance.id for instance in instances if instance.status not in models.GONE}

    def _may_be_unnotified(self, record: ports.Record, configuration: models.Configuration) -> bool:
        return rules.any_must_resolve(configuration.rules, self.kinds, record.worker, record.condition, {})


def _changed(
    desired: DesiredWorker, worker: models.Worker, configuration: models.Configuration
) -> models.Worker | None:
    """Return a worker as the file wants it; ``None`` if it is already so."""
    after = desired.changed(worker)
    if worker.found_by_tag and configuration.discover is not None:
        # The file lists it, so [discover] does not take it over.
        after = (after or worker).model_copy(update={"found_by_tag": False})
    return after
