"""The simulated AWS answers boto3 and other SDKs as AWS would."""

from __future__ import annotations

import datetime
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.exceptions
import botocore.parsers
import pytest

from tests.support.waiting import eventually
from workermon import testing
from workermon.local import api, endpoint, simulation

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.literals import ScanByType
    from mypy_boto3_cloudwatch.type_defs import (
        DimensionTypeDef,
        GetMetricDataOutputTypeDef,
        MetricDataQueryTypeDef,
        MetricTypeDef,
    )
    from mypy_boto3_ec2 import EC2Client

PERIOD = 60
NOW = 1_764_000_030


@pytest.fixture
def clock() -> testing.ManualClock:
    """Give a clock that only the test moves."""
    return testing.ManualClock(NOW)


@pytest.fixture
def fleet(clock: testing.ManualClock) -> simulation.Simulation:
    """Twelve instances that publish each minute."""
    return simulation.Simulation(clock, 12, period=PERIOD)


@pytest.fixture
def aws(fleet: simulation.Simulation) -> Iterator[endpoint.Endpoint]:
    """The endpoint over that fleet."""
    new_endpoint = endpoint.Endpoint(fleet)
    new_endpoint.start()
    yield new_endpoint
    new_endpoint.stop()


def client(aws: endpoint.Endpoint, service: str, **config: Any) -> Any:
    """Return a boto3 client that tries once."""
    options = {"retries": {"total_max_attempts": 1}, "read_timeout": 2, **config}
    make: Any = boto3.client  # typed for names that are literals only
    return make(
        service,
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id="simulated",
        aws_secret_access_key="simulated",
        config=botocore.config.Config(**options),
    )


@pytest.fixture
def ec2(aws: endpoint.Endpoint) -> EC2Client:
    """boto3's EC2."""
    ec2_client: EC2Client = client(aws, "ec2")
    return ec2_client


@pytest.fixture
def cloudwatch(aws: endpoint.Endpoint) -> CloudWatchClient:
    """boto3's CloudWatch."""
    cloudwatch_client: CloudWatchClient = client(aws, "cloudwatch")
    return cloudwatch_client


def ids(fleet: simulation.Simulation) -> list[str]:
    """Return the ids of the fleet, in order."""
    return list(fleet.machines)


def query(
    instance_id: str,
    name: str = "CPUUtilization",
    namespace: str = "AWS/EC2",
    dimensions: list[DimensionTypeDef] | None = None,
    number: int = 0,
    period: int = PERIOD,
) -> MetricDataQueryTypeDef:
    """Return one query of GetMetricData."""
    dimensions = dimensions or [{"Name": "InstanceId", "Value": instance_id}]
    metric: MetricTypeDef = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
    return {"Id": f"q{number}", "MetricStat": {"Metric": metric, "Period": period, "Stat": "Average"}}


