"""Fetches the datapoints of the workers of one run: sends the planned requests and learns from the answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from workermon import errors, logs, models, ports
from workermon.collect import cadence, delays, dimensions, placement, polling
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.collect.learning import Learner
from workermon.collect.metric_requests import MetricRequest, Planner
from workermon.config import catalogue

log = logs.get(__name__)

#: Seconds, and share of the interval. If datapoints arrive longer than this after a request that came before them, the
#: next interval fetches them: its request is nearly as soon.
LONGEST_WAIT, LONGEST_SHARE = 60.0, 0.9


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
    dispatcher: ports.Dispatcher

    def fetch(self, records: Sequence[ports.Record]) -> dict[str, Fetched]:
        """Return CloudWatch's datapoints for these running workers, by id. Raises only ``errors.RedisUnavailable``."""
        learned = self.learned_delays.load(self.run.scope)
        updates: dict[str, Any] = {}
        published = self._search(learned, updates).find(records, self.run.cloudwatch_metrics())
        ages = delays.Delays(self.run, learned, updates)
        turn = polling.turn_of([record.worker.id for record in records])
        planner = Planner(self.run, self.cadences, ages, turn)
        fetched: dict[str, Fetched] = {}
        requests: list[MetricRequest] = []
        for record in records:
            worker_id = record.worker.id
            of_worker = fetched[worker_id] = Fetched(failures=dict(published.failures.get(worker_id, {})))
            requests += planner.plan(record, published.sets[worker_id], of_worker)
        if requests:
            self._ask(requests)
            learner = Learner(self.run, self.cadences, ages)
            for record in records:
                learner.learn(record, fetched[record.worker.id])
            learner.conclude()
            ages.conclude()
            if not self.run.force:
                for interval, seconds in learner.learn_lags(self.cohorts).items():
                    self._collect_again([record for record in records if record.worker.interval == interval], seconds)
        self.learned_delays.save(self.run.scope, updates)
        return fetched

    def _collect_again(self, records: Sequence[ports.Record], after: float) -> None:
        """Have workers collected again as soon as their datapoints are available, not an interval later.

        If the broker takes no messages, they are collected with their next slot, as usual.
        """
        wait = after + placement.MARGIN
        if wait > min(LONGEST_WAIT, LONGEST_SHARE * records[0].worker.interval):
            return
        worker_ids = [record.worker.id for record in records]
        self.workers.request_collection(worker_ids, self.run.at + wait)
        try:
            self.dispatcher.collect(worker_ids, after=wait)
        except errors.WorkermonError as error:
            log.warning("collect.not_repeated", number=len(worker_ids), reason=str(error))

    def _search(self, learned: Mapping[str, Any], updates: dict[str, Any]) -> dimensions.Search:
        return dimensions.Search(
            scope=self.run.scope,
            at=self.run.at,
            cloudwatch=self.cloudwatch,
            workers=self.workers,
            learned_delays=self.learned_delays,
            leases=self.leases,
            learned=learned,
            updates=updates,
        )

    def _ask(self, requests: Sequence[MetricRequest]) -> None:
        """Send all requests, and store the answers in each worker's ``Fetched``."""
        answer = self._call([query for request in requests for query in request.queries])
        self._ask_for_silence(requests, answer)
        place = 0
        for request in requests:
            count = len(request.queries)
            if count == 1 and place in answer.series and place not in answer.failed:
                # Nearly always the case.
                request.fetched.answered.add(request.metric.name)
                self._keep(request, answer.series[place])
            else:
                self._take(request, answer, range(place, place + count))
            place += count

    def _ask_for_silence(self, requests: Sequence[MetricRequest], answer: ports.Answer) -> None:
        """Fetch everything that is missing of metrics that are back.

        For a metric that was silent for long the normal request covers only its last hour.
        """
        queries: dict[int, models.Query] = {}
        place = 0
        for request in requests:
            if request.full_since < request.queries[0].since:
                for silent, query in enumerate(request.queries, place):
                    if silent in answer.series and answer.series[silent].points:
                        queries[silent] = query._replace(since=request.full_since)
            place += len(request.queries)
        if not queries:
            return
        places = list(queries)
        more = self._call(list(queries.values()))
        answer.series.update({places[place]: series for place, series in more.series.items()})
        answer.failed.update({places[place]: error for place, error in more.failed.items()})

    def _take(self, request: MetricRequest, answer: ports.Answer, places: range) -> None:
        """Store the answers to the queries of a request."""
        name, fetched = request.metric.name, request.fetched
        error = next((answer.failed[place] for place in places if place in answer.failed), None)
        if error is None:
            fetched.answered.add(name)
        else:
            fetched.failures[name] = errors.of_aws(error)
            fetched.refused.add(name)
            del fetched.requested_at[name]
        # With several filesystems all must have answered: the fullest of some need not be the fullest.
        if error is None or len(places) == 1:
            series = [answer.series[place] for place in places if place in answer.series]
            if merged := catalogue.merged(request.metric, series):
                self._keep(request, models.Series(request.queries[0].period, merged))

    def _keep(self, request: MetricRequest, series: models.Series) -> None:
        over = series.over_by(self.run.at)
        if over.points:
            request.fetched.series[request.metric.name] = over

    def _call(self, queries: Sequence[models.Query]) -> ports.Answer:
        try:
            return self.cloudwatch.fetch(self.run.scope, queries, self.run.at)
        except errors.WorkermonError as error:
            return ports.Answer({}, dict.fromkeys(range(len(queries)), error))
