"""A worker's metrics as charts: datapoints with their gaps, thresholds, alerts, silences and corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from workermon import errors, models, ports, rules
from workermon.alerts import subject
from workermon.alerts.silences import in_force, muting
from workermon.views.document import Document

#: Points that a chart shows: more than it has pixels. Of what is longer, the least and the highest of each stretch.
MAX_POINTS = 2000

#: Entries of a rule's history that are looked through for spans.
HISTORY = 100


class Span(Document):
    """An alert that fired from ``begin`` until ``end`` (``None``: it still does), both of deciding datapoints."""

    rule: str
    severity: models.Severity
    begin: float
    end: float | None


class Correction(Document):
    """A change of the past: a datapoint came late or was revised, and what had been decided at ``at`` changed."""

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


class Chart(Document):
    """One metric: ``times`` and ``values`` in order of time; a value is ``None`` in a slot without a datapoint.

    ``period`` in seconds. ``absent`` counts the slots without a datapoint. ``thinned``: it had more points than are
    shown. ``complete`` is what the metric's values can be at most and at least, ``None`` if that is not known.
    """

    metric: str
    unit: str
    period: int | None
    times: tuple[int, ...]
    values: tuple[float | None, ...]
    absent: int
    thinned: bool
    bands: tuple[Band, ...]
    spans: tuple[Span, ...]
    corrections: tuple[Correction, ...]


class WorkerCharts(Document):
    """All charts of a worker over one span of time; times in seconds since 1970."""

    id: str
    since: float
    until: float
    charts: tuple[Chart, ...]
    silences: tuple[SilenceSpan, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChartView:
    """Reads what a worker's charts show."""

    samples: ports.Samples
    alerts: ports.Alerts
    silences: ports.Silences
    configurations: ports.Configurations
    kinds: rules.Kinds
    now: ports.Clock

    def charts(self, record: ports.Record, since: float) -> WorkerCharts:
        """Return the charts of every metric that is collected, from ``since`` until now."""
        configuration, until = self.configurations.load(), self.now()
        applied = [
            self.kinds[rule.kind].for_worker(rule, record.worker.labels)
            for rule in configuration.rules
            if rule.applies_to(record.worker)
        ]
        metrics = self.charted(record)
        basis = self.alerts.load([record.worker.id]).get(record.worker.id)
        about = [(rule, None if basis is None else basis.alerts.get(rule.name)) for rule in applied]
        return WorkerCharts(
            id=record.worker.id,
            since=since,
            until=until,
            charts=tuple(self._chart(record, metric, (since, until), about) for metric in metrics),
            silences=self._silences(record, since, applied, configuration),
        )

    def charted(self, record: ports.Record) -> tuple[str, ...]:
        """Return the metrics that are charted for a worker: those that are collected, and what its rules check."""
        configuration = self.configurations.load()
        answered = models.CHECK_METRICS.keys() & record.condition.latest.keys()
        checked = (
            metric
            for rule in configuration.rules
            if rule.applies_to(record.worker)
            for metric in self.kinds[rule.kind].metrics(rule)
            if metric in answered
        )
        names = dict.fromkeys((*configuration.collect, models.STATUS_CHECK_FAILED, *checked))
        return tuple(name for name in names if _is_known(name, configuration))

    def _chart(
        self,
        record: ports.Record,
        metric: str,
        span: tuple[float, float],
        applied: Sequence[tuple[models.Rule, models.Alert | None]],
    ) -> Chart:
        """Return one chart; ``applied`` are the rules of the worker, each with its alert."""
        configuration, worker_id = self.configurations.load(), record.worker.id
        period, points = self._points(record, metric, span)
        slots = _with_gaps(points, period, rules.of_metric(metric, record.worker, record.condition, configuration))
        shown = _thinned(slots)
        about = [rule for rule, _ in applied if metric in self.kinds[rule.kind].metrics(rule)]
        histories = {rule.name: self.alerts.history(f"{worker_id}/{rule.name}", HISTORY) for rule in about}
        return Chart(
            metric=metric,
            unit=configuration.unit_of(metric),
            period=period,
            times=tuple(at for at, _ in shown),
            values=tuple(value for _, value in shown),
            absent=sum(value is None for _, value in slots),
            thinned=len(shown) < len(slots),
            bands=tuple(band for rule, alert in applied if rule.metric == metric for band in self._bands(rule, alert)),
            spans=tuple(one for name, entries in histories.items() for one in _spans(name, entries, span[0])),
            corrections=tuple(
                Correction(
                    rule=name,
                    at=entry.transition.at,
                    before=entry.transition.before or "ok",
                    after=entry.transition.after or "ok",
                )
                for name, entries in histories.items()
                for entry in entries
                if entry.transition.correction and entry.transition.at >= span[0]
            ),
        )

    def _points(
        self, record: ports.Record, metric: str, span: tuple[float, float]
    ) -> tuple[int | None, list[models.Datapoint]]:
        """Return the newest period and the datapoints over all periods; at the same time the shorter one counts."""
        values: dict[int, float] = {}
        newest: tuple[int, int] | None = None
        worker_id, until = record.worker.id, span[1] + models.DAY  # a datapoint may be ahead of this machine's clock
        for period in sorted(self.samples.periods(worker_id, metric, span[0], until), reverse=True):
            series = self.samples.read([(worker_id, metric, period)], span[0], until)[worker_id, metric]
            values.update(series.points)
            if series.points:
                newest = max(newest or (0, 0), (series.points[-1].at, period))
        return newest and newest[1], [models.Datapoint(at, values[at]) for at in sorted(values)]

    def _bands(self, rule: models.Rule, alert: models.Alert | None) -> Iterable[Band]:
        rule_state = models.RuleState() if alert is None else alert.rule_state
        for drawn in self.kinds[rule.kind].drawn_now(rule, rule_state):
            yield Band(
                rule=rule.name,
                severity=drawn.severity,
                side=drawn.side,
                threshold=drawn.threshold,
                clear=drawn.clear,
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
            and any(muting([silence], each, record.worker, silence.begins) for each in alert_ids)
        )


