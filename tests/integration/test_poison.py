"""Messages that decode but that Celery cannot use, on real nodes."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.celery_house import House, opened
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]

QUEUES = ("workermon.collect", "workermon.evaluate", "workermon.deliver")
GOOD: list[Any] = [[], {"worker_ids": ["i-0123456789abcdef0"]}, {}]

#: Each as (body, headers, properties): one of them is wrong.
DEEP: Any = json.loads("[" * 400 + "]" * 400)

POISON: list[tuple[Any, Mapping[str, Any], Mapping[str, Any]]] = [
    ([[], {"worker_ids": DEEP}, {}], {}, {}),
    (None, {}, {}), (5, {}, {}), ([], {}, {}), ([[]], {}, {}), ({}, {}, {}), ("x", {}, {}),
    *(([*GOOD[:2], embedded], {}, {}) for embedded in ({"callbacks": 5}, {"chain": 9}, {"errbacks": 7, "chord": 1})),
    *(
        (GOOD, header, {})
        for header in (
            {"stamps": {"x": DEEP}}, {"x": DEEP}, {"link": [5]}, {"timelimit": "x"},
            {"id": ["a"]}, {"task": ["a"]}, {"stamped_headers": 5}, {"shadow": ["x"]},
            {"eta": "9999-12-31T00:00:00"}, {"callbacks": 5}, {"get": None}, {"group": 5},
        )
    ),
    *(
        (GOOD, {}, properties)
        for properties in (
            {"delivery_tag": None}, {"delivery_tag": ["x"]}, {"delivery_info": None}, {"correlation_id": [1]},
        )
    ),
]  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of three instances."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    """Give a plain client of the broker."""
    with contextlib.closing(redis.Redis.from_url(redis_url.removesuffix("/1") + "/0")) as client:
        yield client


def send(broker: redis.Redis, queue: str, body: Any, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
    """Put a message into a queue as Celery writes it, with anything in its parts."""
    name = f"id-{time.monotonic_ns()}"
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": queue, "id": name, "retries": 0, "eta": None} | dict(headers),
        "properties": {
            "delivery_tag": name,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        }
        | dict(properties),
    }
    broker.lpush(queue, json.dumps(message))


def at_work(client: redis.Redis, part: str, since: float) -> None:
    """Wait for a sign of life that is later."""
    eventually(lambda: float(client.hget("workermon:pulse", part) or 0) > since, within=40, description=part)


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_no_message_stays_in_a_nodes_hands(
    house: House, broker: redis.Redis, redis_client: redis.Redis, pool: str
) -> None:
    """Invalid messages of each kind fill each queue beyond the node's limit.

    Collection continues, and no message is left.
    """
    house.add(house.ids[:1])
    for queue in QUEUES:
        for body, headers, properties in POISON:
            send(broker, queue, body, headers, properties)
    node = house.celery("worker", "-P", pool, "-c", "2")
    eventually(
        lambda: int(redis_client.hget("workermon:counts", "message.invalid") or 0) == len(QUEUES) * len(POISON),
        within=40,
        description="all counted",
    )
    house.celery("beat")
    began = time.time()
    for part in ("collect", "evaluate"):
        at_work(redis_client, part, began)
    eventually(lambda: not any(broker.llen(queue) for queue in QUEUES), within=40, description="empty queues")
    assert node.alive()
    assert "Traceback" not in node.output
    eventually(lambda: not broker.exists("workermon:unacked"), description="no message held by a node")


def test_nodes_words_among_themselves_stop_nothing(house: House, broker: redis.Redis) -> None:
    """Invalid messages on the channel for remote control are ignored."""
    node = house.celery("worker", "-P", "threads")
    eventually(
        lambda: broker.publish("/0.workermon.pidbox", b"{}"), within=40, description="a node that receives the message"
    )
    for raw in (b"[]", b"5", b'{"properties": {}}', b"x"):
        assert broker.publish("/0.workermon.pidbox", raw) == 1
    assert house.run("celery", "-A", "workermon", "inspect", "ping").returncode == 0
    assert node.alive()
    assert "Unrecoverable" not in node.output
