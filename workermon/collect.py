"""Collect: identifiers in, AWS asked, samples in the ledger and an event for each on the channel.

One call for up to 100 instances and 500 metrics of an account and region, and none that cannot bring something new
(``windows``). Three outcomes never blur: a datapoint, no datapoint (nothing is written for it) and failure
(``Trouble``, and what failed is asked for again from where it was). A slot of a worker is claimed before AWS is asked,
so that what is dispatched twice is collected once; a claim that nothing came of runs out.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workermon import bill, errors, failpoints, logs, metrics, models, ports, scheduled, states, windows
from workermon import bulkhead as bulkheads

log = logs.get(__name__)

#: Seconds. Newly launched ids may be unknown to some of EC2's servers for a moment (eventual consistency).
SETTLING = 300

#: Seconds. How long a metric's dimensions are taken for granted, and how long that there are none: an agent that was
#: just installed shows up in ListMetrics within 15 minutes.
DIMENSIONS = 3600
NO_DIMENSIONS = 300

#: Workers of one batch that are looked up one by one; more of them are listed together, with all of their region.
FEW = 5
#: So many never seen before are looked up one by one in a batch while the listing of their region is not due.
NEWCOMERS = 20
#: So many that lack a metric are looked up in each ``NO_DIMENSIONS`` seconds, over all batches of a region.
LOOKUPS = 2

#: Seconds. While one lists a region's metrics no other does; how long until it is tried again where AWS refused.
LISTING = 120
REFUSED = 300

#: Seconds. Half an interval, but no less and no more than this, is how long a claim holds: a later run within the slot
#: finds it expired where its holder died.
CLAIM = (10, 120)

#: Seconds. EC2 knowing none of several workers looks like credentials of another account, unless it lasts this long.
ESTRANGED = 3600

#: Seconds between two looks at what the day costs.
REVIEWED = 60

EC2 = "AWS/EC2"

#: What a record of an account and region must not keep once a worker is removed.
_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")

Dimensions = tuple[tuple[str, str], ...]


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


class _Listing(NamedTuple):
    """What is known of ListMetrics of one metric over a region.

    ``at`` is when all of it was listed last, ``spent_at`` when workers that lack it were last looked up one by one;
    ``wrong`` is why it could not be listed at ``refused_at``.
    """

    at: float = 0.0
    spent_at: float = 0.0
    refused_at: float = 0.0
    wrong: errors.AwsError | None = None

    @classmethod
    def of(cls, value: Any) -> _Listing:
        try:
            at, spent_at, refused_at, wrong = value
            return cls(float(at), float(spent_at), float(refused_at), _KINDS[wrong[0]](*wrong[1:4]) if wrong else None)
        except (TypeError, ValueError, KeyError, IndexError):
            return cls()

    def kept(self) -> list[Any]:
        why = self.wrong
        return [self.at, self.spent_at, self.refused_at, [why.kind, why.what, why.why, why.todo] if why else None]

    def news(self, at: float) -> bool:
        return at in (self.at, self.refused_at)

    def refused_lately(self, at: float) -> bool:
        return self.wrong is not None and 0 <= at - self.refused_at < REFUSED

    def why(self, at: float) -> errors.AwsError | None:
        """Return why it could not be listed, also while somebody tries again."""
        return self.wrong if 0 <= at - self.refused_at < DIMENSIONS else None

    def covers(self, worker: models.Worker) -> bool:
        """Tell whether what it does not have of a worker is not there."""
        return worker.added_at < self.at


_KINDS: dict[str, type[errors.AwsError]] = {
    each.kind: each for each in (errors.AwsError, errors.AwsThrottled, errors.AwsUnreachable, errors.AwsDenied)
}

#: Records read from the repository at once.
CHUNK = 500


def collect(
    worker_ids: Sequence[str],
    *,
    ec2: ports.Ec2,
    cloudwatch: ports.CloudWatch,
    workers: ports.Workers,
    samples: ports.Samples,
    schedule: ports.Schedule,
    configurations: ports.Configurations,
    learnt: ports.Learnt,
    leases: ports.Leases,
    now: ports.Clock,
    again: bool = False,
    costs: ports.Costs | None = None,
    scopes: ports.Scopes | None = None,
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
    stretch = _stretch(costs, configuration, now()) if costs is not None else {}
    outcome = _Outcome()
    with contextlib.closing(_turns(records, bulkhead, workers)) as turns:
        for scope, members in turns:
            at = now()
            due = members if again else _claimed(members, samples, at, outcome)
            failpoints.reach("collect.claimed")
            if due:
                run = _Run(
                    scope, at, again, configuration, ec2, cloudwatch, workers, samples, schedule, learnt, leases,
                    outcome, stretch,
                )  # fmt: skip
                run.collect(due)
                if scopes is not None:
                    scopes.note(scope.key, at, min(record.worker.interval for record in due), run.trouble())
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
    before = costs.stretch()
    idle = configuration.budget is None and before.budget is None
    if idle or (before.budget == configuration.budget and 0 <= at - before.at < REVIEWED):
        return before.factors
    hours = costs.hours(min(at // models.DAY * models.DAY, at - bill.LOOK_BACK))
    state = bill.spending(configuration, hours, at, before.factors)
    factors = bill.stretch(configuration, state)
    after = models.Stretch(
        at=at,
        factors=factors,
        weights=bill.weights(configuration, factors),
        projected=round(bill.projected(state, factors), 4),
        budget=configuration.budget,
        since=at if factors != before.factors else before.since,
    )
    if not costs.decide(after, before):
        return before.factors  # somebody else has just decided, and it is in force in a moment
    if factors != before.factors:
        say = log.warning if factors else log.info
        say("budget.stretched", factors=factors, projected=after.projected, budget=configuration.budget)
    return factors


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


def _by_scope(records: Iterable[ports.Record]) -> dict[models.Scope, list[ports.Record]]:
    scopes: dict[models.Scope, list[ports.Record]] = {}
    for record in records:
        scopes.setdefault(record.worker.scope, []).append(record)
    return scopes


def _turns(
    records: Mapping[str, ports.Record], bulkhead: bulkheads.Bulkhead | None, workers: ports.Workers
) -> Generator[tuple[models.Scope, list[ports.Record]]]:
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

    scope: models.Scope
    at: float
    again: bool
    configuration: models.Configuration
    ec2: ports.Ec2
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    samples: ports.Samples
    schedule: ports.Schedule
    learnt: ports.Learnt
    leases: ports.Leases
    outcome: _Outcome
    #: How many periods of a metric are let go by between two looks, for the budget's sake.
    stretch: Mapping[str, int] = field(default_factory=dict)
    #: Why collections failed as a whole, and whether one of a running worker did not.
    refusals: list[errors.AwsError] = field(default_factory=list)
    succeeded: bool = False
    #: What was learnt of this account and region so far, and what this run adds to it.
    known: dict[str, Any] = field(default_factory=dict)
    lessons: dict[str, Any] = field(default_factory=dict)
    #: By metric, period and interval, of each place.
    delays: dict[tuple[str, int, int], tuple[list[windows.Delay | None], list[float | None]]] = field(
        default_factory=dict
    )

    def collect(self, records: Sequence[ports.Record]) -> None:
        """Ask EC2, then CloudWatch for those that run, then write."""
        try:
            statuses = self.ec2.statuses(self.scope, [record.worker.id for record in records])
        except errors.WorkermonError as why:
            self._failed(records, _of_aws(why))
            return
        missing = [record for record in records if record.worker.id not in statuses]
        statuses = self._reasons(records, statuses) | self._missing(missing, alone=not statuses)
        seen = [record for record in records if record.worker.id in statuses]
        running = [record for record in seen if statuses[record.worker.id].status == "running"]
        found = self._metrics(running) if running else {}
        self._write([(record, statuses[record.worker.id], found.get(record.worker.id, _Found())) for record in seen])

    def trouble(self) -> models.Trouble | None:
        """Return why nothing could be collected here, ``None`` where something could.

        That EC2 does not know a worker is no trouble of its account and region.
        """
        if self.succeeded or not self.refusals:
            return None
        why = self.refusals[0]
        return models.Trouble(kind=why.kind, message=_INSTANCE.sub("an instance", str(why)), at=self.at)

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
            self._failed(records, _of_aws(why))
            return {}
        statuses: dict[str, models.InstanceStatus] = {}
        strange = self._strange(records) if alone and not known and len(records) > 1 else None
        for record in records:
            worker = record.worker
            if strange is not None and not self._lasted(record, str(strange), ESTRANGED):
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
            and states.wonders(record.condition, now.status, self.at)
        ]
        if not wondered:
            return statuses
        try:
            known = self.ec2.describe(self.scope, wondered)
        except errors.WorkermonError as why:
            log.warning("collect.no_reasons", scope=self.scope.key, number=len(wondered), reason=str(_of_aws(why)))
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
            f"check the credentials, role and region; after {ESTRANGED // 60} minutes they count as terminated",
        )

    def _lasted(self, record: ports.Record, message: str, seconds: int) -> bool:
        trouble = record.condition.trouble
        if trouble is None or trouble.message != message or trouble.since is None:
            return False
        return self.at - trouble.since >= seconds

    # --- CloudWatch ----------------------------------------------------------------------------------------------

    def _metrics(self, records: Sequence[ports.Record]) -> dict[str, _Found]:
        found = {record.worker.id: _Found() for record in records}
        self.known = self.learnt.load(self.scope)
        dimensions = self._dimensions(records, found)
        asked: list[_Asked] = []
        lateness = self.configuration.lateness
        for record in records:
            mine = found[record.worker.id]
            for metric in self._wanted():
                period = metrics.period_of(metric, detailed=record.worker.detailed)
                mine.periods[metric.name] = period
                delay, absent = self._delay(record, metric.name, period)
                mine.delays[metric.name] = windows.patience(
                    delay, period=period, interval=record.worker.interval, lateness=lateness
                )
                if metric.name in mine.wrong or not self._is_due(record, metric.name, period, absent):
                    continue
                sets = dimensions[record.worker.id].get(_key(metric))
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
        self.learnt.save(self.scope, self.lessons)
        return found

    def _wanted(self) -> list[models.Metric]:
        catalogue = self.configuration.metrics
        return [catalogue[name] for name in self.configuration.collect if name in catalogue]

    def _since(self, record: ports.Record, metric: str, period: int) -> tuple[int, int]:
        condition = record.condition
        return windows.since(
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
                mine.wrong[metric] = _of_aws(wrong)
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
        return windows.is_due(
            condition.expected.get(metric),
            condition.asked.get(metric),
            self.at,
            period=period,
            interval=record.worker.interval,
            absent=absent,
            stretch=self.stretch.get(metric, 1),
        )

    def _delay(self, record: ports.Record, metric: str, period: int) -> tuple[windows.Delay | None, float | None]:
        """Return what is learnt that this look can use, and up to which age a datapoint is surely absent."""
        expected, interval = record.condition.expected.get(metric), record.worker.interval
        if expected is None:
            return None, None
        delays, absent = self._delays(metric, period, interval)
        place = windows.place(interval, expected, self.at)
        return delays[place], absent[place]

    def _delays(self, metric: str, period: int, interval: int) -> tuple[list[windows.Delay | None], list[float | None]]:
        found = self.delays.get((metric, period, interval))
        if found is None:
            names = [windows.name(metric, period, interval, place) for place in range(windows.PLACES)]
            delays = [windows.Delay.of(self.known.get(name)) for name in names]
            found = self.delays[metric, period, interval] = delays, windows.absent(delays, interval)
        return found

    def _learn(self, records: Sequence[ports.Record], found: Mapping[str, _Found]) -> None:
        """Note what each metric waits for from now on, and how the datapoints waited for appeared."""
        sights: dict[tuple[str, int, int, int], list[windows.Sight]] = {}
        lateness = self.configuration.lateness
        for record in records:
            mine, condition = found[record.worker.id], record.condition
            for metric in mine.answered:
                period, interval = mine.periods[metric], record.worker.interval
                came = mine.series[metric].points if metric in mine.series else ()
                latest = _newest(condition.latest.get(metric), came)
                mine.expected[metric] = windows.expected(latest, came, period=period, lateness=lateness)
                if self.again or interval > period or condition.periods.get(metric) != period:
                    continue
                # Only what follows the newest teaches; what fills a gap is late by itself.
                before = condition.latest.get(metric)
                waited = None if before is None else before.at + period
                seen = windows.sight(
                    waited, condition.asked.get(metric), self.at, came, period=period, interval=interval,
                    lateness=lateness,
                )  # fmt: skip
                if seen is not None:
                    place = windows.place(interval, seen.expected, self.at)
                    sights.setdefault((metric, period, interval, place), []).append(seen)
            for metric in mine.refused:
                mine.expected[metric] = None
        for (metric, period, interval, place), each in sights.items():
            known = self._delays(metric, period, interval)[0][place]
            after = windows.learn(known, each, period=period, interval=interval)
            if after is not None and after != known:
                self.lessons[windows.name(metric, period, interval, place)] = list(after)

    # --- dimensions ----------------------------------------------------------------------------------------------

    def _dimensions(
        self, records: Sequence[ports.Record], found: Mapping[str, _Found]
    ) -> dict[str, dict[str, list[Dimensions]]]:
        """Return every dimension set by worker and key; a key that nobody looked for yet is left out.

        Metrics that ListMetrics failed for are noted as wrong, unless what was known before still serves.
        """
        wanted = {_key(metric): metric for metric in self._wanted()}
        agents = {key: metric for key, metric in wanted.items() if metric.namespace != EC2}
        sets: dict[str, dict[str, list[Dimensions]]] = {}
        for record in records:
            own: list[Dimensions] = [(("InstanceId", record.worker.id),)]
            sets[record.worker.id] = {
                **{key: own for key in wanted if key not in agents},
                **{key: record.dimensions[key] for key in agents if key in record.dimensions},
            }
        if not agents:
            return sets
        listings = {key: _Listing.of(self.known.get(f"listing:{key}")) for key in agents}
        if len(records) > FEW:
            self._list_all(agents, listings, records, sets)
        looked_up = self._look_up(agents, listings, records, sets)
        for record in records:
            for metric in agents.values():
                self._settle(record, metric, listings[_key(metric)], looked_up, sets, found)
        return sets

    def _settle(
        self,
        record: ports.Record,
        metric: models.Metric,
        listing: _Listing,
        looked_up: Mapping[tuple[str, str], errors.AwsError | None],
        sets: Mapping[str, dict[str, list[Dimensions]]],
        found: Mapping[str, _Found],
    ) -> None:
        """Tell apart, where no dimensions are known, that there are none, that AWS refused, and that nobody asked."""
        mine, key = sets[record.worker.id], _key(metric)
        if mine.get(key):
            return
        known = key in mine and record.dimensions_at > listing.refused_at
        why = looked_up.get((record.worker.id, key), None if known else listing.why(self.at))
        if why is not None:
            found[record.worker.id].wrong[metric.name] = why
        elif listing.covers(record.worker):
            mine.setdefault(key, [])

    def _list_all(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> None:
        """List the metrics of the whole region where that is due and nobody else does; all batches profit."""
        owner = uuid.uuid4().hex
        found: dict[str, dict[str, list[Dimensions]]] = {}
        for key, metric in agents.items():
            listing = listings[key]
            if 0 <= self.at - listing.at < DIMENSIONS or listing.refused_lately(self.at):
                continue
            name = f"listing:{self.scope.key}:{self.scope.role_arn or ''}:{key}"
            if not self.leases.hold(name, owner, LISTING):
                continue
            try:
                listed = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, None)
            except errors.WorkermonError as why:
                refusal = _of_aws(why)
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(refusal))
                listings[key] = listing._replace(refused_at=self.at, wrong=refusal)
            else:
                listings[key] = _Listing(at=self.at, spent_at=self.at)
                for worker_id, each in listed.items():
                    found.setdefault(worker_id, {})[key] = each
        self._spread(found, records, sets)
        fresh = {f"listing:{key}": listings[key].kept() for key in agents if listings[key].news(self.at)}
        # The lease is left to run out: who began before this was saved must not list it all again.
        self.learnt.save(self.scope, fresh)

    def _spread(
        self,
        found: Mapping[str, dict[str, list[Dimensions]]],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> None:
        """Hand what was listed to every worker that it is of, also those of other batches."""
        own = {record.worker.id: record for record in records}
        others = [worker_id for worker_id in found if worker_id not in own]
        for start in range(0, len(others), CHUNK):
            own |= self.workers.get(others[start : start + CHUNK])
        for worker_id, each in found.items():
            record = own.get(worker_id)
            if record is None or record.worker.scope != self.scope:
                continue
            if worker_id in sets:
                sets[worker_id].update(each)
            merged = {**record.dimensions, **each}
            if merged != record.dimensions:
                self.workers.found_dimensions(record.worker, merged, self.at)

    def _look_up(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> dict[tuple[str, str], errors.AwsError | None]:
        """Ask ListMetrics for single workers: new ones, those that lack a metric.

        Return for each that was asked for, by id and key, why there was no answer, ``None`` where there was one.
        """
        outcome: dict[tuple[str, str], errors.AwsError | None] = {}
        asked_for = self._to_look_up(agents, listings, records, sets)
        fresh: dict[str, dict[str, list[Dimensions]]] = {}
        for key, worker_ids in asked_for.items():
            metric = agents[key]
            before = next((why for why in outcome.values() if why is not None), None)
            try:
                if before is not None and before.retryable:
                    raise before  # it would keep us waiting, or be throttled, for this one too
                listed = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, worker_ids)
            except errors.WorkermonError as why:
                outcome |= dict.fromkeys(((worker_id, key) for worker_id in worker_ids), _of_aws(why))
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(why))
                continue
            for worker_id in worker_ids:
                outcome[worker_id, key] = None
                # Who fell silent is no longer listed after three hours, and may speak again as before.
                fresh.setdefault(worker_id, {})[key] = listed.get(worker_id) or sets[worker_id].get(key, [])
        for record in records:
            mine = fresh.get(record.worker.id)
            if mine is None:
                continue
            sets[record.worker.id].update(mine)
            self.workers.found_dimensions(record.worker, {**record.dimensions, **mine}, self.at)
        return outcome

    def _to_look_up(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> dict[str, list[str]]:
        few = len(records) <= FEW
        names = {_key(metric): metric.name for metric in self._wanted()}
        wanted: dict[str, list[str]] = {}
        for key in agents:
            listing = listings[key]
            if listing.refused_lately(self.at) or not (few or listing.at):
                continue
            new, lacking, old = [], [], []
            for record in records:
                worker_id, age = record.worker.id, self.at - record.dimensions_at
                if key not in sets[worker_id] and not listing.covers(record.worker):
                    new.append(worker_id)
                elif 0 <= age < NO_DIMENSIONS:
                    continue
                elif not sets[worker_id].get(key) or self._is_silent(record, names[key]):
                    lacking.append((record.dimensions_at, worker_id))
                elif not 0 <= age < DIMENSIONS and not 0 <= self.at - listing.at < DIMENSIONS:
                    old.append(worker_id)
            if few:
                chosen = new + [worker_id for _, worker_id in lacking] + old
            else:
                chosen = new[:NEWCOMERS]
                if lacking and not 0 <= self.at - listing.spent_at < NO_DIMENSIONS:
                    chosen += [worker_id for _, worker_id in sorted(lacking)[:LOOKUPS]]
                    listings[key] = listing._replace(spent_at=self.at)
                    self.lessons[f"listing:{key}"] = listings[key].kept()
            if chosen:
                wanted[key] = chosen
        return wanted

    def _is_silent(self, record: ports.Record, metric: str) -> bool:
        condition = record.condition
        latest, asked = condition.latest.get(metric), condition.asked.get(metric)
        if latest is None or asked is None:
            return False
        return asked - latest.at > 2 * NO_DIMENSIONS + 3 * condition.periods.get(metric, 0)

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
            asked={**found.asked, metrics.STATUS_CHECK_FAILED: self.at},
        )
        # The datapoints are ours already: to validate each one again would cost a tenth of a collection.
        checked = metrics.brought(sample, self.configuration.retention)
        return sample.model_copy(update={"series": {**found.series, **checked}})

    def _condition(
        self, before: models.Condition, sample: models.Sample, found: _Found, status: models.InstanceStatus
    ) -> models.Condition:
        names = {*self.configuration.collect, metrics.STATUS_CHECK_FAILED}
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
                metrics.STATUS_CHECK_FAILED: sample.worker.interval,
            },
            asked={**{name: at for name, at in before.asked.items() if name in names}, **sample.asked},
            expected=expected,
            delays={**{name: delay for name, delay in before.delays.items() if name in names}, **found.delays},
            trouble=_trouble(found.wrong, self.at, before.trouble),
            changes=states.followed(before, sample.status, self.at, status.reason),
            events=events,
            events_at=events_at,
        )

    # --- failure -------------------------------------------------------------------------------------------------

    def _failed(self, records: Sequence[ports.Record], why: errors.AwsError) -> None:
        if why.kind != errors.InstanceGone.kind:
            self.refusals.append(why)
        self.samples.failed_many(
            [(record.worker, _told(why.kind, str(why), self.at, record.condition.trouble)) for record in records]
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


def _key(metric: models.Metric) -> str:
    """Name what ListMetrics was asked for, in the record of what it said."""
    return f"{metric.namespace}/{metric.metric_name}"


def _of_aws(why: Exception) -> errors.AwsError:
    """Return an error as one of AWS, whatever went wrong on the way there."""
    if isinstance(why, errors.AwsError):
        return why
    if isinstance(why, errors.RedisUnavailable):
        raise why
    if isinstance(why, errors.WorkermonError):
        return errors.AwsError(why.what, why.why, why.todo)
    return errors.AwsError("AWS", str(why) or type(why).__name__, "see the log")


def _trouble(wrong: Mapping[str, errors.AwsError], at: float, before: models.Trouble | None) -> models.Trouble | None:
    if not wrong:
        return None
    why = next(iter(wrong.values()))
    return _told(why.kind, f"{', '.join(sorted(wrong))}: {why}", at, before)


def _told(kind: str, message: str, at: float, before: models.Trouble | None) -> models.Trouble:
    goes_on = before is not None and before.message == message
    since = before.since if before is not None and goes_on and before.since is not None else at
    return models.Trouble(kind=kind, message=message, at=at, since=since)


def _newest(latest: models.Datapoint | None, came: Sequence[models.Datapoint]) -> models.Datapoint | None:
    return came[-1] if came and (latest is None or came[-1].at >= latest.at) else latest
