"""The channel ``sns``: text for people, JSON for programs."""

from __future__ import annotations

import json

import boto3
import pytest

from tests.support.notifications import notification, of
from workermon import errors, testing
from workermon.notify.channels import sns

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


def test_sns_message() -> None:
    """People get the text, programs the notification, and the subject fits SNS's limit."""
    publisher = testing.MemoryPublisher()
    sns.Sns(publisher).send(of("sns", topic_arn=TOPIC), [notification(summary="ü" * 300)])
    ((topic, message),) = publisher.published
    assert topic == TOPIC
    assert message.subject.isascii()
    assert len(message.subject) == 100
    assert message.texts["default"].startswith("[FIRING critical]")
    assert json.loads(message.texts["sqs"])["version"] == 7
    assert message.attributes["status"] == "firing"


@pytest.mark.integration
def test_sns_on_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic of another SNS implementation gets the message. A missing topic is AWS's refusal."""
    from moto.server import ThreadedMotoServer

    from workermon.on_aws import sns as on_sns

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        topics, queues = (boto3.client(name, region_name="eu-west-1") for name in ("sns", "sqs"))
        arn = topics.create_topic(Name="alerts")["TopicArn"]
        queue = queues.create_queue(QueueName="alerts")["QueueUrl"]
        name = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        topics.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=name)
        sender = sns.Sns(on_sns.AwsPublisher())
        sender.send(of("sns", topic_arn=arn), [notification()])
        (message,) = queues.receive_message(QueueUrl=queue)["Messages"]
        envelope = json.loads(message["Body"])
        assert envelope["Subject"].startswith("[FIRING critical]")
        assert "cpu-high" in envelope["Message"]
        with pytest.raises(errors.AwsError, match="gone"):
            sender.send(of("sns", topic_arn=arn.replace("alerts", "gone")), [notification()])
    finally:
        server.stop()


def test_sns_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable endpoint is an error within the lease, so the outbox tries again."""
    from workermon.on_aws import sns as on_sns

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with pytest.raises(errors.AwsUnreachable):
        sns.Sns(on_sns.AwsPublisher()).send(of("sns", topic_arn=TOPIC), [notification()])
