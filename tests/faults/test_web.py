"""The page beside the alerts: flooded, killed and frozen, it delays none."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import rules
from tests.faults.stage import Stage
from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon.local import embedded

pytestmark = pytest.mark.integration

#: Clients that ask without a pause, and connections that only stay.
ASKING, IDLE = 8, 100
#: Seconds by which an alert may come later while this machine's processors are shared with those clients.
SLACK = 20.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give an installation on a server of its own."""
    server = embedded.Server(tmp_path / "valkey", persistent=False)
    server.start()
    new_stage = Stage("web", 0, server, tmp_path, mutant=None)
    try:
        yield new_stage
    finally:
        new_stage.close()
        server.stop()


def page_of(up: int) -> int:
    """Return the id of the process of the page that ``up`` runs."""
    pids = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if entry.name.isdigit() and b"workermon\0web" in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                pids += [int(entry.name)] if parent == str(up) else []
    [page] = pids
    return page


@contextlib.contextmanager
def frozen(page: int) -> Iterator[None]:
    """Freeze the page's process in this block: it holds its connections and answers nobody."""
    os.kill(page, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(page, signal.SIGCONT)


@contextlib.contextmanager
def flooded(port: int) -> Iterator[None]:
    """During the block, clients request the status without a pause, besides idle connections."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                client.request("GET", "/api/v1/status")
                client.getresponse().read()
                client.close()

    threads = [threading.Thread(target=ask) for _ in range(ASKING)]
    with contextlib.ExitStack() as idle:
        for _ in range(IDLE):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(30)


def test_a_flooded_killed_and_frozen_page_delays_no_alert(stage: Stage) -> None:
    """An alert fires as soon with a page that is flooded and killed, or frozen, as with an idle page."""
    port = free_port()
    stage.env["WORKERMON_WEB_PORT"] = str(port)
    stage.command(
        "apply",
        stage.write(
            "up.toml", rules.text(1, {"ops": rules.channel("ops", stage.pager.url)}) + rules.workers(stage.ids, 1)
        ),
    )
    up = stage.start("up")

    def fires() -> float:
        """Make the alert fire and resolve. Return the seconds until it notified."""
        earlier = len(stage.pager.of(stage.key))
        stage.load(97.0)
        began = time.time()
        stage.wait(lambda: len(stage.pager.of(stage.key)) > earlier and stage.notified("firing"), "the firing")
        took = stage.pager.of(stage.key)[earlier].at - began
        stage.load(10.0)
        stage.until("resolved")
        return took

    def serves() -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
            client.request("GET", "/livez")
            return client.getresponse().status == 200

    try:
        stage.load(10.0)
        eventually(serves, within=60, description="the page")
        calm = fires()
        with flooded(port):
            before = page_of(up.pid)
            os.kill(before, signal.SIGKILL)
            assert fires() < calm + SLACK
        eventually(serves, within=60, description="an answer of the page after its restart")
        after = page_of(up.pid)
        assert after != before
        with frozen(after):
            assert fires() < calm + SLACK
        eventually(serves, within=60, description="an answer of the page after SIGCONT")
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
    stage.check(pages=3)
