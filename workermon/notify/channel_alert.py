"""Pure: the notifications about a channel: that it took nothing for a day, and that it is well again.

No kind of notification is about a channel; ``collector`` is the nearest, for it is of the monitor and of no worker.
"""

from __future__ import annotations

import hashlib

from workermon import errors, models

#: The scope of what is about the monitor as a whole.
EVERYWHERE = {"account": "*", "region": "*"}

_LONGEST_REASON = 300


def failing(
    parcel: models.ClaimedNotification, why: errors.WorkermonError, before: models.Notification | None, at: float
) -> models.Notification:
    """Tell that a notification was given up."""
    lost = parcel.notification
    summary = f"channel {parcel.channel}: given up: {lost.summary}"
    return _told(parcel.channel, "firing", before, at, at, summary, str(why)[:_LONGEST_REASON])


def well(channel: str, before: models.Notification, at: float) -> models.Notification:
    """Tell that a channel takes notifications again."""
    return _told(channel, "resolved", before, models.moment(before.since), at, f"channel {channel}: it delivers again")


def abandoned(channel: str, before: models.Notification, at: float) -> models.Notification:
    """Tell that nothing goes to a channel any more, because the configuration does not have it."""
    why = "the channel was removed"
    since = models.moment(before.since)
    return _told(channel, "resolved", before, since, at, f"channel {channel}: resolved: {why}", why)


def unheard(told: models.Notification, silence: models.Silence) -> models.SilencedNotification:
    """Have a silence keep it from everybody."""
    return models.SilencedNotification.model_validate({**told.model_dump(by_alias=True), "silenced_by": silence.id})


def belated(channel: str, before: models.SilencedNotification, at: float) -> models.Notification:
    """Tell what nobody heard of because of a silence that is over by now."""
    return _told(channel, "firing", before, models.moment(before.since), at, before.summary, before.reason)


def _told(
    channel: str,
    status: str,
    before: models.Notification | None,
    since: float,
    at: float,
    summary: str,
    reason: str | None = None,
) -> models.Notification:
    version = before.version + 1 if before else 1
    key = models.delivery_alert(channel)
    text = "\n".join((key, status, str(version), models.rfc3339(at)))
    return models.Notification.model_validate(
        {
            "id": hashlib.sha256(text.encode()).hexdigest()[:40],
            "version": version,
            "dedup_key": key,
            "kind": "collector",
            "status": status,
            "severity": "critical",
            "rule": models.DELIVERY,
            "metric": None,
            "value": None,
            "threshold": None,
            "since": models.rfc3339(int(since)),
            "at": models.rfc3339(int(at)),
            "created_at": models.rfc3339(at),
            "worker": None,
            "scope": {**EVERYWHERE, "channel": channel},
            "summary": summary,
            "reason": reason,
        }
    )
