"""When a notification is retried, when it is given up, and how much a channel gets: pure."""

from __future__ import annotations

import dataclasses
import math
import random

from workermon import errors, models, ports
from workermon.notify.channel_type import ChannelType

#: Seconds for which a notification is claimed, and for which one process gathers a group. It is longer than an attempt
#: (``transport.DEADLINE``) after the wait for the others of its group (``groups.HELD_FOR``) may take.
LEASE = 15.0

#: Seconds. The wait after a failure is random, from 0 to a limit that doubles from the first to the last of these (full
#: jitter), so that a recovering receiver does not get all retries at once.
FIRST_WAIT, MAX_WAIT = 1.0, 300.0

#: Seconds. A receiver may ask for a longer wait by Retry-After, up to this.
MAX_RETRY_AFTER = 3600.0

#: Seconds. A receiver that asked for a wait gets nothing at all for at most this long.
MAX_PAUSE = 300.0

#: Seconds. A notification is given up after a day, and recorded as such.
GIVE_UP_AFTER = models.DAY

#: Attempts (about a minute), and seconds, after which a channel that the configuration lacks counts as removed.
REMOVED_CHANNEL_ATTEMPTS, REMOVED_CHANNEL_AFTER = 6, 60.0

#: Attempts until a refusal counts as final that may be a temporary fault of the receiver, such as a broken deployment:
#: about an hour.
PATIENT_ATTEMPTS = 30


#: Seconds for which a channel accepts nothing before other channels are notified of that.
ALERT_AFTER = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: the notification, when it failed and why.

    ``channel_removed``: the configuration has no such channel. ``backoff`` is the wait in seconds, unless the receiver
    asks for a longer one. Notifications of one group share it, so that they stay together.
    """

    claimed: models.ClaimedNotification
    at: float
    error: errors.WorkermonError
    channel_removed: bool = False
    backoff: float | None = None

    @property
    def is_final(self) -> bool:
        """Return whether the notification is given up."""
        claimed, notification = self.claimed, self.claimed.notification
        created = models.moment(notification.created_at or notification.at)
        if self.at - created > GIVE_UP_AFTER:
            return True
        if self.channel_removed and (
            claimed.attempt >= REMOVED_CHANNEL_ATTEMPTS or self.at - created >= REMOVED_CHANNEL_AFTER
        ):
            return True
        # The present state that is sent again after a lost lease (negative fence) has no queue to leave.
        return claimed.attempt >= _attempts(self.error) and claimed.fence > 0

    @property
    def asked_wait(self) -> float | None:
        """Return for how many seconds the receiver asked to get nothing."""
        return self.error.retry_after if isinstance(self.error, errors.DeliveryFailed) else None

    @property
    def wait(self) -> float:
        """Return the seconds until the next attempt."""
        backoff_seconds = backoff(self.claimed.attempt) if self.backoff is None else self.backoff
        return (
            backoff_seconds if self.asked_wait is None else max(backoff_seconds, min(self.asked_wait, MAX_RETRY_AFTER))
        )


def backoff(attempt: int) -> float:
    """Draw the wait after an attempt, in seconds; the first attempt is 1."""
    return random.uniform(0, min(MAX_WAIT, FIRST_WAIT * 2 ** min(attempt - 1, 16)))


def _attempts(error: errors.WorkermonError) -> float:
    """Return after how many attempts a failure is final. Most failures are not final before a day has passed."""
    if isinstance(error, errors.DeliveryRefused):
        return error.tries
    return PATIENT_ATTEMPTS if isinstance(error, errors.AwsError) and not error.retryable else math.inf


def rate(channel: models.Channel, kind: ChannelType) -> models.Limit | None:
    """Return how much a channel gets: half of a minute's messages at once, the other half over the minute."""
    most = channel.per_minute or kind.per_minute
    return models.Limit(bucket=max(1.0, most / 2), rate=most / 120) if most else None


def group_wait(channel: models.Channel, kind: ChannelType) -> int:
    """Return for how many seconds a channel gathers a group; 0: no grouping."""
    channel_wait = channel.group_wait
    return kind.group_wait if channel_wait is None or not kind.group_wait else channel_wait


def repeat(channel: models.Channel, kind: ChannelType) -> int | None:
    """Return after how many seconds a notification that still fires is sent again; ``None``: never."""
    return channel.repeat or kind.repeat


def is_dead(channel: models.Channel, failing: ports.FailingChannel, now: float) -> bool:
    """Return whether a channel has accepted nothing for so long that other channels are notified of that.

    One failure without a retry, such as that of a reminder, is not enough: there must be a later one.
    """
    until = now if failing.retried else failing.at
    return until - failing.since >= (ALERT_AFTER if channel.alert_after is None else channel.alert_after)
