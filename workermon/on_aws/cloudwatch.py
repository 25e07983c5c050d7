"""CloudWatch: datapoints and the dimensions under which they are published. boto3's dicts stay in this module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workermon import errors, logs, models, ports
from workermon.on_aws import session

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

log = logs.get(__name__)

#: Of one GetMetricData call.
QUERIES = 500
DATAPOINTS = 100_800

#: How often a query whose result stays partial is asked for in one fetch.
TRIES = 3

#: Calls that one fetch may spend on finding the queries that CloudWatch rejects.
SEARCHES = 60

#: Seconds. A query that looks this much further back than the first of a call goes into another call, so that one
#: worker that was away does not make every other's window as wide as its own.
SPREAD = 3600

#: Seconds. The widest grid to which a call's window is aligned, so that unusual periods do not widen it for nothing.
GRID = 3600

#: Up to so many instances are looked up one by one.
FEW = 5

#: Pages of one answer that are read: far more than any real answer has, so that an endless one ends.
PAGES = 1000

Dimensions = tuple[tuple[str, str], ...]


@dataclass
class _Result:
    points: dict[int, float] = field(default_factory=dict)
    status: str = "missing"
    why: str = ""


class AwsCloudWatch:
    """``ports.CloudWatch`` over boto3."""

    def __init__(self, sessions: session.Sessions) -> None:
        self._sessions = sessions

    def fetch(self, scope: models.AccountRegion, queries: Sequence[models.Query], until: float) -> ports.Answer:
        """Return the datapoints of each query by its place. A call that fails affects only its own queries.

        A query whose result stayed partial counts as failed, although its datapoints are returned.
        """
        answer = ports.Answer({}, {})
        fetching = _Fetching(self._sessions, scope, queries, until, answer)
        for call in fetching.calls(range(len(queries))):
            fetching.ask(call)
        return answer

    def dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[Dimensions]]:
        """Return the dimension sets that each instance published within the last three hours.

        ``None`` asks for every instance there is. An account too large for ``PAGES`` pages is an error.
        """
        wanted = None if instance_ids is None else set(instance_ids)
        found: dict[str, dict[Dimensions, Dimensions]] = {}
        with self._sessions.asking("CloudWatch", scope):
            client = self._sessions.cloudwatch(scope)
            if wanted is None:
                if not self._list(client, namespace, metric_name, None, None, found, PAGES):
                    raise RuntimeError("its pages do not end")
                return _sorted(found)
            whole = len(wanted) > FEW and self._list(
                # A fleet much larger than what is asked for has more pages than instances: then one by one is cheaper.
                client,
                namespace,
                metric_name,
                None,
                wanted,
                found,
                len(wanted),
            )
            if not whole:
                for instance_id in sorted(wanted):
                    self._list(client, namespace, metric_name, instance_id, wanted, found, PAGES)
        return _sorted(found)

    def _list(
        self,
        client: CloudWatchClient,
        namespace: str,
        metric_name: str,
        instance_id: str | None,
        wanted: set[str] | None,
        found: dict[str, dict[Dimensions, Dimensions]],
        pages: int,
    ) -> bool:
        """Add what ListMetrics returns to ``found``; ``False`` if there are more than that many pages.

        Sets are compared sorted, but asked for in the order given, because some endpoints compare in order.
        """
        only: dict[str, str] = {"Name": "InstanceId"}
        if instance_id is not None:
            only["Value"] = instance_id
        asked: dict[str, Any] = {
            "Namespace": namespace, "MetricName": metric_name, "Dimensions": [only], "RecentlyActive": "PT3H",
        }  # fmt: skip
        token: str | None = None
        for _ in range(pages):
            page = client.list_metrics(**asked)
            for metric in page["Metrics"]:
                if metric.get("Namespace") != namespace or metric.get("MetricName") != metric_name:
                    continue
                dimensions = tuple((each["Name"], each["Value"]) for each in metric.get("Dimensions") or ())
                owner = dict(dimensions).get("InstanceId")
                if owner is not None and (wanted is None or owner in wanted):
                    found.setdefault(owner, {})[tuple(sorted(dimensions))] = dimensions
            before, token = token, page.get("NextToken")
            if not token:
                return True
            if token == before:
                raise RuntimeError("the same page came twice")
            asked["NextToken"] = token
        return False


def _sorted(found: dict[str, dict[Dimensions, Dimensions]]) -> dict[str, list[Dimensions]]:
    return {instance_id: [sets[key] for key in sorted(sets)] for instance_id, sets in found.items()}


class _Fetching:
    """One fetch: its calls, and the result of each query."""

    def __init__(
        self,
        sessions: session.Sessions,
        scope: models.AccountRegion,
        queries: Sequence[models.Query],
        until: float,
        answer: ports.Answer,
    ) -> None:
        self._sessions = sessions
        self._scope = scope
        self._queries = queries
        self._until = until
        self._answer = answer
        self._searches = SEARCHES
        self._silence: errors.AwsError | None = None

    def calls(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Divide queries into calls within CloudWatch's limits, those with similar windows together."""
        call: list[int] = []
        periods: set[int] = set()
        rate = 0.0  # datapoints a second, over all queries of the call
        for place in sorted(places, key=lambda place: -self._queries[place].since):
            query = self._queries[place]
            start, end = self._window(query.since, periods | {query.period})
            points = (end - start) * (rate + 1 / query.period)
            apart = bool(call) and self._queries[call[0]].since - query.since > SPREAD
            if call and (apart or len(call) >= QUERIES or points > DATAPOINTS):
                yield call
                call, periods, rate = [], set(), 0.0
            call.append(place)
            periods.add(query.period)
            rate += 1 / query.period
        if call:
            yield call

    def _window(self, since: int, periods: set[int]) -> tuple[int, int]:
        """Return start and end of a call that looks back to ``since``, on a grid that fits all its periods."""
        grid = math.lcm(*periods)
        if grid > GRID:
            grid = max(periods)
        # The end is exclusive, and a datapoint stands at the start of its period.
        return since // grid * grid, (int(self._until) // grid + 1) * grid

    def ask(self, call: list[int]) -> None:
        """Ask for these, and again for partial results; note what fails."""
        for _ in range(TRIES):
            try:
                results = self._results(call)
            except errors.WorkermonError as why:
                self._failed(call, why)
                return
            call = self._sorted_out(call, results)
            if not call:
                return
        log.warning("cloudwatch.partial", region=self._scope.region, number=len(call))

    def _failed(self, call: list[int], why: errors.WorkermonError) -> None:
        if session.silent(why):
            self._silence = self._silence or (why if isinstance(why, errors.AwsError) else None)
        if len(call) > 1 and session.invalid(why) and self._searches > 0:
            for part in self._parts(call):
                self._searches -= 1
                self.ask(part)
            return
        for place in call:
            self._answer.failed[place] = why

    def _parts(self, call: list[int]) -> list[list[int]]:
        """Divide a call that CloudWatch rejects: by metric, then in halves."""
        kinds: dict[tuple[str, str, str, int], list[int]] = {}
        for place in call:
            query = self._queries[place]
            kinds.setdefault((query.namespace, query.metric_name, query.statistic, query.period), []).append(place)
        if len(kinds) > 1:
            return list(kinds.values())
        half = len(call) // 2
        return [call[:half], call[half:]]

    def _sorted_out(self, call: list[int], results: dict[int, _Result]) -> list[int]:
        again: list[int] = []
        where = f"CloudWatch in {self._scope.region}"
        for place in call:
            query, result = self._queries[place], results[place]
            if result.status != "missing":
                self._answer.series[place] = models.Series(query.period, self._points(query, result.points))
            what = f"{query.namespace} {query.metric_name} of {query.worker_id}"
            if result.status == "Complete":
                self._answer.failed.pop(place, None)
            elif result.status == "Forbidden":
                self._answer.series.pop(place, None)
                self._answer.failed[place] = errors.AwsDenied(
                    where, f"GetMetricData: {what} is forbidden", "allow cloudwatch:GetMetricData in the IAM policy"
                )
            elif result.status == "InternalError":
                self._answer.series.pop(place, None)
                self._answer.failed[place] = errors.AwsUnreachable(
                    where, f"GetMetricData: {what} met an internal error", "it is asked again at the next collection"
                )
            else:
                again.append(place)
                told = "came in part only" if place in self._answer.series else "was not answered"
                self._answer.failed[place] = errors.AwsUnreachable(
                    where, f"GetMetricData: {what} {told}", "it is asked again at the next collection"
                )
        return again

    def _points(self, query: models.Query, points: dict[int, float]) -> tuple[models.Datapoint, ...]:
        last = self._until + query.period
        found = sorted(points.items())
        # Almost always all of them are valid, and checking each one costs more than the rest.
        if found and not (
            query.since <= found[0][0] and found[-1][0] <= last and all(map(math.isfinite, points.values()))
        ):
            found = [(at, value) for at, value in found if query.since <= at <= last and math.isfinite(value)]
        return tuple(map(models.datapoint, found))

    def _results(self, call: list[int]) -> dict[int, _Result]:
        if self._silence is not None:
            raise self._silence
        results = {place: _Result() for place in call}
        queries = [self._queries[place] for place in call]
        start, end = self._window(min(query.since for query in queries), {query.period for query in queries})
        asked: dict[str, Any] = {
            "MetricDataQueries": [_query(place, self._queries[place]) for place in call],
            "StartTime": datetime.fromtimestamp(start, UTC),
            "EndTime": datetime.fromtimestamp(end, UTC),
            "ScanBy": "TimestampAscending",
        }
        with self._sessions.asking("CloudWatch", self._scope):
            client = self._sessions.cloudwatch(self._scope)
            token: str | None = None
            for _ in range(PAGES):
                page = client.get_metric_data(**asked)
                self._read(page, results)
                before, token = token, page.get("NextToken")
                if not token:
                    return results
                if token == before:
                    break
                asked["NextToken"] = token
            raise RuntimeError("its pages do not end")

    def _read(self, page: Any, results: dict[int, _Result]) -> None:
        for found in page["MetricDataResults"]:
            identifier = str(found["Id"])
            place = int(identifier[1:]) if identifier[1:].isdecimal() else -1
            result = results.get(place)
            if result is None:
                continue
            result.status = str(found.get("StatusCode") or "Complete")
            times, values = found.get("Timestamps") or (), found.get("Values") or ()
            # On the short way (``direct``) they are plain numbers, and there are thousands of them.
            plain = set(map(type, times)) <= _NUMBERS
            result.points.update(zip(map(int if plain else _seconds, times), map(float, values), strict=False))


_NUMBERS = frozenset({int, float})


def _seconds(at: Any) -> int:
    """Return a timestamp in whole seconds: a number or text as it is on the wire, or what botocore made of it."""
    if isinstance(at, int | float):
        return int(at)
    return int((at if isinstance(at, datetime) else session.parse_timestamp(at)).timestamp())


def _query(place: int, query: models.Query) -> dict[str, Any]:
    return {
        "Id": f"q{place}",
        "MetricStat": {
            "Metric": {
                "Namespace": query.namespace,
                "MetricName": query.metric_name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
            },
            "Period": query.period,
            "Stat": query.statistic,
        },
        "ReturnData": True,
    }