def utc(at: float) -> datetime.datetime:
    """Return a time as boto3 wants it."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


def ask(
    cloudwatch: CloudWatchClient,
    queries: list[MetricDataQueryTypeDef],
    since: float = NOW - 600,
    until: float = NOW,
    **more: Any,
) -> GetMetricDataOutputTypeDef:
    """Call GetMetricData, the oldest datapoint first."""
    return cloudwatch.get_metric_data(
        MetricDataQueries=queries, StartTime=utc(since), EndTime=utc(until), ScanBy="TimestampAscending", **more
    )


def refused(call: Callable[..., object], **arguments: Any) -> dict[str, Any]:
    """Return the error with which a call is refused."""
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        call(**arguments)
    return dict(raised.value.response["Error"])


# --- EC2


def test_ids_look_like_real_ones(fleet: simulation.Simulation) -> None:
    """Instances have ids of 17 hexadecimal digits, and names in order."""
    machines = list(fleet.machines.values())
    assert all(len(machine.id) == 19 and int(machine.id[2:], 16) for machine in machines)
    assert [machine.name for machine in machines[:3]] == ["render-01", "render-02", "render-03"]


def test_an_instance_is_described(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """DescribeInstances tells name, state, tags and monitoring."""
    instance_ids = ids(fleet)[:2]
    reservations = ec2.describe_instances(InstanceIds=instance_ids)["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    assert [instance["InstanceId"] for instance in instances] == instance_ids
    assert {"Key": "Name", "Value": "render-01"} in instances[0]["Tags"]
    assert instances[0]["State"] == {"Code": 16, "Name": "running"}
    assert instances[0]["Monitoring"]["State"] == "enabled"
    assert instances[0]["LaunchTime"].tzinfo


def test_unknown_ids_are_named(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """One unknown id fails the call and is named. Several are named together."""
    unknown = "i-00000000000000001"
    error = refused(ec2.describe_instance_status, InstanceIds=[ids(fleet)[0], unknown])
    assert error["Code"] == "InvalidInstanceID.NotFound"
    assert error["Message"] == f"The instance ID '{unknown}' does not exist"
    error = refused(ec2.describe_instances, InstanceIds=[unknown, "i-00000000000000002"])
    assert error["Message"] == f"The instance IDs '{unknown}, i-00000000000000002' do not exist"


def test_a_malformed_id_is_refused(ec2: EC2Client) -> None:
    """A malformed instance id gives another error than an unknown one."""
    assert refused(ec2.describe_instances, InstanceIds=["i-xyz"])["Code"] == "InvalidInstanceID.Malformed"


def test_more_than_100_ids_are_refused(ec2: EC2Client) -> None:
    """DescribeInstanceStatus takes 100 ids."""
    many = [f"i-{number:017x}" for number in range(101)]
    assert refused(ec2.describe_instance_status, InstanceIds=many)["Code"] == "InvalidParameterValue"


def test_stopped_instances_show_only_when_asked_for(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """A stopped instance is missing from the statuses unless all instances are asked for."""
    stopped = ids(fleet)[3]
    fleet.set_state(stopped, "stopped")
    statuses = ec2.describe_instance_status()["InstanceStatuses"]
    assert len(statuses) == 11
    assert stopped not in {instance_status["InstanceId"] for instance_status in statuses}
    (instance_status,) = ec2.describe_instance_status(InstanceIds=[stopped], IncludeAllInstances=True)[
        "InstanceStatuses"
    ]
    assert instance_status["InstanceState"]["Name"] == "stopped"
    assert instance_status["SystemStatus"]["Status"] == "not-applicable"


def test_checks_can_be_impaired_and_healed(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """Status checks are ok, impaired while a test says so, and ok again."""
    instance_id = ids(fleet)[0]

    def checks() -> tuple[str, str]:
        (instance_status,) = ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
        return instance_status["SystemStatus"]["Status"], instance_status["InstanceStatus"]["Status"]

    assert checks() == ("ok", "ok")
    fleet.set_checks(instance_id, "ok", "impaired")
    assert checks() == ("ok", "impaired")
    fleet.set_checks(instance_id)
    assert checks() == ("ok", "ok")


def test_the_statuses_of_a_zone_can_be_listed(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """Each instance is in one of three zones, under which both calls find it."""
    listed: list[str] = []
    for zone in ("us-east-1a", "us-east-1b", "us-east-1c"):
        filters: Any = [{"Name": "availability-zone", "Values": [zone]}]
        statuses = ec2.describe_instance_status(Filters=filters)["InstanceStatuses"]
        assert {status["AvailabilityZone"] for status in statuses} == {zone}
        listed += [status["InstanceId"] for status in statuses]
    assert sorted(listed) == sorted(ids(fleet))


def test_pages_are_followed(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """Both describing calls page, and the pages together are the fleet, each instance once."""
    pages = ec2.get_paginator("describe_instance_status").paginate(PaginationConfig={"PageSize": 5})
    instance_ids = [instance_status["InstanceId"] for page in pages for instance_status in page["InstanceStatuses"]]
    assert instance_ids == ids(fleet)
    described = list(ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    instance_ids = [
        instance["InstanceId"]
        for page in described
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    assert len(described) == 3
    assert instance_ids == ids(fleet)


def test_page_size_and_ids_exclude_one_another(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """Ids together with a page size are refused, as is a page of fewer than five."""
    error = refused(ec2.describe_instances, InstanceIds=ids(fleet)[:1], MaxResults=5)
    assert error["Code"] == "InvalidParameterCombination"
    assert refused(ec2.describe_instances, MaxResults=4)["Code"] == "InvalidParameterValue"


def test_filters_choose(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """Tags and states filter. A wildcard matches. An unknown filter is refused."""

    def names(*filters: tuple[str, list[str]]) -> list[str]:
        answer = ec2.describe_instances(Filters=[{"Name": name, "Values": values} for name, values in filters])
        return [reservation["Instances"][0]["InstanceId"] for reservation in answer["Reservations"]]

    fleet.set_state(ids(fleet)[1], "stopped")
    assert names(("tag:Team", ["vfx"])) == ids(fleet)[0::3]
    assert names(("tag:Name", ["render-1*"])) == ids(fleet)[9:12]
    assert names(("tag:Role", ["render"]), ("instance-state-name", ["stopped"])) == [ids(fleet)[1]]
    assert names(("tag:Nothing", ["x"])) == []
    assert refused(ec2.describe_instances, Filters=[{"Name": "color", "Values": ["red"]}])["Code"]


def test_another_region_is_empty(fleet: simulation.Simulation, aws: endpoint.Endpoint) -> None:
    """An instance exists only in its region."""
    other_client = boto3.client(
        "ec2", endpoint_url=aws.url, region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    assert other_client.describe_instances()["Reservations"] == []
    assert refused(other_client.describe_instances, InstanceIds=ids(fleet)[:1])["Code"] == "InvalidInstanceID.NotFound"


def test_a_forgotten_instance_is_not_found(fleet: simulation.Simulation, ec2: EC2Client) -> None:
    """An instance that EC2 has dropped does not exist any more."""
    terminated = ids(fleet)[0]
    fleet.forget(terminated)
    assert refused(ec2.describe_instances, InstanceIds=[terminated])["Code"] == "InvalidInstanceID.NotFound"


# --- CloudWatch


def test_datapoints_are_aligned_and_appear_after_their_period(
    fleet: simulation.Simulation, cloudwatch: CloudWatchClient, clock: testing.ManualClock
) -> None:
    """Timestamps are multiples of the period, oldest first as asked, and the newest period has ended."""
    (result,) = ask(cloudwatch, [query(ids(fleet)[0])])["MetricDataResults"]
    times = [int(at.timestamp()) for at in result["Timestamps"]]
    first = (NOW - 600) // PERIOD * PERIOD
    assert times == list(range(first, NOW - PERIOD + 1, PERIOD))
    assert result["StatusCode"] == "Complete"
    assert all(0 < value <= simulation.MAX_NORMAL_LOAD for value in result["Values"])


def test_newest_come_first_where_nothing_is_said(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """Without ScanBy the newest datapoint comes first."""
    (result,) = cloudwatch.get_metric_data(
        MetricDataQueries=[query(ids(fleet)[0])], StartTime=utc(NOW - 600), EndTime=utc(NOW)
    )["MetricDataResults"]
    assert result["Timestamps"] == sorted(result["Timestamps"], reverse=True)


def test_a_served_datapoint_never_changes(
    fleet: simulation.Simulation, cloudwatch: CloudWatchClient, clock: testing.ManualClock
) -> None:
    """The same times have the same values later, also once incidents have begun."""
    (before,) = ask(cloudwatch, [query(ids(fleet)[6])])["MetricDataResults"]
    fleet.begin()
    clock.now += 300
    (after,) = ask(cloudwatch, [query(ids(fleet)[6])], until=NOW + 300)["MetricDataResults"]
    count = len(before["Values"])
    assert after["Values"][:count] == before["Values"]
    assert max(after["Values"][count:]) > 90


def test_publication_can_be_delayed(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """A delayed metric's newest datapoints are missing. Other metrics have theirs."""
    instance_id = ids(fleet)[0]
    fleet.delays["CPUUtilization"] = 180
    late, soon = ask(cloudwatch, [query(instance_id), query(instance_id, "NetworkIn", number=1)])["MetricDataResults"]
    assert len(soon["Values"]) - len(late["Values"]) == 3


