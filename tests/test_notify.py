"""Delivery: in order for each alert, until accepted, and the last notification is the true state."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.support.delivering import ALERT, NOW, WORKER, Receiver, Site, refusal
from tests.support.examples import examples
from workermon import errors, models
from workermon.models import Channel
from workermon.notify import delivery, policy, sender
from workermon.rules import threshold


def test_all_of_a_queue_in_order() -> None:
    """One delivery sends all notifications of a queue, in order, each once."""
    site, receiver = Site(), Receiver()
    for _ in range(5):
        site.enqueue()
    site.deliver_to(receiver)
    assert [version for _, _, version in receiver.accepted] == [1, 2, 3, 4, 5]
    assert site.outbox.backlog() == 0
    site.deliver_to(receiver)
    assert receiver.calls == 5


def test_failure_keeps_the_order() -> None:
    """While the first of a queue is not accepted nothing overtakes it."""
    site, receiver = Site(), Receiver(refusal(), refusal())
    site.enqueue()
    site.enqueue()
    for _ in range(3):
        site.deliver_to(receiver)
        site.clock.advance(400)
    assert [version for _, _, version in receiver.accepted] == [1, 2]
    assert receiver.calls == 4
    assert site.attempts() == [str(refusal()), str(refusal()), None, None]


def test_a_failure_waits() -> None:
    """A failed notification is not tried again before its time."""
    site, receiver = Site(), Receiver(refusal(60))
    site.enqueue()
    site.deliver_to(receiver)
    site.clock.advance(59.9)
    site.deliver_to(receiver)
    assert (receiver.calls, site.outbox.due(site.clock(), 10)) == (1, [])
    site.clock.advance(0.2)
    assert site.outbox.due(site.clock(), 10) == [ALERT]
    site.deliver_to(receiver)
    assert len(receiver.accepted) == 1


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 1e12)))
@examples(180)
def test_waits_are_bounded(attempt: int, requested: float | None) -> None:
    """A wait is at most doubled each time, five minutes by itself, an hour where the receiver asks for more."""
    site = Site()
    site.enqueue()
    site.store.queues[ALERT, "ops"].attempts = attempt - 1
    site.deliver_to(Receiver(refusal(requested)))
    by_itself, by_receiver = min(300, 2 ** min(attempt - 1, 20)), min(requested or 0, 3600)
    assert NOW + by_receiver <= site.store.queues[ALERT, "ops"].retry_at <= NOW + max(by_itself, by_receiver)


def test_given_up_after_a_day() -> None:
    """A notification is given up after a day, which is recorded and logged. Then the next one is sent."""
    site, receiver = Site(), Receiver(refusal(), refusal())
    site.enqueue()
    site.deliver_to(receiver)
    site.clock.advance(models.DAY - 10)
    site.enqueue()
    site.clock.advance(20)
    with structlog.testing.capture_logs() as logged:
        site.deliver_to(receiver)
    assert [version for _, _, version in receiver.accepted] == [2]
    assert (site.attempts()[1] or "").startswith("given up: channel ops: it answered 503")
    assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["deliver.given_up"]


def test_channels_do_not_wait_for_each_other() -> None:
    """A channel that hangs delays neither another channel nor another alert."""
    site = Site("ops", "chat")
    for _ in range(3):
        site.enqueue("cpu-high", "disk-high", channels=("ops", "chat"))
    all_sent = threading.Event()

    class Hanging(Receiver):
        def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
            if (channel.name, notifications[0].rule) == ("chat", "cpu-high"):
                assert all_sent.wait(60), "the others wait for this one"
            super().send(channel, notifications)
            if len(self.accepted) >= 9:
                all_sent.set()

    receiver = Hanging()
    site.deliver_to(receiver, ALERT, f"{WORKER.id}/disk-high")
    queues: dict[tuple[str, str], list[int]] = {}
    for channel, alert, version in receiver.accepted:
        queues.setdefault((channel, alert), []).append(version)
    assert len(queues) == 4
    assert all(versions == sorted(versions) and len(versions) == 3 for versions in queues.values())


def test_many_alerts() -> None:
    """Any number of alerts is delivered, each once, even if requested twice."""
    site, receiver = Site(), Receiver()
    rules = [f"rule-{number}" for number in range(100)]
    site.enqueue(*rules)
    site.deliver_to(receiver, *(f"{WORKER.id}/{rule}" for rule in rules * 2))
    assert len(receiver.accepted) == len(set(receiver.accepted)) == 100


def test_unknown_alert() -> None:
    """An alert that has nothing waiting is passed over."""
    receiver = Receiver()
    Site().deliver_to(receiver, "i-0abc0123456789def/nothing")
    assert receiver.calls == 0


def test_stale_fence_sends_the_present_again() -> None:
    """If the lease ended before the request did, the present state is sent again and arrives last."""
    site, late = Site(), Receiver()
    site.enqueue()
    other_receiver = Receiver()

    def slow() -> None:
        site.clock.advance(20)
        site.enqueue()
        site.deliver_to(other_receiver)

    late.plan = [slow]
    site.deliver_to(late)
    assert [version for _, _, version in other_receiver.accepted] == [1, 2]
    assert [version for _, _, version in late.accepted] == [1, 2]
    assert site.outbox.backlog() == 0


def test_stale_fence_is_bounded() -> None:
    """The present state is sent again a bounded number of times, however often it changes."""
    site, late = Site(), Receiver()
    site.enqueue()

    def slow() -> None:
        site.clock.advance(20)
        site.enqueue()
        site.deliver_to(Receiver())

    late.plan = [slow] * 50
    site.deliver_to(late)
    assert late.calls == 1 + sender.MAX_RESENDS


def test_channel_gone() -> None:
    """A channel that the configuration no longer has is recorded as the reason, tried for a while, and given up."""
    site, receiver = Site("chat"), Receiver()
    site.enqueue()
    for _ in range(2):
        assert site.outbox.backlog() == 1
        site.deliver_to(receiver)
        site.clock.advance(policy.REMOVED_CHANNEL_AFTER)
    assert (site.outbox.backlog(), receiver.calls) == (0, 0)
    recorded = site.attempts()
    assert recorded[0] == "channel ops: it is not in the configuration; apply a config file that has it"
    assert (recorded[-1] or "").startswith("given up: channel ops")


@pytest.mark.parametrize(
    ("attempt", "seconds", "final"),
    [(1, 0.0, False), (5, 59.0, False), (6, 10.0, True), (1, 60.0, True), (20, 600.0, True)],
)
def test_a_removed_channel_is_given_up_within_a_minute(attempt: int, seconds: float, final: bool) -> None:
    """After some attempts, or a minute after the notification was created, whichever is first."""
    site = Site("chat")
    site.enqueue()
    notification = site.store.queues[ALERT, "ops"].waiting[0]
    claimed = models.ClaimedNotification(
        alert_id=ALERT, channel="ops", notification=notification, fence=1, attempt=attempt
    )
    at = models.moment(notification.created_at or notification.at) + seconds
    failure = policy.Failure(claimed, at, errors.DeliveryFailed("ops", "gone", "apply"), channel_removed=True)
    assert failure.is_final is final


def test_what_waits_for_a_removed_channel_leaves_at_once() -> None:
    """A removed channel's notifications leave the outbox at once, even if the receiver asked for an hour's wait."""
    site = Site()
    site.enqueue()
    site.deliver_to(Receiver(refusal(3600)))
    site.clock.advance(120)
    configuration = site.configurations.load()
    site.configurations.save(configuration.model_copy(update={"revision": configuration.revision + 1, "channels": {}}))
    site.deliver_to(Receiver())
    assert site.outbox.backlog() == 1, "it waits, as long as nobody says that the channel was removed"
    site.deliver_to(Receiver(), models.delivery_alert("ops"))
    site.deliver_to(Receiver())
    assert site.outbox.backlog() == 0


def test_channel_comes_back() -> None:
    """A channel that is configured again gets its waiting notifications."""
    site, receiver = Site("chat"), Receiver()
    site.enqueue()
    site.deliver_to(receiver)
    configuration = site.configurations.load()
    ops = Channel(name="ops", type="webhook")
    site.configurations.save(
        configuration.model_copy(update={"revision": configuration.revision + 1, "channels": {"ops": ops}})
    )
    site.clock.advance(10)
    site.deliver_to(receiver)
    assert len(receiver.accepted) == 1


def test_secret_missing() -> None:
    """A missing secret is recorded by its name, and the notification waits."""
    site = Site()
    site.enqueue()
    site.deliver_to(
        Receiver(errors.InvalidInput("secret OPS_SECRET", "this environment variable is not set", "set it"))
    )
    assert site.attempts() == ["secret OPS_SECRET: this environment variable is not set; set it"]
    assert site.outbox.backlog() == 1


def test_broken_notifier() -> None:
    """An unexpected exception counts as a failure. Its text may hold a secret, so it is recorded nowhere."""
    site = Site()
    site.enqueue()
    site.deliver_to(Receiver(RuntimeError("https://example.com/T0KEN")))
    (error,) = site.attempts()
    assert error
    assert "RuntimeError" in error
    assert "T0KEN" not in error
    assert site.outbox.backlog() == 1


def test_outbox_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis is unreachable, the error is raised, so that the task is tried again."""
    site = Site()
    site.enqueue("cpu-high", "disk-high")

    def unreachable(*_: object) -> None:
        raise errors.RedisUnavailable("Redis", "out of reach", "start it")

    monkeypatch.setattr(site.outbox, "delivered", unreachable)
    with pytest.raises(errors.RedisUnavailable):
        site.deliver_to(Receiver(), ALERT, f"{WORKER.id}/disk-high")
    assert site.outbox.backlog() == 2


