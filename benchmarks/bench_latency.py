"""How long after its datapoint could be had a page leaves, over workers of every cohort.

All of workermon runs as with ``workermon up``, on real minutes, with detailed monitoring at 60 s and one rule, "1 of
1". Some workers of each cohort fire every second minute. A receiver of ours notes when each page came. The first
``BENCH_SETTLE`` minutes (12) are for learning when datapoints come; ``BENCH_CYCLES`` (5) are measured.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import house

from workermon import models
from workermon.local import up
from workermon.on_redis import client

SETTLE = int(os.environ.get("BENCH_SETTLE", "12"))
CYCLES = int(os.environ.get("BENCH_CYCLES", "5"))
#: Seconds after the end of its period that the endpoint has a datapoint.
DELAY = 5


class Page(NamedTuple):
    """A page: seconds from when its datapoint could be had until it came."""

    worker_id: str
    received_at: float
    late: float


class Receiver(http.server.ThreadingHTTPServer):
    """Takes the pages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: list[Page] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Note when it came."""
        page = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now = time.time()
        server: Any = self.server
        could = models.moment(page["at"]) + house.INTERVAL + DELAY
        server.pages.append(Page(page["worker"]["id"], now, now - could))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measured(number: int, folder: Path) -> tuple[list[Page], int]:
    """Run a fleet of that size; return the pages of the measured minutes, and how many cohorts they are from."""
    folder.mkdir()
    os.environ.update(BENCH_DELAY=str(DELAY), BENCH_TOGGLED="4")
    with house.server(folder) as server, house.endpoint(folder) as aws, ExitStack() as stack:
        receiver = Receiver()
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.shutdown)
        env = house.environment(folder, server.url, aws.url)
        file = folder / "workermon.toml"
        file.write_text(house.NOTIFIED.format(port=receiver.server_port))
        apply = [sys.executable, "-m", "workermon", "apply", str(file)]
        subprocess.run(apply, env=env, check=True, cwd=house.ROOT, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, str(house.ROOT / "benchmarks/seed.py"), str(number)], env=env, check=True)
        for child in up.children(env, collectors=up.collectors_for(number)):
            stack.enter_context(house.started(child.name, child.argv, child.env, folder / f"{child.name}.log"))
        time.sleep(SETTLE * house.INTERVAL)  # what is measured is what holds after that
        began = time.time()
        time.sleep(CYCLES * house.INTERVAL)
        connected: Any = client.connect(server.url)
        cohorts = {key.decode(): cohort for key, cohort in connected.hgetall("workermon:schedule:cohorts").items()}
        connected.close()
    pages = [page for page in receiver.pages if page.received_at >= began]
    return pages, len({cohorts[page.worker_id] for page in pages})


def main() -> None:
    """Measure, and print the table."""
    print(f"# How late a page is\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes("1000"):
            pages, cohorts = measured(number, folder / str(number))
            late = [page.late for page in pages] or [0.0]
            shares = [house.percentile(late, part) for part in (0.5, 0.99)]
            rows.append([number, len(pages), cohorts, *(f"{share:.1f}" for share in (*shares, max(late)))])
    house.table(
        f"Page latency over cohorts: seconds after the datapoint can be had, 60 s, 1 of 1, after {SETTLE} minutes",
        ["workers", "pages", "cohorts", "p50 (<= 2)", "p99 (<= 5)", "slowest"],
        rows,
    )


if __name__ == "__main__":
    main()
