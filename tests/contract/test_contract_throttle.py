"""What every throttle promises, and every outbox about rate limits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import fakeredis
import pytest

from tests.contract import builders
from tests.contract.builders import NOW
from tests.support.repositories import Repository
from workermon import models, ports, testing
from workermon.on_redis import channel_failures, client, firing_labels, keys, throttle

ALERT = "i-0aaaaaaa/cpu-high"
LIMIT = models.Limit(bucket=10, rate=1)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def bucket(request: pytest.FixtureRequest) -> Iterator[ports.Throttle]:
    """Give a throttle, once for each implementation."""
    if request.param == "memory":
        yield testing.MemoryThrottle()
    elif request.param == "fakeredis":
        yield throttle.RedisThrottle(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield throttle.RedisThrottle(connection)


def take(bucket: ports.Throttle, now: float, *, critical: bool = True, channel: str = "ops") -> float:
    """Take a token from a bucket of ten with a rate of one a second."""
    return bucket.take(channel, LIMIT, critical=critical, now=now)


def test_a_bucket_and_a_rate(bucket: ports.Throttle) -> None:
    """The bucket's content is sent at once, the rest at the rate."""
    assert [take(bucket, NOW) for _ in range(10)] == [0] * 10
    assert take(bucket, NOW) > 0
    assert take(bucket, NOW + 1.01) == 0
    assert take(bucket, NOW + 1.01) > 0


def test_never_more_than_its_limit(bucket: ports.Throttle) -> None:
    """In any minute no more is sent than the bucket and its rate allow."""
    granted = sum(take(bucket, NOW + second / 4) == 0 for second in range(240))
    assert granted <= 10 + 60


def test_criticals_first(bucket: ports.Throttle) -> None:
    """Other alerts leave half of the bucket to critical ones, and wait while those are sent."""
    assert [take(bucket, NOW, critical=False) for _ in range(5)] == [0] * 5
    assert take(bucket, NOW, critical=False) > 0
    assert [take(bucket, NOW) for _ in range(5)] == [0] * 5
    assert take(bucket, NOW + 3, critical=False) > 0
    assert take(bucket, NOW + 3) == 0
    assert take(bucket, NOW + 60, critical=False) == 0


def test_channels_do_not_share(bucket: ports.Throttle) -> None:
    """Each channel has its own bucket."""
    for _ in range(20):
        take(bucket, NOW)
    assert take(bucket, NOW, channel="chat") == 0


def test_a_pause(bucket: ports.Throttle) -> None:
    """During a pause nothing is sent. A shorter pause does not end it."""
    bucket.pause("ops", 60, NOW)
    bucket.pause("ops", 5, NOW)
    assert 49 < take(bucket, NOW + 10) <= 50
    assert take(bucket, NOW + 61) == 0


def test_a_clock_set_back(bucket: ports.Throttle) -> None:
    """A clock that is set back neither empties nor fills the bucket."""
    for _ in range(10):
        take(bucket, NOW)
    assert take(bucket, NOW - 1000) > 0
    assert take(bucket, NOW - 998) == 0


@pytest.mark.parametrize("ahead", [600, 7200, 3 * models.DAY])
def test_a_clock_that_was_ahead_stops_no_channel(bucket: ports.Throttle, ahead: int) -> None:
    """Pauses and windows that a clock set in the future are over."""
    bucket.pause("ops", 60, NOW + ahead)
    assert take(bucket, NOW) == 0
    bucket.pause("ops", 60, NOW + ahead)
    bucket.pause("ops", 5, NOW)
    assert 4 < take(bucket, NOW + 0.5) <= 5
    assert bucket.window("chat/cpu-high", created=NOW, wait=10, now=NOW + ahead) == NOW + ahead + 10
    assert bucket.window("chat/cpu-high", created=NOW, wait=10, now=NOW) == NOW + 10


def test_a_window(bucket: ports.Throttle) -> None:
    """A group closes some time after its first notification. A later one opens the next group."""
    assert bucket.window("chat/cpu-high", created=NOW, wait=10, now=NOW + 1) == NOW + 11
    assert bucket.window("chat/cpu-high", created=NOW + 5, wait=10, now=NOW + 6) == NOW + 11
    assert bucket.window("chat/cpu-high", created=NOW + 10.9, wait=10, now=NOW + 15) == NOW + 11
    assert bucket.window("chat/disk-high", created=NOW + 5, wait=10, now=NOW + 6) == NOW + 16
    assert bucket.window("chat/cpu-high", created=NOW + 11, wait=10, now=NOW + 12) == NOW + 22
    assert bucket.window("chat/cpu-high", created=NOW + 5, wait=10, now=NOW + 12) == NOW + 22


