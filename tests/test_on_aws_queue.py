"""SQS through boto3: another implementation, the simulated AWS, and the text of a refusal."""

from __future__ import annotations

import io
import json
import re
import sys
import time
import types
from collections.abc import Iterator
from importlib import resources
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto import mock_aws

from tests.support import cloudformation
from tests.support.aws import use_aws
from workermon import collect, errors, models, ports, testing
from workermon.collect import eventbridge
from workermon.local import endpoint, simulation
from workermon.on_aws import queue, rate_limits, session

SCOPE = models.AccountRegion(region="us-east-1")
A = "i-0aaaaaaaaaaaaaaaa"


@pytest.fixture
def queues() -> Iterator[queue.AwsEventQueues]:
    """Give the queues over boto3, limited and counted as in a node."""
    sessions = session.Sessions(rate_limits.Limited(testing.MemoryLimiter(), testing.MemoryCosts(), time.time))
    yield queue.AwsEventQueues(sessions)
    sessions.close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[endpoint.Endpoint]:
    """Run the simulated AWS with a queue."""
    server = endpoint.Endpoint(simulation.Simulation(time.time, 1))
    server.start()
    use_aws(monkeypatch, server.url)
    server.api.queues.create("workermon")
    yield server
    server.stop()


@pytest.fixture(params=["memory", "moto", "endpoint"])
def queue_and_url(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ports.EventQueues, str]]:
    """Give an empty queue: in memory, of moto, and of the endpoint over HTTP."""
    if request.param == "memory":
        yield testing.MemoryEventQueues(), "https://sqs.us-east-1.amazonaws.com/123456789012/workermon"
    elif request.param == "endpoint":
        served: endpoint.Endpoint = request.getfixturevalue("aws")
        yield request.getfixturevalue("queues"), f"{served.url}/123456789012/workermon"
    else:
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        with mock_aws():
            created = boto3.client("sqs", region_name="us-east-1").create_queue(QueueName="workermon")
            yield request.getfixturevalue("queues"), created["QueueUrl"]


def test_what_is_sent_is_received_until_it_is_deleted(queue_and_url: tuple[ports.EventQueues, str]) -> None:
    """Bodies arrive as sent, at most ten at a time. Deleted ones never arrive again."""
    queues, url = queue_and_url
    sent = {f'{{"n": {number}, "text": "\u00e4\u20ac<&"}}' for number in range(12)}
    for body in sent:
        queues.send(SCOPE, url, body)
    received: list[str] = []
    while messages := queues.receive(SCOPE, url, 0):
        assert len(messages) <= 10
        received += [message.body for message in messages]
        queues.delete(SCOPE, url, [message.receipt for message in messages])
    assert sorted(received) == sorted(sent)
    queues.delete(SCOPE, url, [])


