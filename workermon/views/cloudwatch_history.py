"""CloudWatch's own history of a metric: how long it is kept, what it costs, and a rule's result over it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workermon import costs, models, ports, rules
from workermon.config import catalogue
from workermon.rules import learned_period
from workermon.views import recorded_values
from workermon.views.backtest import (
    Recording,
    Replay,
    replay,
    replay_over_others,
    started,
    worker_name,
)
from workermon.views.replayable_rules import needed_metrics

#: Series by worker id and metric: one part for each period, in order of time.
_Fetched = dict[tuple[str, str], list[models.Series]]

#: Seconds. The coarsest period that EC2 publishes.
BASIC = 300

#: Periods that CloudWatch keeps, in seconds: multiples of the first for as long as the second (the API reference of
#: GetMetricData). For older data a coarser one has to be requested, otherwise the answer is empty.
RETENTION = ((1, 3 * 3600), (60, 15 * models.DAY), (300, 63 * models.DAY), (3600, 455 * models.DAY))

#: Seconds to look back, minimum and maximum.
SINCE = (BASIC, RETENTION[-1][1] - 86_400)

#: Seconds. Changes from one period to a finer one lie on this grid, and by this margin within what is kept, because
#: CloudWatch measures that when the request arrives.
_GRID, _MARGIN = 3600, 300

#: What stands in CloudWatch for the status checks, which are collected from EC2: published each minute, free of charge.
#: It has no metric of the application and performance checks.
CHECKS = {
    name: models.Metric(
        name=name, namespace="AWS/EC2", metric_name=metric_name, statistic="Maximum", unit="count", period=60
    )
    for name, metric_name in (
        (models.STATUS_CHECK_FAILED, "StatusCheckFailed"),
        ("system_check_failed", "StatusCheckFailed_System"),
        ("instance_check_failed", "StatusCheckFailed_Instance"),
        ("ebs_check_failed", "StatusCheckFailed_AttachedEBS"),
    )
}


class Span(NamedTuple):
    """Datapoints from ``begin`` to before ``end`` are requested with a period."""

    period: int
    begin: int
    end: int


class HistoryRequest(NamedTuple):
    """A request for a worker's metric: one query for each span and dimension set."""

    worker: models.Worker
    metric: models.Metric
    spans: tuple[Span, ...]
    dimensions: tuple[models.Dimensions, ...]

    @property
    def queries(self) -> int:
        """Return how many metrics CloudWatch bills for it."""
        return len(self.spans) * len(self.dimensions)


def spans(period: int, since: int, until: int) -> tuple[Span, ...]:
    """Return the available periods of a metric that is published at one, the oldest span first; pure.

    >>> spans(60, 1_700_000_000 - 86_400, 1_700_000_000)
    (Span(period=60, begin=1699913600, end=1700000000),)
    """
    spans_found: list[Span] = []
    end = until
    for base, age in RETENTION:
        coarse = math.ceil(period / base) * base
        begin = max(since, math.ceil((until - age + _MARGIN) / _GRID) * _GRID)
        if begin >= end:
            continue
        if spans_found and spans_found[-1].period == coarse:
            spans_found[-1] = spans_found[-1]._replace(begin=begin)
        else:
            spans_found.append(Span(coarse, begin, end))
        end = begin
    return tuple(reversed(spans_found))


def _dimension_sets(record: ports.Record, metric: models.Metric) -> list[models.Dimensions]:
    if metric.namespace == "AWS/EC2":
        return [(("InstanceId", record.worker.id),)]
    return record.dimensions.get(f"{metric.namespace}/{metric.metric_name}", [])


def _listed_series(
    pairs: Iterable[tuple[ports.Record, models.Metric]], cloudwatch: ports.CloudWatch
) -> dict[tuple[str, str], list[models.Dimensions]]:
    metrics: dict[str, models.Metric] = {}
    together: dict[tuple[models.AccountRegion, str], list[str]] = {}
    for record, metric in pairs:
        metrics[metric.name] = metric
        together.setdefault((record.worker.scope, metric.name), []).append(record.worker.id)
    dimension_sets_found = {}
    for (scope, name), worker_ids in together.items():
        sets = cloudwatch.dimensions(scope, metrics[name].namespace, metrics[name].metric_name, worker_ids)
        dimension_sets_found.update({(worker_id, name): dimension_sets for worker_id, dimension_sets in sets.items()})
    return dimension_sets_found


