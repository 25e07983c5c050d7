"""Learns from CloudWatch's answers: what each metric waits for next, and when and how often its datapoints arrive.

Nearly all workers of a batch have the same answer except for its values, so each conclusion is drawn once.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from workermon import models, ports
from workermon.collect import cadence, delays, lag, polling
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.config import catalogue
from workermon.rules import learned_period

#: Periods for which the end of a series before a deliberately late request is remembered.
UNSEEN = 3 * models.RELAXED

_AT = operator.itemgetter(0)


class _Answer(NamedTuple):
    """What the conclusions about a worker depend on.

    ``situation`` is as in ``Fetched``. ``answered_times`` are the times of the answers by metric.
    """

    situation: int
    refused: tuple[str, ...]
    answered_times: tuple[tuple[str, tuple[int, ...]], ...]


class _Newest(NamedTuple):
    """The newest datapoint of a metric, and the one that was known before; ``None`` if none was."""

    at: int
    known: int | None


class _Conclusion(NamedTuple):
    """The conclusions for each metric of a worker with this ``interval``, the next four as in ``Fetched``.

    ``newest`` has the newest datapoints of metrics that arrive once an interval. ``arrivals`` describe the awaited
    datapoints, each with its metric and request. ``slots`` has the length of a metric's slots.
    """

    interval: int
    expected: dict[str, int | None]
    spacing: dict[str, tuple[int, ...]]
    learned_periods: dict[str, int]
    late: dict[str, tuple[int, int]]
    newest: dict[str, _Newest]
    arrivals: list[tuple[str, polling.Look, polling.Arrival]]
    slots: dict[str, int]


class Learner:
    """Learns from CloudWatch's answers about the workers of one run."""

    def __init__(self, run: Run, cadences: cadence.Cadences, ages: delays.Delays) -> None:
        self._run, self._cadences, self._ages = run, cadences, ages
        self._is_plain = cadences.is_plain
        metrics = run.configuration.metrics
        #: EC2's own metrics arrive as often as EC2 says.
        self._with_spacing = {
            name for name, metric in metrics.items() if metric.namespace != catalogue.EC2 or metric.period is not None
        }
        self._conclusions: dict[_Answer, _Conclusion] = {}
        self._workers: Counter[_Answer] = Counter()

    def learn(self, record: ports.Record, fetched: Fetched) -> None:
        """Record what each metric waits for from now on, and how the awaited datapoints arrived."""
        condition = record.condition
        answer = _Answer(
            fetched.situation,
            tuple(fetched.refused),
            tuple([(name, tuple(map(_AT, fetched.points_of(name)))) for name in fetched.answered]),
        )
        conclusion = self._conclusions.get(answer)
        if conclusion is None:
            conclusion = self._conclusions[answer] = self._conclude(answer, record, fetched)
        self._workers[answer] += 1
        fetched.expected, fetched.late = conclusion.expected, conclusion.late
        fetched.spacing, fetched.learned_periods = conclusion.spacing, conclusion.learned_periods
        for name, series in fetched.series.items():
            before = condition.latest.get(name)
            if before is not None and series.points[0].at == before.at and series.points[0] != before:
                fetched.full_at = None  # it was revised, so older ones may have been, too
        if not self._is_plain or condition.cadence or condition.unseen_since:
            for name in fetched.answered:
                self._decide_cadence(record, name, conclusion.slots[name], fetched)

    def conclude(self) -> None:
        """Pass on what all workers showed about the arrival of datapoints."""
        for answer, count in self._workers.items():
            for name, look, arrival in self._conclusions[answer].arrivals:
                self._ages.note(name, look, arrival, count)

    def _conclude(self, answer: _Answer, record: ports.Record, fetched: Fetched) -> _Conclusion:
        """Return the conclusions from an answer; the other arguments are those of one worker that has it."""
        condition, interval = record.condition, record.worker.interval
        conclusion = _Conclusion(interval, dict.fromkeys(answer.refused), {}, {}, {}, {}, [], {})
        lateness = self._run.configuration.lateness
        for name, times in answer.answered_times:
            asked_period, latest = fetched.periods[name], condition.latest.get(name)
            period = conclusion.slots[name] = (
                self._learn_period(condition, name, asked_period, times, conclusion)
                if name in self._with_spacing
                else asked_period
            )
            before = None if latest is None else latest.at
            newest = times[-1] if times and (before is None or times[-1] >= before) else before
            # By the requested period, not the learned one: lost datapoints may look like a longer period, and a late
            # one must reach the ledger as soon as it is available.
            conclusion.expected[name] = polling.expected(newest, times, period=asked_period, lateness=lateness)
            if newest is not None and asked_period == interval:
                conclusion.newest[name] = _Newest(newest, before)
            waited = None if before is None else before + period
            look = polling.Look(
                expected=waited,
                requested_at=condition.requested_at.get(name),
                at=self._run.at,
                period=period,
                interval=interval,
            )
            if newest is not None and (before is None or newest > before):
                late_before = condition.late.get(name, (0, 0))
                conclusion.late[name] = polling.late(look, newest, late_before, lateness=lateness)
            # Only the datapoint after the newest one counts. One that fills a gap is late anyway.
            known_period = condition.learned_periods.get(name, condition.periods.get(name))
            if not self._run.force and interval <= period == known_period:
                arrival = polling.arrival(look, times, lateness=lateness)
                conclusion.arrivals.extend([] if arrival is None else [(name, look, arrival)])
        return conclusion

    def _learn_period(
        self, condition: models.Condition, name: str, period: int, times: Sequence[int], conclusion: _Conclusion
    ) -> int:
        """Learn how often the datapoints of an agent's metric arrive, in seconds."""
        newest_times = learned_period.newest(condition.spacing.get(name, ()), times, period)
        learned = learned_period.learned(newest_times, period, condition.learned_periods.get(name, period))
        conclusion.spacing[name] = newest_times
        conclusion.learned_periods[name] = learned if learned > period else 0
        return learned

    def _decide_cadence(self, record: ports.Record, name: str, period: int, fetched: Fetched) -> None:
        """Decide how often a metric is requested from now on."""
        condition = record.condition
        decided = self._cadences.after(record.worker, name, fetched.points_of(name), period)
        if decided is not None or name in condition.cadence:
            fetched.cadence[name] = decided
        unseen = self._unseen_since(condition, name)
        if unseen is not None or name in condition.unseen_since:
            fetched.unseen_since[name] = unseen

    def _unseen_since(self, condition: models.Condition, metric: str) -> int | None:
        """Return the newest datapoint before a request that came periods later; also for a while after it.

        So a late evaluation can still distinguish datapoints that arrived in between from an outage of the monitor.
        """
        before, period = condition.latest.get(metric), condition.periods.get(metric)
        if before is None or period is None:
            return None
        if self._cadences.periods_apart(condition, metric) > 1:
            return before.at
        known_since = condition.unseen_since.get(metric)
        return None if known_since is None or before.at - known_since > UNSEEN * period else known_since

    def learn_lags(self, cohorts: ports.Cohorts) -> dict[int, float]:
        """Record how long after its period's end a datapoint is available, for metrics that arrive once an interval.

        Returns by interval in how many seconds this run is to be repeated, if it came before its datapoints.
        """
        again: dict[int, float] = {}
        newest: dict[int, dict[str, list[_Newest]]] = {}
        for answer, count in self._workers.items():
            conclusion = self._conclusions[answer]
            of_interval = newest.setdefault(conclusion.interval, {})
            for name, of_metric in conclusion.newest.items():
                of_interval.setdefault(name, []).extend([of_metric] * count)
        for interval, by_metric in newest.items():
            group = self._run.scope.group(interval)
            learned_lags = cohorts.learned(group)
            learned = dict(learned_lags or {})
            lags = {name: lag.Lag.of(value) for name, value in learned.items()}
            # Cohorts wait for this one (placement.py).
            awaited = lag.best([known_lag for known_lag in lags.values() if known_lag is not None], interval)
            for name, of_workers in by_metric.items():
                before = lags.get(name)
                measured = lag.measure([of_worker.at for of_worker in of_workers], interval, self._run.at, before)
                if measured is not None:
                    after = lag.learn(before, measured, period=interval, at=self._run.at)
                    learned[name] = [round(number, 3) for number in after]
                    known = [of_worker.known for of_worker in of_workers if of_worker.known is not None]
                    found_new = lag.measure(known, interval, self._run.at, before) != measured
                    seconds = lag.again_in(before, after, measured, period=interval, found_new=found_new)
                    if seconds is not None and before == awaited:
                        again[interval] = max(seconds, again.get(interval, 0.0))
            if learned != learned_lags:
                cohorts.learn(group, learned)
        return again
