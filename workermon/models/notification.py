"""Notifications, and their delivery."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field

from workermon.models import alert_ids
from workermon.models.base import Frozen, Severity
from workermon.models.sample import Datapoint
from workermon.models.worker import DEFAULT_ACCOUNT


def _absent(value: object) -> bool:
    return value is None


class NotifiedWorker(Frozen):
    """The worker in a notification; ``account`` is the name of its section, ``default`` for none."""

    id: str
    name: str
    region: str
    account: str = DEFAULT_ACCOUNT
    labels: dict[str, str] = {}


class Escalation(Frozen):
    """The step of an escalation that a notification belongs to, from 1 on, and after how many seconds it was due."""

    step: int
    after: int


class Notification(Frozen):
    """A notification to people and machines (``docs/reference/messages.md``).

    ``at`` is the deciding time, ``since`` that of the transition that began the episode, ``condition_since`` when the
    condition began that made it fire. ``created_at`` is the time of the evaluation, ``points`` are the deciding ones.
    ``unit`` is that of ``value`` and ``threshold``. ``reminder``: it was accepted before, and still holds.
    ``description``, ``runbook`` (an address) and ``owner`` are the rule's. For an alert about a group of workers,
    ``group`` is its label (``by``) and ``value``, ``members`` are the ids of the workers that count; other
    notifications lack both. ``escalation``: it repeats a firing alert to other channels, because nobody has
    acknowledged it.
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
    worker: NotifiedWorker | None
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

    @property
    def subject_id(self) -> str:
        """Return the id of the alert's subject."""
        return alert_ids.alert_parts(self.dedup_key).subject_id


class TopicMessage(Frozen):
    """A message to a topic of Amazon SNS: ``texts`` by protocol, ``default`` among them.

    A FIFO topic keeps the order within a ``group``, and takes each ``identity`` only once.
    """

    subject: str
    texts: dict[str, str]
    attributes: dict[str, str]
    group: str
    identity: str


class Attempt(Frozen):
    """One attempt to deliver one notification to one channel; ``error`` is ``None`` if it was accepted.

    ``host`` is the name of the machine or container that sent it.
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


class Sent(NamedTuple):
    """When something was last sent (if never: since when it waits), and how often."""

    at: float
    times: int


#: Seconds between two canaries.
CANARY_EVERY = 60

#: The canary's notification in the outbox: an id that no alert has, and the text in place of a channel's name.
CANARY, CANARY_CHANNEL = "workermon/canary", "canary"