def test_time_is_bounded() -> None:
    """After its time a delivery claims nothing more and leaves the rest to the sweep."""
    site = Site()
    site.enqueue(*(f"rule-{number}" for number in range(40)))

    def slow() -> None:
        site.clock.advance(61)

    receiver = Receiver(*[slow] * 40)
    site.deliver_to(receiver, *(f"{WORKER.id}/rule-{number}" for number in range(40)))
    assert 0 < len(receiver.accepted) <= delivery.PARALLEL
    assert len(site.outbox.due(site.clock(), 100)) == 40 - len(receiver.accepted)


# --- how much goes out -------------------------------------------------------------------------------------------


def limited(site: Site, **rates: float | None) -> None:
    """Have the channels of a site take so much in a minute."""
    configuration = site.configurations.load()
    channels = {name: Channel(name=name, type="webhook", per_minute=most) for name, most in rates.items()}
    site.configurations.save(
        configuration.model_copy(update={"revision": configuration.revision + 1, "channels": channels})
    )


def test_no_channel_gets_more_than_it_takes() -> None:
    """A channel's rate limit is kept. Everything is sent in time, each once, without failed attempts."""
    site = Site()
    limited(site, ops=30)
    rules = [f"rule-{number}" for number in range(60)]
    site.enqueue(*rules)
    times: list[float] = []

    class Timed(Receiver):
        def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
            times.append(site.clock())
            super().send(channel, notifications)

    receiver = Timed()
    for _ in range(400):
        site.deliver_due(receiver)
        site.clock.advance(1)
    assert len(receiver.accepted) == len(set(receiver.accepted)) == 60
    assert all(sum(begin <= at < begin + 60 for at in times) <= 30 for begin in times)
    assert site.attempts(f"{WORKER.id}/rule-59") == [None]


