"""The canary over real processes: it passes through all parts, and 'status' names a missing part."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from tests.integration.celery_house import START, House, opened
from tests.support.servers import database
from tests.support.waiting import eventually
from workermon import settings
from workermon.on_redis import keys

pytestmark = pytest.mark.integration


@pytest.fixture
def house(tmp_path: Path, redis_url: str, redis_client: redis.Redis) -> Iterator[House]:
    """Give an installation whose beat sends a canary at once."""
    redis_client.hset(settings.SCHEDULE_CANARY, mapping={"at": time.time() - 61, "times": 1})
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


def status(house: House) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the output of 'status'."""
    completed = house.run("workermon", "status", "--json")
    return completed.returncode, json.loads(completed.stdout)


def canary(house: House) -> tuple[bool, str]:
    """Return the canary's part of 'status'."""
    _, document = status(house)
    [part] = [row for row in document["parts"] if row["name"] == "canary"]
    assert part["ok"] is document["canary"]["ok"]
    return part["ok"], part["reason"]


def send(house: House, number: int = 4) -> None:
    """Send canaries as beat does, without its minute between them."""
    broker = database(house.env["WORKERMON_REDIS_URL"], 0)
    with Celery(broker=broker, set_as_current=False) as app:
        for _ in range(number):
            app.send_task("workermon.canary", kwargs={"stages": ["collect"]}, queue="workermon.collect")


def lost(redis_client: redis.Redis, step: str) -> int:
    """Return how many did not come to a step."""
    return int(redis_client.hget(keys.CANARY, f"lost:{step}") or 0)


def round_trips(redis_client: redis.Redis) -> bool:
    """Return whether a canary was accepted."""
    return bool(redis_client.hexists(keys.CANARY, "accepted"))


def test_it_passes_every_part_and_nobody_is_notified(house: House, redis_client: redis.Redis) -> None:
    """It takes seconds at most, is not in alerts, history and notifications, and leaves nothing on its way."""
    house.celery("worker")
    house.celery("beat")
    eventually(lambda: round_trips(redis_client), within=START, description="a canary that is accepted")
    code, document = status(house)
    assert (code, document["ok"], document["canary"]["stuck_after"]) == (0, True, None), document
    assert 0 <= document["canary"]["round_trip"] < 30
    assert (document["backlog"], document["alerts"], document["counts"]) == (0, 0, {})
    assert canary(house)[1].startswith("round trip ")
    assert json.loads(house.run("workermon", "alerts", "--all", "--json").stdout) == {"alerts": []}
    of_it = redis_client.keys("workermon:*canary*")
    assert sorted(of_it) == [b"workermon:canary", b"workermon:schedule:canary"]
    assert redis_client.exists("workermon:outbox", "workermon:alert-history:timeline") == 0
    assert redis_client.zcard("workermon:redbeat::schedule") == 0


def test_a_listener_that_is_gone_is_named(house: House, redis_client: redis.Redis) -> None:
    """Up to three lost canaries are normal.

    With four, 'status' exits with 1 and names the listener until one is back.
    """
    house.celery("worker", "-Q", "workermon.collect", "-n", "collect@here")
    judging = house.celery("worker", "-Q", "workermon.evaluate,workermon.deliver", "-n", "alerts@here")
    house.celery("beat")
    eventually(lambda: round_trips(redis_client), within=START, description="a canary that is accepted")
    judging.stop()
    send(house, 3)
    eventually(lambda: lost(redis_client, "received") == 3, description="canaries that no listener received")
    assert canary(house)[0]
    send(house, 1)
    eventually(lambda: lost(redis_client, "received") == 4, description="canaries that no listener received")
    ok, reason = canary(house)
    assert not ok
    assert reason.startswith("stuck after: published (the listener does not receive it); last round completed ")
    assert status(house)[0] == 1
    doctor = json.loads(house.run("workermon", "doctor", "--json").stdout)
    assert [check["ok"] for check in doctor["checks"] if check["name"] == "canary"] == [False]
    house.celery("worker", "-Q", "workermon.evaluate,workermon.deliver", "-n", "alerts@here")

    def all_received() -> bool:
        send(house, 1)
        return lost(redis_client, "received") == 0

    eventually(all_received, within=START, description="a listener that receives canaries")
    eventually(lambda: canary(house)[0], description="a canary that is accepted")


def test_a_queue_of_deliveries_that_nobody_reads_is_named(house: House, redis_client: redis.Redis) -> None:
    """If no node delivers, 'status' says so until one does."""
    house.celery("worker", "-Q", "workermon.collect,workermon.evaluate", "-n", "all@here")
    house.celery("beat")
    eventually(lambda: lost(redis_client, "accepted"), within=START, description="a canary in the outbox")
    send(house)
    eventually(lambda: lost(redis_client, "accepted") >= 4, description="canaries that nobody delivers")
    code, document = status(house)
    assert (code, document["canary"]["stuck_after"], document["backlog"]) == (1, "evaluated", 0)
    assert [row["name"] for row in document["parts"] if not row["ok"]] in (["canary"], ["queues", "canary"])
    assert "by the queue workermon.deliver" in canary(house)[1]
    assert redis_client.llen("workermon:outbox:queue:canary:workermon/canary") == 1
    house.celery("worker", "-Q", "workermon.deliver", "-n", "deliver@here")
    eventually(lambda: round_trips(redis_client), within=START, description="a canary that is accepted")
    assert canary(house)[0]


@pytest.mark.long
def test_the_heartbeat_stops_with_the_canary(house: House, redis_client: redis.Redis) -> None:
    """Heartbeats are sent while canaries are accepted, with an empty fleet too. They stop if nothing is delivered."""
    requests: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/alive"
        node = house.celery("worker", env={"WORKERMON_HEARTBEAT_URL": url})
        house.celery("beat")
        eventually(lambda: round_trips(redis_client), within=START, description="a canary that is accepted")
        eventually(lambda: requests, within=START, description="a heartbeat")
        completed = house.run("celery", "-A", "workermon", "control", "cancel_consumer", "workermon.deliver")
        assert completed.returncode == 0, completed.stderr
        send(house)
        eventually(lambda: lost(redis_client, "accepted") >= 4, description="canaries that nobody delivers")
        requested = len(requests)
        eventually(
            lambda: "heartbeat.withheld" in node.output, within=START, description="a heartbeat that is withheld"
        )
        assert "canary stuck after: evaluated" in node.output
        assert len(requests) <= requested + 1
        assert set(requests) == {"/alive"}
    finally:
        server.shutdown()
        server.server_close()
