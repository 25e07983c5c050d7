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
    """A notifier whose channel ``ops`` answers what ``why`` says, and accepts if that is ``None``."""

    def __init__(self, why: errors.WorkermonError | None) -> None:
        self.why = why
        self.got: list[tuple[str, models.Notification]] = []

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        if channel.name == "ops" and self.why is not None:
            raise self.why
        self.got.extend((channel.name, notification) for notification in notifications)

    def chat(self) -> list[tuple[str, str]]:
        """Return what ``chat`` got about ``ops``, as status and reason."""
        return [(each.status, each.reason or "") for name, each in self.got if name == "chat"]


def site(**changes: object) -> Site:
    """Return a site whose rule notifies ``ops`` and ``chat``; ``ops`` is changed so."""
    made = Site("ops", "chat")
    had = made.configurations.load()
    channels = {**had.channels, "ops": had.channels["ops"].model_copy(update=changes)}
    assert made.configurations.save(had.model_copy(update={"revision": 1, "rules": (RULE,), "channels": channels}))
    return made


def live(made: Site, desk: Desk, seconds: float, step: float = 10) -> None:
    """Let time pass: each step a sweep delivers what is due and what is to be looked at."""
    for _ in range(int(seconds / step)):
        made.clock.advance(step)
        made.deliver_due(desk)
        if overdue := made.get(notify.ChannelWatch).overdue():
            made.deliver_to(desk, *overdue)
        made.deliver_due(desk)


@pytest.mark.parametrize("why", [refusal(), refusal(after=3600), UNSET], ids=["500", "asks for an hour", "secret"])
def test_other_channels_are_notified_within_five_minutes(why: errors.WorkermonError) -> None:
    """Whatever it answers, however long it asks to be left alone, and if this node lacks its secret."""
    made, desk = site(), Desk(why)
    made.tell()
    made.deliver_due(desk)
    live(made, desk, 290)
    assert desk.chat() == []
    live(made, desk, 20)
    [(status, reason)] = desk.chat()
    assert (status, why.reason in reason) == ("firing", True)
    [alert] = made.alerts.open()
    assert alert.last is not None
    assert alert.last.summary == f"channel ops: it has accepted nothing since {models.rfc3339(NOW)}"
    live(made, desk, 3600)
    assert len(desk.chat()) == 1, "once"
    desk.why = None
    live(made, desk, 3600)
    assert [status for status, _ in desk.chat()] == ["firing", "resolved"]
    assert made.alerts.open() == []


def test_alert_after_is_the_channels_own() -> None:
    """Another time for a channel holds for that channel."""
    made, desk = site(alert_after=30), Desk(refusal())
    made.tell()
    made.deliver_due(desk)
    live(made, desk, 40)
    assert [status for status, _ in desk.chat()] == ["firing"]


def test_a_channel_that_accepts_something_is_alive() -> None:
    """One notification that it refuses does not make it dead while it accepts others."""
    made, desk = site(), Desk(refusal())
    made.tell()
    made.deliver_due(desk)
    for _ in range(10):
        made.tell("disk-high")
        desk.why = None
        made.deliver_to(desk, f"{ALERT.partition('/')[0]}/disk-high")
        desk.why = refusal()
        live(made, desk, 60)
    assert desk.chat() == []


def test_one_reminder_that_fails_is_not_enough() -> None:
    """It is not tried again, so only the next one can say that the channel accepts nothing."""
    made, desk = site(repeat=3600), Desk(None)
    made.tell()
    made.deliver_due(desk)
    desk.why = refusal()
    live(made, desk, 2 * 3600 - 60, step=60)
    assert desk.chat() == []
    live(made, desk, 120, step=60)
    assert [status for status, _ in desk.chat()] == ["firing"]


def test_a_channel_that_is_removed_is_forgotten() -> None:
    """One that comes back under that name begins anew."""
    made, desk = site(), Desk(refusal())
    made.tell()
    made.deliver_due(desk)
    live(made, desk, 120)
    had = made.configurations.load()
    without = {"chat": had.channels["chat"]}
    assert made.configurations.save(had.model_copy(update={"revision": 2, "channels": without}))
    live(made, desk, 400)
    assert (made.failures.load(), made.outbox.backlog()) == ({}, 0)
    assert made.configurations.save(had.model_copy(update={"revision": 3}))
    made.tell()
    made.deliver_due(desk)
    live(made, desk, 200)
    assert desk.chat() == []


class Overtaken(testing.MemoryAlerts):
    """The alerts of a site, whose channel ``ops`` accepts something just before each commit."""

    def __init__(self, made: Site) -> None:
        super().__init__(made.store)
        self.recovery = made.get(channel_health.ChannelRecovery)

    def commit(self, verdict: ports.Verdict) -> bool:
        self.recovery.resolve("ops")
        return super().commit(verdict)


def test_what_it_accepts_while_the_alert_fires_ends_it() -> None:
    """A channel that accepts something between the look at it and the alert leaves no alert behind."""
    made, desk = site(), Desk(refusal())
    made.tell()
    made.deliver_due(desk)
    made.clock.advance(301)
    made.alerts = Overtaken(made)
    made.get(channel_health.ChannelReview).review("ops")
    assert made.alerts.open() == []