def test_a_stopped_instance_publishes_nothing(
    fleet: simulation.Simulation, cloudwatch: CloudWatchClient, clock: testing.ManualClock
) -> None:
    """While an instance is stopped it has no datapoints, before and after it does."""
    instance_id = ids(fleet)[0]
    fleet.set_state(instance_id, "stopped")
    clock.now += 300
    fleet.set_state(instance_id, "running")
    clock.now += 300
    (result,) = ask(cloudwatch, [query(instance_id)], since=NOW - 120, until=NOW + 600)["MetricDataResults"]
    times = {int(at.timestamp()) for at in result["Timestamps"]}
    assert not [at for at in times if NOW <= at < NOW + 300]
    assert [at for at in times if at < NOW]
    assert [at for at in times if at >= NOW + 300]


def test_a_longer_period_is_averaged(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """A period of five minutes has the mean of its minutes."""
    instance_id, start = ids(fleet)[0], (NOW - 1200) // 300 * 300
    (minutes,) = ask(cloudwatch, [query(instance_id)], since=start, until=start + 300)["MetricDataResults"]
    (five,) = ask(cloudwatch, [query(instance_id, period=300)], since=start, until=start + 300)["MetricDataResults"]
    assert five["Values"] == [pytest.approx(sum(minutes["Values"]) / 5)]
    assert [int(at.timestamp()) for at in five["Timestamps"]] == [start]


def test_dimensions_must_match_exactly(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """A query with one wrong dimension returns nothing and no error."""
    machine = fleet.machines[ids(fleet)[0]]
    full: list[DimensionTypeDef] = [
        {"Name": "InstanceId", "Value": machine.id},
        {"Name": "ImageId", "Value": machine.image},
        {"Name": "InstanceType", "Value": machine.type},
    ]
    right = query(machine.id, "mem_used_percent", "CWAgent", full[::-1])
    wrong = query(machine.id, "mem_used_percent", "CWAgent", full[:2], number=1)
    right_result, wrong_result = ask(cloudwatch, [right, wrong])["MetricDataResults"]
    assert len(right_result["Values"]) == 10
    assert wrong_result["Values"] == []
    assert wrong_result["StatusCode"] == "Complete"


def test_501_queries_are_refused(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """GetMetricData takes 500 queries."""
    instance_id = ids(fleet)[0]
    assert len(ask(cloudwatch, [query(instance_id, number=n) for n in range(500)])["MetricDataResults"]) == 500
    with pytest.raises(botocore.exceptions.ClientError, match="500") as raised:
        ask(cloudwatch, [query(instance_id, number=n) for n in range(501)])
    assert raised.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize("scan", ["TimestampAscending", "TimestampDescending"])
def test_datapoints_page(
    fleet: simulation.Simulation, aws: endpoint.Endpoint, cloudwatch: CloudWatchClient, scan: ScanByType
) -> None:
    """Paged, the same datapoints come, each once, and each query is complete on its last page only."""
    queries = [query(instance_id, number=n) for n, instance_id in enumerate(ids(fleet)[:4])]
    arguments: Any = {"MetricDataQueries": queries, "StartTime": utc(NOW - 600), "EndTime": utc(NOW), "ScanBy": scan}
    expected = {
        result["Id"]: result["Values"] for result in cloudwatch.get_metric_data(**arguments)["MetricDataResults"]
    }
    aws.api.datapoints = 7
    pages = list(cloudwatch.get_paginator("get_metric_data").paginate(**arguments))
    paged: dict[str, list[float]] = {name: [] for name in expected}
    for page in pages:
        assert sum(len(result["Values"]) for result in page["MetricDataResults"]) <= 7
        for result in page["MetricDataResults"]:
            paged[result["Id"]] += result["Values"]
    assert len(pages) > 4
    assert paged == expected
    assert {page["StatusCode"] for page in pages[-1]["MetricDataResults"]} == {"Complete"}
    assert "PartialData" in {result["StatusCode"] for result in pages[0]["MetricDataResults"]}


def test_a_wrong_token_is_refused(fleet: simulation.Simulation, cloudwatch: CloudWatchClient) -> None:
    """A made-up token is an error of its own kind."""
    with pytest.raises(cloudwatch.exceptions.InvalidNextToken):
        ask(cloudwatch, [query(ids(fleet)[0])], NextToken="made up")


def test_metrics_are_listed_with_their_dimensions(
    fleet: simulation.Simulation, aws: endpoint.Endpoint, cloudwatch: CloudWatchClient
) -> None:
    """ListMetrics gives each filesystem's dimensions, by instance or for all, over pages."""
    instance_id = ids(fleet)[0]
    arguments: Any = {"Namespace": "CWAgent", "MetricName": "disk_used_percent"}
    aws.api.metrics = 4
    pages = cloudwatch.get_paginator("list_metrics").paginate(**arguments)
    every = [metric for page in pages for metric in page["Metrics"]]
    owners = {value["Value"] for silence in every for value in silence["Dimensions"] if value["Name"] == "InstanceId"}
    assert owners == set(ids(fleet))
    mine = cloudwatch.list_metrics(**arguments, Dimensions=[{"Name": "InstanceId", "Value": instance_id}])["Metrics"]
    kinds = [value["Value"] for metric in mine for value in metric["Dimensions"] if value["Name"] == "fstype"]
    assert kinds == ["xfs", "tmpfs", "squashfs"]
    assert len(every) == len({json.dumps(silence) for silence in every})


def test_a_trace_is_replayed(
    fleet: simulation.Simulation, cloudwatch: CloudWatchClient, clock: testing.ManualClock
) -> None:
    """A trace's values appear with its timestamps, once they are due."""
    instance_id = ids(fleet)[0]
    start = NOW // PERIOD * PERIOD
    trace = [(start + n * PERIOD, 10.0 * n) for n in range(5)]
    fleet.replay(instance_id, "CPUUtilization", trace)
    clock.now = start + 3 * PERIOD
    (result,) = ask(cloudwatch, [query(instance_id)], since=start, until=start + 600)["MetricDataResults"]
    assert result["Values"] == [0.0, 10.0, 20.0]
    clock.now = start + 600
    (result,) = ask(cloudwatch, [query(instance_id)], since=start, until=start + 600)["MetricDataResults"]
    assert result["Values"] == [value for _, value in trace]


def test_the_load_depends_on_seed_and_time_only(clock: testing.ManualClock) -> None:
    """Two fleets with one seed are equal. Another seed gives another fleet."""

    def load(seed: int) -> dict[tuple[str, str], list[tuple[int, float]]]:
        fleet = simulation.Simulation(clock, 3, period=PERIOD, seed=seed)
        return {
            (stream.machine.id, stream.name): list(fleet.points(stream, NOW - 600, NOW))
            for stream in fleet.streams.values()
        }

    assert load(1) == load(1)
    assert not set(load(1)) & set(load(2))


# --- the other protocols, and STS


def post(aws: endpoint.Endpoint, service: str, body: bytes | str, **headers: str) -> tuple[int, str]:
    """Send a request like another SDK. Return status and text."""
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=5)
    credential = f"AWS4-HMAC-SHA256 Credential=AKIA/20251124/us-east-1/{service}/aws4_request, SignedHeaders=host"
    connection.request("POST", "/", body, {"Authorization": credential, **headers})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_cloudwatch_speaks_json(fleet: simulation.Simulation, aws: endpoint.Endpoint) -> None:
    """SDKs that speak JSON get the same datapoints."""
    body = {"MetricDataQueries": [query(ids(fleet)[0])], "StartTime": NOW - 600, "EndTime": NOW}
    target = {"X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData"}
    status, text = post(aws, "monitoring", json.dumps(body), **target)
    (result,) = json.loads(text)["MetricDataResults"]
    assert status == 200
    assert len(result["Values"]) == 10
    assert result["Timestamps"][0] % PERIOD == 0


def test_cloudwatch_speaks_query(fleet: simulation.Simulation, aws: endpoint.Endpoint) -> None:
    """SDKs that speak the older protocol get the same datapoints, as XML."""
    stat = "MetricDataQueries.member.1.MetricStat"
    body = (
        f"Action=GetMetricData&Version=2010-08-01&StartTime=2025-11-24T15:50:00Z&EndTime=2025-11-24T16:00:00Z"
        f"&MetricDataQueries.member.1.Id=q0&{stat}.Period=60&{stat}.Stat=Average"
        f"&{stat}.Metric.Namespace=AWS%2FEC2&{stat}.Metric.MetricName=CPUUtilization"
        f"&{stat}.Metric.Dimensions.member.1.Name=InstanceId&{stat}.Metric.Dimensions.member.1.Value={ids(fleet)[0]}"
    )
    status, text = post(aws, "monitoring", body)
    assert status == 200
    assert text.count("<member>2025-11-24T15:5") == 10
    assert "<StatusCode>Complete</StatusCode>" in text


def test_an_unsigned_request_is_refused(aws: endpoint.Endpoint) -> None:
    """Without a signature nothing is answered."""
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=5)
    connection.request("POST", "/", "Action=DescribeInstances")
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x9f", b"\xbf\x61a", b"\x81" * 100, b"\xa1\x61a\x1c", b"\x00"])
def test_bad_cbor_is_refused(aws: endpoint.Endpoint, body: bytes | str) -> None:
    """Whatever is no CBOR structure is answered with a client error, and the connection stays usable."""
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=5)
    credential = "AWS4-HMAC-SHA256 Credential=AKIA/20251124/us-east-1/monitoring/aws4_request, SignedHeaders=host"
    for _ in range(2):
        path = "/service/GraniteServiceVersion20100801/operation/GetMetricData"
        connection.request("POST", path, body, {"Authorization": credential})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
    connection.close()