def test_who_asks_for_a_wait_gets_nothing_else() -> None:
    """After a Retry-After the whole channel pauses, not only one alert."""
    site = Site()
    site.enqueue("cpu-high")
    receiver = Receiver(refusal(60))
    site.deliver_due(receiver)
    site.enqueue("disk-high")
    site.clock.advance(30)
    site.deliver_due(receiver)
    assert receiver.calls == 1
    site.clock.advance(31)
    site.deliver_due(receiver)
    assert len(receiver.accepted) == 2


def test_given_up_notifies_another_channel() -> None:
    """If a notification is given up another channel is notified once, and again when the channel recovers."""
    site = Site("ops", "chat")
    rule = threshold.KIND.rule(
        name="cpu-high", metric="cpu_utilization", above=models.Levels(critical=90), notify=("ops", "chat")
    )
    configuration = site.configurations.load()
    site.configurations.save(configuration.model_copy(update={"revision": 1, "rules": (rule,)}))
    sent: list[tuple[str, models.Notification]] = []
    broken = True

    class Half:
        def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
            if channel.name == "ops" and broken:
                raise refusal()
            sent.extend((channel.name, notification) for notification in notifications)

    site.enqueue("cpu-high", "disk-high")
    site.deliver_due(Half())
    site.clock.advance(models.DAY + 400)
    site.deliver_due(Half())
    site.deliver_due(Half())
    assert site.outbox.backlog() == 0
    ((channel, notification),) = sent
    assert (channel, notification.status, notification.severity) == ("chat", "firing", "critical")
    assert (notification.kind, notification.worker) == ("collector", None)
    assert notification.scope == {"account": "*", "region": "*", "channel": "ops"}
    assert [alert.last for alert in site.channel_alerts()] == [notification], "it is listed"
    assert "channel ops: given up" in notification.summary
    assert "503" in (notification.reason or "")
    broken = False
    site.enqueue("cpu-high")
    site.clock.advance(10)
    site.deliver_due(Half())
    site.deliver_due(Half())
    assert [(channel, notification.status) for channel, notification in sent[1:]] == [
        ("ops", "firing"),
        ("chat", "resolved"),
    ]
    assert sent[-1][1].dedup_key == notification.dedup_key
    assert sent[-1][1].version == 2
    assert site.channel_alerts() == []


