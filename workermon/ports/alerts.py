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
    alert_id,
)
from workermon.ports.fleet import Record

Stored = TypeVar("Stored", covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Basis(Generic[Stored]):
    """What a verdict is based on. It is read before the datapoints.

    ``record`` is the subject's own data: a ``Record`` of a worker, an ``AccountState`` of an account and region,
    ``None`` if only its alerts are stored. ``alerts`` is by rule, ``version`` counts their commits, ``revision`` those
    of the configuration. ``last_versions`` has the last version of each rule's notifications, which outlives the
    subject.
    """

    subject: SubjectKey
    record: Stored
    alerts: dict[str, Alert] = dataclasses.field(default_factory=dict)
    version: int = 0
    revision: int = 0
    last_versions: dict[str, int] = dataclasses.field(default_factory=dict)

    def alert(self, rule: str) -> Alert:
        """Return the alert of a rule; a new one that does not fire if none is stored."""
        return self.alerts.get(rule) or Alert(rule=rule)


class RecordedTransition(NamedTuple):
    """A transition of a rule's alert for the history, with its notification if there is one."""

    rule: str
    transition: Transition
    notification: Notification | None


class GroupRecord(NamedTuple):
    """The reports of a group's members, by rule and worker id; label ``by`` has ``value`` for all of them.

    ``changed_from`` is the members' earliest datapoint written since the last evaluation (``None``: none). ``sequence``
    counts the reports.
    """

    by: str
    value: str
    members: Mapping[str, Mapping[str, GroupMember]] = {}
    changed_from: int | None = None
    sequence: int = 0


class MembershipChange(NamedTuple):
    """A worker's new report to the group that is this subject; ``None`` deletes its report.

    ``changed_from`` is the earliest datapoint that is new. The group is marked as pending with it.
    """

    group: str
    rule: str
    worker_id: str
    member: GroupMember | None
    changed_from: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The result of evaluating one subject, to be written in one step if its basis is unchanged.

    ``alerts`` replaces all of the subject's; ``channels`` has where each rule's notifications go; ``at`` is its time in
    seconds. ``memberships`` are a worker's reports to its groups, or reports that a group deletes. ``is_steady``: only
    changes from EC2 and datapoints beyond a threshold can change anything about this worker.
    """

    basis: Basis[Any]
    alerts: dict[str, Alert]
    transitions: tuple[RecordedTransition, ...]
    channels: Mapping[str, tuple[str, ...]]
    at: float
    memberships: tuple[MembershipChange, ...] = ()
    is_steady: bool = False

    def escalations(self, *, retire: bool = False) -> dict[str, float | None]:
        """Return the next time of escalation (``None``: never) of each alert for which it changes, by the alert's id.

        ``retire``: of every alert, because the subject is deleted.
        """
        before, after = _escalation_times(self.basis.alerts), {} if retire else _escalation_times(self.alerts)
        if before == after:
            return {}
        return {
            alert_id(self.basis.subject.id, name): after.get(name)
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        }


def _escalation_times(alerts: Mapping[str, Alert]) -> dict[str, float]:
    return {name: alert.escalates_at for name, alert in alerts.items() if alert.escalates_at is not None}


class Recorded(NamedTuple):
    """An entry of the history; ``number`` grows with each recorded entry."""

    number: int
    entry: HistoryEntry


class MonitorAlerts(NamedTuple):
    """The basis of the alerts about accounts and regions (by key) and about the installation."""

    accounts: dict[str, Basis[AccountState]]
    installation: Basis[None]


class EvaluationInput(NamedTuple):
    """What an evaluation reads first, beside the configuration.

    ``silences`` are those that were not removed. ``unreadable`` has why records cannot be read, by their keys.
    ``monitoring_since`` is when the monitor itself began (seconds; ``None``: unknown). ``workers`` are the bases of the
    workers to evaluate, without unknown ones.
    """

    monitor_alerts: MonitorAlerts
    silences: Sequence[Silence]
    unreadable: Mapping[str, str]
    monitoring_since: float | None
    workers: dict[str, Basis[Record]]


class EvaluationInputs(Protocol):
    """Reads in one round trip what an evaluation needs first, because several of them cost more than the rest of it."""

    def load(self, worker_ids: Sequence[str]) -> EvaluationInput:
        """Return what ``Alerts``, ``Silences``, ``Unreadable`` and ``Liveness`` return of it one by one."""


class Alerts(Protocol):
    """State of the alerts of every subject, their history, and their outbox."""

    def load(self, worker_ids: Sequence[str]) -> dict[str, Basis[Record]]:
        """Return the basis of an evaluation of these workers, without unknown ones."""

    def load_monitor_alerts(self) -> MonitorAlerts:
        """Return the basis of an evaluation of every account and region with collections, and of the installation."""

    def load_channel(self, channel: str) -> Basis[None]:
        """Return the basis of an evaluation of a channel."""

    def load_groups(self, subject_ids: Sequence[str]) -> dict[str, Basis[GroupRecord]]:
        """Return the basis of an evaluation of these groups, without those that have no data."""

    def group_ids(self) -> list[str]:
        """Return the subject's id of every group with members, in order."""

    def commit(self, verdict: Verdict) -> bool:
        """Write alerts, history and outbox in one step; ``False``, and nothing written, if the basis has changed.

        The basis is the subject's incarnation, the alerts' version and cursors, and the configuration's revision.
        Silenced notifications are not published on the feed.
        """

    def commit_many(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Commit verdicts of different subjects, each in a step of its own, in few round trips, in order."""

    def retire(self, verdict: Verdict) -> bool:
        """Commit a last verdict, and delete every key and membership of the subject, in one step.

        The history and undelivered notifications stay. A changed configuration does not prevent it.
        """

    def open(self) -> list[Alert]:
        """Return the alerts that people were last notified of as firing, oldest first."""

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return up to ``limit`` entries of ``recorded`` for one alert, or of ``timeline`` for all."""

    def timeline(self, since: float = -math.inf, until: float = math.inf) -> Iterator[Recorded]:
        """Yield the transitions of all alerts by time (``HistoryEntry.at``), newest first.

        Both times are included. Entries are read as needed.
        """

    def recorded(self, alert_id: str, number: int | None = None) -> Iterator[Recorded]:
        """Yield the transitions of one alert in the order of recording, newest first.

        It begins with the one of that number, otherwise with the newest.
        """


#: Seconds. No collection takes so long. A result that much older than the last success comes from a clock set back.
SET_BACK = 600


class Accounts(Protocol):
    """The state of collection in each account and region."""

    def note(self, key: str, at: float, interval: int, last_error: CollectionError | None) -> None:
        """Record the result of a collection that began at a time. A result older than the last success changes nothing.

        One older by more than ``SET_BACK`` counts: a clock was wrong, and the earlier times mean nothing.
        """

    def note_lost(self, key: str, lost: Sequence[LostMetric]) -> None:
        """Record which metrics much of the fleet there has lost. No effect if nothing was collected there."""

    def load(self) -> dict[str, AccountState]:
        """Return the state of every account and region with collections, by its key."""


class Silences(Protocol):
    """Silences, and acknowledgements of alerts."""

    def every(self) -> list[Silence]:
        """Return the silences that were not removed, the first to end first; some may have ended."""

    def add(self, silence: Silence) -> None:
        """Put a silence in force, and delete those that ended before it begins."""

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Remove these silences. An unknown id is not an error."""

    def acknowledge(self, acknowledged: Acknowledgement) -> None:
        """Record who has seen an alert. It is kept as long as the history."""

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, Acknowledgement]:
        """Return the last acknowledgement of each of these alerts, without alerts that have none."""