def test_it_survives_a_restart(redis_url: str) -> None:
    """Another process finds the same bucket. It has a lifetime."""
    with contextlib.closing(client.connect(redis_url)) as first:
        for _ in range(10):
            take(throttle.RedisThrottle(first), NOW)
    with contextlib.closing(client.connect(redis_url)) as second:
        assert take(throttle.RedisThrottle(second), NOW) > 0
        assert 0 < second.ttl(keys.throttle("ops")) <= throttle.LIFETIME


def test_who_is_refused_comes_back_one_after_another(redis_url: str) -> None:
    """The more are refused, the longer each has to wait, up to a limit, so that retries are spread."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        bucket = throttle.RedisThrottle(connection)
        waits = [take(bucket, NOW) for _ in range(10 + 60)][10:]
    assert waits == sorted(waits)
    assert waits[0] <= 1.1
    assert waits[-1] == throttle.MAX_WAIT


# --- the outbox --------------------------------------------------------------------------------------------------


def test_postponed(repository: Repository) -> None:
    """A returned claim waits for its time. It counts as no attempt and leaves none."""
    worker = builders.worker()
    repository.workers.add([worker])
    basis = repository.alerts.load([worker.id])[worker.id]
    assert repository.alerts.commit(builders.verdict(basis, builders.AlertChange()))
    alert_id = f"{worker.id}/cpu-high"
    (claimed,) = repository.outbox.claim(alert_id, NOW, 15)
    assert repository.outbox.postpone(claimed, NOW, NOW + 30)
    assert repository.outbox.due(NOW + 29, 10) == []
    assert repository.outbox.due(NOW + 31, 10) == [alert_id]
    (reclaimed,) = repository.outbox.claim(alert_id, NOW + 31, 15)
    assert (reclaimed.attempt, reclaimed.notification) == (1, claimed.notification)
    assert not repository.outbox.postpone(claimed, NOW, NOW + 60), "the fence is another's"
    (recorded,) = repository.alerts.history(alert_id)
    assert recorded.attempts == ()


# --- which channels accept nothing -------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def failures(request: pytest.FixtureRequest) -> Iterator[ports.ChannelFailures]:
    """Give the failures of channels, once for each implementation."""
    if request.param == "memory":
        yield testing.MemoryChannelFailures()
    elif request.param == "fakeredis":
        yield channel_failures.RedisChannelFailures(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield channel_failures.RedisChannelFailures(connection)


def test_failures_of_a_channel_begin_with_the_first(failures: ports.ChannelFailures) -> None:
    """The beginning is that of the first attempt, the rest of the last. A success begins anew."""
    assert failures.load() == {}
    failures.note("ops", NOW, "it answered 500", retried=True)
    failures.note("chät room", NOW + 1, "two words", retried=False)
    failures.note("ops", NOW + 7.5, "it answered 503", retried=False)
    assert failures.load() == {
        "ops": ports.FailingChannel(since=NOW, at=NOW + 7.5, retried=False, error="it answered 503"),
        "chät room": ports.FailingChannel(since=NOW + 1, at=NOW + 1, retried=False, error="two words"),
    }
    failures.clear("ops")
    failures.clear("ops")
    assert list(failures.load()) == ["chät room"]
    failures.note("ops", NOW + 60, "again", retried=True)
    assert failures.load()["ops"].since == NOW + 60


def test_failures_do_not_begin_in_the_future(failures: ports.ChannelFailures) -> None:
    """A beginning in the future, by a wrong clock, is corrected by the next attempt."""
    failures.note("ops", NOW + 86_400, "x", retried=True)
    failures.note("ops", NOW, "x", retried=True)
    assert failures.load()["ops"].since == NOW


# --- labels under which alerts fire ------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def labels(request: pytest.FixtureRequest) -> Iterator[ports.FiringLabels]:
    """Give the labels of firing alerts, once for each implementation."""
    if request.param == "memory":
        yield testing.MemoryFiringLabels()
    elif request.param == "fakeredis":
        yield firing_labels.RedisFiringLabels(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield firing_labels.RedisFiringLabels(connection)


def test_labels_are_of_an_alert_and_a_channel(labels: ports.FiringLabels) -> None:
    """Each alert has its own labels at each channel, in order, until removed."""
    label_sets = [{"severity": "warning", "worker": "rénder"}, {"severity": "critical"}]
    assert labels.load("ops", ALERT) == []
    labels.save("ops", ALERT, label_sets)
    labels.save("chat", ALERT, label_sets[:1])
    assert (labels.load("ops", ALERT), labels.load("chat", ALERT)) == (label_sets, label_sets[:1])
    assert labels.load("ops", f"{ALERT}-too") == []
    labels.save("ops", ALERT, [])
    assert (labels.load("ops", ALERT), labels.load("chat", ALERT)) == ([], label_sets[:1])
