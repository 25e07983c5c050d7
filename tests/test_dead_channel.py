"""A channel that accepts nothing: other channels are notified within minutes, and the heartbeat stops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.delivering import ALERT, NOW, Site, refusal
from workermon import errors, models, notify, ports, testing
from workermon.notify import channel_health
from workermon.rules import threshold

RULE = threshold.KIND.rule(
    name="cpu-high", metric="cpu_utilization", above=models.Levels(critical=90), notify=("ops", "chat")
)
UNSET = errors.InvalidInput("secret OPS_SECRET", "it is not set", "set it where the worker processes run")


class Desk:
    """A notifier whose channel ``ops`` answers ``refusal``, or accepts if that is ``None``."""

    def __init__(self, refused_with: errors.WorkermonError | None) -> None:
        self.refusal = refused_with
        self.accepted: list[tuple[str, models.Notification]] = []

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        if channel.name == "ops" and self.refusal is not None:
            raise self.refusal
        self.accepted.extend((channel.name, notification) for notification in notifications)

    def chat(self) -> list[tuple[str, str]]:
        """Return the notifications of ``chat`` about ``ops``, as status and reason."""
        return [
            (notification.status, notification.reason or "") for name, notification in self.accepted if name == "chat"
        ]


def site(**changes: object) -> Site:
    """Return a site whose rule notifies ``ops`` and ``chat``, with these changes of ``ops``."""
    new_site = Site("ops", "chat")
    configuration = new_site.configurations.load()
    channels = {**configuration.channels, "ops": configuration.channels["ops"].model_copy(update=changes)}
    assert new_site.configurations.save(
        configuration.model_copy(update={"revision": 1, "rules": (RULE,), "channels": channels})
    )
    return new_site


def live(monitor: Site, desk: Desk, seconds: float, step: float = 10) -> None:
    """Advance the clock. At each step a sweep delivers and evaluates what is due."""
    for _ in range(int(seconds / step)):
        monitor.clock.advance(step)
        monitor.deliver_due(desk)
        if overdue := monitor.get(notify.ChannelWatch).overdue():
            monitor.deliver_to(desk, *overdue)
        monitor.deliver_due(desk)


@pytest.mark.parametrize(
    "refused_with", [refusal(), refusal(after=3600), UNSET], ids=["500", "asks for an hour", "secret"]
)
def test_other_channels_are_notified_within_five_minutes(refused_with: errors.WorkermonError) -> None:
    """This is so for any answer, any requested wait, and a missing secret."""
    monitor, desk = site(), Desk(refused_with)
    monitor.enqueue()
    monitor.deliver_due(desk)
    live(monitor, desk, 290)
    assert desk.chat() == []
    live(monitor, desk, 20)
    [(status, reason)] = desk.chat()
    assert (status, refused_with.reason in reason) == ("firing", True)
    [alert] = monitor.channel_alerts()
    assert alert.last is not None
    assert alert.last.summary == f"channel ops: it has accepted nothing since {models.rfc3339(NOW)}"
    live(monitor, desk, 3600)
    assert len(desk.chat()) == 1, "once"
    desk.refusal = None
    live(monitor, desk, 3600)
    assert [status for status, _ in desk.chat()] == ["firing", "resolved"]
    assert monitor.channel_alerts() == []


def test_alert_after_is_the_channels_own() -> None:
    """A channel's own time applies to that channel only."""
    monitor, desk = site(alert_after=30), Desk(refusal())
    monitor.enqueue()
    monitor.deliver_due(desk)
    live(monitor, desk, 40)
    assert [status for status, _ in desk.chat()] == ["firing"]


def test_a_channel_that_accepts_something_is_alive() -> None:
    """One refused notification does not make a channel dead while it accepts others."""
    monitor, desk = site(), Desk(refusal())
    monitor.enqueue()
    monitor.deliver_due(desk)
    for _ in range(10):
        monitor.enqueue("disk-high")
        desk.refusal = None
        monitor.deliver_to(desk, f"{ALERT.partition('/')[0]}/disk-high")
        desk.refusal = refusal()
        live(monitor, desk, 60)
    assert desk.chat() == []


def test_one_reminder_that_fails_is_not_enough() -> None:
    """A reminder is not retried, so only the next failure shows that the channel accepts nothing."""
    monitor, desk = site(repeat=3600), Desk(None)
    monitor.enqueue()
    monitor.deliver_due(desk)
    desk.refusal = refusal()
    live(monitor, desk, 2 * 3600 - 60, step=60)
    assert desk.chat() == []
    live(monitor, desk, 120, step=60)
    assert [status for status, _ in desk.chat()] == ["firing"]


def test_a_channel_that_is_removed_is_forgotten() -> None:
    """A channel that is added again under the same name starts afresh."""
    monitor, desk = site(), Desk(refusal())
    monitor.enqueue()
    monitor.deliver_due(desk)
    live(monitor, desk, 120)
    configuration = monitor.configurations.load()
    without = {"chat": configuration.channels["chat"]}
    assert monitor.configurations.save(configuration.model_copy(update={"revision": 2, "channels": without}))
    live(monitor, desk, 400)
    assert (monitor.failures.load(), monitor.outbox.backlog()) == ({}, 0)
    assert monitor.configurations.save(configuration.model_copy(update={"revision": 3}))
    monitor.enqueue()
    monitor.deliver_due(desk)
    live(monitor, desk, 200)
    assert desk.chat() == []


class Overtaken(testing.MemoryAlerts):
    """The alerts of a site whose channel ``ops`` accepts something just before each commit."""

    def __init__(self, monitor: Site) -> None:
        super().__init__(monitor.store)
        self.recovery = monitor.get(channel_health.ChannelRecovery)

    def commit(self, verdict: ports.Verdict) -> bool:
        self.recovery.resolve("ops")
        return super().commit(verdict)


def test_what_it_accepts_while_the_alert_fires_ends_it() -> None:
    """If the channel accepts something just before the alert fires, no alert stays open."""
    monitor, desk = site(), Desk(refusal())
    monitor.enqueue()
    monitor.deliver_due(desk)
    monitor.clock.advance(301)
    monitor.alerts = Overtaken(monitor)
    monitor.get(channel_health.ChannelReview).review("ops")
    assert monitor.channel_alerts() == []
