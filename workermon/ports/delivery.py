"""Notifications on their way: the outbox, the channels and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from workermon.models import Channel, ClaimedNotification, Limit, Notification, SecretRef


class StuckQueue(NamedTuple):
    """A lane whose head was tried first at ``since`` and was not accepted since; ``error`` is of the last attempt."""

    alert_id: str
    channel: str
    attempts: int
    since: float
    error: str


#: Seconds. No lane waits longer for its next try; one that would was written by a clock that was ahead, and is due.
LONGEST_WAIT = 3700


class Outbox(Protocol):
    """Notifications on their way. A lane is one alert on one channel; each keeps its order."""

    def due(self, now: float, limit: int) -> list[str]:
        """Return alert ids with a lane whose head may be tried by now and is under nobody's lease.

        A lane whose next try is more than ``LONGEST_WAIT`` ahead may be tried too.
        """

    def claim(self, alert_id: str, now: float, lease: float) -> list[ClaimedNotification]:
        """Claim the head of each due lane of an alert for ``lease`` seconds of Redis' own time."""

    def delivered(
        self, parcel: ClaimedNotification, at: float, remind_at: float | None = None
    ) -> ClaimedNotification | None:
        """Record acceptance and take the notification off its lane; ``remind_at`` is when it is due again, if ever.

        Where the alert still fires then, ``due`` puts it into the lane once more, as a reminder.

        Where the fence was stale nothing is taken off; the answer is the alert's present state as a parcel to be
        sent once more, so that the last word is the true one (``None`` where there is nothing to add).
        """

    def failed(self, parcel: ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt, free the lane, and wait until ``retry_at``; ``False`` where the fence was stale."""

    def give_up(self, parcel: ClaimedNotification, at: float, error: str, remind_at: float | None = None) -> bool:
        """Record the last attempt and take the notification off; ``False`` where the fence was stale."""

    def skip(self, parcel: ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Take the notification off as if it had not been there; ``False`` where the fence was stale."""

    def postpone(self, parcel: ClaimedNotification, retry_at: float) -> bool:
        """Give a claim back until ``retry_at`` as if it had not been made; ``False`` where the fence was stale."""

    def release(self, notification: Notification, at: float) -> bool:
        """Put the canary's parcel on its way, recorded nowhere; ``False`` where its last one has not gone yet."""

    def backlog(self) -> int:
        """Return how many notifications wait; the canary's parcel is none."""

    def stuck(self, before: float, limit: int = 100) -> list[StuckQueue]:
        """Return lanes whose head was tried first by that time, and whose last attempt failed, the oldest first."""


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
        """Return when the group closes that a notification created then belongs to; it opens one where there is none.

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
