"""An alert: its state, its history, and what silences it."""

from __future__ import annotations

from workermon.models import alert_ids
from workermon.models.base import Frozen, Moment, Severity, Text, moment
from workermon.models.group import Membership
from workermon.models.notification import Attempt, Notification
from workermon.models.rule import RuleState
from workermon.models.sample import Datapoint


class Silence(Frozen):
    """Alerts that notify nobody from ``begins`` until ``ends``: those that match everything it names.

    ``worker`` is an instance id or a name. A name stands for whichever worker has it, replacements included. ``alert``
    is a ``dedup_key``. A silence that names nothing matches every alert; only a window of the config file may do that.
    """

    id: str
    worker: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    alert: str | None = None
    begins: Moment
    ends: Moment
    reason: Text
    by: Text


class SilenceRequest(Frozen):
    """A requested silence; ``ends`` is a time in seconds, ``None`` if none was given.

    ``worker`` is an instance id or a name. A name stands for whichever worker has it, replacements included. ``alert``
    is a ``dedup_key``, in which a name may replace the id; it cannot be combined with other criteria.
    """

    worker: Text | None = None
    labels: dict[str, str] = {}
    rule: Text | None = None
    alert: Text | None = None
    ends: float | None
    reason: Text
    by: Text


class Acknowledgement(Frozen):
    """Who has seen an alert, and when. It applies only to the episode that began at ``since``."""

    alert_id: str
    since: int | None
    by: Text
    at: float

    def applies_to(self, since: float | None) -> bool:
        """Return whether it is about the episode that began at a time."""
        return self.since == since


class Transition(Frozen):
    """A change of an alert: at ``at`` (the time of the deciding datapoint) it went from ``before`` to ``after``.

    ``points`` are those of the deciding window, ``count`` how many of its slots decided it (``2 of 3``), ``period`` the
    seconds of each slot, if known. ``correction``: the past was revised, nothing new happened. ``withdrawn``: it
    withdraws a recorded transition; its points, value, threshold and count are the present ones. ``present`` is the
    newest datapoint then. ``silenced_by`` and ``inhibited_by`` name the silence and the rule because of which nobody
    was notified. ``flapping``: nobody was notified, because the alert was flapping. ``cause`` is the reason from EC2,
    AWS or a channel. ``key`` names the transition if its time alone does not. ``condition_since`` is when the condition
    began that made it fire, such as the time of the first datapoint beyond the threshold; ``None``: at ``at``.
    ``members`` are the ids of the workers that count, in an alert about a group.
    """

    at: int
    before: Severity | None
    after: Severity | None
    value: float | None = None
    threshold: float | None = None
    points: tuple[Datapoint, ...] = ()
    count: str | None = None
    correction: bool = False
    withdrawn: bool = False
    present: Datapoint | None = None
    reason: str = ""
    silenced_by: str | None = None
    inhibited_by: str | None = None
    flapping: bool = False
    cause: str | None = None
    key: str | None = None
    condition_since: int | None = None
    members: tuple[str, ...] | None = None
    period: int | None = None

    @property
    def muted(self) -> bool:
        """Return whether a silence or another rule suppressed its notification."""
        return self.silenced_by is not None or self.inhibited_by is not None


class Alert(Frozen):
    """One rule of one subject over time: its state, and what people were last notified of.

    ``version`` counts the notifications of this ``dedup_key``. ``since`` is when the present episode began,
    ``condition_since`` when the condition began that made it fire. ``channels`` were notified of it, and will be
    notified when it resolves. ``silenced_by`` and ``inhibited_by`` name the silence and the rule because of which
    nobody was notified of the present severity; the notification follows when both have ended. ``flapping``: its
    transitions are held back; ``flapping_notified``: people were notified of that, and will be notified when it is
    stable again. ``membership`` is that of the worker in a group that the rule is over. Then the group's alert follows
    from the states of all members, and nobody is notified of this one. ``escalated`` steps were notified, to the
    channels ``escalated_to``; their time counts from ``escalation_since``, and the next one is due at ``escalates_at``.
    """

    rule: str
    rule_state: RuleState = RuleState()
    version: int = 0
    since: int | None = None
    condition_since: int | None = None
    notified_severity: Severity | None = None
    last: Notification | None = None
    channels: tuple[str, ...] = ()
    silenced_by: str | None = None
    inhibited_by: str | None = None
    flapping: bool = False
    flapping_notified: bool = False
    membership: Membership | None = None
    escalation_since: float | None = None
    escalates_at: float | None = None
    escalated: int = 0
    escalated_to: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Return whether people were last notified that it fires."""
        return self.notified_severity is not None

    @property
    def muted(self) -> bool:
        """Return whether a silence or another rule suppresses its notification."""
        return self.silenced_by is not None or self.inhibited_by is not None

    @property
    def is_at_rest(self) -> bool:
        """Return whether nothing about it needs a notification: it neither fires, flaps nor escalates."""
        busy = self.open or self.muted or self.flapping or self.flapping_notified or self.membership is not None
        return not busy and self.escalates_at is None


class HistoryEntry(Frozen):
    """An entry of an alert's history: a transition, its notification if there is one, and the attempts to deliver it.

    ``subject`` is the id of the alert's subject.
    """

    transition: Transition
    notification: Notification | None = None
    rule: str
    subject: str
    attempts: tuple[Attempt, ...] = ()

    @property
    def alert_id(self) -> str:
        """Return the id of the alert."""
        return alert_ids.alert_id(self.subject, self.rule)

    @property
    def at(self) -> float:
        """Return the entry's time: that of the notification if there is one, otherwise of the transition."""
        return float(self.transition.at) if self.notification is None else moment(self.notification.at)
