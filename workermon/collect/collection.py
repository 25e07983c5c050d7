"""Collect: identifiers in, AWS asked, samples in the ledger and an event for each on the channel.

One call for up to 100 instances and 500 metrics of an account and region, and none that cannot bring something new
(``windows``). Three outcomes never blur: a datapoint, no datapoint (nothing is written for it) and failure
(``Trouble``, and what failed is asked for again from where it was). A slot of a worker is claimed before AWS is asked,
so that what is dispatched twice is collected once; a claim that nothing came of runs out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workermon import costs as bill
from workermon import errors, failpoints, logs, models, ports
from workermon.collect import bulkhead as bulkheads
from workermon.collect import dimensions, polling
from workermon.config import catalogue as metrics
from workermon.rules import event as scheduled
from workermon.rules import state as states

log = logs.get(__name__)

#: Seconds. Newly launched ids may be unknown to some of EC2's servers for a moment (eventual consistency).
SETTLING = 300

#: Seconds. Half an interval, but no less and no more than this, is how long a claim holds: a later run within the slot
#: finds it expired where its holder died.
CLAIM = (10, 120)

#: Seconds. EC2 knowing none of several workers looks like credentials of another account, unless it lasts this long.
WRONG_ACCOUNT_GRACE = 3600

#: Seconds between two looks at what the day costs.
REVIEWED = 60

#: What a record of an account and region must not keep once a worker is removed.
_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")


class Report(NamedTuple):
    """What became of each worker of one collection, by id.

    ``repeated``: its slot was complete; ``unknown``: not monitored, so its schedule entry is deleted; ``retired``:
    terminated, and unscheduled. ``failed`` says why EC2 or CloudWatch did not answer for a worker; where only
    CloudWatch failed, it is among the ``collected`` too.
    """

    collected: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    failed: Mapping[str, errors.AwsError] = {}


@dataclass
class _Outcome:
    """The report while it is made."""

    collected: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    failed: dict[str, errors.AwsError] = field(default_factory=dict)


@dataclass
class _Found:
    """What CloudWatch brought for one worker, by metric.

    ``answered`` are those asked for with success, ``refused`` those asked for in vain; ``wrong`` also holds those
    that could not be asked for. ``expected`` is new for what was answered.
    """

    series: dict[str, models.Series] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    expected: dict[str, int | None] = field(default_factory=dict)
    wrong: dict[str, errors.AwsError] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    @property
    def failed(self) -> bool:
        """Tell whether it is the collection that failed, not only single metrics of it."""
        return (
            bool(self.wrong) and not self.answered and (bool(self.refused) or self.wrong.keys() >= self.periods.keys())
        )


class _Asked(NamedTuple):
    """A query with the worker and the metric that it is for; ``whole`` is from when on something may be missing."""

    worker_id: str
    metric: str
    query: models.Query
    whole: int


def collect(
    worker_ids: Sequence[str],
    *,
    ec2: ports.Ec2,
    cloudwatch: ports.CloudWatch,
    workers: ports.Workers,
    samples: ports.Samples,
    schedule: ports.Schedule,
    configurations: ports.Configurations,
    learned_delays: ports.LearnedDelays,
    leases: ports.Leases,
    now: ports.Clock,
    again: bool = False,
    costs: ports.Costs | None = None,
    accounts: ports.Accounts | None = None,
    bulkhead: bulkheads.Bulkhead | None = None,
) -> Report:
    """Collect these workers: state and status checks of all, metrics of those that run.

    ``again`` (somebody asked for it) collects also who is paused, whose slot is complete or claimed, and asks for
    every metric. What AWS refuses or does
    not answer ends up in the report and in the workers' condition; only ``errors.RedisUnavailable`` is raised.
    ``bulkhead`` may have the workers of a slow account and region wait for another thread, and hand over others' that
    waited for this one.
    """
    asked = list(dict.fromkeys(worker_ids))
    records = workers.get(asked)
    unknown = [worker_id for worker_id in asked if worker_id not in records]
    _unschedule(unknown, workers, schedule, now)
    configuration = configurations.load()
    budget_decision = _stretch(costs, configuration, now()) if costs is not None else {}
    outcome = _Outcome()
    with contextlib.closing(_turns(records, bulkhead, workers)) as turns:
        for scope, members in turns:
            at = now()
            due = members if again else _claimed(members, samples, at, outcome)
            failpoints.reach("collect.claimed")
            if due:
                run = _Run(
                    scope, at, again, configuration, ec2, cloudwatch, workers, samples, schedule,
                    learned_delays, leases,
                    outcome, budget_decision,
                )  # fmt: skip
                run.collect(due)
                if accounts is not None:
                    accounts.note(scope.key, at, min(record.worker.interval for record in due), run.last_error())
                    failpoints.reach("collect.noted")
    return Report(
        tuple(outcome.collected),
        tuple(outcome.repeated),
        tuple(outcome.paused),
        tuple(unknown),
        tuple(outcome.retired),
        outcome.failed,
    )


def _stretch(costs: ports.Costs, configuration: models.Configuration, at: float) -> Mapping[str, int]:
    """Return what the budget makes of the periods; look at what the day costs each minute, over all processes."""
    before = costs.budget_decision()
    idle = configuration.budget is None and before.budget is None
    if idle or (before.budget == configuration.budget and 0 <= at - before.at < REVIEWED):
        return before.period_multipliers
    hours = costs.hours(min(at // models.DAY * models.DAY, at - bill.LOOK_BACK))
    state = bill.spending(configuration, hours, at, before.period_multipliers)
    period_multipliers = bill.budget_decision(configuration, state)
    after = models.BudgetDecision(
        at=at,
        period_multipliers=period_multipliers,
        weights=bill.weights(configuration, period_multipliers),
        projected=round(bill.projected(state, period_multipliers), 4),
        budget=configuration.budget,
        since=at if period_multipliers != before.period_multipliers else before.since,
    )
    if not costs.decide(after, before):
        return before.period_multipliers  # somebody else has just decided, and it is in force in a moment
    if period_multipliers != before.period_multipliers:
        say = log.warning if period_multipliers else log.info
        say(
            "budget.stretched",
            period_multipliers=period_multipliers,
            projected=after.projected,
            budget=configuration.budget,
        )
    return period_multipliers


def event(
    worker: models.Worker, condition: models.Condition, configuration: models.Configuration, collected_at: float
) -> str:
    """Return the event ``worker.metrics.collected`` as JSON: the newest datapoint of each metric, ``null`` for none.

    A worker that does not run has no CloudWatch metrics. ``id`` is worker and slot.
    """
    if condition.collected_at != collected_at:
        condition = condition.model_copy(update={"collected_at": collected_at})
    if condition.status != "running":
        condition = condition.model_copy(update={"latest": {}})
    told = models.Event(
        id=f"{worker.id}:{int(collected_at // worker.interval)}",
        worker_id=worker.id,
        worker_name=worker.name,
        region=worker.region,
        collected_at=models.rfc3339(collected_at),
        status=condition.status,
        status_checks=condition.checks,
        metrics=metrics.readings(worker, condition, configuration.collect, configuration.metrics),
    )
    return told.model_dump_json(by_alias=True)


def _by_scope(records: Iterable[ports.Record]) -> dict[models.AccountRegion, list[ports.Record]]:
    accounts: dict[models.AccountRegion, list[ports.Record]] = {}
    for record in records:
        accounts.setdefault(record.worker.scope, []).append(record)
    return accounts


def _turns(
    records: Mapping[str, ports.Record], bulkhead: bulkheads.Bulkhead | None, workers: ports.Workers
) -> Generator[tuple[models.AccountRegion, list[ports.Record]]]:
    """Yield the records by account and region as the bulkhead lets them through, and those that waited for a thread."""
    for scope, members in _by_scope(records.values()).items():
        if bulkhead is None:
            yield scope, members
            continue
        turn = bulkhead.enter(scope.key, [record.worker.id for record in members])
        while turn is not None:
            try:
                others = any(worker_id not in records for worker_id in turn.worker_ids)
                found = workers.get(turn.worker_ids) if others else records
                mine = [found[worker_id] for worker_id in turn.worker_ids if worker_id in found]
                yield from _by_scope(mine).items()
            except BaseException:
                bulkhead.leave(turn, onward=False)
                raise
            turn = bulkhead.leave(turn)


def _claimed(
    records: Sequence[ports.Record], samples: ports.Samples, at: float, outcome: _Outcome
) -> list[ports.Record]:
    """Return those that are ours to collect: active, their slot neither complete nor in somebody else's hands."""
    paused = [record.worker.id for record in records if record.worker.monitoring == "paused"]
    outcome.paused += paused
    active = [record for record in records if record.worker.monitoring != "paused"]
    if not active:
        return []
    lease = min(max(min(record.worker.interval for record in active) / 2, CLAIM[0]), CLAIM[1])
    claims = samples.claim([record.worker for record in active], at, lease)
    outcome.repeated += [
        record.worker.id for record, claim in zip(active, claims, strict=True) if claim in ("complete", "taken")
    ]
    return [record for record, claim in zip(active, claims, strict=True) if claim == "claimed"]


