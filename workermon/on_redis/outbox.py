"""Notifications in delivery. Each alert has a queue for each channel, sent in order, under a lease with a fence.

A fence is a number that no other claim has. The outcome of a claim counts only if the queue still has that fence. If
nobody has claimed the queue since, the outcome counts even after the lease. A notification that is sent again because
its fence was stale gets a negative number, which no queue has.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable_records

#: Queues checked for ones that are stuck.
CHECKED_QUEUES = 1000

#: Milliseconds. No claim has a longer lease. If a lease has more time left, the clock was set back.
MAX_LEASE = 60_000

#: The name of the canary's queue.
_CANARY = keys.queue(models.CANARY, models.CANARY_CHANNEL)


class FindDue(lua.Script[list[bytes]]):
    """Return ids of alerts that have a notification to be sent now, and queue the reminders that are due."""

    outbox: lua.Key
    reminders: lua.Key
    now: lua.Argument
    limit: lua.Argument
    lease_prefix: lua.Argument
    queue_prefix: lua.Argument
    last_prefix: lua.Argument
    queues_prefix: lua.Argument
    state_prefix: lua.Argument
    latest: lua.Argument
    longest_lease: lua.Argument


class ClaimNotifications(lua.Script[list[list[bytes]]], shared="fences"):
    """Claim the head of each due queue of an alert; return queue, notification, fence and attempt of each."""

    outbox: lua.Key
    queues: lua.Key
    last_fence: lua.Key
    now: lua.Argument
    milliseconds: lua.Argument
    token: lua.Argument
    queue_prefix: lua.Argument
    state_prefix: lua.Argument
    lease_prefix: lua.Argument
    latest: lua.Argument


class SettleAttempt(lua.Script[list[Any]], shared="fences"):
    """Record the result of a claimed notification. Return whether its fence is current, and if not, what to send."""

    outbox: lua.Key
    queues: lua.Key
    queue: lua.Key
    state: lua.Key
    lease: lua.Key
    attempts: lua.Key
    last: lua.Key
    last_fence: lua.Key
    reminders: lua.Key
    name: lua.Argument
    fence: lua.Argument
    notification_id: lua.Argument
    outcome: lua.Argument
    attempt: lua.Argument
    retry_at: lua.Argument
    lifetime: lua.Argument
    max_attempts: lua.Argument
    remind_at: lua.Argument
    wait: lua.Argument


class PostponeAttempt(lua.Script[int], shared="numbers"):
    """Undo a claim. Return 1, or 0 if another sender has claimed the queue since."""

    outbox: lua.Key
    state: lua.Key
    lease: lua.Key
    name: lua.Argument
    fence: lua.Argument
    retry_at: lua.Argument
    wait: lua.Argument


class ReleaseCanary(lua.Script[int]):
    """Queue the canary's notification. Return 1, or 0 if the last one is not delivered yet."""

    outbox: lua.Key
    queues: lua.Key
    queue: lua.Key
    name: lua.Argument
    notification: lua.Argument
    at: lua.Argument


class CountBacklog(lua.Script[int]):
    """Return how many notifications wait, without the canary's."""

    outbox: lua.Key
    queue_prefix: lua.Argument
    canary: lua.Argument


