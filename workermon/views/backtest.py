"""Backtest: recorded datapoints evaluated by the rules of a file, and the cases that a file gives for its own rules.

The kind of a rule evaluates it: this only reads a trace, hands it over whole, and pairs the transitions into episodes.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from workermon import config, costs, errors, models, ports, rules
from workermon.config import catalogue as metrics
from workermon.rules import spacing

#: Seconds. The period of a trace that has one datapoint only: what EC2 publishes at.
LONE = 300

_EPOCH = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")
_ABSENT = frozenset({"", "nan", "null", "none", "-", "inf", "+inf", "-inf", "+nan", "-nan"})


class Episode(NamedTuple):
    """From leaving well to being ok again; times are those of the deciding datapoints.

    ``severity`` is the worst that it reached, ``end`` is ``None`` while it is open. ``peak`` is the value furthest
    beyond the threshold while it fired, ``None`` where every slot of it was absent.
    """

    rule: str
    worker: str | None
    severity: models.Severity
    begin: int
    end: int | None
    peak: float | None


class Tried(NamedTuple):
    """A case of a rule: what should have turned and what did, as ``(number of the value, state)``."""

    rule: str
    case: str
    expected: tuple[tuple[int, str], ...]
    got: tuple[tuple[int, str], ...]

    @property
    def passed(self) -> bool:
        """Tell whether it turned as expected."""
        return self.expected == self.got


# --- reading a trace ---------------------------------------------------------------------------------------------


def read_trace(lines: Iterable[str], source: str, period: int | None = None) -> models.Series:
    """Read a CSV with the columns ``timestamp,value``; rows may be in any order.

    Of rows with the same timestamp the last one counts. A value that is empty or not finite is absent. ``period`` in
    seconds; if it is not given it is the median step of the timestamps. Raises ``errors.InvalidInput`` with the
    number of the line.
    """
    rows = csv.reader(lines)
    values: dict[int, float | None] = {}
    columns: tuple[int, int, int] | None = None
    try:
        for row in rows:
            if not row or not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _columns(row, f"{source}: line {rows.line_num}")
                continue
            at, value = _row(row, columns, f"{source}: line {rows.line_num}")
            values[at] = value
    except csv.Error as why:
        raise errors.InvalidInput(f"{source}: line {rows.line_num}", f"is no CSV: {why}", "mend it there") from None
    if not values:
        raise errors.InvalidInput(source, "has no datapoint", "give rows under the head timestamp,value")
    times = sorted(values)
    steps = [after - before for before, after in itertools.pairwise(times)]
    every = period or (statistics.median_low(steps) if steps else LONE)
    found = tuple(models.Datapoint(at, value) for at in times if (value := values[at]) is not None)
    return models.Series(every, found)


def _columns(head: Sequence[str], where: str) -> tuple[int, int, int]:
    names = [cell.strip().lower() for cell in head]
    if names.count("timestamp") != 1 or names.count("value") != 1:
        raise errors.InvalidInput(where, "has not the columns timestamp and value", "write timestamp,value first")
    return names.index("timestamp"), names.index("value"), len(names)


def _row(row: Sequence[str], columns: tuple[int, int, int], where: str) -> tuple[int, float | None]:
    timestamp, value, width = columns
    if len(row) != width:
        raise errors.InvalidInput(where, f"has {len(row)} cells, not {width}", "mend it there")
    return _time(row[timestamp].strip(), where), _value(row[value].strip(), where)


def _time(text: str, where: str) -> int:
    try:
        if _EPOCH.fullmatch(text):
            at = float(text)
            datetime.fromtimestamp(at, UTC)
        else:
            moment = datetime.fromisoformat(text)
            at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        at = -1.0
    if at < 0:
        why = f"{errors.printable(text[:40])!r} is not a time"
        raise errors.InvalidInput(where, why, "write 2026-11-23T16:00:00Z, 2026-11-23 16:00:00 (UTC), or epoch seconds")
    return math.floor(at)


def _value(text: str, where: str) -> float | None:
    if text.lower() in _ABSENT:
        return None
    if not _NUMBER.fullmatch(text):
        why = f"{errors.printable(text[:40])!r} is not a number"
        raise errors.InvalidInput(where, why, "write a number; leave it empty where there is none")
    value = float(text)
    return value if math.isfinite(value) else None


# --- what would have fired ---------------------------------------------------------------------------------------


def over_metrics(configuration: models.Configuration, metric: str | None = None) -> list[models.Rule]:
    """Return the rules over datapoints, which can be replayed; of one metric only if it is given."""
    every = [rule for rule in configuration.rules if rules.KINDS[rule.kind].metrics(rule)]
    return [rule for rule in every if metric in (None, rule.metric)]


def rules_for(configuration: models.Configuration, metric: str | None, source: str) -> list[models.Rule]:
    """Return the rules over the metric of a trace.

    Where ``metric`` is ``None`` it is the one that all of them are about, or else the one that ``source`` (the name of
    the trace) has in it. Raises ``errors.NotFound`` if no rule is about that metric, ``errors.InvalidInput`` where
    it is not clear which is meant.
    """
    replayed = over_metrics(configuration)
    known = list(dict.fromkeys(rule.metric or "" for rule in replayed))
    if metric is None:
        named = known if len(known) == 1 else [name for name in known if name in source]
        if len(named) != 1:
            why = "the rules are about several metrics" if known else "no rule is about a metric"
            todo = f"add --metric, one of {', '.join(known)}" if known else "add a [[rules]] with a threshold"
            raise errors.InvalidInput(source, why, todo)
        metric = named[0]
    if metric not in known:
        raise errors.NotFound(f"metric {metric}", "no rule of the file is about it", errors.nearest(metric, known))
    return [rule for rule in replayed if rule.metric == metric]


def episodes(
    rule: models.Rule,
    segments: Sequence[models.Series],
    *,
    worker: str | None = None,
    until: int | None = None,
    kinds: rules.Kinds = rules.KINDS,
) -> list[Episode]:
    """Return the episodes of a rule over datapoints, in order of time.

    ``segments`` follow one another, each with a period of its own. Slots before the first datapoint are not expected;
    those up to ``until`` are (a time; the last datapoint where left out).
    """
    kind, rule_state = kinds[rule.kind], models.RuleState()
    turns: list[models.Transition] = []
    points = [point for segment in segments for point in segment.points]
    for place, (period, own) in enumerate(segments):
        if not own:
            continue
        last = place == len(segments) - 1
        newest = max(own[-1].at, until) if last and until is not None else own[-1].at
        begin = own[0].at // period * period
        facts = rules.Facts.recorded(rule.metric or "", models.Series(period, own), begin)
        rule_state, found = kind.judge(rule, rule_state, facts, rules.Horizon.until(newest, period))
        turns += found
    return [
        episode._replace(peak=kind.peak(rule, [value for at, value in points if _within(at, episode)]))
        for episode in _paired(rule, turns, worker)
    ]


def _paired(
    rule: models.Rule,
    turns: Sequence[models.Transition],
    worker: str | None,
) -> list[Episode]:
    found: list[Episode] = []
    begin: int | None = None
    worst: models.Severity = "warning"
    for turn in turns:
        if turn.after is not None:
            if begin is None:
                begin, worst = turn.at, turn.after
            worst = max(worst, turn.after, key=models.SEVERITIES.index)
        elif begin is not None:
            found.append(Episode(rule.name, worker, worst, begin, turn.at, None))
            begin = None
    if begin is not None:
        found.append(Episode(rule.name, worker, worst, begin, None, None))
    return found


def _within(at: int, episode: Episode) -> bool:
    return episode.begin <= at and (episode.end is None or at < episode.end)


def _recorded(
    record: ports.Record, metric: str, retention: int, samples: ports.Samples, now: float
) -> tuple[list[models.Series], int | None]:
    """Return what the ledger has of a metric, by period in order of time, and the newest slot that can have come."""
    worker, condition = record.worker, record.condition
    asked = condition.asked.get(metric)
    if metric == models.STATUS_CHECK_FAILED and asked is None:
        asked = condition.collected_at
    end = now if asked is None else asked
    since = now - retention
    periods = samples.periods(worker.id, metric, since, end)
    read = (samples.read([(worker.id, metric, each)], since, end) for each in periods)
    found = [spacing.of_recorded(series) for one in read for series in one.values() if series.points]
    found.sort(key=lambda series: series.points[0].at)
    if not found or asked is None:
        return found, None
    delay = 0 if metric == models.STATUS_CHECK_FAILED else rules.delay_of(metric, condition)
    return found, rules.Horizon(found[-1].period, delay, asked).newest


# --- CloudWatch's own history ------------------------------------------------------------------------------------

#: Periods that CloudWatch keeps, in seconds: multiples of the first for as long as the second (the API reference of
#: GetMetricData). For what is older a coarser one has to be asked for, or nothing comes.
KEPT = ((1, 3 * 3600), (60, 15 * models.DAY), (300, 63 * models.DAY), (3600, 455 * models.DAY))

#: Seconds that may be looked back, at least and at most.
SINCE = (LONE, KEPT[-1][1] - 86_400)

#: Seconds. Where one period ends and a finer one begins lies on this grid, and so much within what is kept, for that is
#: measured when the request arrives.
_GRID, _MARGIN = 3600, 300

#: What stands in CloudWatch for the status checks, which are collected from EC2: published each minute, free of charge.
CHECKS = models.Metric(
    name=models.STATUS_CHECK_FAILED,
    namespace="AWS/EC2",
    metric_name="StatusCheckFailed",
    statistic="Maximum",
    unit="count",
    period=60,
)


class Span(NamedTuple):
    """From ``begin`` until before ``end`` datapoints are asked for at a period."""

    period: int
    begin: int
    end: int


class Wanted(NamedTuple):
    """A metric of a worker as it is to be asked for; one query for each span and dimension set."""

    worker: models.Worker
    metric: models.Metric
    spans: tuple[Span, ...]
    dimensions: tuple[tuple[tuple[str, str], ...], ...]

    @property
    def queries(self) -> int:
        """Return how many metrics CloudWatch bills for it."""
        return len(self.spans) * len(self.dimensions)


def spans(period: int, since: int, until: int) -> tuple[Span, ...]:
    """Return at which periods a metric that is published at one can be had, the oldest first; pure.

    >>> spans(60, 1_700_000_000 - 86_400, 1_700_000_000)
    (Span(period=60, begin=1699913600, end=1700000000),)
    """
    found: list[Span] = []
    end = until
    for base, kept in KEPT:
        coarse = math.ceil(period / base) * base
        begin = max(since, math.ceil((until - kept + _MARGIN) / _GRID) * _GRID)
        if begin >= end:
            continue
        if found and found[-1].period == coarse:
            found[-1] = found[-1]._replace(begin=begin)
        else:
            found.append(Span(coarse, begin, end))
        end = begin
    return tuple(reversed(found))


def _known(record: ports.Record, metric: models.Metric) -> list[tuple[tuple[str, str], ...]]:
    if metric.namespace == "AWS/EC2":
        return [(("InstanceId", record.worker.id),)]
    return record.dimensions.get(f"{metric.namespace}/{metric.metric_name}", [])


def _listed(
    pairs: Iterable[tuple[ports.Record, models.Metric]], cloudwatch: ports.CloudWatch
) -> dict[tuple[str, str], list[tuple[tuple[str, str], ...]]]:
    together: dict[tuple[models.AccountRegion, models.Metric], list[str]] = {}
    for record, metric in pairs:
        together.setdefault((record.worker.scope, metric), []).append(record.worker.id)
    found = {}
    for (scope, metric), worker_ids in together.items():
        sets = cloudwatch.dimensions(scope, metric.namespace, metric.metric_name, worker_ids)
        found.update({(worker_id, metric.name): each for worker_id, each in sets.items()})
    return found


def price(asked: Iterable[Wanted]) -> tuple[int, float]:
    """Return how many metrics GetMetricData is asked for, and the dollars that it costs."""
    number = sum(one.queries for one in asked)
    return number, costs.dollars(number, ())


def newest(record: ports.Record, rule: models.Rule, configuration: models.Configuration, at: float) -> int | None:
    """Return the newest slot of a rule's metric that can have come by a time; ``None`` of who does not run."""
    metric = _catalogue(configuration).get(rule.metric or "")
    if metric is None or record.condition.status != "running":
        return None
    period = metric.period_for(detailed=record.worker.detailed)
    return rules.Horizon(period, rules.delay_of(metric.name, record.condition), at).newest


