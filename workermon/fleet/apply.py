"""A config file becomes the set-up: first a plan, then all of it in one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from workermon import config, errors, failpoints, logs, models, ports, rules
from workermon.alerts import lifecycle
from workermon.fleet.cleanup import Cleanup
from workermon.fleet.desired import Described, DesiredWorker, check_names, describe
from workermon.fleet.discovery import Defaults, Discovery
from workermon.fleet.members import Enrolment
from workermon.fleet.plan import ApplyOptions, ChangeReport, Plan
from workermon.fleet.price import Pricing
from workermon.fleet.scopes import Scopes

log = logs.get(__name__)

#: Races that an applied file may lose against other changes of the set-up before it fails.
MAX_APPLY_TRIES = 50

#: Workers that are removed in the one step in which a file is applied, for each takes about 0.1 ms of Redis' time. The
#: others are removed one by one after it.
MAX_REMOVED_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _FleetChanges:
    """What a part of a file changes of the fleet; ``kept`` are the ids of all workers that it lists."""

    added: tuple[models.Worker, ...] = ()
    updated: tuple[models.Worker, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The stage that makes fleet, rules and channels what a config file says."""

    discovery: Discovery
    enrolment: Enrolment
    cleanup: Cleanup
    pricing: Pricing
    workers: ports.Workers
    schedule: ports.Schedule
    alerts: ports.Alerts
    configurations: ports.Configurations
    setup: ports.Setup
    ec2: ports.Ec2
    secrets: ports.Secrets
    dispatcher: ports.Dispatcher
    kinds: rules.Kinds
    now: ports.Clock

    def plan(self, file: config.File, options: ApplyOptions) -> ChangeReport:
        """Return what ``apply`` would do with the same arguments. Raises what it would, and writes nothing."""
        return self._report(self._plan(file, options), options)

    def _plan(self, file: config.File, options: ApplyOptions) -> Plan:
        before = self.configurations.load()
        if options.revision not in (None, before.revision):
            raise errors.RevisionChanged(file.source, options.revision, before.revision)
        if options.past_silences == "refuse":
            config.check_silences(file, self.now())
        after = config.to_configuration(file, before, self.kinds)
        records = {record.worker.id: record for record in self.workers.every()}
        listed = self._changes_of_listed(file, after, records, options)
        brought = _FleetChanges()
        if file.discover is not None and options.verify:
            brought = self._brought(records, listed, after, options)
        return Plan(
            file=file,
            before=before,
            after=after,
            fleet=tuple(records.values()),
            added=(*listed.added, *brought.added),
            updated=(*listed.updated, *brought.updated),
            removed=tuple(
                worker_id for worker_id in (*listed.removed, *brought.removed) if worker_id not in brought.taken_over
            ),
            taken_over=brought.taken_over,
            skipped=listed.skipped,
        )

    def _changes_of_listed(
        self,
        file: config.File,
        after: models.Configuration,
        records: Mapping[str, ports.Record],
        options: ApplyOptions,
    ) -> _FleetChanges:
        """Return what the workers that a file lists change; raises for those that EC2 does not have."""
        desired = _desired(file, options, Scopes(after, self.secrets))
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
            kept=listed_ids,
        )

    def _brought(
        self,
        records: Mapping[str, ports.Record],
        listed: _FleetChanges,
        after: models.Configuration,
        options: ApplyOptions,
    ) -> _FleetChanges:
        """Return what ``[discover]`` changes of the fleet, beside the workers that the file lists."""
        others = {worker_id: record for worker_id, record in records.items() if worker_id not in listed.kept}
        for worker_id in listed.removed:
            # The file lists it no more: if its tags bring it, it stays.
            worker = others[worker_id].worker.model_copy(update={"found": True})
            others[worker_id] = others[worker_id]._replace(worker=worker)
        defaults = Defaults(region=options.region, interval=options.interval)
        comparison = self.discovery.compare(others, after, defaults)
        for why in comparison.failed.values():
            raise why
        removed_ids = [step.worker_id for step in comparison.steps if step.action == "remove"]
        # A terminated worker is left to a reconciliation, which waits until its end was notified.
        doubtful = [worker_id for worker_id in removed_ids if _may_be_unnotified(others[worker_id], after)]
        alive = self._alive([others[worker_id].worker for worker_id in doubtful])
        return _FleetChanges(
            added=tuple(worker for worker in comparison.added if worker.id not in listed.kept),
            updated=tuple(comparison.updated),
            removed=tuple(worker_id for worker_id in removed_ids if worker_id not in doubtful or worker_id in alive),
            taken_over=tuple(step.worker_id for step in comparison.steps if step.action == "take over"),
        )

    def apply(self, file: config.File, options: ApplyOptions) -> ChangeReport:
        """Make fleet, rules and channels what a file says, in one step; all of it is checked before.

        If two files are applied at the same time, the second is compared again with what the first one made. The
        schedule follows; if a crash leaves part of that undone, ``Reconciliation`` or the same file completes it.
        Raises ``errors.InvalidInput``, ``errors.NotFound``, ``errors.RevisionChanged`` and what EC2 raises, all before
        anything is written.
        """
        plan = self._write(file, options)
        failpoints.reach("apply.written")
        self._update_schedule(plan)
        for worker_id in plan.removed[MAX_REMOVED_AT_ONCE:]:
            self.cleanup.retire(worker_id, "removed")
        if plan.removed:
            self.cleanup.close_unused_accounts()
        changed = plan.changed
        if changed:
            self._dispatch(set(plan.before.channels) - set(plan.after.channels))
        revision = plan.after.revision if changed else plan.before.revision
        log.info("config.applied", source=file.source, revision=revision, changed=list(changed), added=len(plan.added))
        return self._report(plan, options).model_copy(update={"revision": revision})

    def _report(self, plan: Plan, options: ApplyOptions) -> ChangeReport:
        price = self.pricing.price(plan, ask=options.verify and options.count_series)
        return plan.report(self.kinds, self.secrets, price)

    def _write(self, file: config.File, options: ApplyOptions) -> Plan:
        """Plan and write until no other change of the set-up comes in between."""
        for _ in range(MAX_APPLY_TRIES):
            mark = self.setup.mark()
            plan = self._plan(file, options)
            failpoints.reach("apply.planned")
            # An empty plan is not written: files that change something would lose every race against it.
            if plan.is_empty:
                return plan
            bases = self.alerts.load(plan.removed[:MAX_REMOVED_AT_ONCE])
            if self.setup.put(_change(plan, mark, bases, self.now())):
                return plan
        raise errors.WorkermonError(file.source, f"the set-up changed {MAX_APPLY_TRIES} times meanwhile", "try again")

    def _update_schedule(self, plan: Plan) -> None:
        """Make the schedule what the set-up says, also if an earlier file was not completed."""
        entries, removed = self.schedule.ids(), set(plan.removed)
        workers = {
            record.worker.id: record.worker
            for record in plan.fleet
            if record.worker.id not in entries | removed and record.condition.status not in models.GONE
        }
        workers |= {worker.id: worker for worker in (*plan.added, *plan.updated)}
        self.enrolment.put_entries([worker for worker in workers.values() if worker.monitoring == "active"])
        failpoints.reach("apply.scheduled")
        if removed:
            self.schedule.delete(sorted(removed))
            failpoints.reach("apply.unscheduled")

    def _dispatch(self, removed_channels: Collection[str]) -> None:
        """Have everything evaluated by the new set-up at once; a sweep or a reconciliation finds what this misses."""
        try:
            self.dispatcher.evaluate(self.workers.ids())
            removed = map(models.delivery_alert, sorted(removed_channels))
            self.dispatcher.deliver(list(dict.fromkeys([*removed, *self.cleanup.orphaned_channel_alerts()])))
        except errors.RedisUnavailable as why:
            log.warning("config.not_announced", reason=str(why))

    def _alive(self, workers: Sequence[models.Worker]) -> set[str]:
        """Return which workers EC2 knows as not terminated."""
        by_scope: dict[models.AccountRegion, list[str]] = {}
        for worker in workers:
            by_scope.setdefault(worker.scope, []).append(worker.id)
        instances = (instance for scope, ids in by_scope.items() for instance in self.ec2.describe(scope, ids).values())
        return {instance.id for instance in instances if instance.status not in models.GONE}


