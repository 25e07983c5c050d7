"""Keeps repository, schedule and EC2 consistent."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from workermon import errors, logs, models, ports, rules
from workermon.fleet.adding import Registration
from workermon.fleet.cleanup import Retiring, collected_scopes
from workermon.fleet.desired import tag_name
from workermon.fleet.discovery import Defaults, DiscoverComparison
from workermon.fleet.repairs import FleetDifference, Repair
from workermon.fleet.scheduling import Scheduling

log = logs.get(__name__)

#: Seconds. For a moment after its launch EC2 may not know an instance, so a worker this young does not count as gone.
YOUNG_FOR = 300

#: Seconds between two reconciliations by the listener.
RECONCILED_EVERY = 300.0

#: Seconds. The interval of a search by ``[discover]`` when it counts as a collection. The alert about an account and
#: region waits for three of them, so it fires at the second refusal.
SEARCH_INTERVAL = int(RECONCILED_EVERY / 2)

#: Instances that EC2 describes before they are compared: ten requests. More answers at a time only take memory.
DESCRIBED_TOGETHER = 1_000

#: Maximum ids in one line of the log.
LOGGED_IDS = 10

#: What is kept of each worker's condition, because all values of a large fleet take a gigabyte.
_CONDITIONS: Mapping[str, models.Condition] = {
    status: models.Condition(status=status) for status in get_args(models.Status)
}
_NO_DIMENSIONS: dict[str, list[models.Dimensions]] = {}

#: Repairs after which a worker is no longer monitored.
_LEAVING = frozenset({"retire", "remove"})


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciled:
    """The (possible) repairs; ``failed`` has, by the key of an account and region, why EC2 had no answer."""

    repairs: tuple[Repair, ...]
    failed: dict[str, errors.AwsError]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The stage that repairs differences between repository, schedule and EC2."""

    discover_comparison: DiscoverComparison
    registration: Registration
    scheduling: Scheduling
    retiring: Retiring
    workers: ports.Workers
    schedule: ports.Schedule
    samples: ports.Samples
    alerts: ports.Alerts
    accounts: ports.Accounts
    configurations: ports.Configurations
    ec2: ports.Ec2
    kinds: rules.Kinds
    now: ports.Clock

    def reconcile(self, *, region: str | None = None, interval: int = 60, dry_run: bool = False) -> Reconciled:
        """Repair them; ``dry_run`` changes nothing.

        ``interval`` (seconds, of new workers) and ``region`` are for ``[discover]`` without its own. If EC2 is
        unreachable, the schedule is still repaired, and ``failed`` has where and why.
        """
        at = self.now()
        fleet = {record.worker.id: _brief(record) for record in self.workers.every()}
        repairs = self._compare_schedule(fleet)
        changed = self._compare_ec2(fleet)
        configuration = self.configurations.load()
        current = dict(fleet)
        for worker in changed.updated:
            current[worker.id] = current[worker.id]._replace(worker=worker)
        defaults = Defaults(region=region, interval=interval, keep_interval=True)
        discovered = self.discover_comparison.compare(current, configuration, defaults)
        repairs = self._settled([*repairs, *changed.repairs, *discovered.repairs], configuration)
        if not dry_run:
            self._repair(fleet, repairs, [*changed.updated, *discovered.updated], discovered.added)
            self._note_search(discovered, at)
        return Reconciled(tuple(repairs), changed.failed | discovered.failed)

    def _note_search(self, comparison: FleetDifference, at: float) -> None:
        """Record where ``[discover]`` could not search, for ``status`` and the alert about that account and region.

        Where workers are collected, that is stored beside the state of their collections. If those fail too, they
        report it.
        """
        looked_at = {*comparison.searched, *comparison.failed}
        failing = {key for key, state in self.accounts.load().items() if state.failing_since is not None}
        if not comparison.failed and failing.isdisjoint({*looked_at, *map(models.search_key, looked_at)}):
            return  # nothing to record, and reading the whole fleet again takes as long as comparing it
        collected = collected_scopes(self.workers)
        refused = set()
        for key, error in comparison.failed.items():
            search_key = models.search_key(key) if key in collected else key
            if key in collected & failing:
                continue
            refused.add(search_key)
            last_error = models.CollectionError(kind=error.kind, message=str(error), at=at)
            self.accounts.note(search_key, at, SEARCH_INTERVAL, last_error)
        over = {*(looked_at - collected), *map(models.search_key, looked_at)}
        for key in sorted(over & failing - refused):
            self.accounts.note(key, at, SEARCH_INTERVAL, None)

    def _compare_schedule(self, fleet: Mapping[str, ports.Record]) -> list[Repair]:
        entries = self.schedule.ids()
        # A quarantined entry is known by its name, which ends with the id. Entries of other programs are not touched.
        broken = {name.rpartition(":")[2]: reason for name, reason in self.schedule.quarantined().items()}
        broken = {worker_id: reason for worker_id, reason in broken.items() if worker_id in entries}
        return _schedule_repairs(fleet, entries, broken)

    def _compare_ec2(self, fleet: Mapping[str, ports.Record]) -> FleetDifference:
        by_scope: dict[models.AccountRegion, list[ports.Record]] = {}
        for record in fleet.values():
            by_scope.setdefault(record.worker.scope, []).append(record)
        comparison = FleetDifference()
        for scope, records in by_scope.items():
            try:
                self._compare_scope(scope, records, comparison)
            except errors.AwsError as error:
                comparison.failed[scope.key] = error
        return comparison

    def _compare_scope(
        self, scope: models.AccountRegion, records: Sequence[ports.Record], comparison: FleetDifference
    ) -> None:
        """Add to a comparison how the workers of one account and region differ from EC2, if it answers about all."""
        at = self.now()
        differences, absent, knows_any = FleetDifference(), dict[str, ports.Record](), False
        for start in range(0, len(records), DESCRIBED_TOGETHER):
            chunk = records[start : start + DESCRIBED_TOGETHER]
            described = self.ec2.describe(scope, [record.worker.id for record in chunk])
            knows_any = knows_any or bool(described)
            for record in chunk:
                worker = record.worker
                if worker.id in described:
                    _compare_instance(record, described[worker.id], differences)
                elif at - worker.added_at > YOUNG_FOR:
                    absent[worker.id] = record
        confirmed = self.ec2.statuses(scope, list(absent)) if absent else {}
        missing = {worker_id: record for worker_id, record in absent.items() if worker_id not in confirmed}
        alive = [worker_id for worker_id, record in missing.items() if record.condition.status not in models.GONE]
        if not knows_any and not confirmed and len(alive) > 1:
            # As in a collection: wrong credentials are more likely than the end of all workers at once.
            comparison.failed[scope.key] = errors.AwsDenied(
                f"EC2 in {scope.region}",
                "it knows none of the workers there, as it would with credentials of another account",
                "check credentials, role and region; they count as terminated when their own collections find that",
            )
            missing = {worker_id: record for worker_id, record in missing.items() if worker_id not in alive}
        comparison.repairs.extend(Repair("retire", worker_id, "unknown to EC2") for worker_id in missing)
        comparison.repairs.extend(differences.repairs)
        comparison.updated.extend(differences.updated)

    def _settled(self, repairs: Sequence[Repair], configuration: models.Configuration) -> list[Repair]:
        """Return each repair once, without those that must wait, and without repairs of workers that are removed."""
        waiting = self._unnotified([repair.worker_id for repair in repairs if repair.action == "retire"], configuration)
        leaving = {repair.worker_id for repair in repairs if repair.action in _LEAVING} - waiting
        return list(
            dict.fromkeys(
                repair
                for repair in repairs
                if (repair.worker_id in leaving if repair.action in _LEAVING else repair.worker_id not in leaving)
            )
        )

    def _unnotified(self, worker_ids: Sequence[str], configuration: models.Configuration) -> set[str]:
        """Return which terminated workers must stay until their end was collected, evaluated and notified.

        Their own collections see it within an interval. If they were deleted earlier, nobody would be notified of it.
        """
        if not worker_ids:
            return set()
        return {
            worker_id
            for worker_id, basis in self.alerts.load(worker_ids).items()
            if rules.any_must_resolve(
                configuration.rules, self.kinds, basis.record.worker, basis.record.condition, basis.alerts
            )
        }

    def _repair(
        self,
        fleet: Mapping[str, ports.Record],
        repairs: Sequence[Repair],
        changed: Sequence[models.Worker],
        added: Sequence[models.Worker],
    ) -> None:
        leaving: dict[str, str] = {}
        for repair in repairs:
            if repair.action in _LEAVING:
                leaving.setdefault(repair.worker_id, repair.reason)
        current = self.workers.get([worker.id for worker in changed])
        # Workers changed since they were read are left to the next reconciliation.
        updated = {
            worker.id: worker
            for worker in changed
            if worker.id not in leaving
            and worker.id in current
            and current[worker.id].worker == fleet[worker.id].worker
        }
        for worker_id, reason in leaving.items():
            self.retiring.retire(worker_id, reason)
        unscheduled = [repair.worker_id for repair in repairs if repair.action == "unschedule"]
        # If a pause was interrupted, an alert may not have been resolved yet.
        self.samples.mark_pending([worker_id for worker_id in unscheduled if worker_id in fleet], self.now())
        self.schedule.delete(unscheduled)
        scheduled = {
            repair.worker_id: fleet[repair.worker_id].worker for repair in repairs if repair.action == "schedule"
        }
        scheduled |= {
            worker_id: worker
            for worker_id, worker in updated.items()
            if worker_id in scheduled or worker.interval != fleet[worker_id].worker.interval
        }
        self.scheduling.put_entries(
            [worker for _, worker in sorted(scheduled.items()) if worker.monitoring == "active"]
        )
        # After their entries: what a crash leaves undone between the two is found again.
        for worker in updated.values():
            self.workers.update(worker)
        self.registration.register(added)
        _log(repairs)


