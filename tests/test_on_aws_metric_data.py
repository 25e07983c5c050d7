"""GetMetricData's calls stay within CloudWatch's limits, and every datapoint finds its query and its place."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import hypothesis
from hypothesis import strategies

from workermon import models
from workermon.on_aws import metric_data, session

SCOPE = models.AccountRegion(region="us-east-1")
NOW = 1_700_000_040


def query(number: int, since: int, period: int) -> models.Query:
    """Ask for a metric of a worker."""
    return models.Query(
        worker_id=f"i-{number:017x}", metric="cpu", namespace="AWS/EC2", metric_name="CPUUtilization",
        dimensions=(("InstanceId", f"i-{number:017x}"),), statistic="Average", period=period, since=since,
    )  # fmt: skip


def fetch(queries: list[models.Query]) -> metric_data.Fetch:
    """Prepare a fetch that sends nothing."""
    return metric_data.Fetch(session.Sessions(), SCOPE, queries, NOW)


def as_number(at: int) -> object:
    """Write a time as JSON has it."""
    return float(at)


def as_text(at: int) -> object:
    """Write a time as other protocols may have it."""
    return as_datetime(at).isoformat()


def as_datetime(at: int) -> datetime:
    """Write a time as botocore's parser has it."""
    return datetime.fromtimestamp(at, UTC)


@hypothesis.given(
    pages=strategies.lists(
        strategies.lists(
            strategies.tuples(
                strategies.integers(-3, 20).map(lambda place: NOW - 60 * place),
                strategies.sampled_from([0, 1.5, 40, 1.7e308, -0.25, math.nan, math.inf]),
            ),
            max_size=6,
        ).flatmap(lambda points: strategies.sampled_from([points, sorted(dict(points).items())])),
        min_size=1,
        max_size=3,
    ),
    missing=strategies.integers(0, 2),
    written=strategies.sampled_from([as_number, as_text, as_datetime]),
)
def test_points_are_sorted_finite_single_and_within_the_window(
    pages: list[list[tuple[int, float]]], missing: int, written: Any
) -> None:
    """In whatever order and shape they arrive, over however many pages, and also if a page lacks some values."""
    fetching = fetch([query(0, NOW - 900, 60)])
    results: dict[int, metric_data._Result] = {}
    expected: dict[int, float] = {}
    for points in pages:
        values = [value for _, value in points][: max(0, len(points) - missing)]
        times = [written(at) for at, _ in points]
        fetching._read({"MetricDataResults": [{"Id": "q0", "Timestamps": times, "Values": values}]}, results)
        expected |= {at: float(value) for (at, _), value in zip(points, values, strict=False)}
    assert fetching._take([0], results) == []
    assert fetching._answer.series[0].points == tuple(
        (at, value) for at, value in sorted(expected.items()) if NOW - 900 <= at <= NOW + 60 and math.isfinite(value)
    )


@hypothesis.given(
    asked=strategies.lists(
        strategies.tuples(
            strategies.integers(1, 400),
            strategies.sampled_from([-120, 60, 120, 1140, 3600, 5000, 86_400, 30 * 86_400]),
            strategies.sampled_from([1, 60, 300, 420, 3600]),
        ),
        max_size=6,
    )
)
def test_calls_stay_within_every_limit(asked: list[tuple[int, int, int]]) -> None:
    """Each query is in one call. No call has too many datapoints, unless one query alone has, or a window far wider."""
    queries = [query(number, NOW - ago, period) for count, ago, period in asked for number in range(count)]
    calls = list(fetch(queries)._calls())
    assert sorted(place for call in calls for place in call) == list(range(len(queries)))
    for call in calls:
        members = [queries[place] for place in call]
        start, end = fetch(queries)._window(min(m.since for m in members), {m.period for m in members})
        assert len(call) <= metric_data.MAX_QUERIES
        assert len(call) == 1 or sum((end - start) / m.period for m in members) <= metric_data.MAX_DATAPOINTS + 1e-6
        assert max(m.since for m in members) - min(m.since for m in members) <= metric_data.MAX_SPREAD
