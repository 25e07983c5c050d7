"""Which metrics of the workers of one run are due, and from which time on CloudWatch is asked for them.

Nearly all workers of a batch are in the same situation, so each plan is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workermon import models, ports
from workermon.collect import cadence, delays, polling
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.config import catalogue


class MetricRequest(NamedTuple):
    """The request about one metric of a worker; from ``full_since`` on datapoints may be missing.

    There is a query for each of its series, and the answer is stored in ``fetched``.
    """

    metric: models.Metric
    queries: list[models.Query]
    full_since: int
    fetched: Fetched


class Situation(NamedTuple):
    """What plan and conclusions for a worker depend on, as in ``models.Worker`` and ``models.Condition``.

    ``newest`` are the times of the newest datapoints. ``added_at`` is ``None`` if each metric has one. ``in_full``:
    each metric is requested, with its full window.
    """

    interval: int
    detailed: bool
    added_at: float | None
    in_full: bool
    full_at: float | None
    expected: tuple[tuple[str, int], ...]
    requested_at: tuple[tuple[str, float], ...]
    newest: tuple[tuple[str, int], ...]
    periods: tuple[tuple[str, int], ...]
    cadence: tuple[tuple[str, models.Cadence], ...]
    learned_periods: tuple[tuple[str, int], ...]
    spacing: tuple[tuple[str, tuple[int, ...]], ...]
    late: tuple[tuple[str, tuple[int, int]], ...]


class _Plan(NamedTuple):
    """The metrics that are due, each with its period and the start of its request.

    ``number`` is that of the situation. By metric: ``periods`` are in seconds, ``delays`` are the seconds for which a
    datapoint is awaited.
    """

    number: int
    due: list[tuple[_Metric, int, polling.Begin]]
    periods: dict[str, int]
    delays: dict[str, float]


class _Metric(NamedTuple):
    """A metric with all names under which it may be published, each with its key.

    ``own_key`` is the key of a metric that EC2 itself publishes as one series; ``None`` for other metrics.
    """

    metric: models.Metric
    names: tuple[tuple[models.Metric, str], ...]
    own_key: str | None

    @classmethod
    def of(cls, metric: models.Metric) -> _Metric:
        names = tuple((name, name.key) for name in metric.variants)
        is_own = metric.namespace == catalogue.EC2 and not (metric.also or metric.include or metric.exclude)
        return cls(metric, names, metric.key if is_own else None)

    def published(
        self, sets: Mapping[str, Sequence[models.Dimensions]]
    ) -> list[tuple[models.Metric, models.Dimensions]] | None:
        """Return a worker's relevant series, each with the metric's name; ``None`` if not looked up yet."""
        if self.own_key is not None:
            return [(self.metric, sets[self.own_key][0])]
        published = [
            (name, dimension_set)
            for name, key in self.names
            if (of := sets.get(key))
            for dimension_set in catalogue.chosen(name, of)
        ]
        return published if published or self.names[0][1] in sets else None


class Planner:
    """Plans the requests to CloudWatch about the workers of one run. ``turn`` is as in ``polling.turn_of``."""

    def __init__(self, run: Run, cadences: cadence.Cadences, ages: delays.Delays, turn: int) -> None:
        self._run, self._cadences, self._ages, self._turn = run, cadences, ages, turn
        self._metrics = [_Metric.of(metric) for metric in run.cloudwatch_metrics()]
        self._names = {planned_metric.metric.name for planned_metric in self._metrics}
        self._plans: dict[Situation, _Plan] = {}

    def plan(
        self, record: ports.Record, sets: Mapping[str, Sequence[models.Dimensions]], fetched: Fetched
    ) -> list[MetricRequest]:
        """Return the requests about a worker: one for each metric that is due and published.

        ``sets`` are its dimension sets. Results that need no request are stored in ``fetched``.
        """
        worker, condition, at = record.worker, record.condition, self._run.at
        situation = Situation(
            worker.interval,
            worker.detailed,
            None if condition.latest.keys() >= self._names else worker.added_at,
            self._run.in_full or condition.status != "running",
            condition.full_at,
            tuple(condition.expected.items()),
            tuple(condition.requested_at.items()),
            tuple([(name, point.at) for name, point in condition.latest.items()]),
            tuple(condition.periods.items()),
            tuple(condition.cadence.items()),
            tuple(condition.learned_periods.items()),
            tuple(condition.spacing.items()),
            tuple(condition.late.items()),
        )
        plan = self._plans.get(situation)
        if plan is None:
            plan = self._plans[situation] = self._decide(situation, condition)
        full_look = situation.in_full or polling.is_full_look_due(condition.full_at, at, worker.interval, self._turn)
        fetched.full_at = at if full_look else condition.full_at
        fetched.situation, fetched.periods, fetched.delays = plan.number, plan.periods, plan.delays
        requests: list[MetricRequest] = []
        for planned_metric, period, begin in plan.due:
            name = planned_metric.metric.name
            series = None if name in fetched.failures else planned_metric.published(sets)
            if series is None:
                continue  # its dimensions could not be looked up: unknown, not absent
            # If it is not published, it is absent, as far as is known now.
            fetched.requested_at[name] = at
            if series:
                queries = [
                    catalogue.query(worker.id, variant, period, begin.recent_since, chosen)
                    for variant, chosen in series
                ]
                requests.append(MetricRequest(planned_metric.metric, queries, begin.full_since, fetched))
        return requests

    def _decide(self, situation: Situation, condition: models.Condition) -> _Plan:
        """Return the plan for a situation; ``condition`` is that of one worker in it."""
        plan = _Plan(len(self._plans), [], {}, {})
        lateness = self._run.configuration.lateness
        for planned_metric in self._metrics:
            name, period = planned_metric.metric.name, planned_metric.metric.period_for(detailed=situation.detailed)
            look = polling.Look(
                expected=condition.expected.get(name),
                requested_at=condition.requested_at.get(name),
                at=self._run.at,
                period=period,
                interval=situation.interval,
                full_at=condition.full_at,
                turn=self._turn,
            )
            delay, absent = self._ages.of(name, look)
            plan.periods[name] = period
            plan.delays[name] = polling.patience(delay, period=period, interval=look.interval, lateness=lateness)
            apart = self._cadences.periods_apart(condition, name)
            # With a new period it is requested at once.
            in_full = situation.in_full or condition.periods.get(name) != period
            if in_full or self._run.force or polling.is_due(look, absent, apart):
                newest = condition.latest.get(name)
                begin = self._begin(look, None if newest is None else newest.at, situation.added_at or 0.0)
                # With several periods between requests they are rare.
                if not in_full and apart == 1 and newest is not None:
                    begin = self._shortened(begin, look, newest.at)
                plan.due.append((planned_metric, period, begin))
        return plan

    def _begin(self, look: polling.Look, newest: int | None, added_at: float) -> polling.Begin:
        configuration = self._run.configuration
        return polling.since(look, newest, added_at, retention=configuration.retention, lateness=configuration.lateness)

    def _shortened(self, begin: polling.Begin, look: polling.Look, newest: int) -> polling.Begin:
        """Return the start of a request if new datapoints may suffice. Adaptive cadence looks back further."""
        suffices = self._run.configuration.cadence == "fixed" and polling.suffices_short(look, newest)
        return polling.shortened(begin, newest, look.period) if suffices else begin
