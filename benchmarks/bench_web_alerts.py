"""How soon a page leaves beside a web page that is killed, frozen or flooded, against without any.

Beat is left out, and AWS: samples with a value above the threshold are written as a collection writes them, one
after the other, and a receiver of ours notes when each notification comes. All else runs as with ``workermon up``.
Each round goes through all ways, so that each has its share of whatever else this machine does.
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

#: Rounds, and alerts of each way in a round.
ROUNDS, ALERTS = 2, 15
#: Workers of the fleet; those that fire are among them.
WORKERS = 1000
#: Clients that ask without a pause, and connections that only stay.
ASKING, IDLE = 8, 100
#: Seconds in which a page has to come.
PATIENCE = 60
#: The flood comes from a process of its own, and counts what it was answered.
SPAWN = multiprocessing.get_context("spawn")
ANSWERS: Any = SPAWN.Value("i", 0, lock=False)


class Receiver(http.server.ThreadingHTTPServer):
    """Notes when the notification of each worker came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received_at: dict[str, float] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Note when it came."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now, server = time.monotonic(), self.server
        assert isinstance(server, Receiver)
        if worker := message.get("worker"):
            server.received_at.setdefault(worker["id"], now)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Installation(NamedTuple):
    """What runs: where its files are, its Redis, the receiver, and the workers that have not fired yet."""

    folder: Path
    redis_url: str
    receiver: Receiver
    remaining: list[models.Worker]

    def fire(self) -> list[float]:
        """Have alerts fire, one after the other; return the seconds from each sample to its notification."""
        connected: Any = client.connect(self.redis_url)
        ledger, took = bench_web.ledger(connected), []
        for _ in range(ALERTS):
            worker, now = self.remaining.pop(), time.time()
            point = models.Datapoint(int(now // 60) * 60 - 60, 97.0)
            series = {name: models.Series(60, (point,)) for name in config.DEFAULT.collect}
            started = time.monotonic()
            ledger.write_many([bench_web.sample(worker, now, series)], force=True)
            received_at = self.receiver.received_at
            house.awaited(lambda: worker.id in received_at, PATIENCE, f"the page of {worker.name}")  # noqa: B023
            took.append(received_at[worker.id] - started)
        connected.close()
        return took


# --- the ways ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def killed(installation: Installation) -> Iterator[None]:
    """Have the page run and be killed."""
    with bench_web.serving(installation.folder, installation.redis_url) as (web, _):
        os.kill(web.pid, signal.SIGKILL)
        yield


@contextlib.contextmanager
def frozen(installation: Installation) -> Iterator[None]:
    """Have the page stand still with its connections open."""
    with bench_web.serving(installation.folder, installation.redis_url) as (web, _):
        os.kill(web.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(web.pid, signal.SIGCONT)


@contextlib.contextmanager
def idle(installation: Installation) -> Iterator[None]:
    """Have the page run, and nobody ask."""
    with bench_web.serving(installation.folder, installation.redis_url):
        yield


@contextlib.contextmanager
def flooded(installation: Installation) -> Iterator[None]:
    """Have clients ask for the fleet without a pause, beside connections that say nothing."""
    before = ANSWERS.value
    with bench_web.serving(installation.folder, installation.redis_url) as (_, port), ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        asking = SPAWN.Process(target=ask, args=(port, ANSWERS), daemon=True)
        asking.start()
        house.awaited(lambda: ANSWERS.value > before + ASKING, PATIENCE, "the flood")
        stack.callback(asking.join)
        stack.callback(asking.kill)
        yield


def ask(port: int, answers: Any) -> None:
    """Ask without a pause, until killed, and count the answers."""

    counting = threading.Lock()

    def ask_once() -> None:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                while True:
                    connection.request("GET", "/api/v1/workers")
                    connection.getresponse().read()
                    with counting:
                        answers.value += 1

    for _ in range(ASKING):
        threading.Thread(target=ask_once, daemon=True).start()
    threading.Event().wait()


@contextlib.contextmanager
def without(_: Installation) -> Iterator[None]:
    """Have no page run."""
    yield


WAYS = {
    "without web (the baseline)": without,
    "web, nobody asks": idle,
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
    took: dict[str, list[float]] = {name: [] for name in WAYS}
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
        installation.fire()  # processes have started once these have come
        for _ in range(ROUNDS):
            for name, disturbance in WAYS.items():
                with disturbance(installation):
                    took[name] += installation.fire()
    head = ["beside it", "alerts", "p50 ms", "p99 ms", "slowest ms", "times the baseline"]
    house.table("From a sample in Redis to its notification at the receiver", head, rows(took))
    print(f"\nWhile it was flooded the page answered {ANSWERS.value} requests for 100 workers each.")


if __name__ == "__main__":
    main()
