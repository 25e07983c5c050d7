"""Long lists in AWS's answers bypass botocore's parser, with the same result."""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Iterator
from typing import Any
from urllib import parse
from xml.etree import ElementTree

import botocore.parsers
import botocore.session
import hypothesis
import pytest
from botocore import awsrequest
from botocore.compat import HTTPHeaders
from hypothesis import strategies

from workermon import errors, models
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, direct_parsing, ec2, session

SCOPE = models.AccountRegion(region="us-east-1")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[endpoint.Endpoint]:
    """Run a simulated AWS that boto3 is pointed at."""
    served = endpoint.Endpoint(simulation.Simulation(time.time, 3))
    served.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulated")
    yield served
    served.stop()


def queries_of(aws: endpoint.Endpoint, until: float) -> list[models.Query]:
    """Return queries for an hour of each instance's CPU."""
    return [
        models.Query(
            worker_id=instance_id, metric="cpu_utilization", namespace="AWS/EC2", metric_name="CPUUtilization",
            dimensions=(("InstanceId", instance_id),), statistic="Average", period=60, since=int(until) - 3600,
        )
        for instance_id in aws.simulation.machines
    ]  # fmt: skip


def fetched(aws: endpoint.Endpoint, until: float) -> dict[int, models.Series]:
    """Fetch an hour of each instance's CPU, by clients of its own."""
    sessions = session.Sessions()
    answer = cloudwatch.AwsCloudWatch(sessions).fetch(SCOPE, queries_of(aws, until), until)
    sessions.close()
    assert not answer.failed
    return answer.series


class Page(io.BytesIO):
    """A proxy's page, as botocore reads a body."""

    def stream(self) -> Iterator[bytes]:
        """Yield all of it."""
        yield b"<html>Please log in</html>"


def test_a_page_instead_of_datapoints_is_reported_as_such(aws: endpoint.Endpoint) -> None:
    """A proxy's page from CloudWatch is a failure whose reason says so, and not the name of a missing field."""

    def answer(request: Any, **_: Any) -> awsrequest.AWSResponse:
        return awsrequest.AWSResponse(request.url, 200, HTTPHeaders(), Page())

    with contextlib.closing(session.Sessions()) as sessions:
        client: Any = sessions.cloudwatch(SCOPE)  # its stubs do not know that a handler may return an answer
        client.meta.events.register_first("before-send.cloudwatch", answer)
        with pytest.raises(errors.AwsUnreachable, match="it is not a JSON object"):
            cloudwatch.AwsCloudWatch(sessions).dimensions(SCOPE, "CWAgent", "mem_used_percent", None)
        query = queries_of(aws, time.time())[0]
        assert "it is not a JSON object" in str(
            cloudwatch.AwsCloudWatch(sessions).fetch(SCOPE, [query], time.time()).failed[0]
        )


def noted(monkeypatch: pytest.MonkeyPatch, reader: str) -> list[object]:
    """Return a list to which each answer is added that this function of ``direct_parsing`` reads from now on."""
    answers: list[object] = []
    read = getattr(direct_parsing, reader)

    def noting(**parameters: Any) -> Any:
        answers.append(parameters)
        return read(**parameters)

    monkeypatch.setattr(direct_parsing, reader, noting)
    return answers


