"""Two Celery applications share a server, a database and a broker. Neither affects the other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.integration.celery_house import START, House, Process, opened
from tests.support.waiting import eventually
from workermon.on_redis import keys

pytestmark = pytest.mark.integration

#: An application as people write it, with every default of Celery and RedBeat. ``slow`` runs until its file is there.
THEIRS = """
import os, time, pathlib, celery
app = celery.Celery("theirs", broker=os.environ["THEIR_BROKER"])
app.conf.update(
    task_acks_late=True, worker_concurrency=4, worker_pool="threads",
    beat_scheduler="redbeat.RedBeatScheduler", redbeat_redis_url=os.environ["THEIR_REDBEAT"], beat_max_loop_interval=1,
    beat_schedule={"tidy": {"task": "theirs.tidy", "schedule": 1.0}},
)
folder = pathlib.Path(os.environ["THEIR_FOLDER"])
def note(what):
    with (folder / what).open("a") as file: file.write("x")
@app.task(name="theirs.tidy")
def tidy(): note("tidied")
@app.task(name="theirs.slow")
def slow():
    note("begun")
    while not (folder / "enough").exists(): time.sleep(0.05)
    note("ended")
"""


class Neighbour:
    """The other application, its processes, and the records of its tasks."""

    def __init__(self, house: House, folder: Path, broker: str, database: str) -> None:
        folder.mkdir()
        (folder / "theirs.py").write_text(THEIRS)
        self._house, self._folder = house, folder
        self.env = {"PYTHONPATH": f"{folder}:{house.cwd}", "THEIR_FOLDER": str(folder)}
        self.env |= {"THEIR_BROKER": broker, "THEIR_REDBEAT": database}

    def celery(self, *arguments: str) -> Process:
        """Start ``celery -A theirs arguments``."""
        return self._house.start("celery", "-A", "theirs", *arguments, env=self.env)

    def times(self, task: str) -> int:
        """Return how often a task wrote that."""
        path = self._folder / task
        return path.stat().st_size if path.exists() else 0

    def let_go(self) -> None:
        """Let the slow tasks end."""
        (self._folder / "enough").touch()


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of three instances."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


@pytest.fixture
def neighbour(house: House, tmp_path: Path, redis_url: str) -> Neighbour:
    """Give another application on our broker, with its RedBeat in our database."""
    return Neighbour(house, tmp_path / "theirs", urlsplit(redis_url)._replace(path="/0").geturl(), redis_url)


@pytest.fixture
def broker(redis_client: redis.Redis, neighbour: Neighbour) -> Iterator[Any]:
    """Give a client of the broker's database. The other application's keys may stay."""
    with contextlib.closing(redis.Redis.from_url(neighbour.env["THEIR_BROKER"])) as client:
        yield client
        for connection in (client, redis_client):
            for key in connection.scan_iter():
                if not key.startswith(b"workermon"):
                    connection.delete(key)


def start(house: House, neighbour: Neighbour, first: str) -> None:
    """Start both applications, one after the other, until each works."""
    for application in (house, neighbour) if first == "ours" else (neighbour, house):
        application.celery("worker")
        application.celery("beat")
        if application is house:
            works(house)
        else:
            eventually(lambda: neighbour.times("tidied"), within=START, description="the other application's task")


def works(house: House) -> None:
    """Wait until our node answers and our beat ticks."""
    eventually(lambda: beats(house), within=START, description="workermon's beat")
    eventually(lambda: status(house)["nodes"], within=START, description="workermon's node")


def beats(house: House) -> bool:
    """Tell whether our beat ticks."""
    return any(part["name"] == "beat" and part["ok"] for part in status(house)["parts"])


def status(house: House) -> dict[str, Any]:
    """Return the document of 'status'."""
    completed = house.run("workermon", "status", "--json")
    document: dict[str, Any] = json.loads(completed.stdout)
    return document


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_two_applications_on_one_server_leave_each_other_alone(
    house: House, neighbour: Neighbour, broker: Any, redis_client: redis.Redis, first: str
) -> None:
    """Each runs its own tasks and entries, in either order of start. status counts workermon's node only."""
    house.add(house.ids[:1])
    start(house, neighbour, first)
    assert len(status(house)["nodes"]) == 1
    collected, tidied = float(redis_client.hget(keys.LIVENESS, "collect") or 0), neighbour.times("tidied")
    eventually(
        lambda: float(redis_client.hget(keys.LIVENESS, "collect") or 0) > collected,
        within=START,
        description="a collection",
    )
    eventually(
        lambda: neighbour.times("tidied") >= tidied + 3, within=START, description="the other application's entry"
    )
    assert redis_client.hexists("redbeat:tidy", "definition")
    assert set(redis_client.zrange("redbeat::schedule", 0, -1)) == {b"redbeat:tidy", b"redbeat:celery.backend_cleanup"}
    assert redis_client.smembers("redbeat::statics") == {b"tidy"}


def test_our_node_does_not_restart_their_tasks(house: House, neighbour: Neighbour, broker: Any) -> None:
    """A task that the other node has held for hours stays there when workermon's node restores lost messages."""
    neighbour.celery("worker")
    sent = house.start("celery", "-A", "theirs", "call", "theirs.slow", env=neighbour.env)
    assert sent.popen.wait(START) == 0
    eventually(lambda: neighbour.times("begun"), within=START, description="the other application's slow task")
    for tag in broker.zrange("unacked_index", 0, -1):
        broker.zadd("unacked_index", {tag: 1})  # since 1970
    house.celery("worker")
    eventually(lambda: status(house)["nodes"], within=START, description="workermon's node")
    assert broker.zcard("unacked_index") == 1
    assert broker.llen("celery") == 0
    neighbour.let_go()
    eventually(lambda: neighbour.times("ended"), description="its end")
    assert neighbour.times("begun") == 1


def test_their_node_does_not_restart_our_tasks(house: House, neighbour: Neighbour, broker: Any) -> None:
    """workermon's unacknowledged messages are under keys that are not Celery's defaults."""
    house.celery("worker")
    eventually(lambda: status(house)["nodes"], within=START, description="workermon's node")
    eventually(lambda: list(broker.scan_iter("*workermon*")), description="workermon's keys in the broker")
    assert [key for key in broker.scan_iter() if b"workermon" not in key] == []


def test_beat_leaves_their_static_entries_alone(
    house: House, neighbour: Neighbour, redis_client: redis.Redis, broker: Any
) -> None:
    """Beat removes only its own static entries that left the configuration."""
    theirs = neighbour.celery("beat")
    eventually(
        lambda: redis_client.smembers("redbeat::statics"), within=START, description="the other application's entry"
    )
    theirs.stop()
    house.celery("beat")
    eventually(lambda: beats(house), within=START, description="workermon's beat")
    assert redis_client.hexists("redbeat:tidy", "definition")
    assert redis_client.zcard("redbeat::schedule") == 2
    assert not broker.llen("celery")


def test_two_nodes_of_one_name_are_two(house: House, broker: Any) -> None:
    """Nodes with the same name, as in two containers, are both counted."""
    for _ in range(2):
        house.celery("worker", "-n", "same@host")
    eventually(lambda: status(house)["nodes"] == ["same@host", "same@host"], within=START, description="both nodes")
