"""A worker's metrics as charts: datapoints with their gaps, thresholds, alerts, silences and corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workermon import errors, models, ports, rules
from workermon.alerts import subject
from workermon.alerts.silences import in_force, muting
from workermon.views import chart_points, recorded_values
from workermon.views.document import Document
from workermon.views.history import Hours

#: Entries of a rule's history that are read for spans: for datapoints, and for hourly roll-ups.
HISTORY, LONG_HISTORY = 100, 1000


class Span(Document):
    """An alert that fired from ``begin`` until ``end`` (``None``: it still fires): times of deciding datapoints."""

    rule: str
    severity: models.Severity
    begin: float
    end: float | None


class Correction(Document):
    """A change of the past: a datapoint was late or revised, and the decision at ``at`` changed."""

    rule: str
    at: float
    before: str
    after: str


class SilenceSpan(Document):
    """A silence of a rule of the worker, or of all of them (``None``)."""

    id: str
    rule: str | None
    begin: float
    end: float
    reason: str


class Band(Document):
    """A threshold that a rule compares with, and the value at which it clears."""

    rule: str
    severity: models.Severity
    side: str
    threshold: float
    clear: float


class CurveLine(Document):
    """The range that a rule expects, from ``low`` to ``high`` at ``times``; a line where they are equal.

    It may extend beyond the last datapoint: a forecast.
    """

    rule: str
    severity: models.Severity
    times: tuple[int, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Points(Document):
    """The points of a chart: ``times`` and ``values`` in order; a value is ``None`` in a slot without a datapoint.

    ``period`` is in seconds. ``absent`` counts the slots without a datapoint. ``thinned``: there were more points than
    are shown. For hourly roll-ups each point stands for ``period`` seconds from its time on. ``values`` are their
    means, beside ``least``, ``most`` and ``p95``; otherwise these are empty.
    """

    period: int | None
    times: tuple[int, ...]
    values: tuple[float | None, ...]
    least: tuple[float | None, ...] = ()
    most: tuple[float | None, ...] = ()
    p95: tuple[float | None, ...] = ()
    absent: int
    thinned: bool = False


class Chart(Points):
    """One metric and the known facts about it in the span."""

    metric: str
    unit: str
    bands: tuple[Band, ...]
    curves: tuple[CurveLine, ...]
    spans: tuple[Span, ...]
    corrections: tuple[Correction, ...]


class Range(NamedTuple):
    """A span of time; ``step`` is as in ``WorkerCharts``."""

    since: float
    until: float
    step: int | None


class WorkerCharts(Document):
    """All charts of a worker over one span of time; times in seconds since 1970.

    ``step``: each point stands for so many seconds of hourly roll-ups; ``None``: it is a datapoint.
    """

    id: str
    since: float
    until: float
    step: int | None
    charts: tuple[Chart, ...]
    silences: tuple[SilenceSpan, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChartView:
    """Reads a worker's charts."""

    samples: ports.Samples
    hours: Hours
    alerts: ports.Alerts
    silences: ports.Silences
    configurations: ports.Configurations
    kinds: rules.Kinds
    now: ports.Clock

    def charts(self, record: ports.Record, since: float) -> WorkerCharts:
        """Return the charts of every collected metric, from ``since`` until now.

        For more than a day, and for more than the ledger holds, they show hourly roll-ups.
        """
        configuration, until = self.configurations.load(), self.now()
        span = Range(since, until, point_step(until - since, configuration))
        applied = [
            self.kinds[rule.kind].for_worker(rule, record.worker.labels)
            for rule in configuration.rules
            if rule.applies_to(record.worker)
        ]
        metrics = charted_metrics(record, configuration, self.kinds)
        basis = self.alerts.load([record.worker.id]).get(record.worker.id)
        about = [(rule, None if basis is None else basis.alerts.get(rule.name)) for rule in applied]
        return WorkerCharts(
            id=record.worker.id,
            since=since,
            until=until,
            step=span.step,
            charts=tuple(self._chart(record, metric, span, about) for metric in metrics),
            silences=self._silences(record, since, applied, configuration),
        )

    def _chart(
        self,
        record: ports.Record,
        metric: str,
        span: Range,
        applied: Sequence[tuple[models.Rule, models.Alert | None]],
    ) -> Chart:
        """Return one chart; ``applied`` are the rules of the worker, each with its alert."""
        configuration, worker_id = self.configurations.load(), record.worker.id
        about = [rule for rule, _ in applied if metric in self.kinds[rule.kind].metrics(rule)]
        limit = HISTORY if span.step is None else LONG_HISTORY
        histories = {rule.name: self.alerts.history(models.alert_id(worker_id, rule.name), limit) for rule in about}
        drawn = self._datapoints(record, metric, span) if span.step is None else self._rollups(record, metric, span)
        rules_of_metric = [(rule, alert) for rule, alert in applied if rule.metric == metric]
        # The heights of a curve are within a day. None is drawn over points that stand for days.
        times = drawn.times if span.step in (None, models.HOUR) else ()
        return Chart(
            metric=metric,
            unit=configuration.unit_of(metric),
            **dict(drawn),
            bands=tuple(band for rule, _ in rules_of_metric for band in self._bands(rule)),
            curves=tuple(line for rule, alert in rules_of_metric for line in self._curves(record, rule, alert, times)),
            spans=tuple(
                firing_span for name, entries in histories.items() for firing_span in _spans(name, entries, span.since)
            ),
            corrections=tuple(
                Correction(
                    rule=name,
                    at=entry.transition.at,
                    before=entry.transition.before or "ok",
                    after=entry.transition.after or "ok",
                )
                for name, entries in histories.items()
                for entry in entries
                if entry.transition.correction and entry.transition.at >= span.since
            ),
        )

    def _datapoints(self, record: ports.Record, metric: str, span: Range) -> Points:
        """Return the chart's points from datapoints."""
        configuration = self.configurations.load()
        period, points = self._points(record, metric, span)
        horizon = rules.of_metric(metric, record.worker, record.condition, configuration)
        slots = chart_points.with_gaps(points, period, horizon)
        thinned = chart_points.thinned(slots)
        return Points(
            period=period,
            times=tuple(at for at, _ in thinned),
            values=tuple(value for _, value in thinned),
            absent=sum(value is None for _, value in slots),
            thinned=len(thinned) < len(slots),
        )

    def _rollups(self, record: ports.Record, metric: str, span: Range) -> Points:
        """Return the chart's points from roll-ups."""
        step = span.step or models.HOUR
        hours = self.hours.read(record.worker.id, metric, span.since)
        steps = chart_points.filled(chart_points.combined_hours(hours, step), step)
        return Points(
            period=step if steps else None,
            times=tuple(at for at, _ in steps),
            values=tuple(rollup and rollup.mean for _, rollup in steps),
            least=tuple(rollup and rollup.least for _, rollup in steps),
            most=tuple(rollup and rollup.most for _, rollup in steps),
            p95=tuple(rollup and rollup.p95 for _, rollup in steps),
            absent=sum(rollup is None for _, rollup in steps),
        )

    def _points(self, record: ports.Record, metric: str, span: Range) -> tuple[int | None, list[models.Datapoint]]:
        """Return the newest period, and the datapoints over all periods."""
        worker_id, until = record.worker.id, span.until + models.DAY  # a datapoint may be ahead of this machine's clock
        segments = [
            self.samples.read([(worker_id, metric, period)], span.since, until)[worker_id, metric]
            for period in self.samples.periods(worker_id, metric, span.since, until)
        ]
        newest = max(((series.points[-1].at, series.period) for series in segments if series.points), default=None)
        return newest and newest[1], recorded_values.merged(segments)

    def _bands(self, rule: models.Rule) -> Iterable[Band]:
        for drawn in self.kinds[rule.kind].drawn(rule):
            yield Band(
                rule=rule.name,
                severity=drawn.severity,
                side=drawn.side,
                threshold=drawn.threshold,
                clear=drawn.clear,
            )

    def _curves(
        self, record: ports.Record, rule: models.Rule, alert: models.Alert | None, times: Sequence[int]
    ) -> Iterable[CurveLine]:
        """Yield a rule's lines at the times of a chart."""
        kind, configuration = self.kinds[rule.kind], self.configurations.load()
        rule_state, series = models.RuleState() if alert is None else alert.rule_state, dict[str, models.Series]()
        over = kind.curve_over(rule, rule_state)
        horizon = kind.horizon(rule, record.worker, record.condition, configuration)
        if over is not None and horizon is not None:
            periods = horizon.ledger_periods(kind.metrics(rule))
            series = recorded_values.by_metric(self.samples, record.worker.id, periods, over)
        facts = rules.Facts.about(
            record.worker,
            record.condition,
            series=series,
            at=self.now(),
            unit_of=configuration.unit_of,
            statistic_of=configuration.statistic_of,
        )
        curve = kind.curve(rule, rule_state, facts, times)
        if curve is not None:
            yield CurveLine(
                rule=rule.name,
                severity=curve.severity,
                times=tuple(point.at for point in curve.points),
                low=tuple(point.low for point in curve.points),
                high=tuple(point.high for point in curve.points),
            )

    def _silences(
        self,
        record: ports.Record,
        since: float,
        applied: Sequence[models.Rule],
        configuration: models.Configuration,
    ) -> tuple[SilenceSpan, ...]:
        every = in_force(self.silences.every(), configuration.silences, self.now())
        alert_ids = [subject.of_worker(record.worker).alert_id(rule.name) for rule in applied]
        return tuple(
            SilenceSpan(
                id=silence.id,
                rule=silence.rule,
                begin=silence.begins,
                end=silence.ends,
                reason=errors.printable(silence.reason),
            )
            for silence in every
            if silence.ends >= since
            and any(muting([silence], alert_id, record.worker, silence.begins) for alert_id in alert_ids)
        )


