"""Which metrics of the workers of one run are due, and from when on CloudWatch is asked for them.

Nearly all workers of a batch are in the same situation, and what follows from a situation is decided once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workermon import models, ports
from workermon.collect import cadence, delays, dimensions, polling
from workermon.collect.fetched import Fetched
from workermon.collect.run import Run
from workermon.config import catalogue


class MetricRequest(NamedTuple):
    """What is asked about one metric of a worker; from ``full_since`` on datapoints may be missing.

    There is a query for each of its series, and the answer goes into ``fetched``.
    """

    metric: models.Metric
    queries: list[models.Query]
    full_since: int
    fetched: Fetched


class _Situation(NamedTuple):
    """What a decision about a metric of a worker depends on.

    ``newest`` is the time of its newest datapoint; before there is one, ``added_at`` is that of the worker.
    """

    metric: str
    look: polling.Look
    newest: int | None
    added_at: float | None
    periods_apart: int
    period_is_new: bool
    in_full: bool


class _Decision(NamedTuple):
    """How long (seconds) a datapoint is waited for, and from when on to ask; ``None`` if the metric is not due."""

    patience: float
    begin: polling.Begin | None


class _Metric(NamedTuple):
    """A metric with all names under which it may be published, each with its key."""

    metric: models.Metric
    names: tuple[tuple[models.Metric, str], ...]

    @classmethod
    def of(cls, metric: models.Metric) -> _Metric:
        return cls(metric, tuple((name, name.key) for name in metric.variants))

    def published(
        self, sets: Mapping[str, Sequence[dimensions.Dimensions]]
    ) -> list[tuple[models.Metric, dimensions.Dimensions]] | None:
        """Return the series of a worker that count, each with the name of the metric; ``None``: not looked up yet."""
        sets_found = [
            (name, dimension_set)
            for name, key in self.names
            if (of := sets.get(key))
            for dimension_set in catalogue.chosen(name, of)
        ]
        return sets_found if sets_found or self.names[0][1] in sets else None


class Planner:
    """Plans what CloudWatch is asked about the workers of one run."""

    def __init__(self, run: Run, cadences: cadence.Cadences, ages: delays.Delays) -> None:
        self._run, self._cadences, self._ages = run, cadences, ages
        self._is_plain = cadences.is_plain
        self._metrics = [_Metric.of(metric) for metric in run.cloudwatch_metrics()]
        self._decisions: dict[_Situation, _Decision] = {}

    def plan(
        self, record: ports.Record, sets: Mapping[str, Sequence[dimensions.Dimensions]], fetched: Fetched
    ) -> list[MetricRequest]:
        """Return the requests about a worker: one for each metric that is due and published.

        ``sets`` are its dimension sets. What is known without an answer goes into ``fetched``.
        """
        worker, condition, at = record.worker, record.condition, self._run.at
        in_full = self._run.force or condition.status != "running"
        full_at = condition.full_at
        due = in_full or polling.is_full_look_due(full_at, at, worker.interval)
        fetched.full_at = at if due else full_at
        requests: list[MetricRequest] = []
        for planned_metric in self._metrics:
            metric = planned_metric.metric
            name, period = metric.name, metric.period_for(detailed=worker.detailed)
            latest = condition.latest.get(name)
            situation = _Situation(
                name,
                polling.Look(
                    condition.expected.get(name), condition.asked.get(name), at, period, worker.interval, full_at
                ),
                None if latest is None else latest.at,
                worker.added_at if latest is None else None,
                1 if self._is_plain else self._cadences.periods_apart(condition, name),
                condition.periods.get(name) != period,
                in_full,
            )
            decision = self._decisions.get(situation)
            if decision is None:
                decision = self._decisions[situation] = self._decide(situation)
            fetched.periods[name], fetched.delays[name] = period, decision.patience
            if decision.begin is None or name in fetched.failures:
                continue
            series = planned_metric.published(sets)
            if series is None:
                continue  # nobody could look up its dimensions: unknown, not absent
            # If nobody publishes it, it is absent, as far as can be known now.
            fetched.asked[name] = at
            if series:
                since = decision.begin.recent_since
                queries = [
                    catalogue.query(worker.id, metric_of_series, period, since, chosen)
                    for metric_of_series, chosen in series
                ]
                requests.append(MetricRequest(metric, queries, decision.begin.full_since, fetched))
        return requests

    def _decide(self, situation: _Situation) -> _Decision:
        look, configuration = situation.look, self._run.configuration
        delay, absent = self._ages.of(situation.metric, look)
        patience = polling.patience(delay, period=look.period, interval=look.interval, lateness=configuration.lateness)
        # With a new period it is asked at once.
        must_ask = situation.in_full or situation.period_is_new
        if not must_ask and not polling.is_due(look, absent, situation.periods_apart):
            return _Decision(patience, None)
        begin = polling.since(
            look,
            situation.newest,
            situation.added_at or 0.0,
            retention=configuration.retention,
            lateness=configuration.lateness,
        )
        # Adaptive cadence looks at more than new datapoints, and with several periods between them looks are rare.
        may_be_short = not must_ask and configuration.cadence == "fixed" and situation.periods_apart == 1
        if may_be_short and situation.newest is not None and polling.suffices_short(look, situation.newest):
            begin = polling.shortened(begin, situation.newest, look.period)
        return _Decision(patience, begin)
