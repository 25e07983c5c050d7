"""Flower, started for real: tasks with identifiers only, no access without a password, and no password shown."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.celery_house import House, opened
from tests.integration.flower import Flower
from tests.support.waiting import eventually
from workermon import models
from workermon.local import embedded

pytestmark = pytest.mark.integration


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of three instances."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


def identifiers(text: str) -> list[str]:
    """Return the identifiers of a task's ``kwargs`` as Flower shows them, failing if there is anything else."""
    arguments = json.loads(text.replace("'", '"'))
    assert len(arguments) == 1
    ((name, values),) = arguments.items()
    assert name in ("worker_ids", "alert_ids")
    for value in values:
        assert models.INSTANCE_ID.fullmatch(value.split("/")[0])
    return list(values)


def test_flower_shows_the_tasks_with_identifiers_only_and_no_password(
    house: House, redis_server: embedded.Server
) -> None:
    """Its API needs the login. It names tasks, queues and nodes, and never shows Redis's password."""
    house.celery("worker")
    flower = Flower(house)
    eventually(lambda: flower.get("/healthcheck", login=None), within=40)
    house.celery("beat")
    house.add(house.ids)

    def names() -> set[str]:
        return {task["name"] for task in flower.tasks().values() if task["name"]}

    eventually(lambda: names() >= {"workermon.collect", "workermon.evaluate"}, within=90, description="both tasks")
    tasks = flower.tasks()
    assert {
        identifier for task in tasks.values() if task["kwargs"] for identifier in identifiers(task["kwargs"])
    } == set(house.ids)
    assert all(task["args"] in ("()", "[]", None) for task in tasks.values())

    for login in (None, "ops:wrong"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            flower.get("/api/tasks", login=login)
        assert refused.value.code == 401

    def nodes() -> dict[str, Any]:
        """Return the nodes. Flower waits a second for their answers, which may be too short on a busy machine."""
        document: dict[str, Any] = json.loads(flower.get("/api/workers?refresh=true"))
        return document if all("active_queues" in node for node in document.values()) else {}

    workers = eventually(nodes, within=60, description="the node answers Flower")
    (node,) = workers.values()
    assert {queue["name"] for queue in node["active_queues"]} == {
        "workermon.collect", "workermon.evaluate", "workermon.deliver",
    }  # fmt: skip
    (name,) = workers
    pages = [flower.get(path) for path in ("/", "/tasks", "/broker", f"/worker/{name}", "/api/workers", "/metrics")]
    output = "".join([*pages, json.dumps(workers), json.dumps(tasks), flower.process.output])
    password = urlsplit(redis_server.url).password
    assert password
    assert password not in output
    assert "simulated" not in json.dumps(tasks)
