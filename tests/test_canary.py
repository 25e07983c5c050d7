"""The canary: what its trace shows, and that it never blames a working part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import eventually
from workermon import health, models, notify, ports, testing
from workermon.health import canary
from workermon.on_redis import canary as on_redis
from workermon.on_redis import channel, client, keys, outbox

NOW = 1_700_000_000.0
STEPS = ports.CANARY_STEPS
EVERY = models.CANARY_EVERY


class House(testing.Monitor):
    """An in-memory monitor. ``broken`` is the step that no canary reaches, ``beats`` whether beat runs."""

    def __init__(self, broken: Any = None) -> None:
        super().__init__(now=NOW)
        self.now = self.clock
        self.broken = broken
        self.liveness.beat("canary", NOW)

    def minute(self, broken: Any = None, *, beats: bool = True) -> None:
        """Let a minute go by, with a canary at its end if beat runs."""
        self.now.advance(EVERY)
        if not beats:
            return
        self.schedule.ticked = self.now()
        times = self.schedule.sent.times if self.schedule.sent else 0
        self.schedule.sent = models.Sent(self.now(), times + 1)
        broken = broken or self.broken
        self.now.advance(0.25)
        if broken == "published":
            return
        self.pass_on("collect")
        name, text = self.store.published[-1]
        assert name == ports.canary_channel(self.store.channel)
        if broken == "received":
            return
        assert self.get(health.CanaryReception).receive(text)
        if broken == "evaluated":
            return
        assert self.dispatcher.canaries
        self.pass_on("evaluate")
        if broken == "accepted":
            return
        self.deliver_dispatched()

    def pass_on(self, stage: Any) -> None:
        """Run the task's step."""
        self.get(health.CanaryRelay).pass_on(stage)

    def deliver_dispatched(self) -> None:
        """Run the deliveries that were enqueued."""
        alert_ids, self.dispatcher.delivered = self.dispatcher.delivered, []
        self.get(notify.Delivery).deliver(alert_ids)

    def look(self) -> Any:
        """Return the canary's state."""
        return self.get(health.CanaryCheck).check()


def test_it_goes_round_and_leaves_nothing() -> None:
    """It records the time of its way. It leaves nothing in outbox, history, attempts and open alerts."""
    house = House()
    assert house.look() == canary.Finding(True, "beat has not sent one yet")
    house.minute()
    assert house.look() == canary.Finding(True, "round trip 0.25 s, 0 s ago", 0.25, 0.0)
    assert house.outbox.due(house.now() + 9, 9) == []
    assert (house.store.queues, house.store.history, house.store.attempts, house.store.last) == ({}, {}, {}, {})
    assert testing.MemoryAlerts(house.store).open() == []
    assert {name for name, _ in house.store.published} == {"workermon:metrics:canary"}