def _catalogue(configuration: models.Configuration) -> dict[str, models.Metric]:
    return {**configuration.metrics, models.STATUS_CHECK_FAILED: CHECKS}


def document(found: Iterable[Episode]) -> dict[str, object]:
    """Return ``{"episodes": […]}`` as the contract has it."""
    return {
        "episodes": [
            {
                "rule": one.rule,
                "worker": one.worker,
                "severity": one.severity,
                "from": models.rfc3339(one.begin),
                "to": None if one.end is None else models.rfc3339(one.end),
                "peak": one.peak,
            }
            for one in sorted(found, key=lambda one: (one.begin, one.rule, one.worker or ""))
        ]
    }


# --- cases of a file ---------------------------------------------------------------------------------------------


def test(tested: Iterable[models.Rule], cases: Mapping[str, Sequence[config.Case]]) -> list[Tried]:
    """Evaluate every case by its rule; ``cases`` are by the rule's name."""
    return [_tried(rule, case) for rule in tested for case in cases.get(rule.name, ())]


def _tried(rule: models.Rule, case: config.Case) -> Tried:
    values = enumerate(case.values, start=1)
    points = [models.Datapoint(place * case.period, value) for place, value in values if value is not None]
    horizon = rules.Horizon.until(len(case.values) * case.period, case.period)
    series = models.Series(case.period, tuple(points))
    facts = rules.Facts.recorded(rule.metric or "", series, case.period)
    _, turned = rules.KINDS[rule.kind].judge(rule, models.RuleState(), facts, horizon)
    got = tuple((turn.at // case.period, turn.after or "ok") for turn in turned)
    return Tried(rule.name, case.name, case.turns, got)


# --- stages ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBacktest:
    """Replays rules over the ledger."""

    samples: ports.Samples
    now: ports.Clock

    def replay(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> list[tuple[ports.Record, list[models.Series], list[Episode]]]:
        """Return for each worker that a threshold rule applies to its datapoints in the ledger, and the episodes."""
        metric = rule.metric or ""
        found = []
        for record in records:
            if rule.applies_to(record.worker):
                segments, until = _recorded(record, metric, configuration.retention, self.samples, self.now())
                found.append((record, segments, episodes(rule, segments, worker=record.worker.id, until=until)))
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchHistory:
    """Reads CloudWatch's own history, for which it charges."""

    cloudwatch: ports.CloudWatch
    now: ports.Clock

    def wanted(
        self,
        records: Sequence[ports.Record],
        replayed: Sequence[models.Rule],
        configuration: models.Configuration,
        since: int,
    ) -> list[Wanted]:
        """Return what threshold rules need of CloudWatch for their workers; unknown metrics are left out.

        Asks ListMetrics for those of whom it is not known yet under which dimensions they publish a metric.
        """
        until = math.floor(self.now())
        since = since // LONE * LONE
        catalogue = _catalogue(configuration)
        pairs = [
            (record, catalogue[name])
            for record in records
            for name in dict.fromkeys(rule.metric or "" for rule in replayed if rule.applies_to(record.worker))
            if name in catalogue
        ]
        listed = _listed([pair for pair in pairs if not _known(*pair)], self.cloudwatch)
        found = []
        for record, metric in pairs:
            sets = _known(record, metric) or listed.get((record.worker.id, metric.name), [])
            chosen = tuple(metrics.chosen(metric, sets))
            period = metric.period_for(detailed=record.worker.detailed)
            if chosen:
                found.append(Wanted(record.worker, metric, spans(period, since, until), chosen))
        return found

    def fetch(self, asked: Sequence[Wanted]) -> dict[tuple[str, str], list[models.Series]]:
        """Return the series of each (worker id, metric) from CloudWatch, a part of it for each period in order of time.

        Sums over a longer period than the metric's own are divided to that. Raises ``errors.AwsError`` where any of it
        did not come: from half a history nobody can tell what would have fired.
        """
        # What begins at different times travels apart: a period is answered by how far back its request begins.
        together: dict[tuple[models.AccountRegion, Span], list[Wanted]] = {}
        for one in asked:
            for span in one.spans:
                together.setdefault((one.worker.scope, span), []).append(one)
        found: dict[tuple[str, str], list[models.Series]] = {}
        for (scope, span), members in sorted(together.items(), key=lambda item: item[0][1].begin):
            queries = [
                metrics.query(one.worker.id, one.metric, span.period, span.begin, each)
                for one in members
                for each in one.dimensions
            ]
            answer = self.cloudwatch.fetch(scope, queries, span.end - 1)
            for why in answer.failed.values():
                raise why
            place = 0
            for one in members:
                own = [answer.series[place + number] for number in range(len(one.dimensions))]
                place += len(one.dimensions)
                points = [point for point in metrics.merged(one.metric, own) if span.begin <= point.at < span.end]
                if span.end == max(each.end for each in one.spans):  # CloudWatch answers with the running period too
                    points = list(models.Series(span.period, tuple(points)).over_by(span.end).points)
                native = one.metric.period_for(detailed=one.worker.detailed)
                if one.metric.statistic in ("Sum", "SampleCount") and span.period != native:
                    points = [models.Datapoint(at, value * native / span.period) for at, value in points]
                if points:
                    series = spacing.of_recorded(models.Series(span.period, tuple(points)))
                    found.setdefault((one.worker.id, one.metric.name), []).append(series)
        return found
