"""The ports that deliver notifications, in memory."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping, Sequence

from workermon import errors, models, ports
from workermon.notify import channel_type, channels
from workermon.testing import memory


class MemoryOutbox:
    """``ports.Outbox`` in memory."""

    def __init__(self, store: memory.MemoryStore, host: str | None = None) -> None:
        self._store, self._host = store, host

    def due(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return the ids of alerts with a queue that is due and not leased."""
        with self._store.lock:
            for key in [key for key, at in self._store.reminders.items() if at <= now]:
                del self._store.reminders[key]
                last = self._store.last.get(key[0])
                if last is not None and last.status == "firing" and key not in self._store.queues:
                    reminder = last.model_copy(update={"reminder": True})
                    self._store.queues[key] = memory.NotificationQueue(retry_at=now, waiting=[reminder])
            queues = self._store.queues.items()
            due = sorted((queue.retry_at, *key) for key, queue in queues if self._free(queue, now, age))
            return list(dict.fromkeys(alert_id for _, alert_id, _ in due))[:limit]

    def due_escalations(self, now: float, limit: int) -> list[str]:
        """Return the ids of alerts whose next escalation is due."""
        latest = now + models.MAX_ESCALATION + models.MAX_LEAD
        with self._store.lock:
            due = sorted((at, alert_id) for alert_id, at in self._store.escalations.items() if at <= now or at > latest)
            return [alert_id for _, alert_id in due[:limit]]

    def claim(self, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
        """Claim the head of each due queue."""
        with self._store.lock:
            claims = []
            for (owner, channel), queue in sorted(self._store.queues.items(), key=lambda item: item[0]):
                if owner != alert_id or not self._free(queue, now):
                    continue
                queue.fence, queue.leased_until = next(self._store.fences), self._store.clock() + lease
                queue.attempts += 1
                claims.append(
                    models.ClaimedNotification(
                        alert_id=alert_id,
                        channel=channel,
                        notification=queue.waiting[0],
                        fence=queue.fence,
                        attempt=queue.attempts,
                    )
                )
            return claims

    def delivered(
        self, claimed: models.ClaimedNotification, at: float, remind_at: float | None = None
    ) -> models.ClaimedNotification | None:
        """Record acceptance. If the fence was stale, return the present state."""
        with self._store.lock:
            queue = self._queue_of(claimed)
            self._attempted(claimed, at, None)
            if queue is not None:
                self._take_off(claimed, queue, remind_at)
                return None
            last = self._store.last.get(claimed.alert_id)
            if last is None or last.id == claimed.notification.id or self._will_follow(claimed):
                return None
            return claimed.model_copy(
                update={"notification": last, "fence": -next(self._store.fences), "attempt": claimed.attempt + 1}
            )

    def failed(self, claimed: models.ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt and wait."""
        with self._store.lock:
            queue = self._queue_of(claimed)
            self._attempted(claimed, at, error)
            if queue is not None:
                queue.fence, queue.leased_until, queue.retry_at, queue.wait = None, 0.0, retry_at, retry_at - at
                return True
            last = self._store.last.get(claimed.alert_id)
            newer = last is not None and (last.id != claimed.notification.id or claimed.fence < 0)
            if last is not None and newer and not self._will_follow(claimed):
                key = (claimed.alert_id, claimed.channel)
                fresh = memory.NotificationQueue(retry_at=retry_at, wait=retry_at - at)
                self._store.queues.setdefault(key, fresh).waiting.append(last)
            return False

    def give_up(
        self, claimed: models.ClaimedNotification, at: float, error: str, remind_at: float | None = None
    ) -> bool:
        """Record the last attempt and remove the notification."""
        with self._store.lock:
            queue = self._queue_of(claimed)
            self._attempted(claimed, at, error)
            if queue is None:
                return False
            self._take_off(claimed, queue, remind_at)
            return True

    def skip(self, claimed: models.ClaimedNotification, at: float, remind_at: float | None) -> bool:  # noqa: ARG002 - the port's
        """Remove the notification without recording an attempt."""
        with self._store.lock:
            queue = self._queue_of(claimed)
            if queue is None:
                return False
            self._take_off(claimed, queue, remind_at)
            return True

    def postpone(self, claimed: models.ClaimedNotification, at: float, retry_at: float) -> bool:
        """Undo a claim."""
        with self._store.lock:
            queue = self._queue_of(claimed)
            if queue is None:
                return False
            queue.fence, queue.leased_until, queue.retry_at, queue.wait = None, 0.0, retry_at, retry_at - at
            queue.attempts -= 1
            return True

    def make_due(self, channel: str, at: float) -> None:
        """Make every queue of a channel due at a time, unless it is due earlier."""
        with self._store.lock:
            for (_, name), queue in self._store.queues.items():
                if name == channel:
                    queue.retry_at = min(queue.retry_at, at)

    def release(self, notification: models.Notification, at: float) -> bool:
        """Queue the canary's notification, unless the last one is not delivered yet."""
        key = (models.CANARY, models.CANARY_CHANNEL)
        with self._store.lock:
            if key in self._store.queues:
                return False
            self._store.queues[key] = memory.NotificationQueue(retry_at=at, waiting=[notification])
            return True

    def post(self, channel: str, notifications: Sequence[models.Notification], at: float) -> None:
        """Queue test messages for a channel."""
        queue = memory.NotificationQueue(retry_at=at, waiting=list(notifications))
        with self._store.lock:
            self._store.queues[notifications[0].dedup_key, channel] = queue

    def attempts(self, alert_id: str) -> list[models.Attempt]:
        """Return the attempts to deliver notifications of an alert, oldest first."""
        with self._store.lock:
            return list(self._store.attempts.get(alert_id, ()))

    def backlog(self) -> int:
        """Return how many notifications wait."""
        with self._store.lock:
            return sum(len(queue.waiting) for key, queue in self._store.queues.items() if key[0] != models.CANARY)

    def pending(self) -> dict[str, int]:
        """Return by channel how many notifications wait."""
        waiting: collections.Counter[str] = collections.Counter()
        with self._store.lock:
            for (alert_id, channel), queue in self._store.queues.items():
                if alert_id != models.CANARY and queue.waiting:
                    waiting[channel] += len(queue.waiting)
        return dict(waiting)

    def stuck(self, before: float, limit: int = 100) -> list[ports.StuckQueue]:
        """Return the queues whose attempts have failed for long, oldest first."""
        queues = []
        with self._store.lock:
            for (alert_id, channel), queue in self._store.queues.items():
                tried = [
                    attempt
                    for attempt in self._store.attempts.get(alert_id, ())
                    if attempt.channel == channel and attempt.notification_id == queue.waiting[0].id
                ]
                if tried and tried[-1].error is not None and tried[0].at <= before:
                    queues.append(ports.StuckQueue(alert_id, channel, len(tried), tried[0].at, tried[-1].error))
        return sorted(queues, key=lambda attempt: attempt.since)[:limit]

    def _free(self, queue: memory.NotificationQueue, now: float, age: float = 0.0) -> bool:
        may = queue.retry_at <= now - age or models.leads(queue.retry_at - queue.wait, now)
        return may and queue.leased_until <= self._store.clock()

    def _queue_of(self, claimed: models.ClaimedNotification) -> memory.NotificationQueue | None:
        queue = self._store.queues.get((claimed.alert_id, claimed.channel))
        return queue if queue and queue.fence == claimed.fence else None

    def _will_follow(self, claimed: models.ClaimedNotification) -> bool:
        """Return whether something waits that nobody is sending now, so that it will arrive last."""
        queue = self._store.queues.get((claimed.alert_id, claimed.channel))
        return queue is not None and len(queue.waiting) > (0 if queue.fence is None else 1)

    def _take_off(
        self, claimed: models.ClaimedNotification, queue: memory.NotificationQueue, remind_at: float | None
    ) -> None:
        self._store.reminders.pop((claimed.alert_id, claimed.channel), None)
        if remind_at is not None:
            self._store.reminders[claimed.alert_id, claimed.channel] = remind_at
        queue.waiting.pop(0)
        queue.fence, queue.leased_until, queue.attempts, queue.retry_at, queue.wait = None, 0.0, 0, 0.0, 0.0
        if not queue.waiting:
            del self._store.queues[claimed.alert_id, claimed.channel]

    def _attempted(self, claimed: models.ClaimedNotification, at: float, error: str | None) -> None:
        attempts = self._store.attempts.setdefault(claimed.alert_id, [])
        attempts.append(
            models.Attempt(
                notification_id=claimed.notification.id, channel=claimed.channel, at=at, error=error, host=self._host
            )
        )
        del attempts[: -memory.MAX_ATTEMPTS]


class MemoryChannelFailures:
    """``ports.ChannelFailures`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: dict[str, ports.FailingChannel] = {}

    def note(self, channel: str, at: float, error: str, *, retried: bool) -> None:
        """Record a failed attempt."""
        with self._lock:
            noted = self._failing.get(channel)
            since = at if noted is None else min(noted.since, at)
            self._failing[channel] = ports.FailingChannel(since=since, at=at, retried=retried, error=error)

    def clear(self, channel: str) -> None:
        """Clear the failures of a channel."""
        with self._lock:
            self._failing.pop(channel, None)

    def load(self) -> dict[str, ports.FailingChannel]:
        """Return the channels whose last attempt failed, by name."""
        with self._lock:
            return dict(self._failing)


class MemoryFiringLabels:
    """``ports.FiringLabels`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._label_sets: dict[tuple[str, str], list[dict[str, str]]] = {}

    def load(self, channel: str, alert_id: str) -> list[dict[str, str]]:
        """Return the sets of labels under which an alert fires at the receiver."""
        with self._lock:
            return list(self._label_sets.get((channel, alert_id), ()))

    def save(self, channel: str, alert_id: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        """Replace the sets."""
        with self._lock:
            self._label_sets[channel, alert_id] = [dict(labels) for labels in label_sets]


class MemoryThrottle:
    """``ports.Throttle`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Tokens and the time of their count, by channel; start and end of a channel's pause.
        self._buckets: dict[str, tuple[float, float]] = {}
        self._paused: dict[str, tuple[float, float]] = {}
        self._windows: dict[str, float] = {}

    def take(self, channel: str, limit: models.Limit, *, critical: bool, now: float) -> float:
        """Take a token, or return how long to wait."""
        with self._lock:
            began, until = self._paused.get(channel, (now, now))
            if until > now and not models.leads(began, now):
                return until - now
            tokens_before, at = self._buckets.get(channel, (limit.bucket, now))
            tokens = min(limit.bucket, tokens_before + max(0.0, now - at) * limit.rate)
            need = 1 if critical else 1 + limit.bucket // 2
            granted = tokens >= need
            self._buckets[channel] = tokens - granted, now
            return 0.0 if granted else max(0.001, (need - tokens) / limit.rate)

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group of a notification closes."""
        with self._lock:
            closes = self._windows.get(group, created)
            if created >= closes or models.leads(closes, now + wait):
                self._windows[group] = now + wait
            return self._windows[group]

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Send nothing to a channel for that long."""
        with self._lock:
            began, until = self._paused.get(channel, (now, now))
            if until < now + seconds or models.leads(began, now):
                self._paused[channel] = now, now + seconds


class MemorySecrets:
    """``ports.Secrets`` over a mapping from an environment variable's or file's name to its value."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __call__(self, ref: models.SecretRef) -> str:
        """Return the secret."""
        name = ref.env or ref.file or ""
        if name not in self._values:
            raise errors.InvalidInput(f"secret {name}", "it is not set", "set it")
        return self._values[name]


class MemoryPublisher:
    """``ports.Publisher`` that records messages as (topic, message), oldest first."""

    def __init__(self) -> None:
        self.published: list[tuple[str, models.TopicMessage]] = []

    def publish(self, topic_arn: str, message: models.TopicMessage) -> None:
        """Record the message."""
        self.published.append((topic_arn, message))


class MemoryNotifier:
    """``ports.Notifier`` that appends notifications to a list, oldest first."""

    def __init__(self, received: list[models.Notification] | None = None) -> None:
        self.received: list[models.Notification] = [] if received is None else received

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:  # noqa: ARG002
        """Append them."""
        self.received.extend(notifications)


def notifiers(now: ports.Clock, **secrets: str) -> dict[str, ports.Notifier]:
    """Return the notifiers of every type of channel, with these secrets by name. Nothing is sent to AWS."""
    needs = channel_type.Dependencies(
        secrets=MemorySecrets(secrets), publisher=MemoryPublisher(), firing_labels=MemoryFiringLabels(), now=now
    )
    return channel_type.notifiers(channels.CHANNEL_TYPES, needs)
