"""The values that a rule compares, from recorded datapoints: those of its metric, or of its expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from workermon import models, ports, rules
from workermon.rules import expression, expression_values, learned_period

#: Recorded metrics: consecutive segments, each with a period of its own.
Segments = Mapping[str, Sequence[models.Series]]


def compared(
    rule: models.Rule, recorded: Segments, statistic_of: Callable[[str], str], seconds: int | None = None
) -> list[models.Series]:
    """Return the values that a rule compares, in segments; ``statistic_of`` returns that of a metric.

    ``seconds`` is the length that sums cover, whatever the slots of a segment; ``None``: the same as these.
    """
    of = expression.of(rule.metric)
    if of is None:
        return list(recorded.get(rule.metric or "", ()))
    segments = []
    for span in _spans({name: recorded.get(name, ()) for name in of.operands}):
        operands = {
            name: expression_values.Operand(series.until(span.end - 1).points, series.period, statistic_of(name))
            for name, series in span.series.items()
        }
        period = max(series.period for series in span.series.values())
        points = expression_values.series(of, operands, period, span.begin, seconds)
        if points:
            segments.append(models.Series(period, points))
    return segments


def of_ledger(
    record: ports.Record, metric: str, retention: int, samples: ports.Samples, now: float
) -> tuple[list[models.Series], int | None]:
    """Return a metric's datapoints in the ledger, by period, and the newest slot that can have arrived."""
    worker, condition = record.worker, record.condition
    of_checks = metric in models.CHECK_METRICS
    requested_at = rules.checks_asked(condition) if of_checks else condition.requested_at.get(metric)
    end = now if requested_at is None else requested_at
    since = now - retention
    periods = samples.periods(worker.id, metric, since, end)
    read = (samples.read([(worker.id, metric, metric_period)], since, end) for metric_period in periods)
    segments = [
        learned_period.of_recorded(series) for read_series in read for series in read_series.values() if series.points
    ]
    segments.sort(key=lambda series: series.points[0].at)
    if not segments or requested_at is None:
        return segments, None
    delay = 0 if of_checks else rules.delay_of(metric, condition)
    return segments, rules.Horizon(segments[-1].period, delay, requested_at).newest


def by_metric(
    samples: ports.Samples, worker_id: str, periods: Mapping[str, int], span: tuple[float, float]
) -> dict[str, models.Series]:
    """Return a worker's series between two times, both included; ``periods`` has the ledger's period by metric."""
    series_keys = [(worker_id, metric, period) for metric, period in periods.items()]
    return {metric: series for (_, metric), series in samples.read(series_keys, *span).items()}


def merged(segments: Iterable[models.Series]) -> list[models.Datapoint]:
    """Return the datapoints of a metric over all its periods. At equal times the shorter period counts."""
    values: dict[int, float] = {}
    for series in sorted(segments, key=lambda series: -series.period):
        values.update(series.points)
    return [models.Datapoint(at, values[at]) for at in sorted(values)]


class _Span(NamedTuple):
    """A span from ``begin`` to before ``end`` in which each metric has one segment."""

    begin: int
    end: float
    series: Mapping[str, models.Series]


def _spans(recorded: Segments) -> Iterator[_Span]:
    """Yield the spans in which every metric has a segment, in order of time."""
    begins = sorted(
        {series.points[0].at for metric_segments in recorded.values() for series in metric_segments if series.points}
    )
    before: _Span | None = None
    for begin, end in zip(begins, [*begins[1:], float("inf")], strict=True):
        chosen = {
            name: series
            for name, metric_segments in recorded.items()
            for series in metric_segments
            if series.points and series.points[0].at <= begin
        }
        if len(chosen) < len(recorded):
            continue
        if before is not None and before.series == chosen:
            before = before._replace(end=end)
            continue
        if before is not None:
            yield before
        before = _Span(begin, end, chosen)
    if before is not None:
        yield before
