"""Celery's own commands on a real server: nodes of every pool, beat, takeovers, and invalid messages."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.integration.celery_house import House, has_ended, opened
from tests.support.waiting import eventually
from workermon.local import embedded
from workermon.on_celery import broker
from workermon.on_redis import keys, status_listings
from workermon.pipeline import leadership
from workermon.settings import BEAT_LOCK_SECONDS, redis_address

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]

#: Seconds until a node or beat is at work, on a busy machine.
READY = 60


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of three instances."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


def pulse(client: redis.Redis, part: str) -> float:
    """Return when a part last worked, 0 for never."""
    return float(client.hget("workermon:pulse", part) or 0)


def ticked(client: redis.Redis) -> float:
    """Return the time of beat's last tick, or 0 if there was none."""
    return float(client.get("workermon:schedule:tick") or 0)


def works(client: redis.Redis, *parts: str) -> bool:
    """Tell whether all these parts did their work from now on, once this was asked twice."""
    since = time.time()
    eventually(lambda: all(pulse(client, part) > since for part in parts), within=READY, description=f"{parts} at work")
    return True


@pytest.mark.parametrize("pool", [["-P", "threads"], ["-P", "prefork", "-c", "2"], ["-P", "solo"]], ids=lambda p: p[1])
def test_a_node_of_any_pool_does_the_whole_way(house: House, redis_client: redis.Redis, pool: list[str]) -> None:
    """Beat, node and listener collect and evaluate. A warm shutdown exits with 0."""
    node, beat = house.celery("worker", *pool), house.celery("beat")
    house.add(house.ids)
    assert works(redis_client, "collect", "evaluate", "listener")
    assert {"threads": "(thread)", "prefork": "(prefork)", "solo": "(solo)"}[pool[1]] in node.output
    assert (node.stop(), beat.stop()) == (0, 0)
    assert "Traceback" not in node.output + beat.output
    assert redis_client.get("workermon:lease:listener") is None


def test_one_process_with_worker_b_runs_our_beat_too(house: House, redis_client: redis.Redis) -> None:
    """'celery worker -B' runs workermon's scheduler."""
    node = house.celery("worker", "-B")
    house.add(house.ids[:1])
    assert works(redis_client, "collect", "evaluate")
    assert ticked(redis_client) > 0
    node.stop()
    assert not list(Path(house.cwd).glob("celerybeat-schedule*"))


def test_a_node_that_only_collects_does_not_listen(house: House, redis_client: redis.Redis) -> None:
    """A node with -Q workermon.collect runs no listener. Another node does."""
    collector = house.celery("worker", "-Q", "workermon.collect", "-n", "collect@%h")
    house.celery("beat")
    house.add(house.ids[:1])
    assert works(redis_client, "collect")
    assert pulse(redis_client, "listener") == 0
    judge = house.celery("worker", "-Q", "workermon.evaluate,workermon.deliver", "-n", "judge@%h")
    assert works(redis_client, "listener", "evaluate")
    assert judge.alive()
    assert collector.alive()


def answers(house: House) -> bool:
    """Wait until the node answers to remote control."""
    eventually(
        lambda: house.run("celery", "-A", "workermon", "inspect", "ping").returncode == 0,
        within=READY,
        description="an answer",
    )
    return True


# --- what may come in a message ----------------------------------------------------------------------------------


def send(
    client: redis.Redis, task: str, args: Any = (), kwargs: Any = None, queue: str | None = None, **header: Any
) -> None:
    """Put a task message as Celery writes it into its queue (by default that of its name), with anything in it."""
    queue = queue or task
    body = base64.b64encode(json.dumps([args, kwargs or {}, {}]).encode()).decode()
    headers = {"task": task, "id": f"id-{time.monotonic_ns()}", "lang": "py", "retries": 0, "eta": None}
    properties = {
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_tag": f"tag-{time.monotonic_ns()}",
        "body_encoding": "base64",
    }
    message = {"body": body, "content-encoding": "utf-8", "content-type": "application/json"}
    client.lpush(queue, json.dumps(message | {"headers": headers | header, "properties": properties}))


