"""Notification latency while ``workermon web`` is killed, frozen or flooded, against no ``web`` at all.

There is no beat and no AWS. Samples above the threshold are written one after the other, as a collection writes them.
A receiver records when each notification arrives. Everything else runs as with ``workermon up``. The disturbances take
turns, so other work on the machine affects all of them alike.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import bench_web
import house

from workermon import config, models
from workermon.local import up
from workermon.on_redis import client

#: Rounds, and alerts of each disturbance in a round.
ROUNDS, ALERTS = 2, 15
#: Workers in the fleet.
WORKERS = 1000
#: Clients that send requests without a pause, and connections that stay idle.
ASKING, IDLE = 8, 100
#: Seconds in which a notification has to arrive.
TIMEOUT = 60
#: The flood runs in its own process, which counts the answers.
SPAWN = multiprocessing.get_context("spawn")
ANSWERS: Any = SPAWN.Value("i", 0, lock=False)


class Receiver(http.server.ThreadingHTTPServer):
    """Records when the first notification of each worker arrives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received_at: dict[str, float] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Record when the notification arrives."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now, server = time.monotonic(), self.server
        assert isinstance(server, Receiver)
        if worker := message.get("worker"):
            server.received_at.setdefault(worker["id"], now)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Installation(NamedTuple):
    """A running workermon: its folder, its Redis, the receiver, and the workers that have not fired yet."""

    folder: Path
    redis_url: str
    receiver: Receiver
    remaining: list[models.Worker]

    def fire(self) -> list[float]:
        """Make alerts fire, one after the other. Return the seconds from each sample to its notification."""
        connected: Any = client.connect(self.redis_url)
        ledger, took = bench_web.ledger(connected), []
        for _ in range(ALERTS):
            worker, now = self.remaining.pop(), time.time()
            point = models.Datapoint(int(now // 60) * 60 - 60, 97.0)
            series = {name: models.Series(60, (point,)) for name in config.DEFAULT.collect}
            started = time.monotonic()
            ledger.write_many([bench_web.sample(worker, now, series)], force=True)
            received_at = self.receiver.received_at
            house.wait_for(lambda: worker.id in received_at, TIMEOUT, f"the notification of {worker.name}")  # noqa: B023
            took.append(received_at[worker.id] - started)
        connected.close()
        return took


# --- disturbances ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def killed(installation: Installation) -> Iterator[None]:
    """Start ``web`` and kill it."""
    with bench_web.serving(installation.folder, installation.redis_url) as (web, _):
        os.kill(web.pid, signal.SIGKILL)
        yield


@contextlib.contextmanager
def frozen(installation: Installation) -> Iterator[None]:
    """Run ``web`` frozen, with its connections open."""
    with bench_web.serving(installation.folder, installation.redis_url) as (web, _):
        os.kill(web.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(web.pid, signal.SIGCONT)


@contextlib.contextmanager
def idle(installation: Installation) -> Iterator[None]:
    """Run ``web`` without requests."""
    with bench_web.serving(installation.folder, installation.redis_url):
        yield


@contextlib.contextmanager
def flooded(installation: Installation) -> Iterator[None]:
    """Run ``web`` while clients request the fleet without a pause, with idle connections besides."""
    before = ANSWERS.value
    with bench_web.serving(installation.folder, installation.redis_url) as (_, port), ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        asking = SPAWN.Process(target=flood, args=(port, ANSWERS), daemon=True)
        asking.start()
        house.wait_for(lambda: ANSWERS.value > before + ASKING, TIMEOUT, "the flood")
        stack.callback(asking.join)
        stack.callback(asking.kill)
        yield


def flood(port: int, answers: Any) -> None:
    """Request the fleet without a pause until killed, and count the answers."""
    counting = threading.Lock()

    def request_repeatedly() -> None:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                while True:
                    connection.request("GET", "/api/v1/workers")
                    connection.getresponse().read()
                    with counting:
                        answers.value += 1

    for _ in range(ASKING):
        threading.Thread(target=request_repeatedly, daemon=True).start()
    threading.Event().wait()


@contextlib.contextmanager
def without(_: Installation) -> Iterator[None]:
    """Run no ``web``."""
    yield


DISTURBANCES = {
    "without web (the baseline)": without,
    "web, no requests": idle,
    "web killed": killed,
    "web frozen": frozen,
    f"web flooded by {ASKING} clients": flooded,
}


def rows(took: dict[str, list[float]]) -> list[Sequence[object]]:
    """Return the rows of the table."""
    baseline = house.percentile(next(iter(took.values())), 0.5)
    table_rows: list[Sequence[object]] = []
    for name, seconds in took.items():
        median = house.percentile(seconds, 0.5)
        figures = (f"{1000 * figure:.0f}" for figure in (median, house.percentile(seconds, 0.99), max(seconds)))
        table_rows.append([name, len(seconds), *figures, f"{median / baseline:.1f}"])
    return table_rows


def main() -> None:
    """Measure, and print the table."""
    print(f"# Alerts beside the page\n\n{house.machine()}")
    sys.stdout.flush()
    took: dict[str, list[float]] = {name: [] for name in DISTURBANCES}
    with house.folder() as folder, house.server(folder / "redis") as server, ExitStack() as stack:
        receiver = Receiver()
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.shutdown)
        env = house.environment(folder, server.url, "http://127.0.0.1:9")
        file = folder / "workermon.toml"
        file.write_text(house.NOTIFIED.format(port=receiver.server_port))
        apply = [sys.executable, "-m", "workermon", "apply", str(file)]
        subprocess.run(apply, env=env, check=True, cwd=house.ROOT, capture_output=True)
        members = house.fleet(WORKERS, time.time())
        house.register(server.url, members, time.time())
        for child in up.children(env, beat=False):
            stack.enter_context(house.started(child.name, child.argv, child.env, folder / f"{child.name}.log"))
        installation = Installation(folder, server.url, receiver, list(members))
        installation.fire()  # not counted: these arrive when all processes have started
        for _ in range(ROUNDS):
            for name, disturbance in DISTURBANCES.items():
                with disturbance(installation):
                    took[name] += installation.fire()
    head = ["state of the page", "alerts", "p50 ms", "p99 ms", "slowest ms", "times the baseline"]
    house.table("From a sample in Redis to its notification at the receiver", head, rows(took))
    print(f"\nDuring the flood the page answered {ANSWERS.value} requests for 100 workers each.")


if __name__ == "__main__":
    main()