class RedisOutbox:
    """``ports.Outbox`` on Redis; ``host`` is this machine's name, recorded with each attempt.

    ``lifetime`` returns for how many seconds attempts are kept from now on.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        host: str | None = None,
        lifetime: Callable[[], int] = lambda: models.ALERT_HISTORY,
    ) -> None:
        self._client, self._host, self._lifetime = redis_client, host, lifetime

    def due(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return the ids of alerts with a queue that is due and not leased, the longest due first."""
        finding = FindDue(
            outbox=keys.OUTBOX,
            reminders=keys.REMINDERS,
            now=repr(now - age),
            limit=limit,
            lease_prefix=keys.LEASE,
            queue_prefix=keys.QUEUE,
            last_prefix=keys.LAST,
            queues_prefix=keys.queues(""),
            state_prefix=keys.STATE,
            latest=repr(now + models.MAX_LEAD),
            longest_lease=MAX_LEASE,
        )
        return client.texts(client.run(self._client, finding))

    def due_escalations(self, now: float, limit: int) -> list[str]:
        """Return the ids of alerts whose next escalation is due, the longest due first."""
        latest = now + models.MAX_ESCALATION + models.MAX_LEAD
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(keys.ESCALATIONS, "-inf", now, 0, limit)
            pipe.zrangebyscore(keys.ESCALATIONS, f"({latest!r}", "+inf", 0, limit)
            due, ahead = pipe.execute()
        return client.texts([*due, *ahead][:limit])

    def claim(self, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
        """Claim the head of each due queue of an alert for ``lease`` seconds of Redis' own time."""
        claiming = ClaimNotifications(
            outbox=keys.OUTBOX,
            queues=keys.queues(alert_id),
            last_fence=keys.FENCE,
            now=repr(now),
            milliseconds=max(1, int(lease * 1000)),
            # redis-py repeats a claim whose answer was lost, so the script must recognize its leases.
            token=secrets.token_hex(8),
            queue_prefix=keys.QUEUE,
            state_prefix=keys.STATE,
            lease_prefix=keys.LEASE,
            latest=repr(now + models.MAX_LEAD),
        )
        claims = []
        for name, head, fence, attempts in client.run(self._client, claiming):
            queue = unreadable_records.text(name)
            notification = unreadable_records.parsed(self._client, keys.QUEUE + queue, models.Notification, head)
            if notification is None:
                self._set_aside(queue)
                continue
            claims.append(
                models.ClaimedNotification(
                    alert_id=alert_id,
                    channel=keys.of_queue(queue)[1],
                    notification=notification,
                    fence=int(fence),
                    attempt=int(attempts),
                )
            )
        return claims

    def _set_aside(self, queue: str) -> None:
        """Move the head of a queue aside, so that the next notification is sent."""
        place = keys.SET_ASIDE + keys.QUEUE + queue
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.lmove(keys.QUEUE + queue, place, "LEFT", "RIGHT")
            pipe.expire(place, keys.HISTORY)
            pipe.delete(keys.STATE + queue, keys.LEASE + queue)
            pipe.zadd(keys.OUTBOX, {queue: 0})
            pipe.exists(keys.QUEUE + queue)
            *_, remaining = pipe.execute()
            if not remaining:
                pipe.zrem(keys.OUTBOX, queue)
                pipe.srem(keys.queues(keys.of_queue(queue)[0]), queue)
                pipe.execute()

    def delivered(
        self, claimed: models.ClaimedNotification, at: float, remind_at: float | None = None
    ) -> models.ClaimedNotification | None:
        """Record acceptance. If the fence was stale and newer state was reported since, return the present state."""
        reply = self._settle(claimed, "delivered", at, None, at, remind_at)
        if len(reply) == 1:
            return None
        _, raw, fence = reply
        notification = unreadable_records.parsed(self._client, keys.last(claimed.alert_id), models.Notification, raw)
        if notification is None:
            return None
        return claimed.model_copy(
            update={
                "notification": notification,
                "fence": int(fence),
                "attempt": claimed.attempt + 1,
            }
        )

    def failed(self, claimed: models.ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt and wait. If the fence was stale, the present state is sent again if necessary."""
        return bool(self._settle(claimed, "failed", at, error, retry_at)[0])

    def give_up(
        self, claimed: models.ClaimedNotification, at: float, error: str, remind_at: float | None = None
    ) -> bool:
        """Record the last attempt and remove the notification."""
        return bool(self._settle(claimed, "given up", at, error, at, remind_at)[0])

    def skip(self, claimed: models.ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Remove the notification without recording an attempt."""
        return bool(self._settle(claimed, "skipped", at, None, at, remind_at)[0])

    def postpone(self, claimed: models.ClaimedNotification, at: float, retry_at: float) -> bool:
        """Undo a claim."""
        name = keys.queue(claimed.alert_id, claimed.channel)
        postponing = PostponeAttempt(
            outbox=keys.OUTBOX,
            state=keys.STATE + name,
            lease=keys.LEASE + name,
            name=name,
            fence=claimed.fence,
            retry_at=repr(retry_at),
            wait=repr(retry_at - at),
        )
        return bool(client.run(self._client, postponing))

    def release(self, notification: models.Notification, at: float) -> bool:
        """Queue the canary's notification, unless the last one is not delivered yet."""
        releasing = ReleaseCanary(
            outbox=keys.OUTBOX,
            queues=keys.queues(models.CANARY),
            queue=keys.QUEUE + _CANARY,
            name=_CANARY,
            notification=notification.model_dump_json(by_alias=True),
            at=repr(at),
        )
        return bool(client.run(self._client, releasing))

    def post(self, channel: str, notifications: Sequence[models.Notification], at: float) -> None:
        """Queue test messages for a channel. Queueing them again changes nothing until they are claimed."""
        alert_id = notifications[0].dedup_key
        name = keys.queue(alert_id, channel)
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.QUEUE + name)
            pipe.rpush(
                keys.QUEUE + name, *(notification.model_dump_json(by_alias=True) for notification in notifications)
            )
            pipe.zadd(keys.OUTBOX, {name: at})
            pipe.sadd(keys.queues(alert_id), name)
            pipe.execute()

    def attempts(self, alert_id: str) -> list[models.Attempt]:
        """Return the attempts to deliver notifications of an alert, oldest first."""
        with client.guard(self._client):
            entries: Any = self._client.zrange(keys.attempts(alert_id), 0, -1)
        return self._read_attempts(alert_id, entries)

    def backlog(self) -> int:
        """Return how many notifications wait, without the canary's."""
        return client.run(self._client, CountBacklog(outbox=keys.OUTBOX, queue_prefix=keys.QUEUE, canary=_CANARY))

    def make_due(self, channel: str, at: float) -> None:
        """Make every queue of a channel due at a time, unless it is due earlier."""
        with client.guard(self._client):
            queues = client.texts(self._client.zrange(keys.OUTBOX, 0, -1))
            waiting = {queue: at for queue in queues if queue != _CANARY and keys.of_queue(queue)[1] == channel}
            if waiting:
                # Only existing members: a queue that was emptied meanwhile is not added again.
                self._client.zadd(keys.OUTBOX, waiting, xx=True, lt=True)

    def pending(self) -> dict[str, int]:
        """Return by channel how many notifications wait, without the canary's."""
        waiting: collections.Counter[str] = collections.Counter()
        with client.guard(self._client):
            queues = [queue for queue in client.texts(self._client.zrange(keys.OUTBOX, 0, -1)) if queue != _CANARY]
            for start in range(0, len(queues), CHECKED_QUEUES):
                chunk = queues[start : start + CHECKED_QUEUES]
                with self._client.pipeline(transaction=False) as pipe:
                    for queue in chunk:
                        pipe.llen(keys.QUEUE + queue)
                    for queue, length in zip(chunk, pipe.execute(), strict=True):
                        waiting[keys.of_queue(queue)[1]] += length
        return {channel: number for channel, number in waiting.items() if number}

    def stuck(self, before: float, limit: int = 100) -> list[ports.StuckQueue]:
        """Return the queues whose attempts have failed for long, the oldest first. Checks up to 1,000 queues."""
        with client.guard(self._client):
            queues = client.texts(self._client.zrange(keys.OUTBOX, 0, CHECKED_QUEUES - 1))
            with self._client.pipeline(transaction=False) as pipe:
                for queue in queues:
                    pipe.lindex(keys.QUEUE + queue, 0)
                    pipe.zrange(keys.attempts(keys.of_queue(queue)[0]), 0, -1)
                replies = pipe.execute()
        stuck_queues = []
        for queue, head, entries in zip(queues, replies[::2], replies[1::2], strict=True):
            alert_id, channel = keys.of_queue(queue)
            if head is None:
                continue
            first = unreadable_records.parsed(self._client, keys.QUEUE + queue, models.Notification, head)
            tried = [
                attempt
                for attempt in self._read_attempts(alert_id, entries)
                if first is not None and attempt.channel == channel and attempt.notification_id == first.id
            ]
            if tried and tried[-1].error is not None and tried[0].at <= before:
                stuck_queues.append(ports.StuckQueue(alert_id, channel, len(tried), tried[0].at, tried[-1].error))
        return sorted(stuck_queues, key=lambda stuck_queue: stuck_queue.since)[:limit]

    def _read_attempts(self, alert_id: str, entries: Sequence[bytes]) -> list[models.Attempt]:
        name = keys.attempts(alert_id)
        read = [
            unreadable_records.parsed(self._client, name, models.Attempt, raw.partition(b" ")[2]) for raw in entries
        ]
        return [attempt for attempt in read if attempt is not None]

    def _settle(
        self,
        claimed: models.ClaimedNotification,
        outcome: str,
        at: float,
        error: str | None,
        retry_at: float,
        remind_at: float | None = None,
    ) -> Any:
        name = keys.queue(claimed.alert_id, claimed.channel)
        attempt = models.Attempt(
            notification_id=claimed.notification.id, channel=claimed.channel, at=at, error=error, host=self._host
        )
        settling = SettleAttempt(
            outbox=keys.OUTBOX,
            queues=keys.queues(claimed.alert_id),
            queue=keys.QUEUE + name,
            state=keys.STATE + name,
            lease=keys.LEASE + name,
            attempts=keys.attempts(claimed.alert_id),
            last=keys.last(claimed.alert_id),
            last_fence=keys.FENCE,
            reminders=keys.REMINDERS,
            name=name,
            fence=claimed.fence,
            notification_id=claimed.notification.id,
            outcome=outcome,
            attempt=f"{claimed.fence} {attempt.model_dump_json()}",
            retry_at=repr(retry_at),
            lifetime=self._lifetime(),
            max_attempts=keys.ATTEMPTS,
            remind_at="" if remind_at is None else repr(remind_at),
            wait=repr(retry_at - at),
        )
        return client.run(self._client, settling)
