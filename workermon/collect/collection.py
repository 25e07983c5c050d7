"""Collect: takes identifiers, asks AWS, writes samples to the ledger, and publishes one event per worker.

One call serves up to 100 instances and 500 metrics of an account and region. No call is made that cannot bring anything
new (``polling``). A worker's slot is claimed before AWS is asked, so that a collection dispatched twice runs once. If
its holder writes nothing, a claim expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from workermon import costs, errors, failpoints, logs, models, ports, rules
from workermon.collect.account_run import Run
from workermon.collect.batch import Batch
from workermon.collect.bulkhead import Bulkhead
from workermon.collect.cadence import Cadences
from workermon.collect.listing_plan import ListingPlan
from workermon.collect.monitoring import MonitoringCheck
from workermon.collect.pacer import Pacer
from workermon.collect.retirement import Retirement
from workermon.collect.series import SeriesFetch
from workermon.collect.statuses import StatusLookup

log = logs.get(__name__)

#: Seconds. A claim lasts half an interval, but no less and no more than these. If its holder dies, a later run in the
#: same slot finds it expired.
MIN_CLAIM, MAX_CLAIM = 10, 120

#: Seconds between two checks of a day's costs.
BUDGET_REVIEW_EVERY = 60


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome for each worker of one collection, by id.

    ``repeated``: its slot was complete or claimed. ``unknown``: not monitored, so its schedule entry is deleted.
    ``retired``: terminated, and unscheduled. ``failed`` is the reason why EC2 or CloudWatch did not answer for a
    worker. If only CloudWatch failed, the worker is also among the ``collected``.
    """

    collected: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    failed: Mapping[str, errors.AwsError] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, parts: Sequence[Report]) -> Report:
        """Return the report of a whole collection from those of its parts."""
        return cls(
            collected=tuple(worker_id for part in parts for worker_id in part.collected),
            repeated=tuple(worker_id for part in parts for worker_id in part.repeated),
            paused=tuple(worker_id for part in parts for worker_id in part.paused),
            unknown=tuple(worker_id for part in parts for worker_id in part.unknown),
            retired=tuple(worker_id for part in parts for worker_id in part.retired),
            failed={worker_id: error for part in parts for worker_id, error in part.failed.items()},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Claims:
    """The workers of an account and region that this run collects, and the ids of the others.

    ``requested`` were named by the event queue. They are collected even if their slot is complete.
    """

    ours: Sequence[ports.Record]
    requested: Sequence[ports.Record] = ()
    paused: Sequence[str] = ()
    repeated: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The stage that collects workers: state and status checks of all, metrics of those that run."""

    ec2: ports.Ec2
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    samples: ports.Samples
    schedule: ports.Schedule
    configurations: ports.Configurations
    learned_delays: ports.LearnedDelays
    leases: ports.Leases
    costs: ports.Costs
    accounts: ports.Accounts
    cohorts: ports.Cohorts
    dispatcher: ports.Dispatcher
    status_listings: ports.StatusListings
    bulkhead: Bulkhead
    pacer: Pacer
    listing_plan: ListingPlan
    kinds: rules.Kinds
    now: ports.Clock

    def collect(self, worker_ids: Sequence[str], *, force: bool = False) -> Report:
        """Collect these workers. ``force``: a user asked for it, so paused, complete and claimed ones are included.

        What AWS refuses or does not answer is in the report and in the workers' condition. Raises only
        ``errors.RedisUnavailable``. Workers of a slow account and region may be left for another thread, and workers
        that waited for this thread may be collected as well.
        """
        unique_ids = list(dict.fromkeys(worker_ids))
        records = self.workers.get(unique_ids)
        unknown = [worker_id for worker_id in unique_ids if worker_id not in records]
        self._unschedule(unknown)
        configuration = self.configurations.load()
        multipliers = self._review_budget(configuration, self.now())
        parts = [Report(unknown=tuple(unknown))]
        with contextlib.closing(self._admitted(records)) as admitted:
            for scope, members in admitted:
                run = Run(
                    scope=scope,
                    at=self.now(),
                    force=force,
                    in_full=force,
                    configuration=configuration,
                    period_multipliers=multipliers,
                    kinds=self.kinds,
                )
                parts += self._collect_members(run, members)
        return Report.of(parts)

    def _collect_members(self, run: Run, members: Sequence[ports.Record]) -> Iterator[Report]:
        """Collect the workers of one account and region. Yield a report of the others, then one of each batch."""
        members = [self._clamped(record, run.at) for record in members]
        claims = _Claims(members) if run.force else self._claim(members, run.at)
        yield Report(paused=tuple(claims.paused), repeated=tuple(claims.repeated))
        failpoints.reach("collect.claimed")
        for batch_run, records in ((dataclasses.replace(run, force=True), claims.requested), (run, claims.ours)):
            if records:
                yield self._collect_batch(batch_run, records)

    def _collect_batch(self, run: Run, records: Sequence[ports.Record]) -> Report:
        """Collect workers whose slots are claimed, and record whether their account and region answered."""
        began = self.pacer.begin()
        interval = min(record.worker.interval for record in records)
        is_listed = not run.force and self.listing_plan.plan(
            run.scope, interval, [record.worker.id for record in records]
        )
        outcome = self._batch(run, is_listed=is_listed).collect(records)
        if not run.force:
            self.pacer.end(began, run.at)
        self.accounts.note(run.scope.key, run.at, interval, outcome.account_error)
        failpoints.reach("collect.recorded")
        return Report(
            collected=tuple(outcome.collected),
            repeated=tuple(outcome.repeated),
            retired=tuple(outcome.retired),
            failed=outcome.failed,
        )

    def _batch(self, run: Run, *, is_listed: bool) -> Batch:
        return Batch(
            run=run,
            status_lookup=StatusLookup(run, self.ec2, self.status_listings, is_listed),
            monitoring_check=MonitoringCheck(run, self.ec2, self.workers),
            series_fetch=SeriesFetch(
                run=run,
                cloudwatch=self.cloudwatch,
                workers=self.workers,
                learned_delays=self.learned_delays,
                cohorts=self.cohorts,
                cadences=Cadences(run),
                leases=self.leases,
                dispatcher=self.dispatcher,
            ),
            retirement=Retirement(run, self.workers, self.schedule),
            samples=self.samples,
        )

    def _admitted(
        self, records: Mapping[str, ports.Record]
    ) -> Generator[tuple[models.AccountRegion, list[ports.Record]]]:
        """Yield workers by account and region as the bulkhead admits them, then those that waited for a thread."""
        for scope, members in _by_scope(records.values()).items():
            place = self.bulkhead.enter(scope.key, [record.worker.id for record in members])
            while place is not None:
                try:
                    has_waited = any(worker_id not in records for worker_id in place.worker_ids)
                    current = self.workers.get(place.worker_ids) if has_waited else records
                    admitted = [current[worker_id] for worker_id in place.worker_ids if worker_id in current]
                    yield from _by_scope(admitted).items()
                except BaseException:
                    self.bulkhead.leave(place, onward=False)
                    raise
                place = self.bulkhead.leave(place)

    def _clamped(self, record: ports.Record, at: float) -> ports.Record:
        """Return a record without times in the future. They are replaced, so that they no longer have an effect."""
        clamped = record.clamped(at)
        if clamped is not record:
            log.warning("collect.times_ahead", worker_id=record.worker.id, collected_at=record.condition.collected_at)
            self.workers.restore(clamped)
        return clamped

    def _claim(self, records: Sequence[ports.Record], at: float) -> _Claims:
        """Claim the slots of the active workers. Workers whose slot is complete or claimed are not collected."""
        paused = [record.worker.id for record in records if record.worker.monitoring == "paused"]
        requested = [record for record in records if record.worker.monitoring != "paused" and record.is_requested]
        active = [record for record in records if record.worker.monitoring != "paused" and not record.is_requested]
        if not active:
            return _Claims([], requested, paused)
        lease = min(max(min(record.worker.interval for record in active) / 2, MIN_CLAIM), MAX_CLAIM)
        claims = list(zip(active, self.samples.claim([record.worker for record in active], at, lease), strict=True))
        return _Claims(
            [record for record, claim in claims if claim == "claimed"],
            requested,
            paused,
            [record.worker.id for record, claim in claims if claim in ("complete", "held")],
        )

    def _unschedule(self, unknown: Sequence[str]) -> None:
        """Delete the schedule entries of ids that are not monitored."""
        if not unknown:
            return
        log.warning("collect.unknown_workers", worker_ids=list(unknown)[:10], number=len(unknown))
        self.schedule.delete(unknown)
        # One of them may have been added meanwhile and must keep its entry.
        added = [record.worker for record in self.workers.get(unknown).values() if record.worker.monitoring == "active"]
        if added:
            self.schedule.put(added, self.now())

    def _review_budget(self, configuration: models.Configuration, at: float) -> Mapping[str, int]:
        """Return the period multipliers in force. Once a minute, over all processes, decide them again."""
        before = self.costs.budget_decision()
        idle = configuration.budget is None and before.budget is None
        if idle or (before.budget == configuration.budget and 0 <= at - before.at < BUDGET_REVIEW_EVERY):
            return before.period_multipliers
        decision = costs.decide(configuration, self.costs.hours(costs.needed_since(at)), at, before)
        if not self.costs.decide(decision, before):
            return before.period_multipliers  # another process has just decided; that decision takes effect in a moment
        if decision.period_multipliers != before.period_multipliers:
            write = log.warning if decision.period_multipliers else log.info
            write(
                "budget.stretched",
                period_multipliers=decision.period_multipliers,
                projected=decision.projected,
                budget=configuration.budget,
            )
        return decision.period_multipliers


def _by_scope(records: Iterable[ports.Record]) -> dict[models.AccountRegion, list[ports.Record]]:
    by_scope: dict[models.AccountRegion, list[ports.Record]] = {}
    for record in records:
        by_scope.setdefault(record.worker.scope, []).append(record)
    return by_scope
