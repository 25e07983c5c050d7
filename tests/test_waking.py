"""A channel that waits for a message is woken up when its node stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import signals

from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon import settings
from workermon.on_celery import broker

#: Seconds. A wait that is longer than a test may take, and how long a test is patient.
WAIT, PATIENCE = 600, 60

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def channel(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a channel that waits for a message of a queue, and would for ten minutes."""
    monkeypatch.setattr(broker.Transport, "brpop_timeout", WAIT)
    connection = broker.Connection(redis_url)
    made = connection.channel()
    made.queue_declare("workermon.test")
    received: list[Any] = []
    made.basic_consume("workermon.test", True, received.append, "tag")
    made.received = received
    made.connection.cycle.on_poll_start()
    try:
        yield made
    finally:
        connection.release()


def finished(action: Any) -> bool:
    """Tell whether an action ends while a test is patient."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_a_node_that_stops_notices_it_at_once(channel: Any) -> None:
    """Its wait for a message ends with the signal of Celery's that it stops."""
    signals.worker_shutting_down.send(sender="node", sig="SIGTERM", how="Warm", exitcode=0)
    assert finished(channel._brpop_read)
    assert channel.received == []


def test_a_channel_that_waits_closes_at_once(channel: Any, redis_client: redis.Redis) -> None:
    """Nothing of it stays, in Redis or in the connection."""
    connection = channel.connection
    assert finished(channel.close)
    assert not [name for name in connection._callbacks if name.startswith(settings.WAKE)]
    eventually(lambda: all(redis_client.ttl(name) >= 0 for name in redis_client.keys(f"{settings.WAKE}*")))


def test_a_woken_channel_takes_the_next_message(channel: Any, redis_client: redis.Redis) -> None:
    """It is not spent: it waits again, and for its queue alone."""
    channel.wake()
    assert finished(channel._brpop_read)
    channel.basic_publish(channel.prepare_message("hello"), "", "workermon.test")
    channel.connection.cycle.on_poll_start()
    assert finished(channel._brpop_read)
    assert [message.body for message in channel.received] == [b"hello"]


def test_a_channel_that_cannot_be_woken_waits(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis nothing is raised, neither in the thread nor for who stops the node."""
    gone = redis.Redis(port=free_port())
    monkeypatch.setattr(channel, "_create_client", lambda *_, **__: gone)
    channel._push()
    channel.client.connection.disconnect()
    channel._in_poll = None
