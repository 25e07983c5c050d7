"""An outbox with a worker, and a notifier with a plan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from workermon import errors, models, ports, testing
from workermon.models import Channel
from workermon.notify import channel_health

NOW = 1_700_000_000.0
WORKER = models.Worker(
    id="i-0abc0123456789def", name="render-07", region="us-east-1", added_at=NOW, incarnation="first"
)
ALERT = f"{WORKER.id}/cpu-high"


class Receiver:
    """A notifier that follows its plan, then accepts everything. ``accepted`` has the notifications by channel."""

    def __init__(self, *plan: Exception | Callable[[], None]) -> None:
        self.plan = list(plan)
        self.accepted: list[tuple[str, str, int]] = []
        self.calls = 0
        self._lock = threading.Lock()

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        (notification,) = notifications
        with self._lock:
            self.calls += 1
            step = self.plan.pop(0) if self.plan else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            step()
        with self._lock:
            self.accepted.append((channel.name, notification.dedup_key, notification.version))


def refusal(after: float | None = None) -> errors.DeliveryFailed:
    """Return a refusal that asks for this wait."""
    return errors.DeliveryFailed("channel ops", "it answered 503", "workermon tries again", after)


class Site(testing.Monitor):
    """A monitor with a worker, and a configuration with these webhook channels, otherwise with ``ops``."""

    def __init__(self, *channels: str) -> None:
        super().__init__(
            models.Configuration(
                rules=(),
                channels={name: Channel(name=name, type="webhook") for name in channels or ("ops",)},
                metrics={},
                collect=(),
            ),
            NOW,
        )
        self.workers.add([WORKER])
        self.version = 0

    def enqueue(self, *rules: str, channels: tuple[str, ...] = ("ops",), worker: models.Worker = WORKER) -> None:
        """Put the next notification of each rule about a worker into the outbox."""
        for rule in rules or ("cpu-high",):
            self.version += 1
            firing = self.version % 2
            notification = models.Notification(
                id=f"id-{self.version}",
                version=self.version,
                dedup_key=f"{worker.id}/{rule}",
                kind="threshold",
                status="firing" if firing else "resolved",
                severity="critical",
                rule=rule,
                metric="cpu_utilization",
                value=97.5,
                threshold=90.0,
                since=models.rfc3339(NOW),
                at=models.rfc3339(NOW),
                created_at=models.rfc3339(self.clock()),
                worker=models.NotifiedWorker(id=worker.id, name=worker.name, region=worker.region),
                summary="render-07: cpu_utilization 97.5 % > 90 %",
            )
            self.record(notification, *channels)

    def deliver_to(self, receiver: ports.Notifier, *alert_ids: str) -> None:
        """Deliver these alerts, whatever the type of their channels, to this notifier."""
        self.notifiers = {"webhook": receiver, "log": receiver}
        self.deliver(*(alert_ids or (ALERT,)))

    def deliver_due(self, receiver: ports.Notifier) -> None:
        """Deliver whatever is due."""
        self.deliver_to(receiver, *self.outbox.due(self.clock(), 1000))

    def channel_alerts(self) -> list[models.Alert]:
        """Return the alerts about channels that fire."""
        return [alert for alert in self.alerts.open() if alert.last and alert.last.dedup_key.startswith("channel:")]

    def attempts(self, alert_id: str = ALERT) -> list[str | None]:
        """Return how each attempt went, oldest first."""
        return [attempt.error for attempt in self.outbox.attempts(alert_id)]


def give_up(
    monitor: testing.Monitor, channel: str, reason: str = "it refuses the notification (404 Not Found)"
) -> None:
    """Have a channel's alert fire, as a delivery does that gave a notification up."""
    at = models.rfc3339(monitor.clock())
    lost = models.Notification(
        id="lost", version=1, dedup_key="i-0abc1234/cpu-high", kind="threshold", status="firing", severity="critical",
        rule="cpu-high", metric="cpu_utilization", value=97.5, threshold=90.0, since=at, at=at, worker=None,
        summary="render-07: it is hot",
    )  # fmt: skip
    claimed = models.ClaimedNotification(
        alert_id=lost.dedup_key, channel=channel, notification=lost, fence=1, attempt=5
    )
    given_up = monitor.get(channel_health.ChannelGivenUp)
    given_up.fire(claimed, errors.DeliveryFailed(f"channel {channel}", reason, "see the receiver's log"))
