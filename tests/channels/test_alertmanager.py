"""The channel ``alertmanager``: alerts of both severities."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.free_ports import free_port
from tests.support.notifications import KEY, NOW, SECRETS, notification, notifiers, of
from tests.support.receiver import Receiver, answer
from tests.support.waiting import eventually
from workermon import errors, models, testing
from workermon.models import SecretRef
from workermon.notify import http
from workermon.notify.channels import alertmanager


def posted(receiver: Receiver) -> list[tuple[str, str, bool]]:
    """Return worker, severity of the alerts that were posted last, and whether each fires."""
    return [
        (alert["labels"].get("worker", ""), alert["labels"]["severity"], models.moment(alert["endsAt"]) > NOW)
        for alert in json.loads(receiver.requests[-1].body)
    ]


def test_alertmanager_posts_an_alert(receiver: Receiver) -> None:
    """A firing alert is posted by its labels, with an end far ahead and the channel's login."""
    channel = of(
        "alertmanager", url=f"http://127.0.0.1:{receiver.port}/am/", user="u", secret=SecretRef(env="PASSWORD")
    )
    notifiers()["alertmanager"].send(channel, [notification()])
    (request,) = receiver.requests
    assert request.line == "POST /am/api/v2/alerts HTTP/1.1"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"u:hunter2hunter2").decode()
    (critical,) = json.loads(request.body)
    assert models.moment(critical["endsAt"]) > NOW
    assert critical["labels"] == {
        "alertname": "cpu-high", "instance": "i-0abc0123456789def", "worker": "rénder-07", "region": "us-east-1",
        "account": "default", "kind": "threshold", "metric": "cpu_utilization", "label_a": "b", "severity": "critical",
    }  # fmt: skip
    assert critical["annotations"]["summary"] == notification().summary


def renamed(name: str, **labels: str) -> dict[str, Any]:
    """Return the worker of the notifications under another name."""
    return {"id": "i-0abc0123456789def", "name": name, "region": "us-east-1", "labels": labels}


def test_alertmanager_ends_what_was_sent(receiver: Receiver) -> None:
    """An end is posted for each set of labels under which the alert fires there, and for no other."""
    channel, notifier = of("alertmanager", url=f"http://127.0.0.1:{receiver.port}"), notifiers()["alertmanager"]

    def send(**changes: Any) -> list[tuple[str, str, bool]]:
        notifier.send(channel, [notification(**changes)])
        return posted(receiver)

    assert send(severity="warning", worker=renamed("a")) == [("a", "warning", True)]
    assert send(severity="warning", worker=renamed("a"), reminder=True) == [("a", "warning", True)]
    assert send(worker=renamed("b")) == [("a", "warning", False), ("b", "critical", True)]
    assert send(status="resolved", worker=renamed("c", team="vfx")) == [("b", "critical", False)]
    assert send(status="resolved", worker=renamed("c")) == [("c", "critical", False)], "nothing is remembered"


def test_alertmanager_remembers_what_may_have_arrived(receiver: Receiver) -> None:
    """A failed request may have been accepted, so its labels are ended too."""
    channel, notifier = of("alertmanager", url=f"http://127.0.0.1:{receiver.port}"), notifiers()["alertmanager"]
    receiver.plan = [receiver.cut]
    with pytest.raises(errors.DeliveryFailed):
        notifier.send(channel, [notification(worker=renamed("a"))])
    notifier.send(channel, [notification(worker=renamed("b"))])
    assert posted(receiver) == [("a", "critical", False), ("b", "critical", True)]
    receiver.plan = [answer(500)]
    with pytest.raises(errors.DeliveryFailed):
        notifier.send(channel, [notification(status="resolved", worker=renamed("b"))])
    notifier.send(channel, [notification(status="resolved", worker=renamed("b"))])
    assert posted(receiver) == [("b", "critical", False)]


def test_alertmanager_bearer(receiver: Receiver) -> None:
    """A secret without a user is a bearer token."""
    channel = of("alertmanager", url=f"http://127.0.0.1:{receiver.port}", secret=SecretRef(env="KEY"))
    notifiers()["alertmanager"].send(channel, [notification()])
    assert receiver.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.fixture
def real_alertmanager(tmp_path: Path) -> Iterator[str]:
    """A real Alertmanager shows an alert, its change of severity as the same alert, and its end."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("prometheus-alertmanager is not installed (apt install prometheus-alertmanager)")
    port = free_port()
    settings = tmp_path / "alertmanager.yml"
    settings.write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    process = subprocess.Popen(
        [program, f"--config.file={settings}", f"--storage.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _ready(address), within=60, description="Alertmanager")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _firing(address: str) -> list[tuple[str, str]]:
    with urllib.request.urlopen(f"{address}/api/v2/alerts", timeout=5) as reply:
        return sorted((alert["labels"]["alertname"], alert["labels"]["severity"]) for alert in json.load(reply))


@pytest.mark.integration
def test_real_alertmanager(real_alertmanager: str) -> None:
    """A real Alertmanager shows an alert, its change of severity as the same alert, and its end."""
    now = time.time()
    since = models.rfc3339(int(now) - 300)
    sender = alertmanager.Alertmanager(SECRETS, testing.MemoryFiringLabels(), http.Client(time.time))
    channel = of("alertmanager", url=real_alertmanager)

    def send(minutes: int, **changes: Any) -> None:
        sender.send(channel, [notification(since=since, at=models.rfc3339(int(now) - 60 * minutes), **changes)])

    send(5, severity="warning")
    eventually(
        lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], description="the warning alert in Alertmanager"
    )
    send(4)
    eventually(
        lambda: _firing(real_alertmanager) == [("cpu-high", "critical")],
        description="the critical alert in Alertmanager",
    )
    send(3, severity="warning")
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], description="the warning alert again")
    send(2, status="resolved")
    eventually(lambda: _firing(real_alertmanager) == [], description="the end")
    send(1)
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "critical")], description="a new episode")
    send(1, worker=renamed("render-08", team="vfx"))
    send(0, status="resolved", worker=renamed("render-09"))
    eventually(lambda: _firing(real_alertmanager) == [], description="the end of the alert of a renamed rule")
