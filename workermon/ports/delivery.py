"""Notifications in delivery: the outbox, the channels and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import Attempt, Channel, ClaimedNotification, Limit, Notification, SecretRef


class StuckQueue(NamedTuple):
    """A queue whose first notification failed since ``since``; ``error`` is that of the last attempt."""

    alert_id: str
    channel: str
    attempts: int
    since: float
    error: str


class FailingChannel(NamedTuple):
    """A channel that has accepted nothing since a failure at ``since``; ``at`` and ``error`` are those of the last one.

    ``retried``: the last failed notification will be tried again.
    """

    since: float
    at: float
    retried: bool
    error: str


class Outbox(Protocol):
    """Notifications in delivery. Each alert has a queue for each channel, which keeps its order.

    A claim has a lease and a fence. Once another sender has claimed the queue the fence is stale.
    """

    def due(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return the ids of alerts with a queue whose first notification is due and not leased.

        ``age`` leaves out those that have been due for fewer seconds. A queue dated too far ahead (``models.MAX_LEAD``)
        is due: the clock that wrote it was ahead.
        """

    def due_escalations(self, now: float, limit: int) -> list[str]:
        """Return the ids of alerts whose next escalation is due, the longest due first. A verdict sets that time.

        One dated later than any escalation can be (``models.MAX_ESCALATION``) is due: a wrong clock wrote it.
        """

    def claim(self, alert_id: str, now: float, lease: float) -> list[ClaimedNotification]:
        """Claim the first notification of each due queue of an alert for ``lease`` seconds of Redis' own time."""

    def delivered(
        self, claimed: ClaimedNotification, at: float, remind_at: float | None = None
    ) -> ClaimedNotification | None:
        """Record that the notification was accepted, and remove it from its queue.

        If the alert still fires at ``remind_at``, ``due`` queues the notification again, as a reminder.

        If the fence is stale nothing is removed. Then the alert's present state is returned, to be sent again, so that
        the last message is the true one; ``None`` if there is nothing to add.
        """

    def failed(self, claimed: ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt, release the queue, and wait until ``retry_at``; ``False`` if the fence is stale."""

    def give_up(self, claimed: ClaimedNotification, at: float, error: str, remind_at: float | None = None) -> bool:
        """Record the last attempt and remove the notification; ``False`` if the fence is stale."""

    def skip(self, claimed: ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Remove the notification without recording an attempt; ``False`` if the fence is stale."""

    def postpone(self, claimed: ClaimedNotification, at: float, retry_at: float) -> bool:
        """Undo a claim at a time, and wait until ``retry_at``.

        ``False`` if the fence is stale.
        """

    def make_due(self, channel: str, at: float) -> None:
        """Make every queue of a channel due at a time, unless it is due earlier: the reason for waiting is gone."""

    def release(self, notification: Notification, at: float) -> bool:
        """Queue the canary's notification, which is recorded nowhere; ``False`` if the last one still waits."""

    def post(self, channel: str, notifications: Sequence[Notification], at: float) -> None:
        """Queue test messages with one ``dedup_key`` for a channel. They are in no alert's history."""

    def attempts(self, alert_id: str) -> list[Attempt]:
        """Return the attempts to deliver notifications of an alert, or test messages, oldest first."""

    def backlog(self) -> int:
        """Return how many notifications wait, without the canary's."""

    def pending(self) -> dict[str, int]:
        """Return by channel how many notifications wait, without the canary's."""

    def stuck(self, before: float, limit: int = 100) -> list[StuckQueue]:
        """Return queues whose first notification was first tried by that time, and last failed, oldest first."""


class ChannelFailures(Protocol):
    """Which channels accept no notifications, and since when."""

    def note(self, channel: str, at: float, error: str, *, retried: bool) -> None:
        """Record a failed attempt. A beginning after ``at`` came from a wrong clock, and is corrected."""

    def clear(self, channel: str) -> None:
        """Clear the failures: the channel accepted something, or was removed."""

    def load(self) -> dict[str, FailingChannel]:
        """Return the channels whose last attempt failed, by name."""


class FiringLabels(Protocol):
    """The labels of firing alerts at a receiver that identifies alerts by their labels; kept for 30 days."""

    def load(self, channel: str, alert_id: str) -> list[dict[str, str]]:
        """Return the sets of labels under which an alert fires at the receiver, or may fire."""

    def save(self, channel: str, alert_id: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        """Replace the sets; without any, the alert does not fire at the receiver."""


class Secrets(Protocol):
    """Looks a secret up by its name when it is needed."""

    def __call__(self, ref: SecretRef) -> str:
        """Return the secret. Raises ``errors.InvalidInput`` with its name, never its value."""


class Notifier(Protocol):
    """Sends to the channels of one type."""

    def send(self, channel: Channel, notifications: Sequence[Notification]) -> None:
        """Send one message, or raise ``errors.DeliveryFailed`` within 10 s.

        It is about one notification, or about several of one rule if the type gathers groups.
        """


class Throttle(Protocol):
    """How much is sent to each channel: a token bucket shared by all worker processes, critical messages first."""

    def take(self, channel: str, limit: Limit, *, critical: bool, now: float) -> float:
        """Take a token: 0 if the message may be sent now, otherwise the seconds after which to ask again.

        The lower half of the bucket is for critical messages only.
        """

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group of a notification created at that time closes. Opens a group if there is none.

        A notification belongs to the last window if that was still open when it was created.
        """

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Send nothing to a channel for that long, because the receiver asked for it."""


class Violations(Protocol):
    """The hook for a user's own code, called in the worker process for every written transition.

    It is named by an entry point of the group ``workermon.violations``. Its exceptions are logged and stop nothing.
    After a crash it may be called again for a transition, but never twice within a process.
    """

    def violated(self, notification: Notification) -> None:
        """React to an alert that fires or resolves."""
