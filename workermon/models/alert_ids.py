"""The ids of alerts: the id of the subject, a slash, and the name of the rule. Notifications call it ``dedup_key``."""

from __future__ import annotations

from typing import NamedTuple

from workermon.models.subject import CHANNEL_PREFIX, channel_subject

#: The rule of the alert about failed deliveries. It always applies.
DELIVERY = "delivery"

#: The rule in test messages. No rule has this name.
TEST = "notify-test"

_TESTED = "test-"


class AlertParts(NamedTuple):
    """The subject's id and the rule's name in an alert's id."""

    subject_id: str
    rule: str


def alert_id(subject_id: str, rule: str) -> str:
    """Return the id of a rule's alert about a subject, over its life.

    >>> alert_id("i-0abc", "cpu-high")
    'i-0abc/cpu-high'
    """
    return f"{subject_id}/{rule}"


def alert_parts(alert_id: str) -> AlertParts:
    """Return the parts of an alert's id. A subject's id may contain slashes, a rule's name does not.

    >>> alert_parts("default/us-east-1/collector")
    AlertParts(subject_id='default/us-east-1', rule='collector')
    """
    subject_id, _, rule = alert_id.rpartition("/")
    return AlertParts(subject_id, rule)


def alert_of_test(identity: str) -> str:
    """Return the alert that test messages are about. It does not exist.

    >>> alert_of_test("4f1c")
    'test-4f1c/notify-test'
    """
    return alert_id(f"{_TESTED}{identity}", TEST)


def is_test(alert_id: str) -> bool:
    """Return whether an alert is not a real one, but the subject of test messages."""
    return alert_id.startswith(_TESTED) and alert_id.endswith(f"/{TEST}")


def delivery_alert(channel: str) -> str:
    """Return the alert about the delivery to a channel.

    >>> delivery_alert("ops")
    'channel:ops/delivery'
    """
    return alert_id(channel_subject(channel).id, DELIVERY)


def is_delivery_alert(alert_id: str) -> bool:
    """Return whether an alert is about the delivery to a channel."""
    return alert_id.startswith(CHANNEL_PREFIX) and alert_id.endswith(f"/{DELIVERY}")


def channel_of(alert_id: str) -> str:
    """Return the channel in the id of an alert about a delivery, or in that of its subject.

    >>> channel_of(delivery_alert("ops"))
    'ops'
    """
    return alert_id.removeprefix(CHANNEL_PREFIX).removesuffix(f"/{DELIVERY}")