def point_step(seconds: float, configuration: models.Configuration) -> int | None:
    """Return how many seconds of roll-ups a point stands for in so long a span; ``None``: a datapoint."""
    seconds_shown = min(models.DAY, configuration.retention)
    return None if seconds <= seconds_shown else chart_points.step_for(seconds)


def charted_metrics(record: ports.Record, configuration: models.Configuration, kinds: rules.Kinds) -> tuple[str, ...]:
    """Return the metrics that have a chart: those collected, and those that the worker's rules use."""
    answered = models.CHECK_METRICS.keys() & record.condition.latest.keys()
    checked = (
        metric
        for rule in configuration.rules
        if rule.applies_to(record.worker)
        for metric in kinds[rule.kind].metrics(rule)
        if metric in answered
    )
    names = dict.fromkeys((*configuration.collect, models.STATUS_CHECK_FAILED, *checked))
    return tuple(name for name in names if _is_known(name, configuration))


def _is_known(metric: str, configuration: models.Configuration) -> bool:
    return metric in models.CHECK_METRICS or metric in configuration.metrics


def _spans(rule: str, entries: Sequence[models.HistoryEntry], since: float) -> list[Span]:
    """Return the spans in which an alert had each severity; ``entries`` are newest first."""
    spans: list[Span] = []
    end: float | None = None
    for entry in entries:
        transition = entry.transition
        if transition.after is not None and (end is None or end >= since) and (end is None or end > transition.at):
            spans.append(Span(rule=rule, severity=transition.after, begin=transition.at, end=end))
        end = transition.at
    return spans[::-1]
