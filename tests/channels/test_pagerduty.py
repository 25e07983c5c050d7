"""The channel ``pagerduty``: incidents under workermon's dedup_key."""

from __future__ import annotations

import json

import pytest

from tests.support.notifications import KEY, notification, notifiers, of
from tests.support.receiver import Receiver, answer
from workermon import errors, testing
from workermon.models import SecretRef
from workermon.notify.channels import pagerduty


def test_pagerduty_triggers_and_resolves(receiver: Receiver) -> None:
    """An alert triggers, changes and resolves one incident, under its own dedup_key."""
    receiver.plan = [answer(202), answer(202), answer(202)]
    channel = of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY"))
    sender = notifiers()["pagerduty"]
    sender.send(channel, [notification(1, severity="warning")])
    sender.send(channel, [notification(2)])
    sender.send(channel, [notification(3, status="resolved")])
    events = [json.loads(request.body) for request in receiver.requests]
    assert [event["event_action"] for event in events] == ["trigger", "trigger", "resolve"]
    assert {event["dedup_key"] for event in events} == {"i-0abc0123456789def/cpu-high"}
    assert {event["routing_key"] for event in events} == {KEY}
    assert [event["payload"]["severity"] for event in events] == ["warning", "critical", "critical"]
    payload = events[1]["payload"]
    assert payload["summary"] == notification().summary
    assert payload["source"] == "rénder-07 (i-0abc0123456789def) in us-east-1"
    assert payload["timestamp"] == "2023-11-14T22:13:20Z"
    assert (payload["custom_details"]["value"], payload["custom_details"]["labels"]) == (97.5, {"a": "b"})


def test_pagerduty_long_summary() -> None:
    """A summary is cut to PagerDuty's limit."""
    assert len(pagerduty.event("k", notification(summary="x" * 5000))["payload"]["summary"]) == 1024


def test_pagerduty_slows_down(receiver: Receiver) -> None:
    """A refusal because of the rate has PagerDuty's wait, and not the key."""
    receiver.plan = [answer(429, Retry_After="17")]
    with pytest.raises(errors.DeliveryFailed) as caught:
        notifiers()["pagerduty"].send(of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY")), [notification()])
    assert caught.value.retry_after == 17
    assert KEY not in str(caught.value)


def test_pagerduty_bad_key(receiver: Receiver) -> None:
    """A secret that cannot be a routing key is refused without showing it, and nothing is sent."""
    with pytest.raises(errors.InvalidInput, match="not a routing key") as caught:
        notifiers()["pagerduty"].send(of("pagerduty", url=receiver.url, secret=SecretRef(env="BAD")), [notification()])
    assert "at all" not in str(caught.value)
    assert receiver.connections == 0


def test_pagerduty_is_reminded(receiver: Receiver) -> None:
    """``repeat`` is a key of this type. A reminder triggers the same incident again."""
    file = testing.parse('[channels.c]\ntype = "pagerduty"\nsecret = { env = "KEY" }\nrepeat = "4h"\n', "file")
    assert file.channels is not None
    assert file.channels["c"].repeat == 14_400
    channel = of("pagerduty", url=f"http://127.0.0.1:{receiver.port}/", secret=SecretRef(env="KEY"), repeat=14_400)
    for reminder in (False, True):
        notifiers()["pagerduty"].send(channel, [notification(reminder=reminder)])
    first, second = (json.loads(request.body) for request in receiver.requests)
    assert (first["event_action"], first["dedup_key"]) == (second["event_action"], second["dedup_key"])
