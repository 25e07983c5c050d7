"""EC2 and CloudWatch through boto3: whole calls, pages, partial answers, and the kind of each error."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws

from tests.support.aws import made_up_credentials
from workermon import errors, models, testing
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, ec2, error_kinds, metric_data, queue, regions, session

SCOPE = models.AccountRegion(region="us-east-1")
A, B, C = (f"i-{n:017x}" for n in (10, 11, 12))
NOW = 1_700_000_100


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Have boto3's chain find made-up credentials and nothing of this machine's."""
    made_up_credentials(monkeypatch, tmp_path)


@pytest.fixture
def sessions() -> Iterator[session.Sessions]:
    """Return sessions that are closed afterwards."""
    new_sessions = session.Sessions()
    yield new_sessions
    new_sessions.close()


@pytest.fixture
def on_ec2(sessions: session.Sessions) -> Iterator[Stubber]:
    """Make EC2 give only the answers of the test."""
    with Stubber(sessions.ec2(SCOPE)) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def on_cloudwatch(sessions: session.Sessions) -> Iterator[Stubber]:
    """Make CloudWatch give only the answers of the test."""
    with Stubber(sessions.cloudwatch(SCOPE)) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, retries_at_once: None) -> Iterator[endpoint.Endpoint]:
    """Run the simulated endpoint, a datapoint each five seconds."""
    fleet = simulation.Simulation(time.time, 12, period=5, seed=1)
    fleet.begin()
    server = endpoint.Endpoint(fleet)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    server.stop()


# --- EC2 ---------------------------------------------------------------------------------------------------------


def status_of(instance_id: str, state: str = "running", system: str | None = "ok", instance: str | None = "ok") -> Any:
    """Return one instance as in DescribeInstanceStatus."""
    status: dict[str, Any] = {"InstanceId": instance_id, "InstanceState": {"Name": state}}
    if system:
        status["SystemStatus"] = {"Status": system}
    if instance:
        status["InstanceStatus"] = {"Status": instance}
    return status


def instances(*ids: str, **more: Any) -> Any:
    """Return a page of DescribeInstances."""
    return {
        "Reservations": [
            {"Instances": [{"InstanceId": worker_id, "State": {"Name": "running"}, **more}]} for worker_id in ids
        ]
    }