def test_roles_are_assumed(aws: endpoint.Endpoint) -> None:
    """A role gives temporary credentials. A wrong external id is refused."""
    sts = client(aws, "sts")
    arn = "arn:aws:iam::123456789012:role/workermon"
    credentials = sts.assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    assert credentials["Expiration"] > utc(NOW)
    aws.api.roles[arn] = "secret"
    assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="me", ExternalId="wrong")["Code"] == "AccessDenied"
    assert sts.get_caller_identity()["Account"] == "123456789012"


# --- failures on demand


@pytest.mark.parametrize(
    ("kind", "of_ec2", "of_cloudwatch"),
    [
        ("throttle", "RequestLimitExceeded", "Throttling"),
        ("deny", "UnauthorizedOperation", "AccessDenied"),
        ("expired", "RequestExpired", "ExpiredToken"),
        ("invalid", "AuthFailure", "InvalidClientTokenId"),
        ("error", "InternalError", "InternalServiceError"),
    ],
)
def test_it_fails_as_aws_does(
    aws: endpoint.Endpoint,
    ec2: EC2Client,
    cloudwatch: CloudWatchClient,
    kind: endpoint.Fault,
    of_ec2: str,
    of_cloudwatch: str,
) -> None:
    """A fault gives each service's own error code, as often as requested. Then calls succeed again."""
    aws.fail(kind, times=2)
    assert refused(ec2.describe_instances)["Code"] == of_ec2
    assert refused(cloudwatch.list_metrics)["Code"] == of_cloudwatch
    assert ec2.describe_instances()["Reservations"]
    assert cloudwatch.list_metrics()["Metrics"]
    assert aws.calls == {"DescribeInstances": 2, "ListMetrics": 2}


