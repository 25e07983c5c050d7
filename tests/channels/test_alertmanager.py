"""The channel ``alertmanager``: alerts of both severities."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.notifications import KEY, NOW, SECRETS, notification, notifiers, of
from tests.support.receiver import Receiver
from tests.support.waiting import eventually
from workermon import models
from workermon.models import SecretRef
from workermon.notify import http
from workermon.notify.channels import alertmanager


def test_alertmanager_posts_both_severities(receiver: Receiver) -> None:
    """Each transition is sent as the severity at hand and the other one as over, so that no old one stays."""
    channel = of(
        "alertmanager", url=f"http://127.0.0.1:{receiver.port}/am/", user="u", secret=SecretRef(env="PASSWORD")
    )
    notifiers()["alertmanager"].send(channel, [notification()])
    (got,) = receiver.got
    assert got.line == "POST /am/api/v2/alerts HTTP/1.1"
    assert got.headers["authorization"] == "Basic " + base64.b64encode(b"u:hunter2hunter2").decode()
    warning, critical = json.loads(got.body)
    assert (warning["labels"]["severity"], critical["labels"]["severity"]) == ("warning", "critical")
    assert models.moment(warning["endsAt"]) <= NOW < models.moment(critical["endsAt"])
    assert critical["labels"] == {
        "alertname": "cpu-high", "instance": "i-0abc0123456789def", "worker": "rénder-07", "region": "us-east-1",
        "account": "default", "kind": "threshold", "metric": "cpu_utilization", "label_a": "b", "severity": "critical",
    }  # fmt: skip
    assert critical["annotations"]["summary"] == notification().summary


def test_alertmanager_bearer(receiver: Receiver) -> None:
    """A secret without a user is a bearer token."""
    channel = of("alertmanager", url=f"http://127.0.0.1:{receiver.port}", secret=SecretRef(env="KEY"))
    notifiers()["alertmanager"].send(channel, [notification()])
    assert receiver.got[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.fixture
def real_alertmanager(tmp_path: Path) -> Iterator[str]:
    """Run Debian's Alertmanager; give its address."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("prometheus-alertmanager is not installed (apt install prometheus-alertmanager)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "alertmanager.yml"
    settings.write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    process = subprocess.Popen(
        [program, f"--config.file={settings}", f"--storage.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _ready(address), within=20, what="Alertmanager")
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _firing(address: str) -> list[tuple[str, str]]:
    with urllib.request.urlopen(f"{address}/api/v2/alerts", timeout=5) as reply:
        return sorted((found["labels"]["alertname"], found["labels"]["severity"]) for found in json.load(reply))


@pytest.mark.integration
def test_real_alertmanager(real_alertmanager: str) -> None:
    """A real Alertmanager shows an alert, its change of severity as one alert, and its end."""
    now = time.time()
    since = models.rfc3339(int(now) - 300)
    sender = alertmanager.Alertmanager(SECRETS, http.Client(time.time))
    channel = of("alertmanager", url=real_alertmanager)

    def send(minutes: int, **changes: Any) -> None:
        sender.send(channel, [notification(since=since, at=models.rfc3339(int(now) - 60 * minutes), **changes)])

    send(5, severity="warning")
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], what="the warning")
    send(4)
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "critical")], what="the critical")
    send(3, severity="warning")
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], what="the warning again")
    send(2, status="resolved")
    eventually(lambda: _firing(real_alertmanager) == [], what="the end")
    send(1)
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "critical")], what="a new episode")