def test_statuses_ask_for_stopped_ones_too_and_follow_pages(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """IncludeAllInstances is set, and a second page is read."""
    parameters = {"InstanceIds": [A, B], "IncludeAllInstances": True}
    on_ec2.add_response(
        "describe_instance_status", {"InstanceStatuses": [status_of(A)], "NextToken": "more"}, parameters
    )
    on_ec2.add_response(
        "describe_instance_status",
        {"InstanceStatuses": [status_of(B, "stopped", "not-applicable", "not-applicable")]},
        {**parameters, "NextToken": "more"},
    )
    assert ec2.AwsEc2(sessions).statuses(SCOPE, [A, B, A]) == {
        A: models.InstanceStatus(id=A, status="running", checks=models.Checks(system="ok", instance="ok")),
        B: models.InstanceStatus(
            id=B, status="stopped", checks=models.Checks(system="not-applicable", instance="not-applicable")
        ),
    }


@pytest.mark.parametrize("zone", [None, "us-east-1c"])
def test_a_region_or_zone_is_listed_in_pages_of_a_thousand(
    sessions: session.Sessions, on_ec2: Stubber, zone: str | None
) -> None:
    """No ids are named, stopped instances are included, and each page is yielded by itself."""
    parameters: dict[str, Any] = {"IncludeAllInstances": True, "MaxResults": 1000}
    if zone:
        parameters["Filters"] = [{"Name": "availability-zone", "Values": [zone]}]
    first = {**status_of(A), "AvailabilityZone": "us-east-1c"}
    on_ec2.add_response("describe_instance_status", {"InstanceStatuses": [first], "NextToken": "more"}, parameters)
    on_ec2.add_response(
        "describe_instance_status", {"InstanceStatuses": [status_of(B)]}, {**parameters, "NextToken": "more"}
    )
    pages = list(ec2.AwsEc2(sessions).list_statuses(SCOPE, zone))
    assert [[(status.id, status.zone) for status in page] for page in pages] == [[(A, "us-east-1c")], [(B, "")]]


def test_a_hundred_ids_a_call(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """DescribeInstanceStatus gets at most a hundred ids a call."""
    ids = [f"i-{n:017x}" for n in range(250)]
    for start in (0, 100, 200):
        chunk = ids[start : start + 100]
        on_ec2.add_response(
            "describe_instance_status",
            {"InstanceStatuses": [status_of(instance_id) for instance_id in chunk]},
            {"InstanceIds": chunk, "IncludeAllInstances": True},
        )
    assert list(ec2.AwsEc2(sessions).statuses(SCOPE, ids)) == ids


@pytest.mark.parametrize(
    ("code", "message", "without"),
    [
        ("InvalidInstanceID.NotFound", f"The instance ID '{A}' does not exist", [B, C]),
        ("InvalidInstanceID.NotFound", f"The instance IDs '{A}, {C}' do not exist", [B]),
        ("InvalidInstanceID.Malformed", f'Invalid id: "{B}"', [A, C]),
    ],
)
def test_ids_that_ec2_minds_are_left_out(
    sessions: session.Sessions, on_ec2: Stubber, code: str, message: str, without: list[str]
) -> None:
    """Ids that the error names are left out, one or several. The others are requested again."""
    for operation in ("describe_instance_status", "describe_instances"):
        on_ec2.add_client_error(operation, code, message, 400)
        answer: Any = {"InstanceStatuses": [status_of(instance_id) for instance_id in without]}
        if operation == "describe_instances":
            answer = instances(*without)
        on_ec2.add_response(operation, answer)
    reader = ec2.AwsEc2(sessions)
    assert list(reader.statuses(SCOPE, [A, B, C])) == without
    assert list(reader.describe(SCOPE, [A, B, C])) == without


def test_a_description_that_leaves_out_an_id_is_a_failure(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """An instance that EC2 neither describes nor calls unknown is not gone: the answer cannot be read."""
    on_ec2.add_response("describe_instances", instances(A))
    with pytest.raises(errors.AwsUnreachable, match=f"its answer cannot be read .*it leaves out {B}"):
        ec2.AwsEc2(sessions).describe(SCOPE, [A, B])


def test_an_unknown_id_that_is_not_named_is_found_by_halves(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """Whatever the message says, valid ids are answered."""
    for _ in range(2):  # both, then the first half
        on_ec2.add_client_error("describe_instances", "InvalidInstanceID.NotFound", "one of them does not exist", 400)
    on_ec2.add_response("describe_instances", instances(B), {"InstanceIds": [B]})
    assert list(ec2.AwsEc2(sessions).describe(SCOPE, [A, B])) == [B]


def test_what_ec2_does_not_say_is_not_made_up(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """If EC2 gives no checks, there are none. An unknown state or check is neither ok nor impaired."""
    statuses = [
        status_of(A, "running", None, None),
        status_of(B, "hibernating", "ok", "on-fire"),
        status_of(C, "running"),
    ]
    del statuses[2]["InstanceState"]
    on_ec2.add_response("describe_instance_status", {"InstanceStatuses": statuses})
    states = ec2.AwsEc2(sessions).statuses(SCOPE, [A, B, C])
    assert states[A].checks is None
    assert states[B] == models.InstanceStatus(
        id=B, status="unknown", checks=models.Checks(system="ok", instance="insufficient-data")
    )
    assert states[C].status == "unknown"


def test_an_answer_without_its_list_is_no_empty_fleet(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """An invalid answer with status 200 fails. As an empty list it would retire a fleet."""
    on_ec2.add_response("describe_instances", {})
    with pytest.raises(errors.AwsUnreachable, match="cannot be read"):
        ec2.AwsEc2(sessions).describe(SCOPE, [A])


def test_find_asks_by_tag_and_takes_it_as_written(sessions: session.Sessions, on_ec2: Stubber) -> None:
    """Filters exclude terminated instances, pages are followed, and a star in a tag is escaped."""
    filters = [
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        {"Name": "tag:Role", "Values": ["render*"]},
    ]
    exact = {"Tags": [{"Key": "Role", "Value": "render*"}, {"Key": "Name", "Value": "r-1"}]}
    on_ec2.add_response(
        "describe_instances",
        {**instances(B, **exact, Monitoring={"State": "enabled"}), "NextToken": "more"},
        {"Filters": filters, "MaxResults": 1000},
    )
    second = instances(A, **exact, Monitoring={"State": "disabled"})
    second["Reservations"] += instances(C, Tags=[{"Key": "Role", "Value": "renderer"}])["Reservations"]
    on_ec2.add_response("describe_instances", second, {"Filters": filters, "MaxResults": 1000, "NextToken": "more"})
    tags = {"Role": "render*", "Name": "r-1"}
    assert ec2.AwsEc2(sessions).find(SCOPE, {"Role": "render*"}) == [
        models.Instance(id=A, region="us-east-1", status="running", name="r-1", detailed=False, tags=tags),
        models.Instance(id=B, region="us-east-1", status="running", name="r-1", detailed=True, tags=tags),
    ]


# --- CloudWatch --------------------------------------------------------------------------------------------------


def query(worker_id: str = A, since: int = NOW - 900, period: int = 60, name: str = "CPUUtilization") -> models.Query:
    """Return a query of a worker's metric."""
    return models.Query(
        worker_id=worker_id, metric="m", namespace="AWS/EC2", metric_name=name,
        dimensions=(("InstanceId", worker_id),), statistic="Average", period=period, since=since,
    )  # fmt: skip


def when(at: float) -> dt.datetime:
    """Return a time as botocore gives it."""
    return dt.datetime.fromtimestamp(at, dt.UTC)


def result(place: int, *points: tuple[float, float], status: str = "Complete") -> Any:
    """Return one result of GetMetricData."""
    return {
        "Id": f"q{place}", "Timestamps": [when(at) for at, _ in points], "Values": [value for _, value in points],
        "StatusCode": status,
    }  # fmt: skip


def fetch(sessions: session.Sessions, *queries: models.Query, until: float = NOW) -> Any:
    """Fetch from CloudWatch."""
    return cloudwatch.AwsCloudWatch(sessions).fetch(SCOPE, queries, until)


def test_one_call_asks_for_all_on_the_grid_of_their_periods(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """The start is the earliest one, aligned; the end is after the last one; the oldest datapoint is first."""
    on_cloudwatch.add_response(
        "get_metric_data",
        {"MetricDataResults": [result(0, (NOW - 60, 1.5)), result(1)]},
        {
            "MetricDataQueries": [ANY, ANY],
            "StartTime": when((NOW - 1000) // 300 * 300),
            "EndTime": when(NOW // 300 * 300 + 300),
            "ScanBy": "TimestampAscending",
        },
    )
    answer = fetch(sessions, query(), query(B, since=NOW - 1000, period=300))
    assert answer.series == {
        0: models.Series(60, (models.Datapoint(NOW - 60, 1.5),)),
        1: models.Series(300, ()),
    }
    assert answer.failed == {}


def test_no_query_is_no_call(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """An empty list asks nothing."""
    assert fetch(sessions) == ({}, {})
    assert cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "mem_used_percent", []) == {}


def test_what_comes_out_is_sorted_finite_single_and_within_the_window(
    sessions: session.Sessions, on_cloudwatch: Stubber
) -> None:
    """NaN, infinity, and datapoints outside the window are dropped. Of equal timestamps the last counts."""
    inf, nan = float("inf"), float("nan")
    points = [(NOW - 60, 1.0), (NOW - 180, 2.0), (NOW - 120, nan), (NOW - 60, 3.0), (NOW - 240, inf)]
    odd = [(NOW + 3600, 4.0), (NOW - 960, 5.0)]
    on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [result(0, *points, *odd)]})
    assert fetch(sessions, query()).series[0].points == ((NOW - 180, 2.0), (NOW - 60, 3.0))


def test_pages_are_joined_by_id(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """A result that is partial on one page and complete on the next is complete."""
    on_cloudwatch.add_response(
        "get_metric_data",
        {"MetricDataResults": [result(0, (NOW - 120, 1.0), status="PartialData")], "NextToken": "more"},
    )
    on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [result(0, (NOW - 60, 2.0)), result(1)]})
    answer = fetch(sessions, query(), query(B))
    assert answer.series[0].points == ((NOW - 120, 1.0), (NOW - 60, 2.0))
    assert answer.failed == {}


def test_partial_results_alone_are_asked_for_again(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """Only the partial query is sent again, and its second answer counts."""
    on_cloudwatch.add_response(
        "get_metric_data", {"MetricDataResults": [result(0), result(1, (NOW - 60, 1.0), status="PartialData")]}
    )
    on_cloudwatch.add_response(
        "get_metric_data",
        {"MetricDataResults": [result(1, (NOW - 120, 0.5), (NOW - 60, 1.0))]},
        {"MetricDataQueries": [ANY], "StartTime": ANY, "EndTime": ANY, "ScanBy": ANY},
    )
    answer = fetch(sessions, query(), query(B))
    assert answer.series[1].points == ((NOW - 120, 0.5), (NOW - 60, 1.0))
    assert answer.failed == {}


def test_what_stays_partial_or_unanswered_has_failed(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """After a few attempts it is an error, beside the datapoints that arrived. A missing result is not an empty one."""
    for _ in range(metric_data.MAX_TRIES):
        on_cloudwatch.add_response(
            "get_metric_data", {"MetricDataResults": [result(0, (NOW - 60, 1.0), status="PartialData")]}
        )
    answer = fetch(sessions, query(), query(B))
    assert answer.series == {0: models.Series(60, (models.Datapoint(NOW - 60, 1.0),))}
    assert "only in part" in str(answer.failed[0])
    assert "not answered" in str(answer.failed[1])


def test_a_query_that_fails_alone_fails_alone(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """Forbidden is denied, an internal error is retryable, the rest is answered."""
    on_cloudwatch.add_response(
        "get_metric_data",
        {"MetricDataResults": [result(0, status="Forbidden"), result(1, status="InternalError"), result(2)]},
    )
    answer = fetch(sessions, query(), query(B), query(C))
    assert {place: error.kind for place, error in answer.failed.items()} == {0: "denied", 1: "unreachable"}
    assert list(answer.series) == [2]


def test_an_unknown_status_counts_by_its_datapoints(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """A status code that AWS documents nowhere: datapoints are a result. Without them, the error names the code."""
    point = (NOW - 60, 1.0)
    on_cloudwatch.add_response(
        "get_metric_data", {"MetricDataResults": [result(0, point, status="Degraded"), result(1, status="Degraded")]}
    )
    answer = fetch(sessions, query(), query(B))
    assert answer.series == {0: models.Series(60, (models.Datapoint(*point),))}
    assert {place: error.kind for place, error in answer.failed.items()} == {1: "unreachable"}
    assert "came with the unknown status Degraded" in str(answer.failed[1])


def test_one_bad_query_does_not_sink_the_batch(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """A ValidationError is narrowed down to the metric that causes it."""
    message = "The value for parameter MetricDataQueries.member.2 is invalid"
    on_cloudwatch.add_client_error("get_metric_data", "ValidationError", message, 400)
    on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [result(0), result(2)]})
    on_cloudwatch.add_client_error("get_metric_data", "ValidationError", message, 400)
    answer = fetch(sessions, query(), query(B, name="Nonsense"), query(C))
    assert list(answer.series) == [0, 2]
    assert list(answer.failed) == [1]
    assert type(answer.failed[1]) is errors.AwsError


def test_the_search_for_bad_queries_is_bounded(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """Where every query of five hundred is bad, it takes tens of calls and not a thousand."""
    for _ in range(metric_data.MAX_SEARCHES + 2):
        on_cloudwatch.add_client_error("get_metric_data", "ValidationError", "no", 400)
    calls: list[str] = []
    sessions.cloudwatch(SCOPE).meta.events.register("before-call.*.*", lambda model, **_: calls.append(model.name))
    answer = fetch(sessions, *(query(f"i-{n:017x}") for n in range(500)))
    assert len(answer.failed) == 500
    assert len(calls) <= metric_data.MAX_SEARCHES + 2
    forget(on_cloudwatch)


def test_a_failed_call_fails_its_own_queries_only(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """Of 501 queries the first 500 fail and the last one is answered."""
    on_cloudwatch.add_client_error("get_metric_data", "Throttling", "Rate exceeded", 400)
    on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [result(500)]})
    answer = fetch(sessions, *(query(f"i-{n:017x}") for n in range(501)))
    assert list(answer.series) == [500]
    assert set(answer.failed) == set(range(500))
    assert {type(error) for error in answer.failed.values()} == {errors.AwsThrottled}


def test_calls_stay_within_the_datapoints_of_one_answer(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """Five hundred queries over a day of minutes take several calls, each below 100,800 datapoints."""
    sizes: list[int] = []

    def count(params: Any, **_: Any) -> None:
        span = (params["EndTime"] - params["StartTime"]).total_seconds()
        sizes.append(int(len(params["MetricDataQueries"]) * span / 60))

    sessions.cloudwatch(SCOPE).meta.events.register("provide-client-params.cloudwatch.GetMetricData", count)
    for _ in range(20):
        on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": []})
    queries = [query(f"i-{n:017x}", since=NOW - models.DAY) for n in range(120)]
    fetching = cloudwatch.AwsCloudWatch(sessions)
    fetching.fetch(SCOPE, queries, NOW)
    assert max(sizes) <= metric_data.MAX_DATAPOINTS
    assert len(sizes) == 2 * metric_data.MAX_TRIES
    forget(on_cloudwatch)


def test_one_who_was_away_does_not_widen_everybodys_window(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """A query that reaches back a day goes into a call of its own."""
    on_cloudwatch.add_response(
        "get_metric_data",
        {"MetricDataResults": [result(0), result(2)]},
        {"MetricDataQueries": [ANY, ANY], "StartTime": when(NOW - 900), "EndTime": ANY, "ScanBy": ANY},
    )
    on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [result(1)]})
    assert fetch(sessions, query(), query(B, since=NOW - models.DAY), query(C)).failed == {}


def listing(*sets: dict[str, str], name: str = "disk_used_percent", **more: Any) -> Any:
    """Return a page of ListMetrics."""
    return {
        "Metrics": [
            {"Namespace": "CWAgent", "MetricName": name, "Dimensions": [{"Name": k, "Value": v} for k, v in s.items()]}
            for s in sets
        ],
        **more,
    }


def test_few_instances_are_looked_up_one_by_one(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """A filter by the instance's own id, over pages, within the last three hours."""
    parameters = {
        "Namespace": "CWAgent", "MetricName": "disk_used_percent", "RecentlyActive": "PT3H",
        "Dimensions": [{"Name": "InstanceId", "Value": A}],
    }  # fmt: skip
    on_cloudwatch.add_response("list_metrics", listing({"path": "/", "InstanceId": A}, NextToken="more"), parameters)
    on_cloudwatch.add_response("list_metrics", listing({"InstanceId": A}), {**parameters, "NextToken": "more"})
    sets = cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "disk_used_percent", [A])
    assert sets == {A: [(("InstanceId", A),), (("path", "/"), ("InstanceId", A))]}


def test_many_instances_are_listed_together(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """One ListMetrics covers the metric. Only the requested instances are kept."""
    ids = [f"i-{n:017x}" for n in range(20)]
    on_cloudwatch.add_response(
        "list_metrics",
        listing(*({"InstanceId": worker_id} for worker_id in [*ids, "i-0000000000000ffff", "mi-1"])),
        {
            "Namespace": "CWAgent", "MetricName": "disk_used_percent", "RecentlyActive": "PT3H",
            "Dimensions": [{"Name": "InstanceId"}],
        },
    )  # fmt: skip
    assert set(cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "disk_used_percent", ids)) == set(ids)


def test_a_whole_region_is_listed_page_by_page(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """All instances are listed, monitored or not. Series without an instance are left out."""
    parameters = {"Namespace": "CWAgent", "MetricName": "disk_used_percent", "Dimensions": [{"Name": "InstanceId"}]}
    parameters["RecentlyActive"] = "PT3H"
    on_cloudwatch.add_response("list_metrics", listing({"InstanceId": A}, {"path": "/"}, NextToken="more"), parameters)
    on_cloudwatch.add_response(
        "list_metrics", listing({"InstanceId": B, "path": "/"}), {**parameters, "NextToken": "more"}
    )
    assert cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "disk_used_percent", None) == {
        A: [(("InstanceId", A),)],
        B: [(("InstanceId", B), ("path", "/"))],
    }


def test_series_that_name_no_instance_are_found(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """The metric is listed without a filter. Series with an instance are left out."""
    parameters = {"Namespace": "CWAgent", "MetricName": "mem_used_percent", "RecentlyActive": "PT3H"}
    on_cloudwatch.add_response("list_metrics", listing({"InstanceId": A}, {"host": "a"}, NextToken="more"), parameters)
    sets = listing({"InstanceId": "${aws:InstanceId}"}, {"host": "a"})
    on_cloudwatch.add_response("list_metrics", sets, {**parameters, "NextToken": "more"})
    foreign_sets = cloudwatch.AwsCloudWatch(sessions).foreign_dimensions(SCOPE, "CWAgent", "mem_used_percent")
    assert foreign_sets == [(("host", "a"),), (("InstanceId", "${aws:InstanceId}"),)]


def test_a_listing_longer_than_the_fleet_asked_for_is_given_up(
    sessions: session.Sessions, on_cloudwatch: Stubber
) -> None:
    """Six instances among thousands: after six pages they are looked up one by one."""
    ids = [f"i-{n:017x}" for n in range(6)]
    for n in range(6):
        on_cloudwatch.add_response("list_metrics", listing({"InstanceId": ids[0]}, NextToken=f"page-{n}"))
    for worker_id in ids:
        on_cloudwatch.add_response("list_metrics", listing({"InstanceId": worker_id, "path": "/"}))
    sets = cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "disk_used_percent", ids)
    assert set(sets) == set(ids)


def test_pages_that_never_end_are_an_error(sessions: session.Sessions, on_cloudwatch: Stubber) -> None:
    """The same token twice would go on for ever."""
    for _ in range(2):
        on_cloudwatch.add_response("get_metric_data", {"MetricDataResults": [], "NextToken": "same"})
    for _ in range(2):
        on_cloudwatch.add_response("list_metrics", listing(NextToken="same"))
    assert isinstance(fetch(sessions, query()).failed[0], errors.AwsUnreachable)
    with pytest.raises(errors.AwsUnreachable):
        cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "disk_used_percent", [A])


# --- errors ------------------------------------------------------------------------------------------------------


def forget(stubber: Stubber) -> None:
    """Drop the answers that were not requested."""
    queue: Any = vars(stubber)["_queue"]  # of its own; otherwise it fails for what is left
    queue.clear()


def refusal(code: str, message: str = "", status: int = 400, operation: str = "DescribeInstances") -> Exception:
    """Return botocore's exception for an error of AWS."""
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, operation)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        *((refusal(code, status=503), "throttled") for code in ("RequestLimitExceeded", "SlowDown")),
        *((refusal(code), "throttled") for code in ("Throttling", "ThrottlingException", "TooManyRequestsException")),
        (refusal("Whatever", status=429), "throttled"),
        *((refusal(code, status=403), "denied") for code in ("UnauthorizedOperation", "AccessDenied", "OptInRequired")),
        *((refusal(code), "denied") for code in ("AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch")),
        *((refusal(code), "denied") for code in ("ExpiredToken", "RequestExpired", "AccessDeniedException")),
        (botocore.exceptions.NoCredentialsError(), "denied"),
        (botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "denied"),
        (botocore.exceptions.ProfileNotFound(profile="lab"), "denied"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x", error="refused"), "unreachable"),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"), "unreachable"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), "unreachable"),
        (botocore.exceptions.SSLError(endpoint_url="https://x", error=OSError("self-signed")), "unreachable"),
        (refusal("InternalError", status=500), "unreachable"),
        (refusal("502", status=502), "unreachable"),
        (ValueError("Invalid endpoint: nowhere"), "unreachable"),
        (KeyError("Reservations"), "unreachable"),
        (refusal("ValidationError"), "failed"),
        (refusal("UnknownOperationException", status=404), "failed"),
    ],
)  # fmt: skip
def test_each_error_has_its_kind(reason: Exception, kind: str) -> None:
    """Throttled, denied and unreachable are different errors. All survive pickling."""
    error = error_kinds.translate(reason, "EC2", SCOPE)
    assert error.kind == kind
    assert error.subject == "EC2 in us-east-1"
    assert error.todo
    assert error.retryable == (kind in ("throttled", "unreachable"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_secret_is_in_an_error() -> None:
    """Key ids, passwords in a URL, external ids and encoded messages are not shown. The error is one line."""
    scope = SCOPE.model_copy(update={"role_arn": "arn:aws:iam::123456789012:role/lab", "external_id": "s3cr3t"})
    for error in (
        refusal("AccessDenied", "User AKIAIOSFODNN7EXAMPLE may not\n pass s3cr3t", 403, "AssumeRole"),
        refusal("UnauthorizedOperation", "No. Encoded authorization failure message: " + "x" * 900, 403),
        refusal("SignatureDoesNotMatch", "The Canonical String should have been AKIAIOSFODNN7EXAMPLE", 403),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://me:s3cr3t@x", error="no"),
        ValueError("x" * 5000),
    ):
        text = str(error_kinds.translate(error, "EC2", scope))
        for secret in ("AKIA", "s3cr3t", "xxxxxxxx" * 50):
            assert secret not in text
        assert "\n" not in text


def test_a_refused_role_differs_from_a_missing_permission() -> None:
    """A denied AssumeRole points at the trust policy, a denied operation at the IAM policy."""
    role = error_kinds.translate(refusal("AccessDenied", "", 403, "AssumeRole"), "EC2", SCOPE)
    assert "trust policy" in role.todo
    denied = error_kinds.translate(refusal("AccessDenied", "", 403, "GetMetricData"), "CloudWatch", SCOPE)
    assert denied.todo == "allow cloudwatch:GetMetricData in the IAM policy"


def test_a_time_limit_is_no_aws_error(sessions: session.Sessions) -> None:
    """An exception that a signal raises is not converted."""

    class TimeLimit(Exception):
        """As Celery's."""

    with pytest.raises(TimeLimit), sessions.asking("EC2", SCOPE):
        raise TimeLimit


@pytest.mark.parametrize(
    ("region", "nearest"), [("us-east1", "us-east-1"), ("us-esat-1", "us-east-1"), ("eu-wset-3", "eu-west-3")]
)
def test_an_unknown_region_names_the_nearest(sessions: session.Sessions, region: str, nearest: str) -> None:
    """A typo is answered with the nearest name, without asking AWS."""
    with pytest.raises(errors.InvalidInput, match=rf"^region {region}: .*did you mean {nearest}\?$"):
        ec2.AwsEc2(sessions).describe(models.AccountRegion(region=region), [A])


def test_regions_are_those_of_every_partition() -> None:
    """China and GovCloud are regions too."""
    names = regions.known_regions()
    assert {"us-east-1", "cn-north-1", "us-gov-west-1"} <= names.names


@pytest.mark.parametrize(
    ("region", "accepted"),
    [
        ("sa-west-1", True),  # in the list of partitions, but not in that of EC2's endpoints
        ("me-west-1", True),
        ("eu-west-9", True),
        ("ap-southeast-42", True),
        ("us-gov-north-1", True),
        ("us-esat-1", False),
        ("mars-central-1", False),
        ("us-east1", False),
        ("aws-global", False),
    ],
)
def test_a_region_that_aws_may_open_is_taken(region: str, accepted: bool) -> None:
    """A region is accepted if a partition lists it, or if it fits the pattern and consists of AWS's words."""
    assert (region in regions.known_regions()) is accepted


def test_the_default_region_is_boto3s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured region there is no default."""
    assert regions.default_region() is None
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert regions.default_region() == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert regions.default_region() == "eu-west-2"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    with pytest.raises(errors.AwsDenied, match="none-such"):
        regions.default_region()


def test_a_profile_that_is_not_there_is_named_wherever_regions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing profile is named even if AWS_REGION sets the region and only the list of regions needs it."""
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    regions.known_regions.cache_clear()
    with pytest.raises(errors.AwsDenied, match=r"AWS configuration: .*none-such.*; check AWS_PROFILE"):
        regions.known_regions()


# --- sessions ----------------------------------------------------------------------------------------------------


def test_clients_are_made_once_an_account_and_region(sessions: session.Sessions) -> None:
    """An account and region has one client. Another region has another."""
    assert sessions.ec2(SCOPE) is sessions.ec2(SCOPE.model_copy())
    assert sessions.ec2(models.AccountRegion(region="eu-west-1")).meta.region_name == "eu-west-1"


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own_clients(sessions: session.Sessions) -> None:
    """A client inherited over a fork would share the parent's socket."""
    mine = sessions.ec2(SCOPE)
    child = os.fork()
    if child == 0:
        os._exit(0 if sessions._clients == {} and sessions.ec2(SCOPE) is not mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sessions.ec2(SCOPE) is mine


def test_credentials_that_were_put_right_count(
    sessions: session.Sessions, monkeypatch: pytest.MonkeyPatch, served: endpoint.Endpoint
) -> None:
    """After a refusal the chain is read anew, without a restart."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    reader = ec2.AwsEc2(sessions)
    with pytest.raises(errors.AwsDenied, match="give boto3 valid credentials"):
        reader.find(SCOPE, {})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert len(reader.find(SCOPE, {})) == 12
    served.fail("expired", times=1)
    with pytest.raises(errors.AwsDenied, match="expired"):
        reader.find(SCOPE, {})
    assert len(reader.find(SCOPE, {})) == 12


@pytest.mark.parametrize(("ahead", "said"), [(400, "400 s ahead of"), (-3600, "3600 s behind")])
def test_a_refusal_for_the_clock_names_the_difference(ahead: int, said: str) -> None:
    """If AWS refuses a signature for its time, its own time is compared with the clock that the sessions were given."""
    headers = {"date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    response: Any = {"Error": {"Code": "RequestTimeTooSkewed"}, "ResponseMetadata": {"HTTPHeaders": headers}}
    with (
        contextlib.closing(session.Sessions(machine=testing.ManualClock(1_700_000_000.0 + ahead))) as sessions,
        pytest.raises(errors.AwsDenied, match=f"clock is {said} that of AWS"),
        sessions.asking("EC2", SCOPE),
    ):
        raise botocore.exceptions.ClientError(response, "DescribeInstances")


def test_a_right_that_is_missing_costs_no_connections(served: endpoint.Endpoint) -> None:
    """A queue that may not be read leaves the clients of its account as they are, but for once in half a minute."""
    clock = testing.ManualClock(1000.0)
    sessions = session.Sessions(clock=clock)
    queues, url = queue.AwsEventQueues(sessions), f"{served.url}/123456789012/workermon"
    made = []
    served.fail("deny", "ReceiveMessage")
    for _ in range(5):
        with pytest.raises(errors.AwsDenied):
            queues.receive(SCOPE, url, 0)
        made.append(sessions.ec2(SCOPE))
    assert len({id(client) for client in made}) == 1
    clock.advance(session.RENEWED_EVERY)
    with pytest.raises(errors.AwsDenied):
        queues.receive(SCOPE, url, 0)
    assert sessions.ec2(SCOPE) is not made[0]
    sessions.close()


def test_a_role_is_assumed_with_its_external_id_once(
    sessions: session.Sessions, served: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two services of an account share one AssumeRole, with the external id."""
    scope = models.AccountRegion(
        region="us-east-1", account="lab", role_arn="arn:aws:iam::123456789012:role/workermon", external_id="s3cr3t"
    )
    parameters: list[dict[str, Any]] = []
    inner = served.api.call

    def call(service: str, action: str, params: dict[str, Any], region: str) -> Any:
        parameters.append({"Action": action, **params})
        return inner(service, action, params, region)

    monkeypatch.setattr(served.api, "call", call)
    members = ec2.AwsEc2(sessions).find(scope, {})
    cloudwatch.AwsCloudWatch(sessions).dimensions(scope, "CWAgent", "mem_used_percent", [members[0].id])
    assert served.calls["AssumeRole"] == 1
    assert parameters[0]["ExternalId"] == "s3cr3t"
    assert parameters[0]["RoleArn"] == scope.role_arn


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("throttle", errors.AwsThrottled),
        ("deny", errors.AwsDenied),
        ("invalid", errors.CredentialsRejected),
        ("error", errors.AwsUnreachable),
        ("garbage", errors.AwsUnreachable),
        ("drop", errors.AwsUnreachable),
    ],
)
def test_over_the_wire_each_failure_has_its_kind(
    sessions: session.Sessions, served: endpoint.Endpoint, kind: Any, error: type[errors.AwsError]
) -> None:
    """EC2's XML and CloudWatch's CBOR end in the same errors, and work again afterwards."""
    members = ec2.AwsEc2(sessions).find(SCOPE, {})
    first_query = query(members[0].id, since=int(time.time()) - 60, period=5)
    served.fail(kind)
    with pytest.raises(error):
        ec2.AwsEc2(sessions).statuses(SCOPE, [members[0].id])
    with pytest.raises(error):
        cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "mem_used_percent", [members[0].id])
    assert type(fetch(sessions, first_query, until=time.time()).failed[0]) is error
    served.recover()
    assert fetch(sessions, first_query, until=time.time()).series[0].points


def test_an_endpoint_that_is_down_is_unreachable(sessions: session.Sessions, served: endpoint.Endpoint) -> None:
    """All calls of a fetch fail, and only the first one waits for the timeout."""
    members = ec2.AwsEc2(sessions).find(SCOPE, {})
    served.stop()
    queries = [query(members[0].id, since=NOW - 86_400 * n, period=60) for n in range(1, 4)]
    begin = time.monotonic()
    answer = fetch(sessions, *queries)
    assert {type(error) for error in answer.failed.values()} == {errors.AwsUnreachable}
    assert len(set(map(id, answer.failed.values()))) == 1
    assert time.monotonic() - begin < 15


def test_the_simulated_fleet_is_read_whole(sessions: session.Sessions, served: endpoint.Endpoint) -> None:
    """Statuses, descriptions, dimensions and datapoints agree, and an unknown id is left out."""
    reader, watched = ec2.AwsEc2(sessions), cloudwatch.AwsCloudWatch(sessions)
    ids = [instance.id for instance in reader.find(SCOPE, {"Role": "render"})]
    assert len(ids) == 12
    assert set(reader.statuses(SCOPE, [*ids, A, B])) == set(reader.describe(SCOPE, [A, *ids])) == set(ids)
    sets = watched.dimensions(SCOPE, "CWAgent", "disk_used_percent", ids)
    assert set(sets) == set(ids)
    now = int(time.time())
    queries = [
        query(worker_id, since=now - 300, period=5, name="disk_used_percent")._replace(
            namespace="CWAgent", dimensions=dimensions
        )
        for worker_id in ids
        for dimensions in sets[worker_id]
    ]
    answer = watched.fetch(SCOPE, queries, now)
    assert answer.failed == {}
    assert all(len(series.points) > 50 for series in answer.series.values())
    assert all(point.at % 5 == 0 for series in answer.series.values() for point in series.points)


# --- moto: an endpoint that the project did not write ------------------------------------------------------------


@mock_aws
def test_moto_agrees(sessions: session.Sessions) -> None:
    """Instances, states, tags, dimensions and datapoints as another implementation of AWS gives them."""
    client = boto3.client("ec2", region_name="us-east-1")
    few: Any = [{"Name": "virtualization-type", "Values": ["paravirtual"]}]  # moto takes a second for all its images
    image = client.describe_images(Filters=few)["Images"][0]["ImageId"]
    tags: Any = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}, {"Key": "Role", "Value": "x"}]}]
    launched = client.run_instances(ImageId=image, MinCount=3, MaxCount=3, TagSpecifications=tags)["Instances"]
    ids = [instance["InstanceId"] for instance in launched]
    client.stop_instances(InstanceIds=ids[:1])
    client.terminate_instances(InstanceIds=ids[1:2])
    reader = ec2.AwsEc2(sessions)
    statuses = reader.statuses(SCOPE, [*ids, A])
    assert [statuses[worker_id].status for worker_id in ids] == ["stopped", "terminated", "running"]
    assert statuses[ids[2]].checks == models.Checks(system="ok", instance="ok")
    assert reader.describe(SCOPE, [ids[2], A])[ids[2]].name == "web"
    assert [instance.id for instance in reader.find(SCOPE, {"Role": "x"})] == sorted([ids[0], ids[2]])
    assert reader.find(SCOPE, {"Role": "y"}) == []
    now = int(time.time()) // 60 * 60
    boto3.client("cloudwatch", region_name="us-east-1").put_metric_data(
        Namespace="CWAgent",
        MetricData=[
            {
                "MetricName": "mem_used_percent", "Timestamp": when(now - 60 * n), "Value": 50.0 + n,
                "Dimensions": [{"Name": "InstanceId", "Value": ids[2]}, {"Name": "ImageId", "Value": image}],
            }
            for n in range(1, 4)
        ],
    )  # fmt: skip
    watched = cloudwatch.AwsCloudWatch(sessions)
    sets = watched.dimensions(SCOPE, "CWAgent", "mem_used_percent", ids)
    # In the order in which they were published: moto compares them so.
    assert sets == {ids[2]: [(("InstanceId", ids[2]), ("ImageId", image))]}
    memory = query(ids[2], since=now - 600, name="mem_used_percent")._replace(
        namespace="CWAgent", dimensions=sets[ids[2]][0]
    )
    answer = watched.fetch(SCOPE, [memory, query(ids[2], since=now - 600)], now)
    assert answer.series[0].points == ((now - 180, 53.0), (now - 120, 52.0), (now - 60, 51.0))
    assert answer.series[1].points == ()