@pytest.mark.parametrize(
    ("step", "after", "reason"),
    [
        ("published", "sent", "the queue workermon.collect"),
        ("received", "published", "the listener does not receive it"),
        ("evaluated", "received", "the queue workermon.evaluate"),
        ("accepted", "evaluated", "the queue workermon.deliver"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_several_in_a_row_name_the_part_that_does_not_pass_them_on(
    step: str, after: str, reason: str, before: int
) -> None:
    """Three lost canaries are normal. The fourth names the part, and the next one that passes ends it."""
    house = House()
    for _ in range(before):
        house.minute()
    if step == "published" and not before:
        house.minute("received")
    for _ in range(3):
        house.minute(step)
        assert house.look().ok
    for _ in range(5):
        house.minute(step)
        faults = house.look()
        assert (faults.ok, faults.stuck_after) == (False, after)
        assert faults.reason.startswith(f"stuck after: {after} (")
        assert reason in faults.reason
        assert ("last round completed" if before else "no round completed yet") in faults.reason
    if step == "accepted":
        house.deliver_dispatched()
    house.minute()
    assert house.look().ok


def test_beat_that_ticks_and_sends_none_is_named() -> None:
    """A missing canary of a ticking beat is reported. If beat is down, only beat's own check reports it."""
    house = House()
    house.minute()
    house.now.advance(canary.PATIENCE + 1)
    assert house.look().reason == "round trip 0.25 s, 181 s ago; beat sends none"
    house.schedule.ticked = house.now() - 1
    assert (house.look().ok, house.look().stuck_after) == (False, "scheduled")


def test_a_schedule_that_never_sent_is_reported_when_it_is_long_overdue() -> None:
    """A new entry without a run is normal for a minute, and reported after three."""
    house = House()
    house.schedule.sent, house.schedule.ticked = models.Sent(NOW, 0), NOW
    assert house.look() == canary.Finding(True, "beat has not sent one yet")
    house.now.advance(canary.PATIENCE + 1)
    house.schedule.ticked = house.now()
    assert house.look().stuck_after == "scheduled"


@pytest.mark.parametrize("step", ["published", "received"])
def test_what_never_knew_a_canary_does_not_miss_one(step: str) -> None:
    """Without a listener, or with one of an older version, no canary is missing. The same is true of such nodes."""
    house = House(step)
    house.liveness = testing.MemoryLiveness(house.store)
    house.liveness.beat("listener", NOW)
    for _ in range(9):
        house.minute()
    assert house.look() == canary.Finding(True, "no round completed yet")
    house.minute("accepted")
    house.liveness.beat("canary", house.now())
    for _ in range(4):
        house.minute()
    assert not house.look().ok


@pytest.mark.parametrize("step", STEPS)
def test_a_night_without_anybody_is_no_loss(step: Any) -> None:
    """Canaries under way at a stop of everything do not count with those after it."""
    house = House()
    house.minute()
    for _ in range(3):
        house.minute(step)
    house.now.advance(10 * 3600)
    assert house.look().ok
    for _ in range(2 if step == "published" else 3):
        house.schedule.ticked = house.now()
        house.minute(step if step != "published" else "received")
        assert house.look().ok, house.look()


def test_a_message_that_is_no_canary_passes_nothing_on() -> None:
    """Anything but a time near the present is refused."""
    house = House()
    for text in ("", "x", "nan", "inf", "-1", "1e400", str(NOW + 90_000), '{"schema": 1}'):
        assert not house.get(health.CanaryReception).receive(text)
    assert (house.dispatcher.canaries, house.canary.trace().reached) == (0, {})
    house.pass_on("evaluate")
    assert house.outbox.due(NOW, 9) == []
    assert [canary.is_canary_stage(stage) for stage in ("collect", "evaluate", "deliver", None, 1)] == [
        True,
        True,
        False,
    ] + [False] * 2


def test_one_that_waits_in_the_outbox_is_joined_by_no_other() -> None:
    """If nothing is delivered, the outbox has one canary, however many were sent."""
    house = House("accepted")
    for _ in range(9):
        house.minute()
    assert len(house.outbox.claim(models.CANARY, house.now(), 15)[0].notification.id) > 7
    assert [len(queue.waiting) for queue in house.store.queues.values()] == [1]


@given(st.lists(st.sampled_from([None, *STEPS, "away"]), max_size=40))
def test_fewer_than_four_are_never_reported(fates: Any) -> None:
    """Whatever is lost anywhere, the alarm needs four in a row, and ends with one that is accepted."""
    house, lost = House(), 0
    for fate in fates:
        house.minute(None if fate == "away" else fate, beats=fate != "away")
        if fate == "away":
            continue
        if fate is None:
            house.deliver_dispatched()
        lost = 0 if fate is None else lost + 1
        faults = house.look()
        if not faults.ok:
            assert lost >= 4, (fates, faults)
            assert faults.stuck_after != "scheduled"
        if fate is None:
            assert faults.round_trip is not None


def test_its_time_is_shown_though_clocks_differ() -> None:
    """A clock of another machine that is behind gives no negative time."""
    trace = ports.Trace({"accepted": ports.Reached(NOW, NOW - 3)}, {}, 1)
    status = canary.judge(models.Sent(NOW, 1), trace, ticked=NOW, listens=True, at=NOW - 5)
    assert (status.ok, status.round_trip, status.age) == (True, 0.0, 0.0)


# --- every implementation ----------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give trace, outbox and feed, once for each implementation."""
    if request.param == "memory":
        store = testing.MemoryStore()
        yield testing.MemoryCanary(store), testing.MemoryOutbox(store), testing.MemoryFeed(store)
    elif request.param == "fakeredis":
        fake_server = fakeredis.FakeRedis()
        yield (
            on_redis.RedisCanary(fake_server, "c"),
            outbox.RedisOutbox(fake_server),
            channel.RedisFeed(fake_server, "c"),
        )
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as server:
            yield on_redis.RedisCanary(server, "c"), outbox.RedisOutbox(server), channel.RedisFeed(server, "c")


def test_the_trace_says_how_far_they_came(implementation: Any) -> None:
    """Each step has its last canary, and how many reached the step before since. A break resets them."""
    trace, _, _ = implementation
    assert trace.trace() == ports.Trace({}, {}, 0)
    for number in range(3):
        trace.publish(NOW + 60 * number, NOW + 60 * number + 0.5, 7 + number)
    trace.reach("received", NOW + 60, NOW + 121)
    assert trace.trace() == ports.Trace(
        {"published": ports.Reached(NOW + 120, NOW + 120.5), "received": ports.Reached(NOW + 60, NOW + 121)},
        {"evaluated": 1},
        9,
    )
    trace.publish(NOW + 180, NOW + 180.5, 10)
    assert trace.trace().lost == {"received": 1, "evaluated": 1}
    trace.reach("evaluated", NOW + 60, NOW + 181)
    trace.reach("accepted", NOW + 60, NOW + 181)
    assert trace.trace().lost == {"received": 1}
    trace.publish(NOW + 900, NOW + 900, 11)
    assert trace.trace().lost == {"received": 1}


def test_its_notification_goes_through_the_outbox_and_is_never_counted(implementation: Any) -> None:
    """It is due, claimed and removed like any other, and is not counted. A second one is not added."""
    _, box, _ = implementation
    notification = canary.notification(NOW)
    assert (box.release(notification, NOW), box.release(notification, NOW)) == (True, False)
    assert (box.due(NOW, 9), box.backlog()) == ([models.CANARY], 0)
    [claimed] = box.claim(models.CANARY, NOW, 15)
    assert (claimed.notification, claimed.channel) == (notification, models.CANARY_CHANNEL)
    assert box.due(NOW, 9) == []
    assert box.skip(claimed, NOW, None)
    assert box.release(notification, NOW + 60)


def test_its_channel_has_only_its_own_subscribers(implementation: Any) -> None:
    """Only its own subscribers receive it. Subscribers of samples and alerts do not."""
    trace, _, feed = implementation
    received: list[Any] = []
    asking = feed.listen(alerts=False, timeout=0.05, canary=received.append)
    plain_feed = feed.listen(timeout=0.05)
    assert (next(asking), next(plain_feed)) == (None, None)
    trace.publish(NOW + 0.125, NOW + 1, 1)
    eventually(lambda: next(asking) is None and received, description="the canary")
    assert (received, next(plain_feed)) == ([repr(NOW + 0.125)], None)


def test_nothing_of_it_is_named_but_where_keys_are(redis_client: redis.Redis, redis_url: str) -> None:
    """The whole way leaves one small hash, and the fence's count."""
    with contextlib.closing(client.connect(redis_url)) as server:
        trace, box = on_redis.RedisCanary(server, "c"), outbox.RedisOutbox(server)
        trace.publish(NOW, NOW, 1)
        box.release(canary.notification(NOW), NOW)
        [claimed] = box.claim(models.CANARY, NOW, 15)
        box.skip(claimed, NOW, None)
    assert sorted(redis_client.keys()) == [keys.CANARY.encode(), keys.FENCE.encode()]
    used: Any = redis_client.memory_usage(keys.CANARY)
    assert used < 500