def _brief(record: ports.Record) -> ports.Record:
    """Return the record with nothing of its condition but the status."""
    return record._replace(condition=_CONDITIONS[record.condition.status], dimensions=_NO_DIMENSIONS)


def _log(repairs: Sequence[Repair]) -> None:
    """Log the repairs, in one line for each kind of repair: all workers of a fleet may need the same."""
    worker_ids: dict[tuple[str, str], list[str]] = {}
    for repair in repairs:
        worker_ids.setdefault((repair.action, repair.reason), []).append(repair.worker_id)
    for (action, reason), ids in worker_ids.items():
        log.info("fleet.reconciled", action=action, reason=reason, number=len(ids), worker_ids=ids[:LOGGED_IDS])


def _compare_instance(record: ports.Record, instance: models.Instance, comparison: FleetDifference) -> None:
    worker = record.worker
    if instance.status in models.GONE:
        comparison.repairs.append(Repair("retire", worker.id, "terminated"))
        return
    if record.condition.status == "terminated" and worker.monitoring == "active":
        # Its collection believed a wrong answer, such as that of another account, and deleted the entry.
        comparison.repairs.append(
            Repair("schedule", worker.id, f"it counted as terminated, but it is {instance.status}")
        )
    name = worker.name if worker.named_by_user else tag_name(instance) or worker.id
    if (name, instance.detailed) != (worker.name, worker.detailed):
        comparison.updated.append(worker.model_copy(update={"name": name, "detailed": instance.detailed}))
        comparison.repairs.append(Repair("refresh", worker.id, "its name or monitoring detail changed in EC2"))


def _schedule_repairs(
    fleet: Mapping[str, ports.Record], entries: Collection[str], broken: Mapping[str, str]
) -> list[Repair]:
    repairs = []
    for worker_id, record in fleet.items():
        if record.condition.status in models.GONE:
            continue  # its collection has deleted the entry, or will
        if record.worker.monitoring == "paused":
            if worker_id in entries:
                repairs.append(Repair("unschedule", worker_id, "paused, but it had an entry"))
        elif worker_id in broken:
            repairs.append(Repair("schedule", worker_id, f"its entry could not be read: {broken[worker_id]}"))
        elif worker_id not in entries:
            repairs.append(Repair("schedule", worker_id, "it had no entry"))
    ghosts = sorted({*entries, *broken} - set(fleet))
    return repairs + [Repair("unschedule", ghost, "an entry without a worker") for ghost in ghosts]
