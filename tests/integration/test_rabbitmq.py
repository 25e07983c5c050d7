"""RabbitMQ as Celery's broker, for real: tasks, remote control, backlog and canary; the state stays in Redis."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis

from tests.integration.celery_house import START, House, last_words, opened
from tests.support import rabbit
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(rabbit.why_missing() is not None, reason=str(rabbit.why_missing())),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[rabbit.Rabbit]:
    """Give a RabbitMQ."""
    made = rabbit.Rabbit(tmp_path / "rabbit")
    try:
        yield made
    finally:
        made.stop()


def queues(house: House) -> dict[str, int]:
    """Return the backlog, as status says it."""
    done = house.run("workermon", "status", "--json")
    found: dict[str, int] = json.loads(done.stdout)["queues"]
    return found


def send(broker: rabbit.Rabbit, body: Any, **properties: Any) -> None:
    """Put a message into the queue of collections, whatever it is."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with kombu.Connection(broker.url) as connection:
            connection.Producer().publish(body, exchange="", routing_key="workermon.collect", **properties)
    finally:
        sys.setrecursionlimit(limit)


def nested(depth: int) -> dict[str, Any]:
    """Return a table within a table, so often that whoever reads it needs more stack than Python has."""
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"t": found}
    return found


def test_everything_but_the_state_goes_over_rabbitmq(tmp_path: Path, broker: rabbit.Rabbit, redis_url: str) -> None:
    """A fleet is collected and evaluated, status counts nodes and messages, and broken messages harm nobody."""
    state = redis.Redis.from_url(redis_url)
    with opened(tmp_path, redis_url) as house:
        house.env["WORKERMON_BROKER_URL"] = broker.url
        house.add(house.ids)
        assert house.run("workermon", "status").returncode == 1  # no queue is there yet
        beat = house.celery("beat")
        # The canary of the first minute need not be waited for.
        eventually(lambda: state.exists("workermon:schedule:tick"), within=START, what=last_words("beat", beat))
        state.hset("workermon:schedule:canary", mapping={"at": f"{time.time() - 59:.3f}", "times": 0})
        node = house.celery("worker", "-c", "2")

        def done() -> bool:
            return all(state.hexists("workermon:pulse", part) for part in ("collect", "evaluate", "listener", "canary"))

        eventually(done, within=START, what=last_words("the whole way", node, beat))
        send(broker, "no task", headers=nested(1500))
        send(broker, [1, 2, 3], headers={"task": "workermon.collect", "id": "x", "link": ["y"]})
        eventually(lambda: node.said.count("queue.refused") == 2, what=last_words("both are refused", node))
        eventually(
            lambda: house.run("workermon", "status").returncode == 0,
            within=START,
            what=last_words("status", node, beat),
        )
        assert house.run("workermon", "doctor").returncode == 0
        assert set(queues(house)) == {"workermon.collect", "workermon.evaluate", "workermon.deliver"}
        answered = house.run("celery", "-A", "workermon", "inspect", "stats")
        assert answered.returncode == 0, answered.stderr
        assert "hush" not in answered.stdout
        broker.restart()
        restarted = time.time()

        def oldest() -> float:
            return min(float(mark or 0) for mark in state.hmget("workermon:pulse", ["collect", "evaluate"]))

        eventually(lambda: oldest() > restarted, within=60, what=last_words("work after a restart", node, beat))
        assert node.alive()
        node.kill()
        eventually(lambda: queues(house)["workermon.collect"] > 0, what="messages that nobody takes are counted")
        assert beat.alive()