# --- timestamps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [NOW, float(NOW), "2023-11-14T22:15:00Z", "2023-11-14T22:15:00.000+00:00", "Tue, 14 Nov 2023 22:15:00 GMT"]
)
def test_timestamps_of_every_protocol_mean_the_same(text: Any) -> None:
    """Numbers, ISO 8601 and datetimes of botocore give the same time."""
    assert session.parse_timestamp(text).timestamp() == NOW


def test_threads_that_begin_at_once_read_the_regions_once(
    sessions: session.Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's list of regions takes tens of megabytes, so a node reads it once."""
    read = []
    usual = botocore.session.Session.get_available_partitions

    def counted(botocore_session: botocore.session.Session) -> list[str]:
        read.append(botocore_session)
        return usual(botocore_session)

    monkeypatch.setattr(
        botocore.session.Session,
        "get_available_partitions",
        counted,
    )
    regions.known_regions.cache_clear()
    together = threading.Barrier(4)

    def begin(_: int) -> Any:
        together.wait(10)
        return sessions.ec2(SCOPE)

    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(begin, range(4)))
    assert len(read) == 1
    assert all(client is clients[0] for client in clients)


@pytest.fixture
def trickle() -> Iterator[str]:
    """Give the URL of a server whose answers promise 1,000 bytes, and go on with one byte each 20 ms."""
    ended = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.02):
                connection.sendall(b" ")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    ended.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_an_answer_that_does_not_end_is_given_up(
    sessions: session.Sessions, trickle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that sends byte after byte is unreachable: each byte would restart botocore's read timeout."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", trickle)
    monkeypatch.setattr(session, "READ_TIMEOUT", 0.2)
    with pytest.raises(errors.AwsUnreachable, match="Read timeout"):
        ec2.AwsEc2(sessions).statuses(SCOPE, [A])