def final(tries: int = 1) -> errors.DeliveryRefused:
    """Return a refusal that counts after so many tries."""
    return errors.DeliveryRefused("channel ops", "it refuses the notification (400 Bad Request)", "see its log", tries)


def test_what_is_refused_does_not_block_what_follows() -> None:
    """A final refusal is given up at once and notifies another channel. The next notification is sent."""
    site, receiver = Site("ops", "log"), Receiver(final())
    for _ in range(3):
        site.enqueue()
    site.deliver_to(receiver)
    assert [version for _, _, version in receiver.accepted] == [2, 3]
    assert site.attempts() == [f"given up: {final()}", None, None]
    assert site.outbox.backlog() == 2, "that it was given up, and that it delivers again"
    (recorded, *_) = site.alerts.history("channel:ops/delivery")[-1:]
    assert recorded.notification is not None
    assert "given up: render-07" in recorded.notification.summary
    assert "400" in (recorded.notification.reason or "")


def test_a_refusal_that_may_pass_is_tried_for_about_an_hour() -> None:
    """A refusal that may be temporary is retried for about an hour, not for a day."""
    site, receiver = Site("ops", "log"), Receiver(*[final(policy.PATIENT_ATTEMPTS)] * 50)
    site.enqueue()
    while (ALERT, "ops") in site.store.queues and site.clock() < NOW + 3 * 3600:
        site.deliver_to(receiver)
        site.clock.advance(1)
    assert receiver.calls == policy.PATIENT_ATTEMPTS
    # 57 minutes on the average, each of the waits being drawn from 0 on.
    assert 1800 < site.clock() - NOW < 2 * 3600
    assert site.attempts()[-1] == f"given up: {final(policy.PATIENT_ATTEMPTS)}"