def test_the_short_way_brings_what_botocore_brings(aws: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and datapoints are the same with and without it."""
    until = time.time() - 300
    requests = noted(monkeypatch, "_read")
    short = fetched(aws, until)
    assert requests
    monkeypatch.setattr(direct_parsing, "shorten", lambda client: None)
    usual = fetched(aws, until)
    assert short == usual
    assert all(len(series.points) > 50 for series in short.values())


def test_a_refusal_stays_botocores(aws: endpoint.Endpoint) -> None:
    """Errors and malformed answers of CloudWatch raise botocore's errors."""
    sessions = session.Sessions()
    faults: list[tuple[endpoint.Fault, str]] = [("deny", "AccessDenied"), ("garbage", "CloudWatch")]
    for kind, message in faults:
        aws.fail(kind, "GetMetricData")
        with pytest.raises(AssertionError, match=message):
            fetched(aws, time.time())
        aws.recover()
    sessions.close()


STATUSES = b"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstanceStatusResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>r</requestId>
  <instanceStatusSet>
    <item>
      <instanceId>i-00000000000000001</instanceId>
      <availabilityZone>us-east-1b</availabilityZone>
      <eventsSet><item><code>system-reboot</code></item></eventsSet>
      <instanceState><code>16</code><name>running</name></instanceState>
      <systemStatus><status>impaired</status><details><item><status>failed</status></item></details></systemStatus>
      <instanceStatus><status>ok</status><details><item><name>reachability</name></item></details></instanceStatus>
      <attachedEbsStatus><details><item><impairedSince>2026-11-20T10:00:00Z</impairedSince></item></details>
        <status>impaired</status></attachedEbsStatus>
      <applicationStatus><status>not-applicable</status></applicationStatus>
      <performanceStatus><status>impaired</status><impairedSince>2026-11-20T10:00:00Z</impairedSince>
        <remediation>Stop &amp; start</remediation></performanceStatus>
    </item>
    <item><instanceId>i-00000000000000002</instanceId><instanceState><name>stopped</name></instanceState></item>
    <item><instanceId>i-00000000000000003</instanceId><instanceState/><systemStatus/><instanceStatus/></item>
  </instanceStatusSet>
  <nextToken>more</nextToken>
</DescribeInstanceStatusResponse>"""


def parsed(body: bytes, status: int = 200) -> tuple[bytes, dict[str, Any]]:
    """Return the part of an answer that botocore parses, and the part that is parsed without it."""
    response: dict[str, Any] = {"status_code": status, "body": body}
    read: dict[str, Any] = {}
    direct_parsing._read_statuses(response, read)
    return response["body"], read


def test_statuses_are_read_past_botocore_and_the_rest_is_left_to_it() -> None:
    """Ids, states, checks and events equal botocore's. Botocore reads the token of the next page."""
    remainder, read = parsed(STATUSES)
    assert b"more" in remainder
    assert b"i-0000" not in remainder
    assert read["InstanceStatuses"] == [
        {
            "InstanceId": "i-00000000000000001", "InstanceState": {"Name": "running"},
            "AvailabilityZone": "us-east-1b",
            "Events": [{"Code": "system-reboot"}],
            "SystemStatus": {"Status": "impaired", "Details": [{"Status": "failed"}]},
            "InstanceStatus": {"Status": "ok"},
            "AttachedEbsStatus": {"Status": "impaired", "Details": [{"ImpairedSince": "2026-11-20T10:00:00Z"}]},
            "ApplicationStatus": {"Status": "not-applicable"},
            "PerformanceStatus": {
                "Status": "impaired", "ImpairedSince": "2026-11-20T10:00:00Z", "Remediation": "Stop & start",
            },
        },
        {"InstanceId": "i-00000000000000002", "InstanceState": {"Name": "stopped"}},
        {"InstanceId": "i-00000000000000003", "InstanceState": {}, "SystemStatus": {}, "InstanceStatus": {}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [(STATUSES, 503), (STATUSES[:200], 200), (b"", 200), (b"<html/>", 200), (b"<Response><Errors/></Response>", 400)],
)
def test_an_answer_without_statuses_is_botocores(body: bytes, status: int) -> None:
    """Errors and other answers are left unchanged."""
    assert parsed(body, status) == (body, {})


def test_the_short_way_to_statuses_brings_what_botocore_brings(
    aws: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and checks of instances are the same with and without it, and so are refusals."""

    def statuses() -> dict[str, models.InstanceStatus]:
        sessions = session.Sessions()
        try:
            return ec2.AwsEc2(sessions).statuses(SCOPE, sorted(aws.simulation.machines))
        finally:
            sessions.close()

    first = min(aws.simulation.machines)
    aws.simulation.schedule(first, "instance-retirement", 1_900_000_000, 1_900_003_600, description="<old> & worn")
    aws.simulation.schedule(first, "system-reboot", 1_900_000_060, deadline=1_900_086_400)
    slow = simulation.Check("impaired", 1_700_000_000, "Stop <it> & start it")
    aws.simulation.set_checks(first, "impaired", attached_ebs=simulation.Check("impaired", 1_700_000_060))
    second = max(aws.simulation.machines)
    aws.simulation.set_checks(second, "ok", application="not-applicable", performance=slow)
    short = statuses()
    assert short[first].checks == models.Checks(system="impaired", instance="ok", attached_ebs="impaired")
    assert short[first].impairments["attached_ebs"] == models.Impairment(since=1_700_000_060)
    assert short[second].checks == models.Checks(system="ok", instance="ok", performance="impaired")
    assert short[second].impairments == {
        "performance": models.Impairment(since=1_700_000_000, remediation="Stop <it> & start it")
    }
    assert [event.code for event in short[first].events or ()] == ["instance-retirement", "system-reboot"]
    aws.fail("deny", "DescribeInstanceStatus")
    with pytest.raises(errors.AwsDenied):
        statuses()
    aws.recover()
    monkeypatch.setattr(direct_parsing, "shorten", lambda client: None)
    assert short == statuses()
    assert short


#: What may stand in an instance's element after its id. Beside well-formed ones some that are none.
PARTS = [
    b"<instanceState><name>running</name></instanceState>",
    b"<instanceState><code>80</code><name>stopped</name></instanceState>",
    b"<systemStatus><status>ok</status></systemStatus>\n ",
    b"<systemStatus><status>impaired</status><details><item><status>failed</status></item></details></systemStatus>",
    b"<instanceStatus><status>ok</status></instanceStatus>",
    b"<eventsSet><item><code>system-reboot</code><description>a &amp; b</description></item></eventsSet>",
    b"<eventsSet><item><instanceId>i-00000000000000009</instanceId></item></eventsSet>",
    b"<eventsSet><item>\n<instanceId>i-00000000000000009</instanceId><code>c</code></item></eventsSet>",
    b"<!-- <item><instanceId>i-00000000000000008</instanceId></item> -->",
    b"<note><![CDATA[<item><instanceId>i-00000000000000008</instanceId></item>]]></note>",
    b"<note>",
    b"<note>&unknown;</note>",
    "<note>ü</note>".encode(),
]


@hypothesis.given(
    instances=strategies.lists(
        strategies.tuples(strategies.booleans(), strategies.lists(strategies.sampled_from(PARTS), max_size=4)),
        max_size=4,
    ),
    frame=strategies.sampled_from([b"<R>%s</R>", b'<R xmlns="http://x/"><requestId>r</requestId>%s<nextToken/></R>']),
)
def test_parsing_alike_instances_once_changes_nothing(instances: list[tuple[bool, list[bytes]]], frame: bytes) -> None:
    """Whatever the elements contain and wherever the id is, the statuses equal those of the whole answer's parser."""
    items = []
    for number, (is_id_first, parts) in enumerate(instances):
        name = b"<instanceId>i-%017x</instanceId>" % number
        content = [name, *parts] if is_id_first else [*parts, name]
        items.append(b"<item>\n" + b"".join(content) + b"</item>")
    body = frame % (b"<instanceStatusSet>" + b"\n".join(items) + b"</instanceStatusSet>")
    try:
        statuses, remainder = direct_parsing._whole(body) or ([], b"")
    except ElementTree.ParseError:
        assert parsed(body) == (body, {})
        return
    rest, read = parsed(body)
    assert read["InstanceStatuses"] == statuses
    assert [(e.tag, e.text) for e in ElementTree.fromstring(rest)] == [
        (e.tag, e.text) for e in ElementTree.fromstring(remainder)
    ]


def test_instances_that_are_well_are_parsed_once() -> None:
    """A hundred instances that differ in their ids only take one look at one of them."""
    item = b"<item><instanceId>i-%017x</instanceId><instanceState><name>running</name></instanceState></item>"
    body = b"<R><instanceStatusSet>%s</instanceStatusSet></R>" % b"".join(item % number for number in range(100))
    direct_parsing._status_of.cache_clear()
    _, read = parsed(body)
    assert [status["InstanceId"] for status in read["InstanceStatuses"]] == [f"i-{n:017x}" for n in range(100)]
    assert direct_parsing._status_of.cache_info().misses == 1


def test_a_form_is_encoded_once() -> None:
    """botocore signs and sends the same bytes, which say what its own form says. What is encoded stays as it is."""
    params: dict[str, Any] = {"body": {"Action": "DescribeInstanceStatus", "InstanceId.1": "i-1 &=ü", "All": "true"}}
    form = dict(params["body"])
    direct_parsing._encode_form(params)
    encoded = params["body"]
    assert dict(parse.parse_qsl(encoded.decode())) == form
    direct_parsing._encode_form(params)
    assert params["body"] is encoded


#: What may stand in an instance's element of DescribeInstances, in any order.
INSTANCE_PARTS = [
    "<instanceState><code>16</code><name>running</name></instanceState>",
    "<instanceState><code>80</code><name>stopped</name></instanceState>",
    "<instanceState/>",
    "<monitoring><state>enabled</state></monitoring>",
    "<monitoring><state>disabled</state></monitoring>",
    "<tagSet><item><key>Name</key><value> a &amp; ü\n</value></item><item><key>empty</key><value/></item></tagSet>",
    "<tagSet><item><value>render</value><key>Role</key></item><item><key>bare</key></item></tagSet>",
    "<tagSet/>",
    "<stateReason><code>Client.UserInitiatedShutdown</code><message>Client.User: by &lt;me&gt;</message></stateReason>",
    "<stateReason/>",
    "<networkInterfaceSet><item><tagSet><item><key>Name</key><value>eni</value></item></tagSet></item></networkInterfaceSet>",
    "<launchTime>2026-11-20T10:00:00.000Z</launchTime>",
    "<reason>User initiated</reason>",
]  # fmt: skip


def parts_of_an_instance() -> strategies.SearchStrategy[list[str]]:
    """Return a strategy for what an instance's element contains: each element at most once."""
    return strategies.lists(
        strategies.sampled_from(INSTANCE_PARTS), max_size=6, unique_by=lambda part: part.partition(">")[0].strip("/")
    )


@hypothesis.given(
    reservations=strategies.lists(strategies.lists(parts_of_an_instance(), max_size=2), max_size=3),
    gap=strategies.sampled_from(["", "\n  "]),
)
def test_instances_are_read_as_botocore_reads_them(reservations: list[list[list[str]]], gap: str) -> None:
    """Whatever EC2 says of instances, in whatever order, workermon sees the same with botocore's own parser."""
    number = 0
    items = []
    for instances in reservations:
        contents = ""
        for parts in instances:
            number += 1
            contents += f"{gap}<item><instanceId>i-{number:017x}</instanceId>{gap.join(parts)}</item>"
        items.append(
            f"{gap}<item><reservationId>r-1</reservationId><groupSet/><instancesSet>{contents}</instancesSet></item>"
        )
    body = (
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
        f"<reservationSet>{''.join(items)}</reservationSet><nextToken>more</nextToken></DescribeInstancesResponse>"
    ).encode()
    usual = by_botocore(body)
    rest, read = read_instances(body)
    short = {**by_botocore(rest), **read}
    assert short["NextToken"] == usual["NextToken"] == "more"
    assert short["ResponseMetadata"] == usual["ResponseMetadata"]
    assert [ec2._instance(found, "us-east-1") for found in ec2._instances([short])] == [
        ec2._instance(found, "us-east-1") for found in ec2._instances([usual])
    ]
    assert sum(len(reservation["Instances"]) for reservation in read["Reservations"]) == number


@functools.cache
def describe_instances() -> Any:
    """Return botocore's model of the operation."""
    return botocore.session.get_session().get_service_model("ec2").operation_model("DescribeInstances")


def by_botocore(body: bytes) -> dict[str, Any]:
    """Parse an answer as botocore does."""
    response = {"status_code": 200, "headers": {}, "body": body}
    result: dict[str, Any] = botocore.parsers.create_parser("ec2").parse(response, describe_instances().output_shape)
    return result


def read_instances(body: bytes, status: int = 200) -> tuple[bytes, dict[str, Any]]:
    """Return the part of an answer that botocore parses, and the instances that are parsed without it."""
    response: dict[str, Any] = {"status_code": status, "body": body}
    read: dict[str, Any] = {}
    direct_parsing._read_instances(response, read)
    return response["body"], read


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<R><reservationSet><item/></reservationSet></R>", 503),
        (b"<R><reservationSet><item>", 200),
        (b"", 200),
        (b"<R><requestId>r</requestId></R>", 200),
    ],
)
def test_an_answer_without_instances_is_botocores(body: bytes, status: int) -> None:
    """Errors and answers without the list of instances are left unchanged. Nobody reads them as an empty account."""
    assert read_instances(body, status) == (body, {})


def test_the_short_way_to_instances_brings_what_botocore_brings(
    aws: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instances by id and by tag are the same with and without it, and so are unknown ids and refusals."""
    ids = sorted(aws.simulation.machines)
    aws.simulation.machines[ids[0]].tags.update({"Name": "<render> & 1", "Role": "render"})
    aws.simulation.set_state(ids[1], "stopped")

    def described() -> tuple[dict[str, models.Instance], list[models.Instance]]:
        sessions = session.Sessions()
        try:
            asked = ec2.AwsEc2(sessions)
            return asked.describe(SCOPE, [*ids, "i-0ffffffffffffffff"]), asked.find(SCOPE, {"Role": "render"})
        finally:
            sessions.close()

    requests = noted(monkeypatch, "_read_instances")
    short = described()
    assert requests
    assert sorted(short[0]) == ids
    assert (short[0][ids[0]].name, short[0][ids[1]].status) == ("<render> & 1", "stopped")
    assert ids[0] in [instance.id for instance in short[1]]
    aws.fail("deny", "DescribeInstances")
    with pytest.raises(errors.AwsDenied):
        described()
    aws.recover()
    monkeypatch.setattr(direct_parsing, "shorten", lambda client: None)
    assert short == described()