def price(requests: Iterable[HistoryRequest]) -> tuple[int, float]:
    """Return how many metrics are requested from GetMetricData, and the cost in dollars."""
    number = sum(request.queries for request in requests)
    return number, costs.dollars(number, ())


def _newest(
    record: ports.Record, metric_names: Iterable[str], configuration: models.Configuration, at: float
) -> int | None:
    """Return the newest slot of metrics that can have arrived by a time; ``None`` for a worker that does not run."""
    metrics_known = _metrics(configuration)
    metrics = [metrics_known[name] for name in metric_names if name in metrics_known]
    if not metrics or record.condition.status != "running":
        return None
    period = max(metric.period_for(detailed=record.worker.detailed) for metric in metrics)
    return rules.Horizon(period, max(rules.delay_of(metric.name, record.condition) for metric in metrics), at).newest


def _own_period(record: ports.Record, metric_names: Iterable[str], configuration: models.Configuration) -> int | None:
    """Return the longest period at which a rule's metrics are published. Fetched sums cover this period."""
    metrics_known = _metrics(configuration)
    periods = [
        metrics_known[name].period_for(detailed=record.worker.detailed)
        for name in metric_names
        if name in metrics_known
    ]
    return max(periods, default=None)


def _metrics(configuration: models.Configuration) -> dict[str, models.Metric]:
    return {**configuration.metrics, **CHECKS}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchRequests:
    """Says what has to be asked of CloudWatch, which charges for it."""

    cloudwatch: ports.CloudWatch
    kinds: rules.Kinds
    now: ports.Clock

    def requests_for(
        self,
        records: Sequence[ports.Record],
        replayed: Sequence[models.Rule],
        configuration: models.Configuration,
        since: int,
    ) -> list[HistoryRequest]:
        """Return what threshold rules need from CloudWatch for their workers, without unknown metrics.

        Asks ListMetrics for the dimensions of workers whose dimensions are not known yet.
        """
        until = math.floor(self.now())
        since = since // BASIC * BASIC
        metrics = _metrics(configuration)
        pairs = [
            (record, metrics[name])
            for record in records
            for name in dict.fromkeys(
                metric
                for rule in replayed
                if rule.applies_to(record.worker)
                for metric in needed_metrics(rule, configuration, self.kinds)
            )
            if name in metrics
        ]
        requests = []
        for (record, metric), sets in self._published(pairs):
            chosen = tuple(catalogue.chosen(metric, sets))
            period = metric.period_for(detailed=record.worker.detailed)
            if chosen:
                requests.append(HistoryRequest(record.worker, metric, spans(period, since, until), chosen))
        return requests

    def _published(
        self, pairs: Sequence[tuple[ports.Record, models.Metric]]
    ) -> list[tuple[tuple[ports.Record, models.Metric], list[models.Dimensions]]]:
        """Return each pair with its dimension sets, and with the metric under the worker's name for it."""
        with_dimensions = [
            (record, variant)
            for record, metric in pairs
            for variant in metric.variants
            if _dimension_sets(record, variant)
        ]
        published = {
            (record.worker.id, variant.name): ((record, variant), _dimension_sets(record, variant))
            for record, variant in with_dimensions
        }
        for number in range(max((len(metric.variants) for _, metric in pairs), default=0)):
            missing = [
                (record, metric.variants[number])
                for record, metric in pairs
                if (record.worker.id, metric.name) not in published and number < len(metric.variants)
            ]
            listed_series = _listed_series(missing, self.cloudwatch)
            for record, variant in missing:
                if sets := listed_series.get((record.worker.id, variant.name)):
                    published[record.worker.id, variant.name] = (record, variant), sets
        return [published[key] for record, metric in pairs if (key := (record.worker.id, metric.name)) in published]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchFetch:
    """Reads CloudWatch's own history, for which it charges."""

    cloudwatch: ports.CloudWatch

    def fetch(self, requests: Sequence[HistoryRequest]) -> _Fetched:
        """Return the series of each (worker id, metric) from CloudWatch: one part for each period, in order of time.

        Sums over a longer period than the metric's own are divided accordingly. Raises ``errors.AwsError`` if any of it
        is missing, because half a history does not show what would have fired.
        """
        # Requests with different start times go into separate calls: the start decides which periods are available.
        together: dict[tuple[models.AccountRegion, Span], list[HistoryRequest]] = {}
        for request in requests:
            for span in request.spans:
                together.setdefault((request.worker.scope, span), []).append(request)
        segments: dict[tuple[str, str], list[models.Series]] = {}
        for (scope, span), members in sorted(together.items(), key=lambda item: item[0][1].begin):
            queries = [
                catalogue.query(request.worker.id, request.metric, span.period, span.begin, dimension)
                for request in members
                for dimension in request.dimensions
            ]
            answer = self.cloudwatch.fetch(scope, queries, span.end - 1)
            for error in answer.failed.values():
                raise error
            place = 0
            for request in members:
                series_of_request = [answer.series[place + number] for number in range(len(request.dimensions))]
                place += len(request.dimensions)
                points = [
                    point
                    for point in catalogue.merged(request.metric, series_of_request)
                    if span.begin <= point.at < span.end
                ]
                if span.end == max(
                    requested.end for requested in request.spans
                ):  # CloudWatch also returns the running period
                    points = list(models.Series(span.period, tuple(points)).over_by(span.end).points)
                native = request.metric.period_for(detailed=request.worker.detailed)
                if request.metric.statistic in ("Sum", "SampleCount") and span.period != native:
                    points = [models.Datapoint(at, value * native / span.period) for at, value in points]
                if points:
                    series = learned_period.of_recorded(models.Series(span.period, tuple(points)))
                    segments.setdefault((request.worker.id, request.metric.name), []).append(series)
        return segments


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchHistory:
    """Replays rules over CloudWatch's own history."""

    cloudwatch_fetch: CloudWatchFetch
    kinds: rules.Kinds
    now: ports.Clock

    def replay(
        self,
        records: Sequence[ports.Record],
        replayed: Sequence[models.Rule],
        configuration: models.Configuration,
        requests: Sequence[HistoryRequest],
    ) -> tuple[Replay, ...]:
        """Send the requests to CloudWatch, and return each rule over the history of each worker that it applies to.

        Raises ``errors.AwsError`` if any of it is missing.
        """
        series = self.cloudwatch_fetch.fetch(requests)
        return tuple(
            self._replay(rule, record, configuration, series)
            for rule in replayed
            for record in records
            if rule.applies_to(record.worker)
        )

    def _replay(
        self, rule: models.Rule, record: ports.Record, configuration: models.Configuration, series: _Fetched
    ) -> Replay:
        kind = self.kinds[rule.kind]
        metric_names = kind.metrics(rule)
        if not metric_names:

            def replay_of(operand_rule: models.Rule) -> Replay | None:
                usable = operand_rule.applies_to(record.worker) and needed_metrics(
                    operand_rule, configuration, self.kinds
                )
                return self._replay(operand_rule, record, configuration, series) if usable else None

            return replay_over_others(rule, configuration, self.kinds, replay_of, worker=worker_name(record))
        return replay(
            kind.for_worker(rule, record.worker.labels),
            recorded_values.compared(
                rule,
                {metric: series.get((record.worker.id, metric), []) for metric in metric_names},
                configuration.statistic_of,
                _own_period(record, metric_names, configuration),
            ),
            configuration,
            self.kinds,
            worker=worker_name(record),
            recording=Recording(_newest(record, metric_names, configuration, self.now()), started(record.condition)),
        )