def test_one_action_can_fail_alone(aws: endpoint.Endpoint, ec2: EC2Client, cloudwatch: CloudWatchClient) -> None:
    """A fault of one action does not affect others."""
    aws.fail("deny", "ListMetrics")
    assert refused(cloudwatch.list_metrics)["Code"] == "AccessDenied"
    assert ec2.describe_instances()["Reservations"]
    aws.recover("ListMetrics")
    assert cloudwatch.list_metrics()["Metrics"]


def test_it_can_hang(aws: endpoint.Endpoint) -> None:
    """A hanging call is never answered. The client's time limit ends it, and stopping does not wait for it."""
    hanging = client(aws, "ec2", read_timeout=0.3)
    aws.fail("hang")
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        hanging.describe_instances()
    before = time.monotonic()
    aws.stop()
    assert time.monotonic() - before < 30


def test_it_can_drop_the_connection_or_talk_nonsense(aws: endpoint.Endpoint, ec2: EC2Client) -> None:
    """A dropped connection and a page of HTML give botocore's errors."""
    aws.fail("drop", times=1)
    with pytest.raises(botocore.exceptions.ConnectionClosedError):
        ec2.describe_instances()
    aws.fail("garbage", times=1)
    with pytest.raises(botocore.parsers.ResponseParserError):
        ec2.describe_instances()
    assert ec2.describe_instances()["Reservations"]


