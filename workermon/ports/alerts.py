"""State of the alerts, their history and their silences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from workermon.models import (
    AccountState,
    Acknowledgement,
    Alert,
    CollectionError,
    HistoryEntry,
    Notification,
    Silence,
    Transition,
)
from workermon.ports.fleet import Record


class Basis(NamedTuple):
    """What a verdict is based on; read before its datapoints.

    ``alerts`` is by rule, ``version`` counts the commits of this worker, ``revision`` those of the configuration.
    ``last_versions`` is the last version of each rule's notifications, which outlives the removal of a worker.
    """

    record: Record
    alerts: dict[str, Alert]
    version: int
    revision: int
    last_versions: dict[str, int]


class Verdict(NamedTuple):
    """The outcome of one judgement of one worker, to be written in one step if its basis still holds.

    ``alerts`` replaces all of the worker's; ``transitions`` are ``(rule, transition, notification or None)``;
    ``channels`` says where each rule's notifications go.
    """

    basis: Basis
    alerts: dict[str, Alert]
    transitions: tuple[tuple[str, Transition, Notification | None], ...]
    channels: dict[str, tuple[str, ...]]
    at: float


class Alerts(Protocol):
    """State of the alerts, their history, and what waits to be delivered."""

    def load(self, worker_ids: Sequence[str]) -> dict[str, Basis]:
        """Return the basis of a judgement of those workers that are known."""

    def commit(self, verdict: Verdict) -> bool:
        """Write alerts, history and outbox in one step; ``False``, and nothing written, where the basis moved on.

        The basis is the worker's incarnation, the alerts' version and cursors, and the rules' revision.
        """

    def commit_many(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Commit verdicts of different workers, each a step of its own, in few round trips; in order."""

    def retire(self, verdict: Verdict) -> bool:
        """Commit a last verdict and delete every key and member of the worker, in one step."""

    def open(self) -> list[Alert]:
        """Return the alerts that people were last told to be firing, the oldest first."""

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return what was recorded of one alert, or of all, newest first."""


class AccountBasis(NamedTuple):
    """What the judgement of an account and region is based on; its fields are those of ``Basis``."""

    state: AccountState
    alerts: dict[str, Alert]
    version: int
    revision: int
    last_versions: dict[str, int]


class AccountVerdict(NamedTuple):
    """The outcome of one judgement of an account and region; its fields are those of ``Verdict``."""

    basis: AccountBasis
    alerts: dict[str, Alert]
    transitions: tuple[tuple[str, Transition, Notification | None], ...]
    channels: dict[str, tuple[str, ...]]
    at: float


#: Seconds. No collection takes so long; a note so much older than the last success is of a clock that was set back.
SET_BACK = 600


class Accounts(Protocol):
    """How collection goes in each account and region, and the alerts about that."""

    def note(self, scope: str, at: float, interval: int, last_error: CollectionError | None) -> None:
        """Note how a collection went that began at a time; one older than the last success changes nothing.

        One that is older by more than ``SET_BACK`` counts: a clock was wrong, and the times before tell nothing.
        """

    def load(self) -> dict[str, AccountBasis]:
        """Return the basis of a judgement of every account and region where anything was collected, by its key."""

    def forget(self, scope: str, version: int) -> bool:
        """Forget how it went there, unless its alerts are no longer at that version; their history stays."""

    def commit(self, verdict: AccountVerdict) -> bool:
        """Write alert, history and outbox in one step; ``False``, and nothing written, where the basis moved on."""

    def retire(self, verdict: AccountVerdict) -> bool:
        """Commit a last verdict and forget how it went there, in one step."""


class Silences(Protocol):
    """What is not to be told, and who has seen what."""

    def every(self) -> list[Silence]:
        """Return those that were not taken back, the first to end first; some may be over."""

    def add(self, silence: Silence) -> None:
        """Put it in force, and forget those that were over before it begins."""

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Take them back; those that are not there are no error."""

    def acknowledge(self, acknowledged: Acknowledgement) -> None:
        """Note who has seen an alert; kept as long as the history."""

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, Acknowledgement]:
        """Return who has seen these alerts last, those that somebody has."""
