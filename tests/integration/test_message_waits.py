"""Nodes wait long for a message, and stop at once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis
from celery import signals
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.asynchronous.timer import Timer

from tests.integration.celery_house import START, opened
from tests.support import long_waits
from tests.support.waiting import eventually
from workermon.on_celery import message_waits
from workermon.on_celery.broker import Connection

pytestmark = pytest.mark.integration

#: Seconds. Far less than a long wait here, and far more than a stop takes.
SOON = 60.0
#: How often stop and message race.
RACES = 60
QUEUE = kombu.Queue("workermon.test", expires=60)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make short waits very short and long ones very long."""
    monkeypatch.setattr(message_waits, "SHORT", 0.05)
    monkeypatch.setattr(message_waits, "LONG", long_waits.LONG)


@contextlib.contextmanager
def consuming(url: str, received: list[int]) -> Iterator[tuple[Any, Any]]:
    """Give a connection and a channel that reads the numbers in a queue."""

    def receive(message: Any) -> None:
        received.append(message.payload)
        message.ack()

    with Connection(url) as connection:
        channel = connection.channel()
        with kombu.Consumer(channel, [QUEUE], on_message=receive, accept=["json"]):
            yield connection, channel


def read(connection: Any) -> bool:
    """Read what arrives within a moment, and return ``False``."""
    for _ in range(10):
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.005)
    return False


def wait_long(connection: Any, channel: Any) -> None:
    """Read until the channel waits long."""
    eventually(
        lambda: read(connection) or (channel._in_poll and channel.brpop_timeout == long_waits.LONG),
        description="a long wait",
    )


@pytest.mark.usefixtures("waits")
def test_a_channel_that_is_closed_ends_its_wait(redis_url: str) -> None:
    """The server ends it, and the connection is not dropped."""
    with consuming(redis_url, []) as (connection, channel):
        wait_long(connection, channel)
        began = time.monotonic()
        channel.close()
        assert time.monotonic() - began < SOON


@pytest.mark.usefixtures("waits")
def test_a_message_is_taken_at_once_during_a_long_wait(redis_url: str) -> None:
    """A wait ends with the message."""
    received: list[int] = []
    with consuming(redis_url, received) as (connection, channel), kombu.Producer(connection.clone()) as producer:
        for number in range(3):
            wait_long(connection, channel)
            producer.publish(number, routing_key=QUEUE.name, serializer="json")
            began = time.monotonic()
            eventually(lambda: read(connection) or len(received) == number + 1)  # noqa: B023  (called here)
            assert time.monotonic() - began < SOON


@pytest.mark.usefixtures("waits")
def test_another_queue_is_read_at_once(redis_url: str) -> None:
    """A queue that is consumed during a long wait does not wait until its end."""
    received: list[int] = []
    with consuming(redis_url, received) as (connection, channel), kombu.Producer(connection.clone()) as producer:
        wait_long(connection, channel)
        second = kombu.Queue("workermon.test.second", expires=60)
        with kombu.Consumer(
            channel, [second], on_message=lambda message: received.append(message.payload), accept=["json"], no_ack=True
        ):
            producer.publish(7, routing_key=second.name, serializer="json")
            eventually(lambda: read(connection) or received == [7])


@pytest.mark.usefixtures("waits")
def test_no_message_is_lost_when_stops_and_messages_race(redis_url: str) -> None:
    """A message that arrives while a node stops is handled, or goes back to its queue."""
    received: list[int] = []
    chance = random.Random(1)
    with Connection(redis_url) as sending, kombu.Producer(sending) as producer:
        for number in range(RACES):
            with consuming(redis_url, received) as (connection, channel):
                wait_long(connection, channel)
                pause = chance.uniform(0, 0.004)

                def publish(number: int = number, pause: float = pause) -> None:
                    time.sleep(pause)  # the race itself: any moment is right
                    producer.publish(number, routing_key=QUEUE.name, serializer="json")

                thread = threading.Thread(target=publish)
                thread.start()
                if chance.random() < 0.5:
                    channel.close()  # as well as the consumer first
            thread.join()
    with consuming(redis_url, received) as (connection, _):
        eventually(lambda: read(connection) or len(set(received)) == RACES, description="all messages")
    assert sorted(received) == list(range(RACES))


