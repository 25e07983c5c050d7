"""Notifications on their way: the outbox, the channels and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import Attempt, Channel, ClaimedNotification, Limit, Notification, SecretRef


class StuckQueue(NamedTuple):
    """A queue whose first notification was tried at ``since`` and failed; ``error`` is of the last attempt."""

    alert_id: str
    channel: str
    attempts: int
    since: float
    error: str


class FailingChannel(NamedTuple):
    """A channel that has accepted nothing since an attempt failed at ``since``; ``at`` and ``error`` are of the last.

    ``retried``: what failed last is tried again.
    """

    since: float
    at: float
    retried: bool
    error: str


class Outbox(Protocol):
    """Notifications on their way. There is a queue for each alert and channel, which keeps its order.

    A claim has a lease and a fence. Once another sender has claimed the queue the fence is stale.
    """

    def due(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return ids of alerts with a queue whose first notification may be sent now and is under nobody's lease.

        ``age`` leaves out those that are due for fewer seconds. A queue that was put there at a time that leads the
        present (``models.MAX_LEAD``) is due: whoever put it there, or made it wait, had a clock that was ahead.
        """

    def due_escalations(self, now: float, limit: int) -> list[str]:
        """Return ids of alerts whose next escalation is due, the longest due first; a verdict says when that is.

        One that is due later than any escalation can be (``models.MAX_ESCALATION``) is due: a wrong clock wrote it.
        """

    def claim(self, alert_id: str, now: float, lease: float) -> list[ClaimedNotification]:
        """Claim the first notification of each due queue of an alert for ``lease`` seconds of Redis' own time."""

    def delivered(
        self, claimed: ClaimedNotification, at: float, remind_at: float | None = None
    ) -> ClaimedNotification | None:
        """Record that the notification was accepted, and take it off its queue.

        If the alert still fires at ``remind_at``, ``due`` queues the notification again, as a reminder.

        If the fence is stale nothing is taken off. Then the alert's present state is returned, to be sent once more, so
        that the last message is the true one; ``None`` if there is nothing to add.
        """

    def failed(self, claimed: ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt, free the queue, and wait until ``retry_at``; ``False`` if the fence is stale."""

    def give_up(self, claimed: ClaimedNotification, at: float, error: str, remind_at: float | None = None) -> bool:
        """Record the last attempt and take the notification off; ``False`` if the fence is stale."""

    def skip(self, claimed: ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Take the notification off as if it had not been there; ``False`` if the fence is stale."""

    def postpone(self, claimed: ClaimedNotification, at: float, retry_at: float) -> bool:
        """Give a claim back at a time, until ``retry_at``, as if it had not been made.

        ``False`` if the fence is stale.
        """

    def hasten(self, channel: str, at: float) -> None:
        """Have every queue of a channel due at that time, unless it is earlier: what it waited for does not come."""

    def release(self, notification: Notification, at: float) -> bool:
        """Queue the canary's notification, recorded nowhere; ``False`` if its last one is still on its way."""

    def post(self, channel: str, notifications: Sequence[Notification], at: float) -> None:
        """Queue test messages of one ``dedup_key`` for a channel; they are in no alert's history."""

    def attempts(self, alert_id: str) -> list[Attempt]:
        """Return the attempts to deliver notifications of an alert, or test messages, the oldest first."""

    def backlog(self) -> int:
        """Return how many notifications wait, without the canary's."""

    def pending(self) -> dict[str, int]:
        """Return by channel how many notifications wait, without the canary's."""

    def stuck(self, before: float, limit: int = 100) -> list[StuckQueue]:
        """Return queues whose first notification was tried first by that time, and failed last, the oldest first."""


class ChannelFailures(Protocol):
    """Which channels accept nothing, and since when."""

    def note(self, channel: str, at: float, error: str, *, retried: bool) -> None:
        """Note a failed attempt. A beginning after ``at`` came from a wrong clock, and is moved."""

    def clear(self, channel: str) -> None:
        """Forget the failures: the channel accepted something, or was removed."""

    def load(self) -> dict[str, FailingChannel]:
        """Return the channels whose last attempt failed, by name."""


class FiringLabels(Protocol):
    """Under which labels alerts fire at a receiver that tells alerts apart by their labels; kept for 30 days."""

    def load(self, channel: str, alert_id: str) -> list[dict[str, str]]:
        """Return the sets of labels under which an alert fires there, or may fire."""

    def save(self, channel: str, alert_id: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        """Replace them; none: the alert does not fire there."""


class Secrets(Protocol):
    """Looks a secret up by its name when it is needed."""

    def __call__(self, ref: SecretRef) -> str:
        """Return it; raises ``errors.InvalidInput`` naming the name, never the value."""


class Notifier(Protocol):
    """Sends to the channels of one type."""

    def send(self, channel: Channel, notifications: Sequence[Notification]) -> None:
        """Send one message, or raise ``errors.DeliveryFailed`` within 10 s.

        It is about one notification, or about several of one rule if the type gathers groups.
        """


class Throttle(Protocol):
    """How much goes out to each channel: a token bucket shared by all worker processes, criticals first."""

    def take(self, channel: str, limit: Limit, *, critical: bool, now: float) -> float:
        """Take a token: 0 where one may send now, else the seconds after which to ask again.

        The lower half of the bucket is for criticals only.
        """

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group closes that a notification created then belongs to; it opens one if there is none.

        A notification belongs to the last window if that was not closed yet when it was created.
        """

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Let nothing out for that long, because the receiver asked for it."""


class Violations(Protocol):
    """The hook for a user's own code: called in the worker process for every transition that was written.

    Named by an entry point of the group ``workermon.violations``. What it raises is logged and stops nothing. It may
    be called again for a transition after a crash, and is never called twice for one within a process.
    """

    def violated(self, notification: Notification) -> None:
        """React to an alert that fires or resolves."""
