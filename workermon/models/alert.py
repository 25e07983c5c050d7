"""An alert: its state, its history, and what silences it."""

from __future__ import annotations

from workermon.models.base import Frozen, Severity, Text, moment
from workermon.models.notification import DELIVERY, Attempt, Notification, SilencedNotification
from workermon.models.rule import RuleState
from workermon.models.sample import Datapoint


class Silence(Frozen):
    """Alerts that are not to be told from ``begins`` until ``ends``: those that all of what it names is true of."""

    id: str
    worker_id: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    begins: float
    ends: float
    reason: Text
    by: Text


class Acknowledgement(Frozen):
    """Who has seen an alert, and when; it holds for the episode that began at ``since`` only."""

    alert_id: str
    since: int | None
    by: Text
    at: float


class Transition(Frozen):
    """A change of an alert: at ``at`` (the time of the deciding datapoint) it went from ``before`` to ``after``.

    ``points`` are those of the window that decided, ``count`` how many of how many of its slots did (``2 of 3``).
    ``correction``: a revised past, not a new turn of events. ``silenced_by``: the silence because of which its
    notification went nowhere. ``cause`` is what EC2 says of it; ``key`` names it where its time alone does not.
    """

    at: int
    before: Severity | None
    after: Severity | None
    value: float | None = None
    threshold: float | None = None
    points: tuple[Datapoint, ...] = ()
    count: str | None = None
    correction: bool = False
    reason: str = ""
    silenced_by: str | None = None
    damped: bool = False
    cause: str | None = None
    key: str | None = None


class Alert(Frozen):
    """One rule of one worker over its life: the fold's state, and what was told of it last.

    ``version`` counts the notifications of this ``dedup_key``; ``since`` is when the present episode began;
    ``channels`` are those that were told of it, and so have to hear of its end. ``silenced_by``: the silence because
    of which nobody heard of what it is at now; that is told when the silence is over. ``flapping``: its turns are
    damped; ``flapping_told``: people have heard so, and are told when it has held still.
    """

    rule: str
    rule_state: RuleState = RuleState()
    version: int = 0
    since: int | None = None
    notified_severity: Severity | None = None
    last: Notification | None = None
    channels: tuple[str, ...] = ()
    silenced_by: str | None = None
    flapping: bool = False
    flapping_told: bool = False

    @property
    def open(self) -> bool:
        """Tell whether people were last told that it fires."""
        return self.notified_severity is not None


class HistoryEntry(Frozen):
    """An entry of an alert's history: a transition, the notification that told it if one did, and the attempts."""

    transition: Transition
    notification: Notification | None = None
    rule: str
    worker_id: str
    attempts: tuple[Attempt, ...] = ()


def told_of_delivery(channel: str, notification: Notification) -> HistoryEntry:
    """Return the entry of history for what was told of the delivery to a channel."""
    firing = notification.status == "firing"
    transition = Transition(
        at=int(moment(notification.at)),
        before=None if firing else notification.severity,
        after=notification.severity if firing else None,
        reason=notification.reason or notification.summary,
        silenced_by=notification.silenced_by if isinstance(notification, SilencedNotification) else None,
    )
    return HistoryEntry(transition=transition, notification=notification, rule=DELIVERY, worker_id=f"channel:{channel}")


def alert_of_delivery(notification: Notification) -> Alert:
    """Return how the alert about the delivery to a channel stands after what was told of it last."""
    firing = notification.status == "firing"
    return Alert(
        rule=DELIVERY,
        version=notification.version,
        since=int(moment(notification.since)) if firing else None,
        notified_severity=notification.severity if firing else None,
        last=notification,
        silenced_by=notification.silenced_by if isinstance(notification, SilencedNotification) else None,
    )
