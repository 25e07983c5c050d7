"""GetMetricData's queries: their JSON is botocore's, and AWS bills them as counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.config
import botocore.serialize
import hypothesis
import pytest
from hypothesis import strategies

from workermon import models
from workermon.on_aws import direct_parsing, metric_queries

A, B = "i-0aaaaaaa", "i-0bbbbbbb"


def stat(name: str, statistic: str, instance: str = A, at: int = 0) -> models.Query:
    """Ask for a statistic of a metric."""
    return models.Query(
        worker_id=instance, metric=name, namespace="N", metric_name=name, dimensions=(("InstanceId", instance),),
        statistic=statistic, period=60, since=at,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("requested", "billed"),
    [
        pytest.param([stat("a", "Average")], {"N/a": 1}, id="one"),
        pytest.param([stat("a", "Average"), stat("a", "Average", B)], {"N/a": 2}, id="of each instance"),
        pytest.param([stat("a", s) for s in ("Average", "Sum", "p99", "p90", "p50")], {"N/a": 1}, id="5 statistics"),
        pytest.param([stat("a", f"p{n}") for n in range(6)], {"N/a": 2}, id="a sixth is one more"),
        pytest.param([stat("a", "Sum"), stat("b", "Sum")], {"N/a": 1, "N/b": 1}, id="two metrics"),
        pytest.param([stat("a", "Sum"), stat("a", "Sum", at=60)], {"N/a": 1}, id="the same twice"),
        pytest.param([], {}, id="none"),
    ],
)
def test_up_to_five_statistics_of_one_metric_are_billed_as_one(
    requested: list[models.Query], billed: dict[str, int]
) -> None:
    """As the pricing page has it."""
    assert metric_queries.Queries(requested, range(len(requested))).billed() == billed


texts = strategies.text(min_size=1, max_size=12)
drawn_queries = strategies.builds(
    models.Query,
    worker_id=strategies.sampled_from([A, B]),
    metric=texts,
    namespace=texts,
    metric_name=texts,
    dimensions=strategies.lists(strategies.tuples(texts, texts), max_size=3).map(tuple),
    statistic=strategies.sampled_from(["Average", "Sum", "p99.9"]),
    period=strategies.sampled_from([60, 300]),
    since=strategies.integers(0, 2_000_000_000),
)


@pytest.fixture(scope="module")
def clients() -> tuple[Any, Any]:
    """Make a client that writes requests as botocore does, and one with the short cut."""
    session = boto3.session.Session("testing", "testing", region_name="us-east-1")
    unchecked = botocore.config.Config(parameter_validation=False)
    usual, short = (session.client("cloudwatch", config=unchecked) for _ in range(2))
    direct_parsing.shorten(short)
    return usual, short


@hypothesis.given(
    requested=strategies.lists(drawn_queries, min_size=1, max_size=5),
    source=strategies.none() | strategies.just("123456789012"),
    data=strategies.data(),
)
def test_a_request_is_what_botocore_writes(
    clients: tuple[Any, Any], requested: list[models.Query], source: str | None, data: strategies.DataObject
) -> None:
    """Whatever is in names and dimensions, both ways of writing a request say the same to CloudWatch."""
    usual, short = clients
    places = data.draw(strategies.permutations(range(len(requested))))
    at = datetime(2026, 11, 20, tzinfo=UTC)
    others = {"StartTime": at, "EndTime": at, "ScanBy": "TimestampAscending"}
    queries = metric_queries.Queries(requested, places, source)
    operation = usual.meta.service_model.operation_model("GetMetricData")
    by_botocore = usual._serializer.serialize_to_request({**others, "MetricDataQueries": list(queries)}, operation)
    written = short._serializer.serialize_to_request({**others, "MetricDataQueries": queries}, operation)
    assert json.loads(written.pop("body")) == json.loads(by_botocore.pop("body"))
    assert written == by_botocore


@pytest.mark.parametrize("protocol", ["json", "query", "smithy-rpc-v2-cbor"])
def test_every_protocol_writes_queries_like_a_list(clients: tuple[Any, Any], protocol: str) -> None:
    """An endpoint or a version of botocore that speaks another protocol is asked the same."""
    requested = [stat("a", "Sum"), stat("b", "p99", B)]
    queries = metric_queries.Queries(requested, [1, 0], "123456789012")
    operation = clients[0].meta.service_model.operation_model("GetMetricData")
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    as_list = serializer.serialize_to_request({"MetricDataQueries": list(queries)}, operation)
    assert serializer.serialize_to_request({"MetricDataQueries": queries}, operation) == as_list
    assert "MetricDataQueries" in str(as_list["body"])


def test_queries_read_as_a_list() -> None:
    """botocore's other serializers walk over them, and tests compare them."""
    requested = [stat("a", "Sum"), stat("b", "Sum"), stat("c", "Sum")]
    queries = metric_queries.Queries(requested, [2, 0])
    assert [query["Id"] for query in queries] == ["q2", "q0"]
    assert queries[1]["MetricStat"]["Metric"]["MetricName"] == "a"
    assert queries[:1] == [queries[0]]
    assert queries == list(queries)
    assert queries != metric_queries.Queries(requested, [0, 2])
