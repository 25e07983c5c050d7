"""RabbitMQ as Celery's broker, for real: tasks, remote control, backlog and canary. The state stays in Redis."""

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
from tests.integration.flower import Flower
from tests.support import rabbit
from tests.support.waiting import eventually
from workermon.on_celery import messages

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rabbit.why_missing() is not None, reason=str(rabbit.why_missing())),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[rabbit.Rabbit]:
    """Run a RabbitMQ for all tests here."""
    running = rabbit.Rabbit(tmp_path_factory.mktemp("broker") / "rabbit", certificate)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def broker(server: rabbit.Rabbit) -> rabbit.Rabbit:
    """Give RabbitMQ without workermon's queues."""
    with kombu.Connection(server.url) as connection:
        for queue in messages.QUEUES:
            connection.default_channel.queue_delete(queue)
    return server


def queues(house: House) -> dict[str, int]:
    """Return the backlog of 'status'."""
    completed = house.run("workermon", "status", "--json")
    backlog: dict[str, int] = json.loads(completed.stdout)["queues"]
    return backlog


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
    """Return a table nested so deeply that reading it exceeds Python's stack."""
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"t": table}
    return table


@pytest.mark.long
def test_everything_but_the_state_goes_over_rabbitmq(tmp_path: Path, broker: rabbit.Rabbit, redis_url: str) -> None:
    """Over TLS a fleet is collected and evaluated, and status counts nodes and messages.

    Broken messages stop nothing.
    """
    state = redis.Redis.from_url(redis_url)
    with opened(tmp_path, redis_url) as house:
        house.env["WORKERMON_BROKER_URL"] = broker.tls_url
        house.add(house.ids)
        assert house.run("workermon", "status").returncode == 1  # no queue is there yet
        beat = house.celery("beat")
        # The canary of the first minute need not be waited for.
        eventually(lambda: state.exists("workermon:schedule:tick"), within=START, description=last_words("beat", beat))
        state.hset("workermon:schedule:canary", mapping={"at": f"{time.time() - 59:.3f}", "times": 0})
        node = house.celery("worker", "-c", "2")

        def every_part_ran() -> bool:
            return all(state.hexists("workermon:pulse", part) for part in ("collect", "evaluate", "listener", "canary"))

        eventually(every_part_ran, within=START, description=last_words("the whole way", node, beat))
        send(broker, "no task", headers=nested(1500))
        send(broker, [1, 2, 3], headers={"task": "workermon.collect", "id": "x", "link": ["y"]})
        eventually(lambda: node.output.count("queue.refused") == 2, description=last_words("both are refused", node))
        eventually(
            lambda: house.run("workermon", "status").returncode == 0,
            within=START,
            description=last_words("status", node, beat),
        )
        assert house.run("workermon", "doctor").returncode == 0
        assert set(queues(house)) == {"workermon.collect", "workermon.evaluate", "workermon.deliver", "unacked"}
        answered = house.run("celery", "-A", "workermon", "inspect", "stats")
        assert answered.returncode == 0, answered.stderr
        assert "hush" not in answered.stdout
        broker.restart()
        restarted = time.time()

        def oldest() -> float:
            return min(float(at or 0) for at in state.hmget("workermon:pulse", ["collect", "evaluate"]))

        eventually(lambda: oldest() > restarted, within=60, description=last_words("work after a restart", node, beat))
        assert node.alive()
        node.kill()
        eventually(
            lambda: queues(house)["workermon.collect"] > 0, description="the count of messages that no node takes"
        )
        assert queues(house)["unacked"] == 0  # nobody holds any
        assert beat.alive()


def test_up_and_flower_run_over_rabbitmq(tmp_path: Path, broker: rabbit.Rabbit, redis_url: str) -> None:
    """All parts of ``up`` run, ``status`` counts the messages of nodes, and Flower shows the tasks and no password."""
    with opened(tmp_path, redis_url) as house:
        house.env["WORKERMON_BROKER_URL"] = broker.url
        up = house.start("workermon", "up", "--no-web")
        flower = Flower(house)
        eventually(lambda: '"up.running"' in up.output, within=START, description=last_words("up", up))
        house.add(house.ids)
        eventually(
            lambda: house.run("workermon", "status").returncode == 0, within=90, description=last_words("status", up)
        )

        def names() -> set[str]:
            return {task["name"] for task in flower.tasks().values() if task["name"]}

        eventually(lambda: flower.answers(), within=START, description=last_words("flower", flower.process))
        eventually(
            lambda: names() >= {"workermon.collect", "workermon.evaluate"},
            within=60,
            description=last_words("tasks", up),
        )
        house.aws.fail("hang")
        held = "the count of messages that nodes hold, which a busy node does not tell in time"
        eventually(lambda: queues(house)["unacked"] > 0, within=120, description=held)
        house.aws.recover()
        pages = [flower.get(path) for path in ("/", "/tasks", "/api/workers?refresh=true")]
        assert "hush@" not in "".join([*pages, flower.process.output, up.output])
        assert up.stop() == 0


def test_a_certificate_that_is_not_trusted_is_refused_in_one_line(
    tmp_path: Path, broker: rabbit.Rabbit, redis_url: str
) -> None:
    """Nothing is sent to a RabbitMQ with an unknown certificate. The error shows no password."""
    with opened(tmp_path, redis_url, workers=1) as house:
        house.env["WORKERMON_BROKER_URL"] = broker.untrusted_tls_url
        completed = house.run("workermon", "status")
        node = house.celery("worker", "-c", "1")
        eventually(
            lambda: "CERTIFICATE_VERIFY_FAILED" in node.output, within=START, description=last_words("the node", node)
        )
    assert completed.returncode == 4
    assert completed.stderr.startswith("error: broker: its certificate is not trusted; name its authority")
    assert completed.stderr.count("\n") == 1
    assert "hush" not in completed.stderr + node.output
