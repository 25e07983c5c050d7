"""What people and machines are notified of, and its way to them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field

from workermon.models.base import Frozen, Severity
from workermon.models.sample import Datapoint


def _absent(value: object) -> bool:
    return value is None


class WorkerSummary(Frozen):
    """The worker as a notification names it; ``account`` is the name of its section, ``default`` for none."""

    id: str
    name: str
    region: str
    account: str = "default"
    labels: dict[str, str] = {}


class Escalation(Frozen):
    """Which step of an escalation a notification is, from 1 on, and after how many seconds it was due."""

    step: int
    after: int


class Notification(Frozen):
    """What people and machines are notified of (``docs/reference/messages.md``).

    ``at`` is the deciding time, ``since`` that of the transition with which the episode began, ``condition_since`` when
    the condition began that made it fire. ``created_at`` is when the evaluation was made, ``points`` what decided.
    ``unit`` is that of ``value`` and ``threshold``.
    ``reminder``: it was accepted before, and still holds. ``description``, ``runbook`` (an address) and ``owner`` are
    the rule's. ``group`` is label (``by``) and ``value`` of a group of workers that it is about, ``members`` are the
    ids of those that count; both are left out of others.
    ``escalation``: it repeats what fires to other channels, because nobody has acknowledged it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    id: str
    version: int
    dedup_key: str
    #: A kind of rule, or ``collector``.
    kind: str
    status: Literal["firing", "resolved"]
    severity: Severity
    rule: str
    metric: str | None
    value: float | None
    threshold: float | None
    unit: str | None = None
    since: str
    condition_since: str | None = None
    at: str
    created_at: str | None = None
    worker: WorkerSummary | None
    summary: str
    reason: str | None = None
    scope: dict[str, str] | None = None
    group: dict[str, str] | None = Field(default=None, exclude_if=_absent)
    members: tuple[str, ...] | None = Field(default=None, exclude_if=_absent)
    points: tuple[Datapoint, ...] = ()
    reminder: bool = False
    description: str | None = None
    runbook: str | None = None
    owner: str | None = None
    escalation: Escalation | None = None


class TopicMessage(Frozen):
    """A message to a topic of Amazon SNS: ``texts`` by protocol, ``default`` among them.

    A FIFO topic keeps the order of a ``group``, and takes each ``identity`` once.
    """

    subject: str
    texts: dict[str, str]
    attributes: dict[str, str]
    group: str
    identity: str


class Attempt(Frozen):
    """One try to deliver one notification to one channel; ``error`` is ``None`` when it was accepted.

    ``host`` is the name of the machine or container that tried.
    """

    notification_id: str
    channel: str
    at: float
    error: str | None = None
    host: str | None = None


class ClaimedNotification(Frozen):
    """A notification claimed for delivery to one channel, under a lease whose ``fence`` no other claim has."""

    alert_id: str
    channel: str
    notification: Notification
    fence: int
    attempt: int


#: The rule of the alert that notifications could not be delivered; it always holds.
DELIVERY = "delivery"


class Sent(NamedTuple):
    """When something was sent last (where it never was: since when it is to be), and how often it was."""

    at: float
    times: int


#: Seconds between two canaries.
CANARY_EVERY = 60

#: The canary's notification in the outbox, under an id that no alert has, and what stands where a channel's name does.
CANARY, CANARY_CHANNEL = "workermon/canary", "canary"


#: The rule that test messages name; there is none of that name.
TEST = "notify-test"


def alert_of_test(identity: str) -> str:
    """Name the alert that test messages are about; there is no such alert.

    >>> alert_of_test("4f1c")
    'test-4f1c/notify-test'
    """
    return f"test-{identity}/{TEST}"


def is_test(alert_id: str) -> bool:
    """Return whether an alert is none, but what test messages are about."""
    return alert_id.startswith("test-") and alert_id.endswith(f"/{TEST}")


def delivery_alert(channel: str) -> str:
    """Name the alert about the delivery to a channel.

    >>> delivery_alert("ops")
    'channel:ops/delivery'
    """
    return f"channel:{channel}/{DELIVERY}"


def is_delivery_alert(alert_id: str) -> bool:
    """Return whether an alert is about the delivery to a channel."""
    return alert_id.startswith("channel:") and alert_id.endswith(f"/{DELIVERY}")


def channel_of(alert_id: str) -> str:
    """Return the channel that an alert about a delivery is about.

    >>> channel_of(delivery_alert("ops"))
    'ops'
    """
    return alert_id.removeprefix("channel:").removesuffix(f"/{DELIVERY}")