@pytest.fixture
def without_the_right(redis_url: str, redis_client: redis.Redis) -> Iterator[str]:
    """Give the URL of a user who may not end requests."""
    redis_client.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "&*", "+@all", "-client|unblock")
    try:
        yield redis_url.replace(f":{redis_client.connection_pool.connection_kwargs['password']}@", "narrow:secret@")
    finally:
        redis_client.execute_command("ACL", "DELUSER", "narrow")


@pytest.mark.usefixtures("waits")
def test_without_the_right_waits_stay_short(without_the_right: str, redis_client: redis.Redis) -> None:
    """The server is asked once, and refuses. Messages arrive, and a stop takes no longer than a short wait."""
    redis_client.acl_log_reset()
    received: list[int] = []
    with consuming(without_the_right, received) as (connection, channel):
        eventually(lambda: read(connection) or channel._cannot_end, description="a refusal")
        with kombu.Producer(connection.clone()) as producer:
            for number in range(3):
                producer.publish(number, routing_key=QUEUE.name, serializer="json")
                eventually(lambda: read(connection) or len(received) == number + 1)  # noqa: B023  (called here)
                eventually(lambda: read(connection) or channel._found_none)
                assert channel.brpop_timeout == message_waits.SHORT
        began = time.monotonic()
        channel.close()
        assert time.monotonic() - began < SOON
    (refusal,) = redis_client.acl_log()
    assert (refusal["object"], refusal["count"]) == ("client|unblock", 1)


@pytest.mark.usefixtures("waits")
def test_a_server_that_does_not_end_a_wait_is_left(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it forgets how to, as behind a proxy that leads elsewhere by now, the node stops nevertheless."""
    with consuming(redis_url, []) as (connection, channel):
        wait_long(connection, channel)
        monkeypatch.setattr(channel, "_unblock", lambda number: False)
        began = time.monotonic()
        channel.close()
        assert time.monotonic() - began < SOON


def test_a_signal_to_stop_wakes_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's handler only notes that the node has to stop. Without us its loop would sleep on."""
    before, hub = get_event_loop(), Hub(Timer())
    monkeypatch.setattr(hub, "fire_timers", lambda **_: 600.0)  # it sleeps so long
    set_event_loop(hub)
    handler = signal.signal(signal.SIGUSR1, lambda *_: signals.worker_shutting_down.send(sender="a node"))
    silent, other = socket.socketpair()
    try:
        hub.add_reader(silent, lambda: None)  # without any it would not wait for an event
        hub.timer.call_repeatedly(600, lambda: None)
        stopping = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
        began = time.monotonic()
        stopping.start()
        next(iter(hub.create_loop()))
        assert 0.4 < time.monotonic() - began < SOON
        stopping.join()
    finally:
        signal.signal(signal.SIGUSR1, handler)
        hub.close()
        set_event_loop(before)
        silent.close()
        other.close()


@pytest.mark.parametrize(
    ("pool", "way"),
    [
        ("threads", "SIGTERM"),
        ("threads", "shutdown"),
        ("prefork", "SIGTERM"),
        ("prefork", "SIGQUIT"),
        ("solo", "SIGINT"),
    ],
)
def test_a_node_that_waits_stops_at_once(
    tmp_path: Path, redis_url: str, redis_client: redis.Redis, pool: str, way: str
) -> None:
    """It does not wait until its request for a message is over, which would take minutes here."""
    with opened(tmp_path, redis_url) as house:
        options = ["-P", pool, "-c", "1", "-Q", "workermon.collect", "--without-mingle", "--without-gossip"]
        node = house.start(long_waits.__name__, "-A", "workermon", "worker", *options)

        def waits_long() -> bool:
            clients: list[dict[str, str]] = redis_client.client_list()
            return any(
                client["cmd"] == "brpop" and "b" in client["flags"] and int(client["idle"]) > message_waits.SHORT
                for client in clients
            )

        eventually(waits_long, within=START, description="a long wait")
        if way == "shutdown":
            house.run("celery", "-A", "workermon", "control", "shutdown")
        else:
            node.popen.send_signal(getattr(signal, way))
        node.popen.wait(SOON)
        assert "request_dropped" not in node.output