def _unschedule(unknown: Sequence[str], workers: ports.Workers, schedule: ports.Schedule, now: ports.Clock) -> None:
    if not unknown:
        return
    log.warning("collect.unknown_workers", worker_ids=list(unknown)[:10], number=len(unknown))
    schedule.delete(unknown)
    # One of them may have been added meanwhile, and must not lose its entry to us.
    added = [record.worker for record in workers.get(unknown).values() if record.worker.monitoring == "active"]
    if added:
        schedule.put(added, now())


@dataclass
class _Run:
    """One collection of the workers of one account and region."""

    scope: models.AccountRegion
    at: float
    again: bool
    configuration: models.Configuration
    ec2: ports.Ec2
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    samples: ports.Samples
    schedule: ports.Schedule
    learned_delays: ports.LearnedDelays
    leases: ports.Leases
    outcome: _Outcome
    #: How many periods of a metric are let go by between two looks, for the budget's sake.
    budget_decision: Mapping[str, int] = field(default_factory=dict)
    #: Why collections failed as a whole, and whether one of a running worker did not.
    refusals: list[errors.AwsError] = field(default_factory=list)
    succeeded: bool = False
    #: What was learnt of this account and region so far, and what this run adds to it.
    known: dict[str, Any] = field(default_factory=dict)
    updates: dict[str, Any] = field(default_factory=dict)
    #: By metric, period and interval, of each place.
    delays: dict[tuple[str, int, int], tuple[list[polling.Delay | None], list[float | None]]] = field(
        default_factory=dict
    )

    def collect(self, records: Sequence[ports.Record]) -> None:
        """Ask EC2, then CloudWatch for those that run, then write."""
        try:
            statuses = self.ec2.statuses(self.scope, [record.worker.id for record in records])
        except errors.WorkermonError as why:
            self._failed(records, errors.of_aws(why))
            return
        missing = [record for record in records if record.worker.id not in statuses]
        statuses = self._reasons(records, statuses) | self._missing(missing, alone=not statuses)
        seen = [record for record in records if record.worker.id in statuses]
        running = [record for record in seen if statuses[record.worker.id].status == "running"]
        found = self._metrics(running) if running else {}
        self._write([(record, statuses[record.worker.id], found.get(record.worker.id, _Found())) for record in seen])

    def last_error(self) -> models.CollectionError | None:
        """Return why nothing could be collected here, ``None`` where something could.

        That EC2 does not know a worker is no trouble of its account and region.
        """
        if self.succeeded or not self.refusals:
            return None
        why = self.refusals[0]
        return models.CollectionError(kind=why.kind, message=_INSTANCE.sub("an instance", str(why)), at=self.at)

    # --- EC2 -----------------------------------------------------------------------------------------------------

    def _missing(self, records: Sequence[ports.Record], *, alone: bool) -> dict[str, models.InstanceStatus]:
        """Return the status of those that DescribeInstanceStatus left out; DescribeInstances has to confirm it.

        ``alone``: it left out everybody, so that it may be us who look into the wrong account.
        """
        if not records:
            return {}
        try:
            known = self.ec2.describe(self.scope, [record.worker.id for record in records])
        except errors.WorkermonError as why:
            self._failed(records, errors.of_aws(why))
            return {}
        statuses: dict[str, models.InstanceStatus] = {}
        strange = self._strange(records) if alone and not known and len(records) > 1 else None
        for record in records:
            worker = record.worker
            if strange is not None and not self._lasted(record, str(strange), WRONG_ACCOUNT_GRACE):
                self._failed([record], strange)
                continue
            if worker.id in known:
                found = known[worker.id]
                statuses[worker.id] = models.InstanceStatus(
                    id=worker.id, status=found.status, events=None, reason=found.reason
                )
            elif record.condition.status != "unknown" or self.at - worker.added_at > SETTLING:
                # EC2 told of it before, and two of its answers lack it now.
                statuses[worker.id] = models.InstanceStatus(
                    id=worker.id, status="terminated", events=None, reason=states.VANISHED
                )
            else:
                where = f"EC2 in {self.scope.region}"
                todo = "check its id, region and account; it is looked for again for five minutes after it was added"
                self._failed([record], errors.InstanceGone(where, f"{worker.id} is not known there", todo))
        return statuses

    def _reasons(
        self, records: Sequence[ports.Record], statuses: dict[str, models.InstanceStatus]
    ) -> dict[str, models.InstanceStatus]:
        """Return the statuses with EC2's reasons for those that ran until now; without them where it gives none."""
        wondered = [
            record.worker.id
            for record in records
            if (now := statuses.get(record.worker.id)) is not None
            and now.status != "running"
            and states.needs_reason(record.condition, now.status, self.at)
        ]
        if not wondered:
            return statuses
        try:
            known = self.ec2.describe(self.scope, wondered)
        except errors.WorkermonError as why:
            log.warning(
                "collect.no_reasons", scope=self.scope.key, number=len(wondered), reason=str(errors.of_aws(why))
            )
            return statuses
        # Of an instance that runs by this answer the reason would be of another change.
        given = {one.id: one.reason for one in known.values() if one.status in states.DOWN}
        return statuses | {
            one: statuses[one].model_copy(update={"reason": given[one]}) for one in wondered if one in given
        }

    def _strange(self, records: Sequence[ports.Record]) -> errors.AwsDenied:
        log.warning("collect.none_known", scope=self.scope.key, number=len(records))
        who = f" as {self.scope.role_arn}" if self.scope.role_arn else ""
        return errors.AwsDenied(
            f"EC2 in {self.scope.region}{who}",
            "it knows none of the workers there, as it would with credentials of another account",
            f"check credentials, role and region; after {WRONG_ACCOUNT_GRACE // 60} minutes they count as terminated",
        )

    def _lasted(self, record: ports.Record, message: str, seconds: int) -> bool:
        last_error = record.condition.last_error
        if last_error is None or last_error.message != message or last_error.since is None:
            return False
        return self.at - last_error.since >= seconds

    # --- CloudWatch ----------------------------------------------------------------------------------------------

    def _metrics(self, records: Sequence[ports.Record]) -> dict[str, _Found]:
        found = {record.worker.id: _Found() for record in records}
        self.known = self.learned_delays.load(self.scope)
        search = dimensions.Search(
            self.scope,
            self.at,
            self.cloudwatch,
            self.workers,
            self.learned_delays,
            self.leases,
            self.known,
            self.updates,
        )
        wanted = [(metric, dimensions.key_of(metric)) for metric in self._wanted()]
        published = search.find(records, [metric for metric, _ in wanted])
        for worker_id, wrong in published.wrong.items():
            found[worker_id].wrong.update(wrong)
        asked: list[_Asked] = []
        lateness = self.configuration.lateness
        for record in records:
            mine = found[record.worker.id]
            for metric, key in wanted:
                period = metric.period_for(detailed=record.worker.detailed)
                mine.periods[metric.name] = period
                delay, absent = self._delay(record, metric.name, period)
                mine.delays[metric.name] = polling.patience(
                    delay, period=period, interval=record.worker.interval, lateness=lateness
                )
                if metric.name in mine.wrong or not self._is_due(record, metric.name, period, absent):
                    continue
                sets = published.sets[record.worker.id].get(key)
                if sets is None:
                    continue  # nobody could look under what it is published: unknown, not absent
                # Where nobody publishes it, it is absent, as far as can be known by now.
                mine.asked[metric.name] = self.at
                near, whole = self._since(record, metric.name, period)
                worker_id = record.worker.id
                asked += [
                    _Asked(worker_id, metric.name, metrics.query(worker_id, metric, period, near, each), whole)
                    for each in metrics.chosen(metric, sets)
                ]
        if asked:
            self._fetch(asked, found)
            self._learn(records, found)
        self.learned_delays.save(self.scope, self.updates)
        return found

    def _wanted(self) -> list[models.Metric]:
        catalogue = self.configuration.metrics
        return [catalogue[name] for name in self.configuration.collect if name in catalogue]

    def _since(self, record: ports.Record, metric: str, period: int) -> tuple[int, int]:
        condition = record.condition
        return polling.since(
            condition.latest.get(metric),
            condition.asked.get(metric),
            record.worker.added_at,
            self.at,
            period=period,
            retention=self.configuration.retention,
            lateness=self.configuration.lateness,
        )

    def _fetch(self, asked: Sequence[_Asked], found: Mapping[str, _Found]) -> None:
        answer = self._ask([each.query for each in asked])
        # Who was silent for long was asked for its last hour only: now that it speaks, for all that may be missing.
        woken = [
            place
            for place, each in enumerate(asked)
            if each.whole < each.query.since and place in answer.series and answer.series[place].points
        ]
        if woken:
            queries = [asked[place].query.model_copy(update={"since": asked[place].whole}) for place in woken]
            more = self._ask(queries)
            answer.series.update({woken[place]: series for place, series in more.series.items()})
            answer.failed.update({woken[place]: why for place, why in more.failed.items()})
        together: dict[tuple[str, str], list[int]] = {}
        for place, each in enumerate(asked):
            together.setdefault((each.worker_id, each.metric), []).append(place)
        for (worker_id, metric), places in together.items():
            mine = found[worker_id]
            wrong = next((answer.failed[place] for place in places if place in answer.failed), None)
            if wrong is not None:
                mine.wrong[metric] = errors.of_aws(wrong)
                mine.refused.add(metric)
                del mine.asked[metric]
            else:
                mine.answered.add(metric)
            # Of several filesystems all have to have answered: the fullest of some is not the fullest.
            if wrong is None or len(places) == 1:
                series = [answer.series[place] for place in places if place in answer.series]
                if merged := metrics.merged(self.configuration.metrics[metric], series):
                    mine.series[metric] = models.Series(mine.periods[metric], merged)

    def _ask(self, queries: Sequence[models.Query]) -> ports.Answer:
        try:
            return self.cloudwatch.fetch(self.scope, queries, self.at)
        except errors.WorkermonError as why:
            return ports.Answer({}, dict.fromkeys(range(len(queries)), why))

    # --- when to ask ---------------------------------------------------------------------------------------------

    def _is_due(self, record: ports.Record, metric: str, period: int, absent: float | None) -> bool:
        condition = record.condition
        if self.again or condition.periods.get(metric) != period or condition.status != "running":
            return True
        return polling.is_due(
            condition.expected.get(metric),
            condition.asked.get(metric),
            self.at,
            period=period,
            interval=record.worker.interval,
            absent=absent,
            budget_decision=self.budget_decision.get(metric, 1),
        )

    def _delay(self, record: ports.Record, metric: str, period: int) -> tuple[polling.Delay | None, float | None]:
        """Return what is learnt that this look can use, and up to which age a datapoint is surely absent."""
        expected, interval = record.condition.expected.get(metric), record.worker.interval
        if expected is None:
            return None, None
        delays, absent = self._delays(metric, period, interval)
        place = polling.place(interval, expected, self.at)
        return delays[place], absent[place]

    def _delays(self, metric: str, period: int, interval: int) -> tuple[list[polling.Delay | None], list[float | None]]:
        found = self.delays.get((metric, period, interval))
        if found is None:
            names = [polling.name(metric, period, interval, place) for place in range(polling.PLACES)]
            delays = [polling.Delay.of(self.known.get(name)) for name in names]
            found = self.delays[metric, period, interval] = delays, polling.absent(delays, interval)
        return found

    def _learn(self, records: Sequence[ports.Record], found: Mapping[str, _Found]) -> None:
        """Note what each metric waits for from now on, and how the datapoints waited for appeared."""
        sights: dict[tuple[str, int, int, int], list[polling.Arrival]] = {}
        lateness = self.configuration.lateness
        for record in records:
            mine, condition = found[record.worker.id], record.condition
            for metric in mine.answered:
                period, interval = mine.periods[metric], record.worker.interval
                came = mine.series[metric].points if metric in mine.series else ()
                latest = _newest(condition.latest.get(metric), came)
                mine.expected[metric] = polling.expected(latest, came, period=period, lateness=lateness)
                if self.again or interval > period or condition.periods.get(metric) != period:
                    continue
                # Only what follows the newest teaches; what fills a gap is late by itself.
                before = condition.latest.get(metric)
                waited = None if before is None else before.at + period
                seen = polling.sight(
                    waited, condition.asked.get(metric), self.at, came, period=period, interval=interval,
                    lateness=lateness,
                )  # fmt: skip
                if seen is not None:
                    place = polling.place(interval, seen.expected, self.at)
                    sights.setdefault((metric, period, interval, place), []).append(seen)
            for metric in mine.refused:
                mine.expected[metric] = None
        for (metric, period, interval, place), each in sights.items():
            known = self._delays(metric, period, interval)[0][place]
            after = polling.learn(known, each, period=period, interval=interval)
            if after is not None and after != known:
                self.updates[polling.name(metric, period, interval, place)] = list(after)

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self, outcomes: Sequence[tuple[ports.Record, models.InstanceStatus, _Found]]) -> None:
        writes: list[tuple[models.Sample, models.Condition, str]] = []
        for record, status, found in outcomes:
            if found.failed:
                self.refusals.append(next(iter(found.wrong.values())))
            elif status.status == "running":
                self.succeeded = True
            sample = self._sample(record.worker, status, found)
            condition = self._condition(record.condition, sample, found, status)
            writes.append((sample, condition, event(record.worker, condition, self.configuration, self.at)))
        gone: dict[str, models.Worker] = {}
        replies = self.samples.write_many(writes, again=self.again)
        failpoints.reach("collect.written")
        for (sample, _, _), written in zip(writes, replies, strict=True):
            if written.outcome == "gone":
                continue  # removed while we asked for it
            into = self.outcome.repeated if written.outcome == "repeated" else self.outcome.collected
            into.append(sample.worker.id)
            if sample.status in models.GONE:
                gone[sample.worker.id] = sample.worker
        if gone:
            # After the sample, so that a crash in between comes by again.
            self._retire(gone)
        self._report({record.worker.id: found for record, _, found in outcomes if found.wrong})

    def _retire(self, gone: Mapping[str, models.Worker]) -> None:
        self.schedule.delete(list(gone))
        self.outcome.retired += gone
        log.info("worker.retired", region=self.scope.region, worker_ids=list(gone))
        # One of them may have been added anew meanwhile (in another account, say), and must not lose its entry to us.
        anew = [
            record.worker
            for worker_id, record in self.workers.get(list(gone)).items()
            if record.worker.incarnation != gone[worker_id].incarnation and record.worker.monitoring == "active"
        ]
        if anew:
            self.schedule.put(anew, self.at)

    def _sample(self, worker: models.Worker, status: models.InstanceStatus, found: _Found) -> models.Sample:
        sample = models.Sample(
            worker=worker,
            collected_at=self.at,
            status=status.status,
            checks=status.checks,
            asked={**found.asked, models.STATUS_CHECK_FAILED: self.at},
        )
        # The datapoints are ours already: to validate each one again would cost a tenth of a collection.
        checked = sample.ledger_series(self.configuration.retention)
        return sample.model_copy(update={"series": {**found.series, **checked}})

    def _condition(
        self, before: models.Condition, sample: models.Sample, found: _Found, status: models.InstanceStatus
    ) -> models.Condition:
        names = {*self.configuration.collect, models.STATUS_CHECK_FAILED}
        latest = {name: point for name, point in before.latest.items() if name in names}
        for name, series in sample.series.items():
            newest = series.points[-1] if series.points else None
            if newest is not None and (name not in latest or newest.at >= latest[name].at):
                latest[name] = newest
        expected = {name: at for name, at in before.expected.items() if name in names and name not in found.expected}
        expected |= {name: at for name, at in found.expected.items() if at is not None}
        running = sample.status == "running"
        since = before.running_since if before.status == "running" else None
        events, events_at = scheduled.listed(before, status.events, self.at)
        return models.Condition(
            status=sample.status,
            checks=sample.checks,
            slot=sample.slot,
            collected_at=self.at,
            succeeded_at=before.succeeded_at if found.failed else self.at,
            running_since=(self.at if since is None else since) if running else None,
            latest=latest,
            periods={
                **{name: period for name, period in before.periods.items() if name in names},
                **found.periods,
                models.STATUS_CHECK_FAILED: sample.worker.interval,
            },
            asked={**{name: at for name, at in before.asked.items() if name in names}, **sample.asked},
            expected=expected,
            delays={**{name: delay for name, delay in before.delays.items() if name in names}, **found.delays},
            last_error=_trouble(found.wrong, self.at, before.last_error),
            changes=states.append_change(before, sample.status, self.at, status.reason),
            events=events,
            events_at=events_at,
        )

    # --- failure -------------------------------------------------------------------------------------------------

    def _failed(self, records: Sequence[ports.Record], why: errors.AwsError) -> None:
        if why.kind != errors.InstanceGone.kind:
            self.refusals.append(why)
        self.samples.failed_many(
            [(record.worker, _told(why.kind, str(why), self.at, record.condition.last_error)) for record in records]
        )
        self.outcome.failed |= {record.worker.id: why for record in records}
        self._log([record.worker.id for record in records], why)

    def _report(self, found: Mapping[str, _Found]) -> None:
        told: dict[str, tuple[errors.AwsError, list[str]]] = {}
        for worker_id, each in found.items():
            why = next(iter(each.wrong.values()))
            self.outcome.failed[worker_id] = why
            told.setdefault(f"{why.kind} {why.what}", (why, []))[1].append(worker_id)
        for why, worker_ids in told.values():
            self._log(worker_ids, why)

    def _log(self, worker_ids: Sequence[str], why: errors.AwsError) -> None:
        log.warning(
            "collect.failed",
            scope=self.scope.key,
            kind=why.kind,
            reason=str(why),
            number=len(worker_ids),
            worker_ids=list(worker_ids[:10]),
        )


def _trouble(
    wrong: Mapping[str, errors.AwsError], at: float, before: models.CollectionError | None
) -> models.CollectionError | None:
    if not wrong:
        return None
    why = next(iter(wrong.values()))
    return _told(why.kind, f"{', '.join(sorted(wrong))}: {why}", at, before)


def _told(kind: str, message: str, at: float, before: models.CollectionError | None) -> models.CollectionError:
    goes_on = before is not None and before.message == message
    since = before.since if before is not None and goes_on and before.since is not None else at
    return models.CollectionError(kind=kind, message=message, at=at, since=since)


def _newest(latest: models.Datapoint | None, came: Sequence[models.Datapoint]) -> models.Datapoint | None:
    return came[-1] if came and (latest is None or came[-1].at >= latest.at) else latest