def test_the_alert_about_a_channel_ends_with_the_channel() -> None:
    """If the channel is removed, its alert resolves, and its end notifies those who were notified of the failure."""
    site, receiver = Site("ops", "log"), Receiver(final())
    site.enqueue()
    site.deliver_to(receiver)
    assert [alert.rule for alert in site.channel_alerts()] == ["delivery"]
    site.deliver_to(receiver, "channel:ops/delivery")
    assert [alert.rule for alert in site.channel_alerts()] == ["delivery"], "it is still there"
    configuration = site.configurations.load()
    channels = {name: channel for name, channel in configuration.channels.items() if name != "ops"}
    assert site.configurations.save(
        configuration.model_copy(update={"revision": configuration.revision + 1, "channels": channels})
    )
    for _ in range(2):
        site.deliver_to(receiver, "channel:ops/delivery")
    assert site.channel_alerts() == []
    over, _ = site.alerts.history("channel:ops/delivery")
    assert over.notification is not None
    assert (over.notification.status, over.notification.reason) == ("resolved", "the channel was removed")


def test_given_up_where_no_other_channel_is() -> None:
    """If rules use no other channel, the log is notified. There is no channel alert about giving up a channel alert."""
    site = Site()
    site.enqueue()
    site.deliver_due(Receiver(refusal()))
    site.clock.advance(models.DAY + 400)
    site.deliver_due(Receiver(refusal()))
    (claimed,) = site.outbox.claim("channel:ops/delivery", site.clock(), 15)
    assert claimed.channel == "log"


# --- reminders ---------------------------------------------------------------------------------------------------


class Reader(Receiver):
    """A receiver that notes which were reminders."""

    def __init__(self, *plan: Exception) -> None:
        super().__init__(*plan)
        self.reminders: list[bool] = []

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        super().send(channel, notifications)
        self.reminders.extend(notification.reminder for notification in notifications)


def repeating(repeat: int | None) -> Site:
    """Return a site whose channel repeats."""
    site = Site()
    configuration = site.configurations.load()
    ops = Channel(name="ops", type="webhook", repeat=repeat)
    site.configurations.save(configuration.model_copy(update={"revision": 1, "channels": {"ops": ops}}))
    return site


def test_reminders_until_it_is_over() -> None:
    """A firing alert is repeated at its interval until it resolves."""
    site, receiver = repeating(3600), Reader()
    site.enqueue()
    for _ in range(3 * 60 + 1):
        site.deliver_due(receiver)
        site.clock.advance(60)
    assert receiver.reminders == [False, True, True, True]
    site.enqueue()
    for _ in range(180):
        site.deliver_due(receiver)
        site.clock.advance(60)
    assert receiver.reminders == [False, True, True, True, False]
    assert [version for _, _, version in receiver.accepted] == [1, 1, 1, 1, 2]


def test_no_reminder_without_being_asked() -> None:
    """A channel without ``repeat`` is notified once."""
    site, receiver = repeating(None), Reader()
    site.enqueue()
    site.deliver_due(receiver)
    site.clock.advance(models.DAY)
    site.deliver_due(receiver)
    assert receiver.reminders == [False]


def test_a_reminder_that_is_not_accepted_is_no_loss() -> None:
    """A failed reminder is recorded and notifies no other channel. The next one follows."""
    site, receiver = repeating(models.DAY), Reader()
    site.enqueue()
    site.deliver_due(receiver)
    receiver.plan = [refusal()]
    for _ in range(2):
        site.clock.advance(models.DAY + 1)
        site.deliver_due(receiver)
    assert receiver.reminders == [False, True]
    assert site.alerts.load_channel("ops").alerts == {}
    assert (site.attempts()[1] or "").startswith("reminder: channel ops")


def test_seen_or_silenced_is_not_repeated() -> None:
    """Acknowledged or silenced alerts are not repeated during that time."""
    site, receiver = repeating(3600), Reader()
    silences = site.silences
    site.enqueue()
    site.deliver_due(receiver)
    silences.acknowledge(models.Acknowledgement(alert_id=ALERT, since=int(NOW), by="me", at=site.clock()))
    site.clock.advance(3601)
    site.deliver_due(receiver)
    assert receiver.reminders == [False]
    silences.acknowledge(models.Acknowledgement(alert_id=ALERT, since=int(NOW) - 5, by="me", at=site.clock()))
    site.clock.advance(3601)
    site.deliver_due(receiver)
    assert receiver.reminders == [False, True], "it was another episode that was seen"
