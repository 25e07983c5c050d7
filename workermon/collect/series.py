"""The datapoints of the workers of one run: which metrics are due, and what CloudWatch answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workermon import errors, models, ports
from workermon.collect import cadence, delays, dimensions, lag, polling
from workermon.collect.run import Run
from workermon.config import catalogue
from workermon.rules import spacing

#: Periods for which it is known up to where a series was seen before a request that came late on purpose.
UNSEEN = 3 * models.RELAXED


@dataclasses.dataclass(slots=True)
class Fetched:
    """What CloudWatch brought for one worker, by metric.

    ``answered`` are the metrics asked for with success, ``refused`` those asked for in vain. ``failures`` says why a
    metric has no answer; it also holds the metrics that could not be asked for. ``asked`` is the time up to which a
    metric was asked for, ``periods`` are in seconds, ``delays`` say how many seconds after its period's end a
    datapoint is waited for. ``expected`` is the datapoint that each answered metric waits for next. ``spacing`` are
    the times of a metric's newest datapoints if they come less often than each period, ``learned_periods`` how often.
    ``cadence`` and ``unseen_since`` are as in ``models.Condition``, with ``None`` where there is none.
    ``late`` is as in ``models.Condition``, with 0 for those that came in time. ``full_at`` is as in it, too.
    """

    series: dict[str, models.Series] = dataclasses.field(default_factory=dict)
    asked: dict[str, float] = dataclasses.field(default_factory=dict)
    periods: dict[str, int] = dataclasses.field(default_factory=dict)
    delays: dict[str, float] = dataclasses.field(default_factory=dict)
    expected: dict[str, int | None] = dataclasses.field(default_factory=dict)
    spacing: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    late: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    learned_periods: dict[str, int] = dataclasses.field(default_factory=dict)
    cadence: dict[str, models.Cadence | None] = dataclasses.field(default_factory=dict)
    unseen_since: dict[str, int | None] = dataclasses.field(default_factory=dict)
    full_at: float | None = None
    failures: dict[str, errors.AwsError] = dataclasses.field(default_factory=dict)
    answered: set[str] = dataclasses.field(default_factory=set)
    refused: set[str] = dataclasses.field(default_factory=set)

    @property
    def failed(self) -> bool:
        """Return whether the collection failed, and not only single metrics of it."""
        if not self.failures or self.answered:
            return False
        return bool(self.refused) or self.failures.keys() >= self.periods.keys()


class _Planned(NamedTuple):
    """A query with the worker and metric that it is for; from ``full_since`` on datapoints may be missing."""

    worker_id: str
    metric: str
    query: models.Query
    full_since: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFetch:
    """Asks CloudWatch for the workers of one run."""

    run: Run
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    learned_delays: ports.LearnedDelays
    cohorts: ports.Cohorts
    cadences: cadence.Cadences
    leases: ports.Leases

    def fetch(self, records: Sequence[ports.Record]) -> dict[str, Fetched]:
        """Return what CloudWatch has for these running workers, by id. Raises ``errors.RedisUnavailable`` only."""
        known = self.learned_delays.load(self.run.scope)
        updates: dict[str, Any] = {}
        published = self._search(known, updates).find(records, self.run.cloudwatch_metrics())
        ages = delays.Delays(self.run, known, updates)
        fetched = {
            record.worker.id: Fetched(
                failures=dict(published.failures.get(record.worker.id, {})), full_at=self._full_at(record)
            )
            for record in records
        }
        planned: list[_Planned] = []
        for record in records:
            sets = published.sets[record.worker.id]
            for metric in self.run.cloudwatch_metrics():
                planned += self._plan(record, metric, sets, ages, fetched[record.worker.id])
        if planned:
            self._ask(planned, fetched)
            for record in records:
                self._learn(record, fetched[record.worker.id], ages)
            ages.conclude()
        if not self.run.again:
            self._learn_lags(records, fetched)
        self.learned_delays.save(self.run.scope, updates)
        return fetched

    def _full_at(self, record: ports.Record) -> float | None:
        """Return when all that may have come late was last asked for, after this run: now, if that is due."""
        before = record.condition.full_at
        due = self._asks_all(record.condition) or polling.is_full_look_due(before, self.run.at, record.worker.interval)
        return self.run.at if due else before

    def _asks_all(self, condition: models.Condition) -> bool:
        """Return whether each metric is asked for, and in full."""
        return self.run.again or condition.status != "running"

    def _unseen_since(self, condition: models.Condition, metric: str, before: models.Datapoint | None) -> int | None:
        """Return the newest datapoint before a request that came periods later; for a while after it too.

        So evaluation, which may come late, still tells what came in between from an outage of the monitor.
        """
        period = condition.periods.get(metric)
        if before is None or period is None:
            return None
        if self.cadences.periods_apart(condition, metric) > 1:
            return before.at
        known = condition.unseen_since.get(metric)
        return None if known is None or before.at - known > UNSEEN * period else known

    def _learn_lags(self, records: Sequence[ports.Record], fetched: Mapping[str, Fetched]) -> None:
        """Note how long after their period's end the datapoints were there, of metrics that come once an interval."""
        newest: dict[int, dict[str, list[int]]] = {}
        for record in records:
            interval, of_worker = record.worker.interval, fetched[record.worker.id]
            of_interval = newest.setdefault(interval, {})
            for name in of_worker.answered:
                if of_worker.periods[name] == interval:
                    came = of_worker.series[name].points if name in of_worker.series else ()
                    latest = came[-1] if came else record.condition.latest.get(name)
                    of_interval.setdefault(name, []).extend([] if latest is None else [latest.at])
        for interval, by_metric in newest.items():
            group = f"{self.run.scope.key}/{interval}"
            known = self.cohorts.learned(group)
            learned = dict(known or {})
            for name, times in by_metric.items():
                seen = lag.measure(times, interval, self.run.at)
                if seen is not None:
                    after = lag.learn(lag.Lag.of(learned.get(name)), seen, period=interval, at=self.run.at)
                    learned[name] = [round(number, 3) for number in after]
            if learned != known:
                self.cohorts.learn(group, learned)

    def _search(self, known: Mapping[str, Any], updates: dict[str, Any]) -> dimensions.Search:
        return dimensions.Search(
            scope=self.run.scope,
            at=self.run.at,
            cloudwatch=self.cloudwatch,
            workers=self.workers,
            learned_delays=self.learned_delays,
            leases=self.leases,
            known=known,
            updates=updates,
        )

    def _plan(
        self,
        record: ports.Record,
        metric: models.Metric,
        published: Mapping[str, list[dimensions.Dimensions]],
        ages: delays.Delays,
        fetched: Fetched,
    ) -> list[_Planned]:
        """Return the queries for one metric of a worker; none if it is not due, or nobody publishes it."""
        worker, condition, name = record.worker, record.condition, metric.name
        period = metric.period_for(detailed=worker.detailed)
        look = polling.Look(
            condition.expected.get(name),
            condition.asked.get(name),
            self.run.at,
            period,
            worker.interval,
            condition.full_at,
        )
        delay, absent = ages.of(name, look)
        fetched.periods[name] = period
        fetched.delays[name] = polling.patience(
            delay, period=period, interval=worker.interval, lateness=self.run.configuration.lateness
        )
        if name in fetched.failures:
            return []
        with_new_period = condition.periods.get(name) != period
        if not with_new_period and not self._is_due(condition, name, look, absent):
            return []
        series = catalogue.published(metric, published)
        if series is None:
            return []  # nobody could look up its dimensions: unknown, not absent
        # If nobody publishes it, it is absent, as far as can be known now.
        fetched.asked[name] = self.run.at
        latest = condition.latest.get(name)
        begin = polling.since(
            look,
            latest,
            worker.added_at,
            retention=self.run.configuration.retention,
            lateness=self.run.configuration.lateness,
        )
        if latest is not None and not with_new_period and self._suffices_short(condition, name, look):
            begin = polling.shortened(begin, latest, period)
        return [
            _Planned(
                worker.id,
                name,
                catalogue.query(worker.id, named, period, begin.recent_since, each),
                begin.full_since,
            )
            for named, each in series
        ]

    def _is_due(self, condition: models.Condition, metric: str, look: polling.Look, absent: float | None) -> bool:
        if self._asks_all(condition):
            return True
        return polling.is_due(look, absent, self.cadences.periods_apart(condition, metric))

    def _suffices_short(self, condition: models.Condition, metric: str, look: polling.Look) -> bool:
        """Return whether to ask for new datapoints only.

        With adaptive cadence what is decided next depends on more of them, and with longer periods looks are rare.
        """
        if self.run.configuration.cadence == "adaptive" or self._asks_all(condition):
            return False
        return self.cadences.periods_apart(condition, metric) == 1 and polling.suffices_short(
            look, condition.latest.get(metric)
        )

    def _ask(self, planned: Sequence[_Planned], fetched: Mapping[str, Fetched]) -> None:
        answer = self._call([each.query for each in planned])
        # A metric that was silent for long is asked for its last hour only. If it is back, fetch all that is missing.
        back = [
            place
            for place, each in enumerate(planned)
            if each.full_since < each.query.since and place in answer.series and answer.series[place].points
        ]
        if back:
            more = self._call(
                [planned[place].query.model_copy(update={"since": planned[place].full_since}) for place in back]
            )
            answer.series.update({back[place]: series for place, series in more.series.items()})
            answer.failed.update({back[place]: why for place, why in more.failed.items()})
        places: dict[tuple[str, str], list[int]] = {}
        for place, each in enumerate(planned):
            places.setdefault((each.worker_id, each.metric), []).append(place)
        for (worker_id, _), of_metric in places.items():
            self._take(answer, of_metric, planned[of_metric[0]], fetched[worker_id])

    def _take(self, answer: ports.Answer, places: Sequence[int], first: _Planned, fetched: Fetched) -> None:
        """Take the answers to the queries of one metric of a worker, of which ``first`` is one."""
        name = first.metric
        why = next((answer.failed[place] for place in places if place in answer.failed), None)
        if why is None:
            fetched.answered.add(name)
        else:
            fetched.failures[name] = errors.of_aws(why)
            fetched.refused.add(name)
            del fetched.asked[name]
        # Of several filesystems all must have answered: the fullest of some is not the fullest.
        if why is None or len(places) == 1:
            series = [answer.series[place] for place in places if place in answer.series]
            if merged := catalogue.merged(self.run.configuration.metrics[name], series):
                series_over = models.Series(first.query.period, merged).over_by(self.run.at)
                if series_over.points:
                    fetched.series[name] = series_over

    def _call(self, queries: Sequence[models.Query]) -> ports.Answer:
        try:
            return self.cloudwatch.fetch(self.run.scope, queries, self.run.at)
        except errors.WorkermonError as why:
            return ports.Answer({}, dict.fromkeys(range(len(queries)), why))

    def _space(self, condition: models.Condition, name: str, fetched: Fetched) -> int:
        """Learn how often the datapoints of an agent's metric come, in seconds; EC2's own say it themselves."""
        period, metric = fetched.periods[name], self.run.configuration.metrics[name]
        if metric.namespace == catalogue.EC2 and metric.period is None:
            return period
        came = fetched.series[name].points if name in fetched.series else ()
        times = spacing.newest(condition.spacing.get(name, ()), came, period)
        learned = spacing.learned(times, period, condition.learned_periods.get(name, period))
        fetched.spacing[name] = times
        fetched.learned_periods[name] = learned if learned > period else 0
        return learned

    def _learn(self, record: ports.Record, fetched: Fetched, ages: delays.Delays) -> None:
        """Note what each metric waits for from now on, and how the datapoints that were waited for arrived."""
        condition, interval = record.condition, record.worker.interval
        lateness = self.run.configuration.lateness
        for name in fetched.answered:
            period = self._space(condition, name, fetched)
            came = fetched.series[name].points if name in fetched.series else ()
            before = condition.latest.get(name)
            fetched.cadence[name] = self.cadences.after(record.worker, name, came, period)
            fetched.unseen_since[name] = self._unseen_since(condition, name, before)
            if before is not None and before.at == (came[0].at if came else None) and came[0] != before:
                fetched.full_at = None  # it was revised: older ones may have been, too
            latest = came[-1] if came and (before is None or came[-1].at >= before.at) else before
            # By the period that is asked for, not the learned one: lost datapoints may look like a longer period, and a
            # late one has to be in the ledger as soon as it can be had.
            asked = fetched.periods[name]
            fetched.expected[name] = polling.expected(latest, came, period=asked, lateness=lateness)
            if latest is not None and (before is None or latest.at > before.at):
                look = polling.Look(None, condition.asked.get(name), self.run.at, period, interval)
                late = polling.late(look, latest, condition.late.get(name, (0, 0)), lateness=lateness)
                fetched.late[name] = late
            if self.run.again or interval > period or _period_in_use(condition, name) != period:
                continue
            # Only the datapoint after the newest teaches; one that fills a gap is late anyway.
            waited = None if before is None else before.at + period
            look = polling.Look(waited, condition.asked.get(name), self.run.at, period, interval)
            arrival = polling.arrival(look, came, lateness=lateness)
            if arrival is not None:
                ages.note(name, look, arrival)
        for name in fetched.refused:
            fetched.expected[name] = None


def _period_in_use(condition: models.Condition, metric: str) -> int | None:
    """Return how often a metric was expected so far, in seconds."""
    return condition.learned_periods.get(metric, condition.periods.get(metric))
