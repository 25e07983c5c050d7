"""Notifications on their way: each alert has a lane for each channel, sent from in order, under a lease with a fence.

A fence is a number that no other claim has. A claim's outcome counts only where the lane still has its fence; one that
nobody has claimed since is good also after its lease. A parcel that is sent once more because its fence was stale has
a negative number: no lane has that.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import alerts, client, keys

#: Lanes looked at for those that are stuck.
LOOKED_AT = 1000

_DUE = client.Script.load("find_due")

_CLAIM = client.Script.load("claim_notifications")

_SETTLE = client.Script.load("settle_attempt")

_POSTPONE = client.Script.load("postpone_attempt")

_TELL = client.Script.load("record_channel_alert")

_RELEASE = client.Script.load("release_canary")

#: The canary's lane.
_CANARY = keys.lane(models.CANARY, models.CANARY_CHANNEL)

_BACKLOG = client.Script.load("count_backlog")


class RedisOutbox:
    """``ports.Outbox`` on Redis; what is told of the delivery itself is also published on ``<channel>:alerts``."""

    def __init__(self, redis_client: redis.Redis, channel: str = "workermon:metrics") -> None:
        self._client = redis_client
        self._feed = f"{channel}:alerts"

    def due(self, now: float, limit: int) -> list[str]:
        """Return alert ids with a lane that may be tried and is under nobody's lease, the longest due first."""
        prefixes = [keys.LEASE, keys.LANE, keys.LAST, keys.lanes("")]
        ahead = repr(now + ports.LONGEST_WAIT)
        return client.texts(_DUE.run(self._client, [keys.OUTBOX, keys.REMINDERS], [repr(now), limit, *prefixes, ahead]))

    def claim(self, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
        """Claim the head of each due lane of an alert for ``lease`` seconds of Redis' own time."""
        replies = _CLAIM.run(
            self._client,
            [keys.OUTBOX, keys.lanes(alert_id), keys.FENCE],
            # A claim whose answer was lost is sent again, and must know its leases.
            [
                repr(now),
                max(1, int(lease * 1000)),
                secrets.token_hex(8),
                keys.LANE,
                keys.STATE,
                keys.LEASE,
                repr(now + ports.LONGEST_WAIT),
            ],
        )
        return [
            models.ClaimedNotification(
                alert_id=alert_id,
                channel=keys.of_lane(lane.decode())[1],
                notification=models.Notification.model_validate_json(head),
                fence=int(fence),
                attempt=int(attempts),
            )
            for lane, head, fence, attempts in replies
        ]

    def delivered(
        self, parcel: models.ClaimedNotification, at: float, remind_at: float | None = None
    ) -> models.ClaimedNotification | None:
        """Record acceptance; the present state where the fence was stale and something was told since."""
        reply = self._settle(parcel, "delivered", at, None, at, remind_at)
        if len(reply) == 1:
            return None
        _, notification, fence = reply
        return parcel.model_copy(
            update={
                "notification": models.Notification.model_validate_json(notification),
                "fence": int(fence),
                "attempt": parcel.attempt + 1,
            }
        )

    def failed(self, parcel: models.ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt and wait; where the fence was stale, have the present state sent once more if need be."""
        return bool(self._settle(parcel, "failed", at, error, retry_at)[0])

    def give_up(
        self, parcel: models.ClaimedNotification, at: float, error: str, remind_at: float | None = None
    ) -> bool:
        """Record the last attempt and take the notification off."""
        return bool(self._settle(parcel, "given up", at, error, at, remind_at)[0])

    def skip(self, parcel: models.ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Take the notification off as if it had not been there."""
        return bool(self._settle(parcel, "skipped", at, None, at, remind_at)[0])

    def postpone(self, parcel: models.ClaimedNotification, retry_at: float) -> bool:
        """Give a claim back as if it had not been made."""
        lane = keys.lane(parcel.alert_id, parcel.channel)
        names = [keys.OUTBOX, keys.STATE + lane, keys.LEASE + lane]
        return bool(_POSTPONE.run(self._client, names, [lane, parcel.fence, repr(retry_at)]))

    def last_error(self, channel: str) -> models.Notification | None:
        """Return what was last told of the delivery to a channel itself."""
        with client.guard(self._client):
            said: Any = self._client.get(keys.last(models.delivery_alert(channel)))
        return models.of_delivery(said.partition(b" ")[2]) if said else None

    def tell(
        self, channel: str, notification: models.Notification, before: str | None, to: Sequence[str], at: float
    ) -> bool:
        """Write what is told of the delivery to a channel, where nothing else was told meanwhile."""
        alert_id = models.delivery_alert(channel)
        lanes = [keys.lane(alert_id, one) for one in dict.fromkeys(to)]
        recorded = models.told_of_delivery(channel, notification)
        alert = models.alert_of_delivery(notification)
        names = [keys.last(alert_id), keys.history(alert_id), keys.HISTORY_INDEX, keys.OUTBOX, keys.lanes(alert_id)]
        names += [keys.OPEN, keys.alerts(alert_id.rpartition("/")[0])]
        return bool(
            _TELL.run(
                self._client,
                [*names, *(keys.LANE + lane for lane in lanes)],
                [
                    before or "",
                    notification.id,
                    notification.model_dump_json(by_alias=True),
                    f"{at!r} {recorded.model_dump_json(by_alias=True)}",
                    alert_id,
                    repr(at),
                    keys.HISTORY,
                    keys.ENTRIES,
                    alerts.STATE.dump_json({alert.rule: alert}, by_alias=True, exclude_defaults=True)
                    if alert.open
                    else "",
                    alert.since or 0,
                    "" if isinstance(notification, models.SilencedNotification) else self._feed,
                    *lanes,
                ],
            )
        )

    def release(self, notification: models.Notification, at: float) -> bool:
        """Put the canary's parcel on its way, unless the last one still is."""
        names = [keys.OUTBOX, keys.lanes(models.CANARY), keys.LANE + _CANARY]
        return bool(_RELEASE.run(self._client, names, [_CANARY, notification.model_dump_json(by_alias=True), repr(at)]))

    def backlog(self) -> int:
        """Return how many notifications wait; the canary's parcel is none."""
        return int(_BACKLOG.run(self._client, [keys.OUTBOX], [keys.LANE, _CANARY]))

    def stuck(self, before: float, limit: int = 100) -> list[ports.StuckQueue]:
        """Return lanes that were tried in vain for long, the oldest first; looks at a thousand lanes at most."""
        with client.guard(self._client):
            lanes = client.texts(self._client.zrange(keys.OUTBOX, 0, LOOKED_AT - 1))
            with self._client.pipeline(transaction=False) as pipe:
                for lane in lanes:
                    pipe.lindex(keys.LANE + lane, 0)
                    pipe.zrange(keys.attempts(keys.of_lane(lane)[0]), 0, -1)
                replies = pipe.execute()
        found = []
        for lane, head, entries in zip(lanes, replies[::2], replies[1::2], strict=True):
            alert_id, channel = keys.of_lane(lane)
            if head is None:
                continue
            told = models.Notification.model_validate_json(head).id
            tried = [models.Attempt.model_validate_json(entry.partition(b" ")[2]) for entry in entries]
            tried = [one for one in tried if one.channel == channel and one.notification_id == told]
            if tried and tried[-1].error is not None and tried[0].at <= before:
                found.append(ports.StuckQueue(alert_id, channel, len(tried), tried[0].at, tried[-1].error))
        return sorted(found, key=lambda one: one.since)[:limit]

    def _settle(
        self,
        parcel: models.ClaimedNotification,
        how: str,
        at: float,
        error: str | None,
        retry_at: float,
        remind_at: float | None = None,
    ) -> Any:
        lane = keys.lane(parcel.alert_id, parcel.channel)
        attempt = models.Attempt(notification_id=parcel.notification.id, channel=parcel.channel, at=at, error=error)
        return _SETTLE.run(
            self._client,
            [
                keys.OUTBOX,
                keys.lanes(parcel.alert_id),
                keys.LANE + lane,
                keys.STATE + lane,
                keys.LEASE + lane,
                keys.attempts(parcel.alert_id),
                keys.last(parcel.alert_id),
                keys.FENCE,
                keys.REMINDERS,
            ],
            [
                lane,
                parcel.fence,
                parcel.notification.id,
                how,
                f"{parcel.fence} {attempt.model_dump_json()}",
                repr(retry_at),
                repr(at),
                keys.HISTORY,
                keys.ENTRIES,
                "" if remind_at is None else repr(remind_at),
            ],
        )