def test_no_message_stops_a_node(house: House, redis_client: redis.Redis, redis_server: embedded.Server) -> None:
    """Unknown identifiers, wrong types and invalid messages are counted or logged. The next message is handled."""
    node = house.celery("worker")
    house.add(house.ids[:1])
    assert works(redis_client, "listener")
    broker = redis.Redis.from_url(redis_server.url.removesuffix("/1") + "/0")
    unknown = "i-0123456789abcdef0"
    send(broker, "workermon.collect", kwargs={"worker_ids": [unknown]})
    send(broker, "workermon.evaluate", kwargs={"worker_ids": [unknown]})
    send(broker, "workermon.deliver", kwargs={"alert_ids": [f"{unknown}/cpu-high"]})
    send(broker, "workermon.collect", kwargs={"worker_ids": "i-0123456789abcdef0"})
    send(broker, "workermon.collect", kwargs={"worker_ids": [3, None, "i-0\n", {}, [], "x" * 10_000]})
    send(broker, "workermon.collect", kwargs={"worker_ids": None})
    send(broker, "workermon.collect", kwargs={})
    send(broker, "workermon.collect", kwargs={"worker_ids": [unknown], "ec2": "mine"})
    send(broker, "workermon.evaluate", args=[[unknown], "more"])
    send(broker, "workermon.deliver", kwargs={"alert_ids": ["no slash", 3]})
    send(broker, "workermon.no_such_task")
    send(broker, "workermon.evaluate", kwargs={"worker_ids": [unknown]}, expires="soon")
    for raw in (b"no json", b"\xff\xfe", b"{}", b"[]", b"3", b'{"body": 1, "properties": {}}'):
        broker.lpush("workermon.collect", raw)
        broker.lpush("workermon.evaluate", raw)
    for content in ("application/x-python-serialize", "text/plain"):
        message = {
            "body": "gASVBQAAAAAAAABLAS4=", "content-encoding": "binary", "content-type": content,
            "headers": {"task": "workermon.collect", "id": "x"},
            "properties": {"delivery_info": {"exchange": "", "routing_key": "workermon.collect"}, "delivery_tag": "y",
                           "body_encoding": "base64"},
        }  # fmt: skip
        broker.lpush("workermon.collect", json.dumps(message))
    eventually(
        lambda: not any(broker.llen(f"workermon.{queue}") for queue in ("collect", "evaluate", "deliver")),
        within=READY, description="empty queues",
    )  # fmt: skip
    counts = eventually(lambda: redis_client.hgetall("workermon:counts"))
    eventually(lambda: int(redis_client.hget("workermon:counts", "message.unknown_worker") or 0) >= 2)
    eventually(
        lambda: int(redis_client.hget("workermon:counts", "message.invalid") or 0) >= 12, description=f"{counts}"
    )
    house.celery("beat")
    assert works(redis_client, "collect", "evaluate")
    assert node.alive()
    assert "not a list of identifiers" in node.output
    broker.close()


def test_events_that_are_none_stop_nothing(house: House, redis_client: redis.Redis) -> None:
    """Invalid messages on the channel are counted by reason, even bytes that are not text."""
    node = house.celery("worker")
    assert works(redis_client, "listener")
    for message in (b"no json", b"\xff\xfe\x00", b"x" * 70_000, b'{"schema": 2}', b"[" * 60_000):
        redis_client.publish("workermon:metrics", message)
    eventually(
        lambda: (
            {k for k, v in redis_client.hgetall("workermon:counts").items()}
            == {b"event.invalid.not_json", b"event.invalid.too_large", b"event.invalid.unknown_schema"}
        )
    )
    assert works(redis_client, "listener")
    assert node.alive()


# --- what dies, and who takes over -------------------------------------------------------------------------------


