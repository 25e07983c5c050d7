"""When a notification is sent again, when it is given up, and how much a channel gets: pure."""

from __future__ import annotations

import dataclasses
import math
import random

from workermon import errors, models, ports
from workermon.notify.channel_type import ChannelType

#: Seconds. The wait after a failure is drawn from 0 to a limit that doubles from the first to the last of these (full
#: jitter), so that a receiver that comes back is not met by all at once.
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0

#: Seconds. A receiver may ask for a longer wait by Retry-After, up to this.
LONGEST_ASKED = 3600.0

#: Seconds. While a receiver that asked for a wait gets nothing at all, up to this.
LONGEST_PAUSE = 300.0

#: Seconds. After a day nobody waits for a notification any more; it is given up, and recorded as such.
GIVE_UP_AFTER = models.DAY

#: Attempts (about a minute), and seconds, after which a channel that the configuration lacks counts as removed.
REMOVED_CHANNEL_ATTEMPTS, REMOVED_CHANNEL_AFTER = 6, 60.0

#: Attempts until a refusal counts that may be the receiver's own trouble, such as a broken deployment: about an hour.
PATIENT_ATTEMPTS = 30


#: Seconds for which a channel accepts nothing until other channels are notified of that.
ALERT_AFTER = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: what was to be sent, when it failed and why.

    ``channel_removed``: the configuration has no such channel. ``backoff`` is the wait in seconds, unless the receiver
    asks for a longer one; those of one group share it, so that they stay together.
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
        # The present state that is sent once more after a lost lease (fence below 0) has no place in a queue to leave.
        return claimed.attempt >= _attempts(self.error) and claimed.fence > 0

    @property
    def asked_wait(self) -> float | None:
        """Return for how many seconds the receiver asked to be left alone."""
        return self.error.retry_after if isinstance(self.error, errors.DeliveryFailed) else None

    @property
    def wait(self) -> float:
        """Return the seconds until the next attempt."""
        backoff_seconds = backoff(self.claimed.attempt) if self.backoff is None else self.backoff
        return backoff_seconds if self.asked_wait is None else max(backoff_seconds, min(self.asked_wait, LONGEST_ASKED))


def backoff(attempt: int) -> float:
    """Draw the wait after an attempt, in seconds; the first attempt is 1."""
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt - 1, 16)))


def _attempts(error: errors.WorkermonError) -> float:
    """Return after how many attempts a failure is final. Most failures never are before a day is over."""
    if isinstance(error, errors.DeliveryRefused):
        return error.tries
    return PATIENT_ATTEMPTS if isinstance(error, errors.AwsError) and not error.retryable else math.inf


def rate(channel: models.Channel, kind: ChannelType) -> models.Limit | None:
    """Return how much a channel gets: half of a minute's messages at once, the other half over the minute."""
    most = channel.per_minute or kind.per_minute
    return models.Limit(bucket=max(1.0, most / 2), rate=most / 120) if most else None


def group_wait(channel: models.Channel, kind: ChannelType) -> int:
    """Return for how many seconds a channel gathers a group; 0: it groups nothing."""
    channel_wait = channel.group_wait
    return kind.group_wait if channel_wait is None or not kind.group_wait else channel_wait


def repeat(channel: models.Channel, kind: ChannelType) -> int | None:
    """Return after how many seconds a notification that still fires is sent again; ``None``: it is not."""
    return channel.repeat or kind.repeat


def is_dead(channel: models.Channel, failing: ports.FailingChannel, now: float) -> bool:
    """Return whether a channel has accepted nothing for so long that other channels are notified of that.

    One failure that is not tried again, such as that of a reminder, is not enough: there must be another one later.
    """
    until = now if failing.retried else failing.at
    return until - failing.since >= (ALERT_AFTER if channel.alert_after is None else channel.alert_after)