def _changed(
    desired: DesiredWorker, worker: models.Worker, configuration: models.Configuration
) -> models.Worker | None:
    """Return a worker as the file wants it, ``None`` if it is so already."""
    after = desired.changed(worker)
    if worker.found and configuration.discover is not None:
        # The file lists it, so [discover] does not take it over.
        after = (after or worker).model_copy(update={"found": False})
    return after


def _may_be_unnotified(record: ports.Record, configuration: models.Configuration) -> bool:
    return rules.owe_end(configuration.rules, record.worker, record.condition, {})


def _change(plan: Plan, mark: str, bases: Mapping[str, ports.Basis[ports.Record]], at: float) -> ports.Change:
    return ports.Change(
        mark=mark,
        fleet={record.worker.id: record.worker for record in plan.fleet},
        added=plan.added,
        updated=plan.updated,
        leaving=[lifecycle.closing(basis, plan.before, "removed", at) for basis in bases.values()],
        configuration=plan.after if plan.changed else None,
        at=at,
    )


def _desired(file: config.File, options: ApplyOptions, scopes: Scopes) -> list[DesiredWorker]:
    """Return the workers of a file. Raises ``errors.InvalidInput`` for what no worker can be."""
    desired = []
    for place, section in enumerate(file.workers or ()):
        path = f"workers[{place}]"
        region = section.region or options.region
        if region is None:
            why = "is missing, and none is configured"
            raise errors.InvalidInput(file.where(f"{path}.region"), why, "add it, or set AWS_REGION")
        interval = section.interval or options.interval
        _check_interval(file, path, interval, options.min_interval)
        desired.append(
            DesiredWorker(
                id=section.id,
                scope=scopes.of(region, section.account),
                name=section.name,
                interval=interval,
                labels=section.labels,
                origin="file",
            )
        )
    discover = scopes.configuration.discover
    if file.discover is not None and discover is not None:
        _check_interval(file, "discover", discover.interval or options.interval, options.min_interval)
        scopes.of_discovery(discover, options.region)
    return desired


def _check_interval(file: config.File, path: str, interval: int, min_interval: int) -> None:
    if interval < min_interval:
        why = f"{interval} s is below the shortest allowed, {min_interval} s"
        raise errors.InvalidInput(file.where(f"{path}.interval"), why, "choose a longer one")
