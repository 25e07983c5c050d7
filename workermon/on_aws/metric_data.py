"""GetMetricData: queries are divided into calls, and each result is matched to its query."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from workermon import errors, logs, models, ports
from workermon.on_aws import error_kinds, metric_queries, session

log = logs.get(__name__)

#: CloudWatch's limits for one call.
MAX_QUERIES = 500
MAX_DATAPOINTS = 100_800

#: How often one fetch asks for a query whose result stays partial.
MAX_TRIES = 3

#: Calls that one fetch may spend to find out which of its queries CloudWatch rejects.
MAX_SEARCHES = 60

#: Seconds. A query that looks this much further back than the first of a call goes into another call. So a worker that
#: was stopped does not widen the window of all others.
MAX_SPREAD = 3600

#: Seconds. A call's window is aligned to at most this grid, so that unusual periods do not widen it for nothing.
MAX_GRID = 3600

#: Pages read of one answer: far above any real answer, below any endless one.
MAX_PAGES = 1000


class _Result(NamedTuple):
    """What came of a query so far: times in seconds and values as they came, and its newest status."""

    times: tuple[int, ...]
    values: list[float]
    status: str


class Fetch:
    """One fetch: the calls that it needs and the result of each query."""

    def __init__(
        self,
        sessions: session.Sessions,
        scope: models.AccountRegion,
        queries: Sequence[models.Query],
        until: float,
    ) -> None:
        self._sessions = sessions
        self._scope = scope.of_cloudwatch
        self._source = None if scope.monitored_by is None else scope.monitored_by.source
        self._queries = queries
        self._until = until
        self._answer = ports.Answer({}, {})
        self._searches = MAX_SEARCHES
        self._silence: errors.AwsError | None = None
        #: Nearly all answers have the same few lists of times: their seconds, and whether a query takes them as is.
        self._seconds: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._in_order: dict[tuple[tuple[int, ...], int, int], bool] = {}

    def run(self) -> ports.Answer:
        """Return the datapoints of each query by its place; ``failed`` has the reason if some are missing."""
        for call in self._calls():
            self._ask(call)
        return self._answer

    def _calls(self) -> Iterator[list[int]]:
        """Divide the queries into calls within CloudWatch's limits, and group those with similar windows."""
        alike: dict[tuple[int, int], list[int]] = {}
        for place, query in enumerate(self._queries):
            alike.setdefault((query.since, query.period), []).append(place)
        call: list[int] = []
        periods: set[int] = set()
        rate = 0.0  # datapoints a second, over all queries of the call
        newest = 0  # where the first query of the call begins
        for (since, period), places in sorted(alike.items(), key=lambda item: -item[0][0]):
            taken = 0
            while taken < len(places):
                start, end = self._window(since, periods | {period})
                most = int((MAX_DATAPOINTS / max(end - start, 1) - rate) * period)
                room = min(MAX_QUERIES - len(call), most)
                if call and (newest - since > MAX_SPREAD or room < 1):
                    yield call
                    call, periods, rate = [], set(), 0.0
                    continue
                if not call:
                    newest = since
                added = places[taken : taken + max(room, 1)]
                call += added
                periods.add(period)
                rate += len(added) / period
                taken += len(added)
        if call:
            yield call

    def _window(self, since: int, periods: set[int]) -> tuple[int, int]:
        """Return start and end of a call that looks back to ``since``, on a grid that fits all its periods."""
        grid = math.lcm(*periods)
        if grid > MAX_GRID:
            grid = max(periods)
        # The end is exclusive, and a datapoint's timestamp is the start of its period.
        return since // grid * grid, (int(self._until) // grid + 1) * grid

    def _ask(self, call: list[int]) -> None:
        """Ask for these queries, and again for those with partial results. Record what failed."""
        for _ in range(MAX_TRIES):
            try:
                results = self._results(call)
            except errors.WorkermonError as error:
                self._fail(call, error)
                return
            call = self._take(call, results)
            if not call:
                return
        log.warning("cloudwatch.partial", region=self._scope.region, number=len(call))

    def _fail(self, call: list[int], error: errors.WorkermonError) -> None:
        if error_kinds.is_silent(error):
            self._silence = self._silence or (error if isinstance(error, errors.AwsError) else None)
        if len(call) > 1 and error_kinds.is_invalid(error) and self._searches > 0:
            for part in self._parts(call):
                self._searches -= 1
                self._ask(part)
            return
        for place in call:
            self._answer.failed[place] = error

    def _parts(self, call: list[int]) -> list[list[int]]:
        """Divide a call whose content CloudWatch rejects: first by what is asked for, then in halves."""
        kinds: dict[tuple[str, str, str, int], list[int]] = {}
        for place in call:
            query = self._queries[place]
            kinds.setdefault((query.namespace, query.metric_name, query.statistic, query.period), []).append(place)
        if len(kinds) > 1:
            return list(kinds.values())
        half = len(call) // 2
        return [call[:half], call[half:]]

    def _take(self, call: list[int], results: dict[int, _Result]) -> list[int]:
        """Store the results of a call; return the queries to ask for again."""
        retried: list[int] = []
        for place in call:
            query, result = self._queries[place], results.get(place)
            if result is not None:
                series = self._answer.series[place] = models.Series(query.period, self._points(query, result))
                if result.status == "Complete" or (_is_unknown(result.status) and series.points):
                    self._answer.failed.pop(place, None)
                    continue
            status = _MISSING if result is None else result.status
            if status in _REFUSED or _is_unknown(status):
                self._answer.series.pop(place, None)
            else:
                retried.append(place)
            self._answer.failed[place] = self._incomplete(query, status, partial=place in self._answer.series)
        return retried

    def _incomplete(self, query: models.Query, status: str, *, partial: bool) -> errors.AwsError:
        """Return why a query has no complete result."""
        subject = f"CloudWatch in {self._scope.region}"
        request = f"GetMetricData: {query.namespace} {query.metric_name} of {query.worker_id}"
        if status == "Forbidden":
            todo = "allow cloudwatch:GetMetricData in the IAM policy"
            return errors.AwsDenied(subject, f"{request} is forbidden", todo)
        if status == "InternalError":
            reason = "met an internal error"
        elif _is_unknown(status):
            reason = f"came with the unknown status {status}"
        else:
            reason = "came only in part" if partial else "was not answered"
        return errors.AwsUnreachable(subject, f"{request} {reason}", "workermon asks again at the next collection")

    def _points(self, query: models.Query, result: _Result) -> tuple[models.Datapoint, ...]:
        """Return the datapoints that were asked for, in order; of two at the same time the last one that came."""
        times, values = result.times, result.values
        points = tuple(map(models.datapoint, zip(times, values, strict=False)))
        # One sum instead of a look at each value.
        if self._are_in_order(query, times) and math.isfinite(sum(values)):
            return points  # as nearly always
        return tuple(
            models.Datapoint(at, value)
            for at, value in sorted(dict(points).items())
            if query.since <= at <= self._until + query.period and math.isfinite(value)
        )

    def _are_in_order(self, query: models.Query, times: tuple[int, ...]) -> bool:
        """Return whether times are in order, each once, and within what was asked for."""
        key = times, query.since, query.period
        in_order = self._in_order.get(key)
        if in_order is None:
            bounds = (query.since - 1, *times, int(self._until + query.period) + 1)
            in_order = self._in_order[key] = all(before < at for before, at in itertools.pairwise(bounds))
        return in_order

    def _results(self, call: list[int]) -> dict[int, _Result]:
        if self._silence is not None:
            raise self._silence
        asked = [self._queries[place] for place in call]
        start, end = self._window(min(query.since for query in asked), {query.period for query in asked})
        request: dict[str, Any] = {
            "MetricDataQueries": metric_queries.Queries(self._queries, call, self._source),
            "StartTime": datetime.fromtimestamp(start, UTC),
            "EndTime": datetime.fromtimestamp(end, UTC),
            "ScanBy": "TimestampAscending",
        }
        with self._sessions.asking("CloudWatch", self._scope):
            client = self._sessions.cloudwatch(self._scope)
            results: dict[int, _Result] = {}
            token: str | None = None
            for _ in range(MAX_PAGES):
                page = client.get_metric_data(**request)
                self._read(page, results)
                before, token = token, page.get("NextToken")
                if not token:
                    return results
                if token == before:
                    break
                request["NextToken"] = token
            raise RuntimeError("its pages do not end")

    def _read(self, page: Any, results: dict[int, _Result]) -> None:
        for answer in page["MetricDataResults"]:
            identifier = str(answer["Id"])
            place = int(identifier[1:]) if identifier[1:].isdecimal() else -1
            status = str(answer.get("StatusCode") or "Complete")
            times = tuple(answer.get("Timestamps") or ())
            seconds = self._seconds.get(times)
            if seconds is None:
                seconds = self._seconds[times] = tuple(map(_seconds, times))
            values = list(map(float, answer.get("Values") or ()))
            before = results.get(place)
            if before is not None:
                count = min(len(before.times), len(before.values))
                seconds, values = before.times[:count] + seconds, before.values[:count] + values
            results[place] = _Result(seconds, values, status)


#: Status codes after which this fetch does not ask for the query again.
_REFUSED = frozenset({"Forbidden", "InternalError"})

#: Stands for the status code of a query without a result.
_MISSING = "missing"

#: All status codes that the API reference of ``MetricDataResult`` has, and ours.
_STATUSES = frozenset({"Complete", "PartialData", *_REFUSED, _MISSING})


def _is_unknown(status: str) -> bool:
    """Return whether nobody says what a status code means. Then datapoints count as a result, and none as a failure."""
    return status not in _STATUSES


def _seconds(at: Any) -> int:
    """Return a timestamp in whole seconds, from a number or text of the answer, or from botocore's ``datetime``."""
    if isinstance(at, int | float):
        return int(at)
    return int((at if isinstance(at, datetime) else session.parse_timestamp(at)).timestamp())