@mock_aws
def test_the_stage_reads_motos_queue(queues: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Spot warning in SQS is stored with its worker, and its message is deleted."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    client = boto3.client("sqs", region_name="us-east-1")
    url = client.create_queue(QueueName="workermon")["QueueUrl"]
    monitor = testing.Monitor()
    monitor.event_queues = queues
    worker = models.Worker(id=A, name="a", region="us-east-1", added_at=0.0, incarnation="1")
    monitor.workers.add([worker])
    configuration = monitor.configurations.load()
    events = {"main": models.EventQueue(queue_url=url)}
    assert monitor.configurations.save(configuration.model_copy(update={"revision": 1, "event_queues": events}))
    client.send_message(
        QueueUrl=url,
        MessageBody='{"id": "1", "source": "aws.ec2", "time": "2023-11-14T22:13:20Z",'
        ' "detail-type": "EC2 Spot Instance Interruption Warning",'
        f' "detail": {{"instance-id": "{A}", "instance-action": "stop"}}}}',
    )
    assert monitor.get(collect.QueueReading).read("main", wait=0) == 1
    assert monitor.dispatcher.collected == [A]
    [warning] = monitor.workers.get([A])[A].condition.events
    assert (warning.code, warning.description) == ("spot-interruption", "EC2 will stop the Spot instance")
    assert monitor.get(collect.QueueReading).read("main", wait=0) == 0


def field_of_an_event(path: str) -> Any:
    """Return a function that reads a field of an event by its path, such as ``$.detail-type``."""
    name = re.sub(r"[^a-z-]", "", path)
    return types.SimpleNamespace(find=lambda event: [types.SimpleNamespace(value=event[name])] if name in event else [])


def test_our_event_comes_through_eventbridge_by_the_rule_of_the_template(
    queues: queue.AwsEventQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto's EventBridge takes the template's pattern, and its message is read as doctor's own event."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    # moto wants this library to copy an event's fields; it is not among its requirements.
    for name in ("jsonpath_ng", "jsonpath_ng.ext"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(parse=field_of_an_event))
    template = (resources.files("workermon") / "on_aws" / "events.yaml").read_text("utf-8")
    rule = cloudformation.resources(template)["Doctor"]["Properties"]
    with mock_aws():
        sqs, events = (boto3.client(name, region_name=SCOPE.region) for name in ("sqs", "events"))
        url = sqs.create_queue(QueueName="workermon")["QueueUrl"]
        [arn] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"].values()
        events.put_rule(Name="doctor", EventPattern=json.dumps(rule["EventPattern"]))
        events.put_targets(Rule="doctor", Targets=[{"Id": "queue", "Arn": arn}])
        queues.publish(SCOPE, models.OWN_SOURCE, "another type", {"sent": 1.0})
        queues.publish(SCOPE, models.OWN_SOURCE, models.OWN_TYPE, {"sent": 1_700_000_000.5})
        [message] = queues.receive(SCOPE, url, 0)
    event = eventbridge.parse(message.body)
    assert event is not None
    assert event.test == 1_700_000_000.5


def test_a_refused_event_names_the_right_that_is_missing(queues: queue.AwsEventQueues, aws: endpoint.Endpoint) -> None:
    """A refused event names the missing right. Otherwise the simulated AWS delivers it to the queue."""
    url = f"{aws.url}/123456789012/workermon"
    queues.publish(SCOPE, models.OWN_SOURCE, models.OWN_TYPE, {"sent": 5.0})
    assert len(queues.receive(SCOPE, url, 0)) == 1
    aws.fail("deny", "PutEvents")
    with pytest.raises(errors.AwsDenied, match="allow events:PutEvents in the IAM policy"):
        queues.publish(SCOPE, models.OWN_SOURCE, models.OWN_TYPE, {"sent": 6.0})


def test_a_queue_that_is_not_there_says_what_to_do(queues: queue.AwsEventQueues, aws: endpoint.Endpoint) -> None:
    """Its name, and how to make it."""
    with pytest.raises(errors.AwsError, match=r"queue other in us-east-1: it does not exist there; .*events setup"):
        queues.receive(SCOPE, f"{aws.url}/123456789012/other", 0)


def test_a_refusal_names_the_right_that_is_missing(queues: queue.AwsEventQueues, aws: endpoint.Endpoint) -> None:
    """As every refusal of AWS does."""
    aws.fail("deny", "ReceiveMessage")
    with pytest.raises(errors.AwsDenied, match="allow sqs:ReceiveMessage in the IAM policy"):
        queues.receive(SCOPE, f"{aws.url}/123456789012/workermon", 0)


class Body(io.BytesIO):
    """The body of an answer, as botocore reads it."""

    def stream(self) -> Iterator[bytes]:
        """Yield all of it."""
        yield self.read()


@pytest.mark.parametrize(
    "body",
    ["<html>Please log in</html>", "", "null", "[]", '{"Messages": 3}', '{"Messages": [null]}', '{"Messages": [{}]}'],
)
def test_an_answer_without_its_fields_is_not_an_empty_queue(
    queues: queue.AwsEventQueues, aws: endpoint.Endpoint, body: str
) -> None:
    """A proxy's page and an answer without its fields are failures, so that the alert about the queue can fire."""

    def answer(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, HTTPHeaders(), Body(body.encode()))

    queues._sessions.sqs(SCOPE).meta.events.register_first("before-send.sqs", answer)
    with pytest.raises(errors.AwsUnreachable, match="SQS queue workermon in us-east-1: its answer cannot be read"):
        queues.receive(SCOPE, f"{aws.url}/123456789012/workermon", 0)


def test_a_poll_outlasts_the_wait_of_sqs() -> None:
    """A request that SQS holds open for 20 s does not time out and is not sent again."""
    polling: Any = session._POLLING  # botocore's stubs leave out what a Config has
    assert polling.read_timeout > collect.event_queue.WAIT
    assert polling.retries["total_max_attempts"] == 1
