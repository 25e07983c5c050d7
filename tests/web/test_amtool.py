"""Debian's ``amtool`` and the API of a real ``workermon web`` over a real server."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import redis

from tests.support.commands import REGION, A, Ports, fires
from tests.support.free_ports import free_port
from tests.support.repositories import CHANNEL, install, repository_on_redis
from tests.support.waiting import eventually
from workermon import fleet, models, ports
from workermon.on_redis import client

pytestmark = pytest.mark.integration


class Served(NamedTuple):
    """A process that serves, its URL, and a client of its Redis."""

    url: str
    process: subprocess.Popen[bytes]
    redis: redis.Redis


@pytest.fixture
def served(redis_url: str, tmp_path: Path, silent_log: None) -> Iterator[Served]:
    """Run 'workermon web' over a server with a firing worker."""
    connection = client.connect(redis_url)
    world = Ports()
    install(world, repository_on_redis(connection))
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=models.AccountRegion(region=REGION)))
    fires(world, A)
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WORKERMON_", "AWS_"))}
    environment |= {"WORKERMON_REDIS_URL": redis_url, "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "workermon", "web", "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _is_ready(url), within=60, description="'workermon web' to be ready")
        yield Served(url, process, connection)
    finally:
        process.terminate()
        process.wait(60)
        connection.close()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


class Amtool:
    """Debian's amtool over one server."""

    def __init__(self, url: str, home: Path) -> None:
        self._url, self._home = url, home

    def run(self, *words: str, fails: bool = False) -> str:
        """Run it, and return its output, from standard error if it has to fail."""
        completed = subprocess.run(
            ["amtool", f"--alertmanager.url={self._url}/alertmanager", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(self._home)}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert (completed.returncode != 0) is fails, completed.stdout + completed.stderr
        return completed.stderr if fails else completed.stdout


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed (Debian: prometheus-alertmanager)")
def test_amtool_asks_and_silences(served: Served, tmp_path: Path) -> None:
    """Alerts are queried; a silence is added, queried and expired; unsupported matchers are refused with the reason."""
    amtool = Amtool(served.url, tmp_path)
    [alert] = json.loads(amtool.run("alert", "query", "alertname=cpu-high", "-o", "json"))
    assert (alert["labels"]["instance"], alert["status"]["state"]) == (A, "active")
    assert "cpu-high" in amtool.run("alert", "query")
    assert json.loads(amtool.run("alert", "query", "alertname=~mem.*", "-o", "json")) == []
    words = ("alertname=cpu-high", f"instance={A}", "--comment=new disk", "--author=kim", "--duration=2h")
    silence_id = amtool.run("silence", "add", *words).strip()
    [silence] = json.loads(amtool.run("silence", "query", "-o", "json"))
    assert (silence["id"], silence["comment"], silence["createdBy"]) == (silence_id, "new disk", "kim")
    assert json.loads(amtool.run("alert", "query", "-o", "json")) == []
    [alert] = json.loads(amtool.run("alert", "query", "--silenced", "-o", "json"))
    assert alert["status"] | {"mutedBy": []} == {
        "state": "suppressed", "silencedBy": [silence_id], "inhibitedBy": [], "mutedBy": [],
    }  # fmt: skip
    amtool.run("silence", "expire", silence_id)
    assert json.loads(amtool.run("silence", "query", "-o", "json")) == []
    refused = amtool.run("silence", "add", "severity=critical", "--comment=x", "--author=kim", fails=True)
    assert "knows alertname, instance, worker and label_" in refused


def test_the_api_of_a_real_process(served: Served) -> None:
    """'workermon web' serves the fleet, streams messages, and stops cleanly while a client follows."""
    with httpx.Client(base_url=served.url, timeout=60) as web:
        assert [worker["id"] for worker in web.get("/api/v1/workers").json()["workers"]] == [A]
        with web.stream("GET", "/api/v1/stream", params={"worker": A}) as answer:
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
            lines = answer.iter_lines()
            assert next(lines).startswith("retry: ")
            [alert] = httpx.get(f"{served.url}/api/v1/alerts", timeout=60).json()["alerts"]
            served.redis.publish(ports.alerts_channel(CHANNEL), json.dumps(alert))
            event = [line for line in itertools.islice(lines, 4) if line]
            assert event[:2] == ["event: alert", f"id: {alert['id']}"]
            data = json.loads(event[2].removeprefix("data: "))
            assert (data["dedup_key"], data["worker"]["id"]) == (f"{A}/cpu-high", A)
            served.process.terminate()
            assert not [line for line in lines if line.startswith("data")]
            assert served.process.wait(60) == 0
