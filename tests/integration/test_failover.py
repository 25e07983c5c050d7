"""A managed failover: the name resolves to another server, while connections to the old one stay open."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.contract import builders
from tests.integration.celery_house import last_words, opened
from tests.support.replicas import Pair
from tests.support.waiting import eventually
from workermon import errors, models
from workermon.on_celery.broker import Connection
from workermon.on_redis import client, keys, leases, liveness, samples, workers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Give two servers behind one name."""
    new_pair = Pair(tmp_path)
    try:
        yield new_pair
    finally:
        new_pair.stop()


def test_a_client_reaches_the_new_primary(pair: Pair) -> None:
    """A command at the replica is repeated on a new connection to the new primary."""
    with contextlib.closing(client.connect(pair.address.url(1))) as connected:
        counted = liveness.RedisLiveness(connected)
        counted.count("x")
        pair.fail_over()
        counted.count("x")
        assert pair.second.hget("workermon:counts", "x") == b"2"


def test_many_commands_reach_the_new_primary(pair: Pair) -> None:
    """Commands at the replica fail in one line. The next ones connect to the new primary."""
    with contextlib.closing(client.connect(pair.address.url(1))) as connected:
        marked = samples.RedisSamples(connected, "workermon:metrics", lambda: models.DAY)
        workers.RedisWorkers(connected).add([builders.worker(), builders.worker(builders.B)])
        marked.mark_pending([builders.A, builders.B], 1.0)
        pair.fail_over()
        with pytest.raises(errors.RedisUnavailable, match="read-only replica"):
            marked.mark_pending([builders.A, builders.B], 2.0)
        marked.mark_pending([builders.A, builders.B], 3.0)
        assert pair.second.zcard(keys.PENDING) == 2


def test_what_is_asked_each_second_reaches_the_new_primary_at_once(pair: Pair) -> None:
    """The kept connection is dropped at the first refusal, and the command is repeated."""
    with contextlib.closing(client.connect(pair.address.url(1))) as connected:
        connected_leases = leases.RedisLeases(connected)
        assert connected_leases.hold("one", "me", 60)
        pair.fail_over()
        assert connected_leases.hold("two", "me", 60)
        assert pair.second.get("workermon:lease:two") == b"me"


def test_a_node_that_holds_all_it_may_still_learns_of_the_new_primary(pair: Pair) -> None:
    """A replica refuses acknowledgements. A node at its limit still reads, and so notices that it has to move."""
    with Connection(pair.address.url(0)) as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        deliveries: list[Any] = []
        consumer = kombu.Consumer(
            channel, [kombu.Queue("workermon.test")], on_message=deliveries.append, accept=["json"]
        )
        with consumer, kombu.Producer(connection.clone()) as producer:
            producer.publish({}, routing_key="workermon.test", serializer="json")
            eventually(lambda: connection.drain_events(timeout=1) or deliveries, description="the message")
            assert not channel.qos.can_consume()
            pair.fail_over()
            with pytest.raises(connection.connection_errors):
                deliveries[0].ack()
            assert channel.qos.can_consume()


@pytest.mark.parametrize(("pool", "broker"), [("threads", "elsewhere"), ("prefork", "the same")])
def test_all_parts_go_on_at_the_new_primary(tmp_path: Path, pair: Pair, redis_url: str, pool: str, broker: str) -> None:
    """Beat, node and listener soon work on the new primary, without a supervisor. No process ends."""
    with opened(tmp_path, pair.address.url(1)) as house:
        house.env["WORKERMON_BROKER_URL"] = (
            redis_url.removesuffix("/1") + "/0" if broker == "elsewhere" else pair.address.url(0)
        )
        house.add(house.ids[:1])
        parts = [house.celery("worker", "-P", pool, "-c", "2"), house.celery("beat")]

        def at_work(since: float) -> None:
            def oldest() -> float:
                marks = pair.second.hmget("workermon:pulse", ["listener", "collect", "evaluate"])
                return min(float(at or 0) for at in marks)

            eventually(lambda: oldest() > since, within=60, description=last_words("work of every part", *parts))

        at_work(time.time())
        pair.fail_over()
        at_work(time.time() + 1)
        assert all(part.alive() for part in parts)
        assert "Traceback" not in parts[1].output
