"""Notification latency: from the moment when a datapoint is available until its notification arrives.

All of workermon runs as with ``workermon up``, in real time, with detailed monitoring at 60 s and one rule with breach
"1 of 1". Some workers of each cohort fire every second minute. A receiver records when each notification arrives.
In the first ``BENCH_SETTLE`` minutes (6) workermon learns when datapoints arrive. Then ``BENCH_CYCLES`` minutes (5)
are measured.
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

SETTLE = int(os.environ.get("BENCH_SETTLE", "6"))
CYCLES = int(os.environ.get("BENCH_CYCLES", "5"))
#: Seconds from the end of its period until the simulated AWS has a datapoint.
DELAY = 5


class Notification(NamedTuple):
    """A received notification. ``late`` is seconds from when its datapoint was available until it arrived."""

    worker_id: str
    available_at: float
    late: float


class Measured(NamedTuple):
    """The notifications of a run, from when on they count, and the cohorts of those that do."""

    notifications: list[Notification]
    began: float
    cohorts: int

    def counting(self) -> list[Notification]:
        """Return the notifications of the measured minutes."""
        return [each for each in self.notifications if each.available_at + each.late >= self.began]


class Receiver(http.server.ThreadingHTTPServer):
    """Receives the notifications."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notifications: list[Notification] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Record when the notification arrives."""
        notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now = time.time()
        server: Any = self.server
        available_at = models.moment(notification["at"]) + house.INTERVAL + DELAY
        server.notifications.append(Notification(notification["worker"]["id"], available_at, now - available_at))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def measure(number: int, folder: Path) -> Measured:
    """Run a fleet of that size."""
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
        time.sleep(SETTLE * house.INTERVAL)  # the learning is not measured
        began = time.time()
        time.sleep(CYCLES * house.INTERVAL)
        connected: Any = client.connect(server.url)
        cohorts = {key.decode(): cohort for key, cohort in connected.hgetall("workermon:schedule:cohorts").items()}
        connected.close()
    measured = Measured(receiver.notifications, began, 0)
    return measured._replace(cohorts=len({cohorts[each.worker_id] for each in measured.counting()}))


def by_minute(notifications: list[Notification]) -> list[list[object]]:
    """Return a row for the datapoints of each minute: its number, notifications, and how late they were."""
    late_by_minute: dict[int, list[float]] = {}
    for notification in notifications:
        late_by_minute.setdefault(int(notification.available_at // 60), []).append(notification.late)
    first = min(late_by_minute, default=0)
    return [
        [
            minute - first,
            len(late),
            *(f"{house.percentile(late, part):.1f}" for part in (0.5, 0.99)),
            f"{max(late):.1f}",
        ]
        for minute, late in sorted(late_by_minute.items())
    ]


def main() -> None:
    """Measure, and print the table."""
    print(f"# Notification latency\n\n{house.machine()}")
    rows, minutes = [], []
    with house.folder() as folder:
        for number in house.sizes("1000"):
            measured = measure(number, folder / str(number))
            late = [notification.late for notification in measured.counting()] or [0.0]
            shares = [house.percentile(late, part) for part in (0.5, 0.99)]
            rows.append([number, len(late), measured.cohorts, *(f"{share:.1f}" for share in (*shares, max(late)))])
            minutes += [[number, *row] for row in by_minute(measured.notifications)]
    house.table(
        f"Seconds after the datapoint is available, at 60 s, breach 1 of 1, after {SETTLE} minutes",
        ["workers", "notifications", "cohorts", "p50 s (<= 2)", "p99 s (<= 5)", "slowest s"],
        rows,
    )
    house.table(
        "The same from the start on, by the minute of the datapoint",
        ["workers", "minute", "notifications", "p50 s", "p99 s", "slowest s"],
        minutes,
    )


if __name__ == "__main__":
    main()
