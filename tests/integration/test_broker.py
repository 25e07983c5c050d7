"""How a node reads messages from the broker."""

from __future__ import annotations

import datetime
import json
import threading
import time
from typing import Any

import celery
import kombu
import pytest
import redis
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.asynchronous.timer import Timer

from tests.support.waiting import eventually
from workermon.on_celery import messages
from workermon.on_celery.broker import Connection
from workermon.on_celery.dispatcher import EXPIRES, CeleryDispatcher

pytestmark = pytest.mark.integration


def test_a_node_reads_on_as_soon_as_a_thread_acknowledges(redis_url: str) -> None:
    """A node at its prefetch limit reads the next message at an acknowledgement, not at the next timer."""
    received: list[Any] = []
    before, hub = get_event_loop(), Hub(Timer(max_interval=60))  # as in Celery's nodes, but longer
    set_event_loop(hub)
    loop_steps = iter(hub.create_loop())
    try:
        with Connection(redis_url) as connection, kombu.Producer(connection.clone()) as producer:
            channel = connection.channel()
            channel.basic_qos(0, 1, False)
            queue = kombu.Queue("workermon.test", expires=60)
            with kombu.Consumer(channel, [queue], on_message=received.append, accept=["json"]):
                connection.register_with_event_loop(hub)
                hub.timer.clear()  # no timer of Kombu's wakes the loop by chance
                hub.timer.call_repeatedly(60, lambda: None)  # and without any it would wake up each second
                for number in range(2):
                    producer.publish({"number": number}, routing_key="workermon.test", serializer="json")
                eventually(lambda: next(loop_steps) or received, description="the first message")
                threading.Timer(1.0, received[0].ack).start()  # the loop sleeps by then
                started = time.monotonic()
                eventually(lambda: next(loop_steps) or len(received) == 2, description="the second message")
                assert time.monotonic() - started < 30  # the loop sleeps a minute if nothing wakes it
                received[1].ack()
    finally:
        hub.close()
        set_event_loop(before)


def test_a_channel_sends_with_one_client_until_it_connects_anew(redis_url: str) -> None:
    """A channel reuses one Redis client. After its pool was closed, it makes a new one from the new pool."""
    with Connection(redis_url) as connection:
        channel = connection.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
            assert first is not channel.client  # that one waits for messages
        channel._disconnect_pools()
        with channel.conn_or_acquire() as third:
            assert third is not first
            assert third.ping()


def test_a_collection_may_be_enqueued_for_later(redis_url: str, redis_client: redis.Redis) -> None:
    """A message with a start time expires after that time, and a node takes it."""
    sender = celery.Celery(broker=redis_url, set_as_current=False)
    before = time.time()
    CeleryDispatcher(sender).collect(["i-0123456789abcdef0"], after=5.0)
    sent = json.loads(redis_client.lpop("workermon.collect") or b"")  # type: ignore[arg-type]  # not a list
    messages.check(sent, time.time())
    eta, expires = (
        datetime.datetime.fromisoformat(sent["headers"][name]).timestamp() - before for name in ("eta", "expires")
    )
    assert 4 < eta < 60
    assert expires - eta == pytest.approx(EXPIRES, abs=1)
    redis_client.flushall()
