"""State of the alerts, their history and their silences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from workermon.models import (
    AccountState,
    Acknowledgement,
    Alert,
    CollectionError,
    GroupMember,
    HistoryEntry,
    LostMetric,
    Notification,
    Silence,
    SubjectKey,
    Transition,
)
from workermon.ports.fleet import Record

Stored = TypeVar("Stored", covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Basis(Generic[Stored]):
    """What a verdict is based on; read before its datapoints.

    ``record`` is what is stored of the subject itself: a ``Record`` of a worker, an ``AccountState`` of an account and
    region, ``None`` if there is nothing but its alerts. ``alerts`` is by rule, ``version`` counts their commits,
    ``revision`` those of the configuration. ``last_versions`` is the last version of each rule's notifications, which
    outlives the subject.
    """

    subject: SubjectKey
    record: Stored
    alerts: dict[str, Alert] = dataclasses.field(default_factory=dict)
    version: int = 0
    revision: int = 0
    last_versions: dict[str, int] = dataclasses.field(default_factory=dict)


class RecordedTransition(NamedTuple):
    """A transition of a rule's alert for the history, with the notification of it if there is one."""

    rule: str
    transition: Transition
    notification: Notification | None


class GroupRecord(NamedTuple):
    """What the members of a group say, by rule and worker id; label ``by`` has ``value`` for all of them.

    ``changed_from`` is the earliest datapoint of theirs written since the last evaluation (``None``: none).
    ``sequence`` counts what they said.
    """

    by: str
    value: str
    members: Mapping[str, Mapping[str, GroupMember]] = {}
    changed_from: int | None = None
    sequence: int = 0


class MembershipChange(NamedTuple):
    """What a worker says of a rule from now on, to the group that is this subject; ``None`` forgets what it said.

    ``changed_from`` is the earliest datapoint that is new. The group is marked as pending with it.
    """

    group: str
    rule: str
    worker_id: str
    member: GroupMember | None
    changed_from: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one evaluation of one subject, to be written in one step if its basis still holds.

    ``alerts`` replaces all of the subject's; ``channels`` says where each rule's notifications go; ``at`` is when it
    was made, in seconds. ``memberships`` are what a worker says to its groups, or what a group forgets.
    ``is_steady``: only news of EC2 and datapoints beyond a threshold can change anything of this worker.
    """

    basis: Basis[Any]
    alerts: dict[str, Alert]
    transitions: tuple[RecordedTransition, ...]
    channels: Mapping[str, tuple[str, ...]]
    at: float
    memberships: tuple[MembershipChange, ...] = ()
    is_steady: bool = False

    def escalations(self, *, retire: bool = False) -> dict[str, float | None]:
        """Return by alert's id when it escalates next (``None``: never), of those of which that changes.

        ``retire``: of every alert, because the subject goes.
        """
        before, after = _escalation_times(self.basis.alerts), {} if retire else _escalation_times(self.alerts)
        if before == after:
            return {}
        return {
            f"{self.basis.subject.id}/{name}": after.get(name)
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        }


def _escalation_times(alerts: Mapping[str, Alert]) -> dict[str, float]:
    return {name: alert.escalates_at for name, alert in alerts.items() if alert.escalates_at is not None}


class Recorded(NamedTuple):
    """An entry of the history; ``number`` grows with each that is recorded."""

    number: int
    entry: HistoryEntry


class MonitorAlerts(NamedTuple):
    """What the alerts about accounts and regions (by key) and about the installation are based on."""

    accounts: dict[str, Basis[AccountState]]
    installation: Basis[None]


class Alerts(Protocol):
    """State of the alerts of every subject, their history, and what waits to be delivered."""

    def load(self, worker_ids: Sequence[str]) -> dict[str, Basis[Record]]:
        """Return the basis of an evaluation of those workers that are known."""

    def load_monitor_alerts(self) -> MonitorAlerts:
        """Return the basis of an evaluation of every account and region collected from, and of the installation."""

    def load_channel(self, channel: str) -> Basis[None]:
        """Return the basis of an evaluation of a channel."""

    def load_groups(self, subject_ids: Sequence[str]) -> dict[str, Basis[GroupRecord]]:
        """Return the basis of an evaluation of those groups that anything is known of."""

    def group_ids(self) -> list[str]:
        """Return the subject's id of every group that has members, in order."""

    def commit(self, verdict: Verdict) -> bool:
        """Write alerts, history and outbox in one step; ``False``, and nothing written, if the basis moved on.

        The basis is the subject's incarnation, the alerts' version and cursors, and the configuration's revision. What
        a silence keeps from people is not published on the feed.
        """

    def commit_many(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Commit verdicts of different subjects, each a step of its own, in few round trips; in order."""

    def retire(self, verdict: Verdict) -> bool:
        """Commit a last verdict and delete every key and member of the subject, in one step.

        The history and what waits to be delivered stay. A changed configuration does not stand in the way.
        """

    def open(self) -> list[Alert]:
        """Return the alerts that people were last notified of as firing, the oldest first."""

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return what ``recorded`` says of one alert, or ``timeline`` of all, up to ``limit`` entries."""

    def timeline(self, since: float = -math.inf, until: float = math.inf) -> Iterator[Recorded]:
        """Yield the transitions of all alerts by the time that they are about (``HistoryEntry.at``), newest first.

        Both times are included. They are read as they are taken.
        """

    def recorded(self, alert_id: str, number: int | None = None) -> Iterator[Recorded]:
        """Yield the transitions of one alert in the order in which they were recorded, newest first.

        It begins with the one of that number, or else with the newest.
        """


#: Seconds. No collection takes so long; a note so much older than the last success is of a clock that was set back.
SET_BACK = 600


class Accounts(Protocol):
    """How collection goes in each account and region."""

    def note(self, key: str, at: float, interval: int, last_error: CollectionError | None) -> None:
        """Note how a collection went that began at a time; one older than the last success changes nothing.

        One that is older by more than ``SET_BACK`` counts: a clock was wrong, and the times before mean nothing.
        """

    def note_lost(self, key: str, lost: Sequence[LostMetric]) -> None:
        """Note which metrics fell silent on much of its fleet; nothing if nothing was collected there."""

    def load(self) -> dict[str, AccountState]:
        """Return how it goes in every account and region where anything was collected, by its key."""


class Silences(Protocol):
    """What notifies nobody for a while, and who has seen which alert."""

    def every(self) -> list[Silence]:
        """Return those that were not taken back, the first to end first; some may be over."""

    def add(self, silence: Silence) -> None:
        """Put it in force, and forget those that were over before it begins."""

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Take them back; an unknown id is not an error."""

    def acknowledge(self, acknowledged: Acknowledgement) -> None:
        """Note who has seen an alert; kept as long as the history."""

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, Acknowledgement]:
        """Return who has seen each of these alerts last; an alert that nobody has seen is left out."""
