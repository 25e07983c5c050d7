"""What an answer of CloudWatch teaches: what each metric waits for next, and when and how often its datapoints come.

Nearly all workers of a batch have the same answer but for its values, and what follows from one is decided once.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

from workermon import models, ports
from workermon.collect import cadence, delays, lag, polling
from workermon.collect.fetched import Fetched
from workermon.collect.run import Run
from workermon.config import catalogue
from workermon.rules import spacing

#: Periods for which it is known up to where a series was seen before a request that came late on purpose.
UNSEEN = 3 * models.RELAXED

_AT = operator.itemgetter(0)


class _Answer(NamedTuple):
    """What the conclusion about a metric of a worker depends on.

    ``period`` is how often its datapoints come, ``asked_period`` how often it is asked for, ``known_period`` how often
    it was expected so far. ``asked`` is when it was asked for before, ``before`` the time of its newest datapoint then,
    ``late`` is as in ``models.Condition``, ``times`` are those of the datapoints that came.
    """

    metric: str
    interval: int
    period: int
    asked_period: int
    known_period: int | None
    asked: float | None
    before: int | None
    late: tuple[int, int]
    times: tuple[int, ...]


class _Conclusion(NamedTuple):
    """The datapoint to wait for next, how late new ones came, and how an expected one arrived; ``None``: it says none.

    ``newest`` is the time of the newest datapoint.
    """

    expected: int | None
    newest: int | None
    late: tuple[int, int] | None
    arrival: polling.Arrival | None
    look: polling.Look


class Learner:
    """Learns from what CloudWatch answered about the workers of one run."""

    def __init__(self, run: Run, cadences: cadence.Cadences, ages: delays.Delays) -> None:
        self._run, self._cadences, self._ages = run, cadences, ages
        self._is_plain = cadences.is_plain
        metrics = run.configuration.metrics
        #: EC2's own metrics come as EC2 says.
        self._with_spacing = {
            name for name, metric in metrics.items() if metric.namespace != catalogue.EC2 or metric.period is not None
        }
        self._conclusions: dict[_Answer, _Conclusion] = {}
        #: By interval and metric, the newest datapoints of metrics that come once an interval.
        self._newest: dict[tuple[int, str], list[int]] = {}

    def learn(self, record: ports.Record, fetched: Fetched) -> None:
        """Note what each metric waits for from now on, and how the datapoints that were waited for arrived."""
        condition, interval = record.condition, record.worker.interval
        for name in fetched.answered:
            arrived, before = fetched.came(name), condition.latest.get(name)
            asked_period = fetched.periods[name]
            period = self._learn_period(condition, name, fetched) if name in self._with_spacing else asked_period
            if not self._is_plain or condition.cadence or condition.unseen_since:
                self._decide_cadence(record, name, period, fetched)
            if before is not None and arrived and arrived[0].at == before.at and arrived[0] != before:
                fetched.full_at = None  # it was revised: older ones may have been, too
            answer = _Answer(
                name,
                interval,
                period,
                asked_period,
                condition.learned_periods.get(name, condition.periods.get(name)),
                condition.asked.get(name),
                None if before is None else before.at,
                condition.late.get(name, (0, 0)),
                tuple(map(_AT, arrived)),
            )
            conclusion = self._conclusions.get(answer)
            if conclusion is None:
                conclusion = self._conclusions[answer] = self._conclude(answer)
            fetched.expected[name] = conclusion.expected
            if conclusion.late is not None:
                fetched.late[name] = conclusion.late
            if conclusion.arrival is not None:
                self._ages.note(name, conclusion.look, conclusion.arrival)
            if asked_period == interval and conclusion.newest is not None:
                self._newest.setdefault((interval, name), []).append(conclusion.newest)
        for name in fetched.refused:
            fetched.expected[name] = None

    def _conclude(self, answer: _Answer) -> _Conclusion:
        before, times, lateness = answer.before, answer.times, self._run.configuration.lateness
        newest = times[-1] if times and (before is None or times[-1] >= before) else before
        # By the period that is asked for, not the learned one: lost datapoints may look like a longer period, and a
        # late one has to be in the ledger as soon as it can be had.
        expected = polling.expected(newest, times, period=answer.asked_period, lateness=lateness)
        waited = None if before is None else before + answer.period
        look = polling.Look(waited, answer.asked, self._run.at, answer.period, answer.interval)
        late = None
        if newest is not None and (before is None or newest > before):
            late = polling.late(look, newest, answer.late, lateness=lateness)
        # Only the datapoint after the newest teaches; one that fills a gap is late anyway.
        teaches = not self._run.force and answer.interval <= answer.period == answer.known_period
        arrival = polling.arrival(look, times, lateness=lateness) if teaches else None
        return _Conclusion(expected, newest, late, arrival, look)

    def _learn_period(self, condition: models.Condition, name: str, fetched: Fetched) -> int:
        """Learn how often the datapoints of an agent's metric come, in seconds."""
        period, stored_spacing = fetched.periods[name], condition.spacing.get(name, ())
        times = spacing.newest(stored_spacing, fetched.came(name), period)
        learned = spacing.learned(times, period, condition.learned_periods.get(name, period))
        if times or stored_spacing:
            fetched.spacing[name] = times
        if learned > period or name in condition.learned_periods:
            fetched.learned_periods[name] = learned if learned > period else 0
        return learned

    def _decide_cadence(self, record: ports.Record, name: str, period: int, fetched: Fetched) -> None:
        """Decide how often a metric is asked for from now on."""
        condition = record.condition
        decided = self._cadences.after(record.worker, name, fetched.came(name), period)
        if decided is not None or name in condition.cadence:
            fetched.cadence[name] = decided
        unseen = self._unseen_since(condition, name)
        if unseen is not None or name in condition.unseen_since:
            fetched.unseen_since[name] = unseen

    def _unseen_since(self, condition: models.Condition, metric: str) -> int | None:
        """Return the newest datapoint before a request that came periods later; for a while after it too.

        So evaluation, which may come late, still tells what came in between from an outage of the monitor.
        """
        before, period = condition.latest.get(metric), condition.periods.get(metric)
        if before is None or period is None:
            return None
        if self._cadences.periods_apart(condition, metric) > 1:
            return before.at
        unseen_since = condition.unseen_since.get(metric)
        return None if unseen_since is None or before.at - unseen_since > UNSEEN * period else unseen_since

    def learn_lags(self, cohorts: ports.Cohorts) -> None:
        """Note how long after their period's end the datapoints were there, of metrics that come once an interval."""
        for interval in {interval for interval, _ in self._newest}:
            group = f"{self._run.scope.key}/{interval}"
            learned_lags = cohorts.learned(group)
            learned = dict(learned_lags or {})
            for (of, name), times in self._newest.items():
                measured = lag.measure(times, interval, self._run.at) if of == interval else None
                if measured is not None:
                    after = lag.learn(lag.Lag.of(learned.get(name)), measured, period=interval, at=self._run.at)
                    learned[name] = [round(number, 3) for number in after]
            if learned != learned_lags:
                cohorts.learn(group, learned)