def test_latency_slows_each_answer(aws: endpoint.Endpoint, ec2: EC2Client) -> None:
    """With a latency set an answer takes that long."""
    aws.latency = 0.2
    before = time.monotonic()
    ec2.describe_instances()
    assert time.monotonic() - before >= 0.2


def test_what_is_billed_is_counted(
    fleet: simulation.Simulation, aws: endpoint.Endpoint, cloudwatch: CloudWatchClient
) -> None:
    """Requested metrics are counted, because AWS bills them."""
    ask(cloudwatch, [query(instance_id, number=n) for n, instance_id in enumerate(ids(fleet)[:5])])
    assert aws.metrics_asked == 5


def test_it_restarts_on_its_port(aws: endpoint.Endpoint, ec2: EC2Client) -> None:
    """Stopped it refuses connections, started again it is there under the same address."""
    url = aws.url
    assert ec2.describe_instances()["Reservations"]
    aws.stop()
    with pytest.raises(botocore.exceptions.BotoCoreError):
        ec2.describe_instances()
    aws.start()
    assert aws.url == url
    assert eventually(lambda: ec2.describe_instances()["Reservations"])


def test_too_many_ids_never_reach_the_fleet() -> None:
    """The limits are AWS's own."""
    assert (api.STATUS_IDS, api.QUERIES, api.DATAPOINTS) == (100, 500, 100_800)