def test_another_listener_takes_over_within_five_seconds(house: House, redis_client: redis.Redis) -> None:
    """If the node with the active listener is killed, another takes over within five seconds."""
    first = house.celery("worker", "-n", "first@%h")
    assert works(redis_client, "listener")
    second = house.celery("worker", "-n", "second@%h")
    eventually(lambda: "mingle" in second.output or "ready" in second.output or len(second.output) > 500, within=READY)
    holder = redis_client.get("workermon:lease:listener")
    # The second one stands by as soon as its step runs, a moment after its banner.
    eventually(lambda: redis_client.client_list() and len(redis_client.client_list()) > 6, within=READY)
    first.kill()
    eventually(lambda: redis_client.get("workermon:lease:listener") not in (None, holder), within=30)
    # The lease ends by itself, and the second one claims it each second. A busy machine takes longer.
    assert leadership.LEASE + leadership.CLAIMED_EVERY < 5
    assert works(redis_client, "listener")


def test_the_listener_beside_forks_ends_with_its_node(house: House, redis_client: redis.Redis) -> None:
    """A killed prefork node leaves no listener process. If the listener is killed, the node starts another."""
    node = house.celery("worker", "-P", "prefork", "-c", "1")
    assert works(redis_client, "listener")

    def listeners() -> list[int]:
        return [pid for pid in node.children() if b"pipeline.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    (first,) = listeners()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: [pid for pid in listeners() if pid != first], within=READY, description="another listener")
    assert works(redis_client, "listener")
    children = node.children()
    node.kill()
    eventually(lambda: all(has_ended(pid) for pid in children), within=READY, description="the end of all children")


def test_a_standby_beat_takes_over_within_six_seconds(house: House, redis_client: redis.Redis) -> None:
    """If the beat with the lock is killed, another ticks within six seconds."""
    first = house.celery("beat")
    eventually(lambda: ticked(redis_client), within=READY)
    second = house.celery("beat")
    eventually(lambda: "beat" in second.output, within=READY)
    eventually(
        lambda: len(redis_client.client_list()) >= 3, within=READY, description="the second beat waiting for the lock"
    )
    first.kill()
    killed = time.time()
    eventually(lambda: ticked(redis_client) > killed + 0.5, within=READY)
    # The lock ends by itself, and the second one tries once a second (celeryconfig). A busy machine takes longer.
    assert BEAT_LOCK_SECONDS + 1 <= 6
    assert second.alive()


def test_a_lost_redis_ends_neither_beat_nor_node(tmp_path: Path) -> None:
    """Beat and node wait, and work again when Redis is back."""
    server = embedded.Server(tmp_path / "server", persistent=False)
    server.start()
    try:
        with opened(tmp_path, server.url) as house, contextlib.closing(redis.Redis.from_url(server.url)) as client:
            node, beat = house.celery("worker"), house.celery("beat")
            eventually(lambda: ticked(client) and pulse(client, "listener"), within=READY)
            assert server.pid
            os.kill(server.pid, signal.SIGKILL)
            eventually(lambda: not server.running)
            eventually(lambda: "beat.failed" in beat.output, within=READY, description="a failed tick of beat")
            server.respawn()
            eventually(client.ping, within=READY)
            house.add(house.ids[:1])
            assert works(client, "listener", "collect", "evaluate")
            assert node.alive()
            assert beat.alive()
            assert str(urlsplit(server.url).password) not in node.output + beat.output
    finally:
        server.stop()


# --- what is shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["worker"], ["beat"], ["inspect", "ping"], ["flower"], ["report"]])
def test_without_redis_a_command_says_so_in_one_line(house: House, command: list[str]) -> None:
    """The error is one line without a traceback: what is missing, what to do, and an exit code."""
    del house.env["WORKERMON_REDIS_URL"]
    completed = house.run("celery", "-A", "workermon", *command)
    assert completed.returncode == 4
    assert [line for line in completed.stderr.splitlines() if line.startswith("error: ")] == [
        "error: Redis: WORKERMON_REDIS_URL is not set and no embedded server runs; set it, or start 'workermon up'"
    ]
    assert "Traceback" not in completed.stderr


def test_nothing_that_celery_shows_has_the_password(
    house: House, redis_client: redis.Redis, redis_server: embedded.Server
) -> None:
    """'inspect conf', 'stats', 'report' and the banners show the settings without credentials."""
    node, beat = house.celery("worker"), house.celery("beat")
    assert works(redis_client, "listener")
    eventually(lambda: ticked(redis_client), within=READY)
    assert answers(house)
    outputs = [node.output, beat.output]
    for command in (["inspect", "conf"], ["inspect", "stats"], ["report"]):
        completed = house.run("celery", "-A", "workermon", *command)
        assert completed.returncode == 0, completed.stderr
        assert "workermon" in completed.stdout or "celery@" in completed.stdout
        outputs += [completed.stdout, completed.stderr]
    assert "redbeat_redis_url" in "".join(outputs)
    assert str(urlsplit(redis_server.url).password) not in "".join(outputs)


def test_what_celery_shows_of_a_unix_socket_or_of_sentinels_has_no_password(tmp_path: Path) -> None:
    """Neither the embedded server's address nor the options for sentinels show a password."""
    server = embedded.Server(tmp_path / "server", persistent=False)
    server.start()
    password = redis_address.RedisAddress.parse(server.url).password
    try:
        with opened(tmp_path, server.url) as house, contextlib.closing(redis.Redis.from_url(server.url)) as client:
            node, beat = house.celery("worker"), house.celery("beat")
            assert works(client, "listener")
            eventually(lambda: ticked(client), within=READY)
            assert answers(house)
            outputs = [node.output, beat.output]
            for command in (["inspect", "conf"], ["inspect", "stats"], ["inspect", "report"], ["report"]):
                completed = house.run("celery", "-A", "workermon", *command)
                assert completed.returncode == 0, completed.stderr
                outputs += [completed.stdout, completed.stderr]
            assert "redis+socket" in "".join(outputs)
            assert password not in "".join(outputs)
    finally:
        server.stop()
    options = {"sentinel_kwargs": {"password": password}, "master_name": "ours"}
    stats = broker.Connection(f"sentinel://:{password}@here:26379/0", transport_options=options).info()
    assert stats["transport_options"] == {"sentinel_kwargs": {"password": "***"}, "master_name": "ours"}
    assert password not in str(stats)


def test_registered_tasks_are_those_of_the_contract(house: House, redis_client: redis.Redis) -> None:
    """'inspect registered' lists the contract's four tasks, the canary's, and the one that lists statuses."""
    house.celery("worker")
    assert answers(house)
    completed = house.run("celery", "-A", "workermon", "inspect", "--timeout", "5", "--json", "registered")
    (tasks,) = json.loads(completed.stdout).values()
    names = ("canary", "collect", "deliver", "evaluate", "list_statuses", "reconcile")
    assert sorted(tasks) == [f"workermon.{name}" for name in names]


def test_a_node_lists_the_statuses_of_a_region(
    house: House, redis_client: redis.Redis, redis_server: embedded.Server
) -> None:
    """One message lists all workers there; the node pages through EC2's answer and stores each status."""
    house.celery("worker")
    house.add(house.ids, interval="60s")
    broker = redis.Redis.from_url(redis_server.url.removesuffix("/1") + "/0")
    send(broker, "workermon.list_statuses", kwargs={"worker_ids": house.ids[:1]}, queue="workermon.collect")
    eventually(lambda: redis_client.exists(keys.status_listing("default/us-east-1")), within=READY)
    listings = status_listings.RedisStatusListings(redis_client)
    last = listings.last("default/us-east-1")
    assert last is not None
    assert last.complete
    listed = listings.get(house.ids)
    assert {worker_id: listed_status.status.status for worker_id, listed_status in listed.items()} == dict.fromkeys(
        house.ids, "running"
    )