def _is_known(metric: str, configuration: models.Configuration) -> bool:
    return metric in models.CHECK_METRICS or metric in configuration.metrics


def _with_gaps(
    points: Sequence[models.Datapoint], period: int | None, horizon: rules.Horizon
) -> list[tuple[int, float | None]]:
    """Return the points with every slot between them, and after the last one up to the horizon, that has none.

    A break of more than ``MAX_POINTS`` slots is one gap.
    """
    if not points or period is None:
        return []
    slots: list[tuple[int, float | None]] = []
    expected = points[0].at
    for point in points:
        slots += _absent(expected, point.at, period)
        slots.append((point.at, point.value))
        expected = point.at + period
    if horizon.newest is not None:
        slots += _absent(expected, horizon.newest + 1, period)
    return slots


def _absent(begin: int, end: int, period: int) -> list[tuple[int, float | None]]:
    """Return the slots from ``begin`` until before ``end`` that are a whole period before it."""
    if end - begin > MAX_POINTS * period:
        return [(begin, None), (end - period, None)]
    return [(at, None) for at in range(begin, end, period) if end - at > period // 2]


def _thinned(slots: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Return the slots, or of each stretch of too many the least and the highest value; a gap stays a gap."""
    if len(slots) <= MAX_POINTS:
        return slots
    size = -(-2 * len(slots) // MAX_POINTS)
    shown: list[tuple[int, float | None]] = []
    for start in range(0, len(slots), size):
        stretch = slots[start : start + size]
        values = [(value, at) for at, value in stretch if value is not None]
        kept = {(at, value) for value, at in (min(values), max(values))} if values else set()
        gap = next(((at, value) for at, value in stretch if value is None), None)
        shown += sorted([*kept, *([gap] if gap else [])], key=lambda slot: slot[0])
    return shown


def _spans(rule: str, entries: Sequence[models.HistoryEntry], since: float) -> list[Span]:
    """Return from when until when an alert was at each severity; ``entries`` are the newest first."""
    spans: list[Span] = []
    end: float | None = None
    for entry in entries:
        transition = entry.transition
        if transition.after is not None and (end is None or end >= since) and (end is None or end > transition.at):
            spans.append(Span(rule=rule, severity=transition.after, begin=transition.at, end=end))
        end = transition.at
    return spans[::-1]
