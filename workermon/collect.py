"""Collect: identifiers in, AWS asked, samples in the ledger and an event for each on the channel.

One call for up to 100 instances and 500 metrics of an account and region. Three outcomes never blur: a datapoint, no
datapoint (nothing is written for it) and failure (``Trouble``, and what failed is asked for again from where it was).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from workermon import errors, logs, metrics, models, ports

log = logs.get(__name__)

#: Seconds. Newly launched ids may be unknown to some of EC2's servers for a moment (eventual consistency).
SETTLING = 300

#: Seconds. How long a metric's dimensions are taken for granted, and how long that there are none: an agent that was
#: just installed shows up in ListMetrics within 15 minutes.
DIMENSIONS = 3600
NO_DIMENSIONS = 300

EC2 = "AWS/EC2"

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
    """What CloudWatch brought for one worker. ``wrong`` is by metric."""

    series: dict[str, models.Series] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, errors.AwsError] = field(default_factory=dict)


class _Asked(NamedTuple):
    """A query with the worker and the metric that it is for."""

    worker_id: str
    metric: str
    query: models.Query


def collect(
    worker_ids: Sequence[str],
    *,
    ec2: ports.Ec2,
    cloudwatch: ports.CloudWatch,
    workers: ports.Workers,
    samples: ports.Samples,
    schedule: ports.Schedule,
    configurations: ports.Configurations,
    now: ports.Clock,
    again: bool = False,
) -> Report:
    """Collect these workers: state and status checks of all, metrics of those that run.

    ``again`` (somebody asked for it) collects also who is paused or whose slot is complete. What AWS refuses or does
    not answer ends up in the report and in the workers' condition; only ``errors.RedisUnavailable`` is raised.
    """
    asked = list(dict.fromkeys(worker_ids))
    records = workers.get(asked)
    unknown = [worker_id for worker_id in asked if worker_id not in records]
    _unschedule(unknown, workers, schedule, now)
    configuration = configurations.load()
    outcome = _Outcome()
    for scope, members in _by_scope(records.values()).items():
        at = now()
        due = [record for record in members if _is_due(record, at, again, outcome)]
        if due:
            run = _Run(scope, at, again, configuration, ec2, cloudwatch, workers, samples, schedule, outcome)
            run.collect(due)
    return Report(
        tuple(outcome.collected),
        tuple(outcome.repeated),
        tuple(outcome.paused),
        tuple(unknown),
        tuple(outcome.retired),
        outcome.failed,
    )


def event(
    worker: models.Worker, condition: models.Condition, configuration: models.Configuration, collected_at: float
) -> str:
    """Return the event ``worker.metrics.collected`` as JSON: the newest datapoint of each metric, ``null`` for none.

    A worker that does not run has no CloudWatch metrics. ``id`` is worker and slot.
    """
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
    return json.dumps(models.to_json(told), separators=(",", ":"), ensure_ascii=False)


def _by_scope(records: Iterable[ports.Record]) -> dict[models.Scope, list[ports.Record]]:
    scopes: dict[models.Scope, list[ports.Record]] = {}
    for record in records:
        scopes.setdefault(record.worker.scope, []).append(record)
    return scopes


def _is_due(record: ports.Record, at: float, again: bool, outcome: _Outcome) -> bool:
    worker = record.worker
    if again:
        return True
    if worker.monitoring == "paused":
        outcome.paused.append(worker.id)
        return False
    if record.condition.slot == int(at // worker.interval):
        outcome.repeated.append(worker.id)
        return False
    return True


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
    outcome: _Outcome

    def collect(self, records: Sequence[ports.Record]) -> None:
        """Ask EC2, then CloudWatch for those that run, then write."""
        try:
            statuses = self.ec2.statuses(self.scope, [record.worker.id for record in records])
        except errors.WorkermonError as why:
            self._failed(records, _of_aws(why))
            return
        statuses = statuses | self._missing([record for record in records if record.worker.id not in statuses])
        seen = [record for record in records if record.worker.id in statuses]
        running = [record for record in seen if statuses[record.worker.id].status == "running"]
        found = self._metrics(running) if running else {}
        self._write([(record, statuses[record.worker.id], found.get(record.worker.id, _Found())) for record in seen])

    # --- EC2 -----------------------------------------------------------------------------------------------------

    def _missing(self, records: Sequence[ports.Record]) -> dict[str, models.InstanceStatus]:
        """Return the status of those that DescribeInstanceStatus left out; DescribeInstances has to confirm it."""
        if not records:
            return {}
        try:
            known = self.ec2.describe(self.scope, [record.worker.id for record in records])
        except errors.WorkermonError as why:
            self._failed(records, _of_aws(why))
            return {}
        statuses: dict[str, models.InstanceStatus] = {}
        for record in records:
            worker = record.worker
            if worker.id in known:
                statuses[worker.id] = models.InstanceStatus(id=worker.id, status=known[worker.id].status)
            elif self.at - worker.added_at > SETTLING:
                statuses[worker.id] = models.InstanceStatus(id=worker.id, status="terminated")
            else:
                where = f"EC2 in {self.scope.region}"
                todo = "check its id, region and account; it is looked for again for five minutes after it was added"
                self._failed([record], errors.InstanceGone(where, f"{worker.id} is not known there", todo))
        return statuses

    # --- CloudWatch ----------------------------------------------------------------------------------------------

    def _metrics(self, records: Sequence[ports.Record]) -> dict[str, _Found]:
        found = {record.worker.id: _Found() for record in records}
        dimensions = self._dimensions(records, found)
        asked: list[_Asked] = []
        for record in records:
            mine = found[record.worker.id]
            for metric in self._wanted():
                period = mine.periods[metric.name] = metrics.period_of(metric, detailed=record.worker.detailed)
                if metric.name in mine.wrong:
                    continue
                sets = _chosen(metric, dimensions[record.worker.id][_key(metric)])
                # Nobody publishes it: absent, as far as can be known by now.
                mine.asked[metric.name] = self.at
                since = self._since(record, metric.name, period)
                asked += [_Asked(record.worker.id, metric.name, _query(record, metric, period, since, s)) for s in sets]
        if asked:
            self._fetch(asked, found)
        return found

    def _wanted(self) -> list[models.Metric]:
        catalogue = self.configuration.metrics
        return [catalogue[name] for name in self.configuration.collect if name in catalogue]

    def _since(self, record: ports.Record, metric: str, period: int) -> int:
        """Return from when on to ask: the watermark less the lateness, or a new worker's past.

        A metric that never had a datapoint is looked for as far back as a new worker's, counted from when it was last
        asked for: so a long failure of CloudWatch leaves no hole.
        """
        latest = record.condition.latest.get(metric)
        if latest is not None:
            since = min(latest.at, self.at) - metrics.LATENESS
        else:
            since = min(record.condition.asked.get(metric, record.worker.added_at), self.at) - metrics.BACKFILL
        return int(max(since, self.at - self.configuration.retention) // period) * period

    def _fetch(self, asked: Sequence[_Asked], found: Mapping[str, _Found]) -> None:
        try:
            answer = self.cloudwatch.fetch(self.scope, [each.query for each in asked], self.at)
        except errors.WorkermonError as why:
            answer = ports.Answer({}, dict.fromkeys(range(len(asked)), why))
        together: dict[tuple[str, str], list[int]] = {}
        for place, each in enumerate(asked):
            together.setdefault((each.worker_id, each.metric), []).append(place)
        for (worker_id, metric), places in together.items():
            mine = found[worker_id]
            wrong = next((answer.failed[place] for place in places if place in answer.failed), None)
            if wrong is not None:
                mine.wrong[metric] = _of_aws(wrong)
                del mine.asked[metric]
            # Of several filesystems all have to have answered: the fullest of some is not the fullest.
            if wrong is None or len(places) == 1:
                series = [answer.series[place] for place in places if place in answer.series]
                if merged := _merged(self.configuration.metrics[metric], series):
                    mine.series[metric] = models.Series(mine.periods[metric], merged)

    # --- dimensions ----------------------------------------------------------------------------------------------

    def _dimensions(
        self, records: Sequence[ports.Record], found: Mapping[str, _Found]
    ) -> dict[str, dict[str, list[Dimensions]]]:
        """Return every dimension set by worker and key; metrics that ListMetrics failed for are noted as wrong."""
        wanted = {_key(metric): metric for metric in self._wanted()}
        agents = {key: metric for key, metric in wanted.items() if metric.namespace != EC2}
        stale = [record.worker for record in records if self._is_stale(record, agents)]
        listed, wrong = self._list(agents, [worker.id for worker in stale])
        sets: dict[str, dict[str, list[Dimensions]]] = {}
        for record in records:
            worker_id = record.worker.id
            own: list[Dimensions] = [(("InstanceId", worker_id),)]
            sets[worker_id] = {key: record.dimensions.get(key, []) if key in agents else own for key in wanted}
        for worker in stale:
            fresh = {key: found_sets.get(worker.id, []) for key, found_sets in listed.items()}
            sets[worker.id] |= fresh
            if not wrong:
                self.workers.found_dimensions(worker, fresh, self.at)
            for metric in self._wanted():
                key = _key(metric)
                # What was known before still serves.
                if key in wrong and not sets[worker.id][key]:
                    found[worker.id].wrong[metric.name] = wrong[key]
        return sets

    def _list(
        self, agents: Mapping[str, models.Metric], worker_ids: Sequence[str]
    ) -> tuple[dict[str, dict[str, list[Dimensions]]], dict[str, errors.AwsError]]:
        """Return what ListMetrics says by key and worker, and by key why it did not."""
        listed: dict[str, dict[str, list[Dimensions]]] = {}
        wrong: dict[str, errors.AwsError] = {}
        for key, metric in agents.items() if worker_ids else ():
            before = next(iter(wrong.values()), None)
            if before is not None and before.retryable:
                wrong[key] = before  # it would keep us waiting, or be throttled, for this one too
                continue
            try:
                listed[key] = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, worker_ids)
            except errors.WorkermonError as why:
                wrong[key] = _of_aws(why)
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(why))
        return listed, wrong

    def _is_stale(self, record: ports.Record, agents: Iterable[str]) -> bool:
        lacking = any(not record.dimensions.get(key) for key in agents)
        age = self.at - record.dimensions_at
        # A negative age: the clock was set back.
        return bool(agents) and not 0 <= age < (NO_DIMENSIONS if lacking else DIMENSIONS)

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self, outcomes: Sequence[tuple[ports.Record, models.InstanceStatus, _Found]]) -> None:
        writes: list[tuple[models.Sample, models.Condition, str]] = []
        for record, status, found in outcomes:
            sample = self._sample(record.worker, status, found)
            condition = self._condition(record.condition, sample, found)
            writes.append((sample, condition, event(record.worker, condition, self.configuration, self.at)))
        gone = [sample.worker.id for sample, _, _ in writes if sample.status in models.GONE]
        for (sample, _, _), written in zip(writes, self.samples.write_many(writes, again=self.again), strict=True):
            if written.outcome == "gone":
                continue  # removed while we asked for it
            into = self.outcome.repeated if written.outcome == "repeated" else self.outcome.collected
            into.append(sample.worker.id)
        if gone:
            # After the sample, so that a crash in between comes by again.
            self.schedule.delete(gone)
            self.outcome.retired += gone
            log.info("worker.retired", region=self.scope.region, worker_ids=gone)
        self._report({record.worker.id: found for record, _, found in outcomes if found.wrong})

    def _sample(self, worker: models.Worker, status: models.InstanceStatus, found: _Found) -> models.Sample:
        sample = models.Sample(
            worker=worker,
            collected_at=self.at,
            status=status.status,
            checks=status.checks,
            series=found.series,
            asked={**found.asked, metrics.STATUS_CHECK_FAILED: self.at},
        )
        checked = metrics.brought(sample, self.configuration.retention).get(metrics.STATUS_CHECK_FAILED)
        if checked is None:
            return sample
        return sample.model_copy(update={"series": {**found.series, metrics.STATUS_CHECK_FAILED: checked}})

    def _condition(self, before: models.Condition, sample: models.Sample, found: _Found) -> models.Condition:
        names = {*self.configuration.collect, metrics.STATUS_CHECK_FAILED}
        latest = {name: point for name, point in before.latest.items() if name in names}
        for name, series in sample.series.items():
            newest = series.points[-1] if series.points else None
            if newest is not None and (name not in latest or newest.at >= latest[name].at):
                latest[name] = newest
        running = sample.status == "running"
        since = before.running_since if before.status == "running" else None
        return models.Condition(
            status=sample.status,
            checks=sample.checks,
            slot=sample.slot,
            collected_at=self.at,
            succeeded_at=before.succeeded_at if found.wrong else self.at,
            running_since=(self.at if since is None else since) if running else None,
            latest=latest,
            periods={
                **{name: period for name, period in before.periods.items() if name in names},
                **found.periods,
                metrics.STATUS_CHECK_FAILED: sample.worker.interval,
            },
            asked={**{name: at for name, at in before.asked.items() if name in names}, **sample.asked},
            trouble=_trouble(found.wrong, self.at),
        )

    # --- failure -------------------------------------------------------------------------------------------------

    def _failed(self, records: Sequence[ports.Record], why: errors.AwsError) -> None:
        trouble = models.Trouble(kind=why.kind, message=str(why), at=self.at)
        for record in records:
            self.samples.failed(record.worker, trouble)
            self.outcome.failed[record.worker.id] = why
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


def _query(
    record: ports.Record, metric: models.Metric, period: int, since: int, dimensions: Dimensions
) -> models.Query:
    return models.Query(
        worker_id=record.worker.id,
        metric=metric.name,
        namespace=metric.namespace,
        metric_name=metric.metric_name,
        dimensions=dimensions,
        statistic=metric.statistic,
        period=period,
        since=since,
    )


def _chosen(metric: models.Metric, sets: Sequence[Dimensions]) -> list[Dimensions]:
    """Return the sets that count: real filesystems only, and no sum of others beside those others.

    An agent may publish aggregates too, under fewer dimensions: where filesystems are told apart an aggregate mixes
    the real with the pseudo ones, and in a sum it would count twice.
    """
    named = [dict(each) for each in sets]
    if any("fstype" in each for each in named):
        named = [each for each in named if each.get("fstype", "tmpfs") not in metrics.PSEUDO_FILESYSTEMS]
    if metric.merge == "sum":
        named = [each for each in named if not any(each.items() < other.items() for other in named)]
    return [tuple(each.items()) for each in named]


def _merged(metric: models.Metric, series: Sequence[models.Series]) -> tuple[models.Datapoint, ...]:
    """Return one series of several, slot by slot."""
    if len(series) == 1:
        return series[0].points
    values: dict[int, list[float]] = {}
    for each in series:
        for at, value in each.points:
            values.setdefault(at, []).append(value)
    merge = max if metric.merge == "max" else sum
    return tuple(models.Datapoint(at, float(merge(values[at]))) for at in sorted(values))


def _of_aws(why: Exception) -> errors.AwsError:
    """Return an error as one of AWS, whatever went wrong on the way there."""
    if isinstance(why, errors.AwsError):
        return why
    if isinstance(why, errors.RedisUnavailable):
        raise why
    if isinstance(why, errors.WorkermonError):
        return errors.AwsError(why.what, why.why, why.todo)
    return errors.AwsError("AWS", str(why) or type(why).__name__, "see the log")


def _trouble(wrong: Mapping[str, errors.AwsError], at: float) -> models.Trouble | None:
    if not wrong:
        return None
    why = next(iter(wrong.values()))
    return models.Trouble(kind=why.kind, message=f"{', '.join(sorted(wrong))}: {why}", at=at)
