"""Fixtures that every test may ask for: a real server over a socket, and waiting for a condition with a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import fakeredis
import pytest
import redis

from workermon import models, ports, testing
from workermon.local import embedded
from workermon.on_redis import (
    alerts,
    channel,
    client,
    configurations,
    keys,
    leases,
    outbox,
    pulse,
    samples,
    setup,
    silences,
    workers,
)

# A script that runs the tests in the background has SIGINT ignored, which the processes they start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")


def use_aws(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> None:
    """Have boto3's chain find an endpoint with made-up credentials, and nothing of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }.items():
        monkeypatch.setenv(name, value)


def eventually(predicate: Callable[[], T], within: float = 10.0, what: str = "the condition") -> T:
    """Wait until ``predicate`` returns something true and return that; fails after ``within`` seconds.

    What it raises meanwhile counts as "not yet", and is shown when the time is up.
    """
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        raised: Exception | None = None
        try:
            if outcome := predicate():
                return outcome
        except Exception as why:
            raised = why
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not hold within {within:g} s") from raised
        time.sleep(pause)  # between two looks at the condition, never instead of one
        pause = min(pause * 1.5, 0.1)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """Run one real server, that keeps nothing on disk, for the whole session; its ``url`` names database 1."""
    server = embedded.Server(tmp_path_factory.mktemp("valkey"), persistent=False, tcp=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: embedded.Server) -> Iterator[str]:
    """Give the URL of an empty server; the test fails where it leaves a key without a lifetime that keys.py lacks."""
    with contextlib.closing(redis.Redis.from_url(redis_server.url)) as client:
        client.flushall()
        yield redis_server.url
        eternal = sorted(
            key.decode() for key in client.scan_iter(count=1000) if client.ttl(key) == -1 and not keys.permanent(key)
        )
        assert not eternal, f"keys without a lifetime that on_redis/keys.py does not list as permanent: {eternal}"


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """Give a plain redis-py client that knows nothing of workermon."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        yield client


class Repository(NamedTuple):
    """Every port of the repository over one store, for tests that hold for any implementation."""

    workers: ports.Workers
    samples: ports.Samples
    alerts: ports.Alerts
    outbox: ports.Outbox
    configurations: ports.Configurations
    pulse: ports.Pulse
    leases: ports.Leases
    feed: ports.Feed
    silences: ports.Silences
    setup: ports.Setup


#: What is in force where nothing was saved.
DEFAULT = models.Configuration(
    rules=(models.Rule(name="cpu-high", metric="cpu_utilization", above=models.Levels(critical=90.0)),),
    channels={"log": models.Channel(name="log", type="log")},
    metrics={},
    collect=("cpu_utilization",),
)


def repository_in_memory() -> Repository:
    """Build the ports over a store in memory."""
    store = testing.MemoryStore()
    return Repository(
        testing.MemoryWorkers(store),
        testing.MemorySamples(store),
        testing.MemoryAlerts(store),
        testing.MemoryOutbox(store),
        testing.MemoryConfigurations(store, DEFAULT),
        testing.MemoryPulse(store),
        testing.MemoryLeases(store),
        testing.MemoryFeed(store),
        testing.MemorySilences(),
        testing.MemorySetup(store),
    )


def repository_on_redis(connection: redis.Redis) -> Repository:
    """Build the ports over a Redis client."""
    return Repository(
        workers.RedisWorkers(connection),
        samples.RedisSamples(connection, "workermon:metrics", lambda: models.DAY),
        alerts.RedisAlerts(connection, "workermon:metrics"),
        outbox.RedisOutbox(connection),
        configurations.RedisConfigurations(connection, DEFAULT),
        pulse.RedisPulse(connection),
        leases.RedisLeases(connection),
        channel.RedisFeed(connection, "workermon:metrics"),
        silences.RedisSilences(connection),
        setup.RedisSetup(connection, "workermon:metrics"),
    )


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def repository(request: pytest.FixtureRequest) -> Iterator[Repository]:
    """Give the ports over each implementation in turn."""
    if request.param == "memory":
        yield repository_in_memory()
    elif request.param == "fakeredis":
        yield repository_on_redis(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield repository_on_redis(connection)
