"""All CPU per worker and cycle of five metrics, against a bare boto3 loop and the plain design.

Beat, both nodes and Valkey run as with ``workermon up``, in real time. In the first ``BENCH_SETTLE`` minutes (6)
workermon learns when datapoints arrive: cohorts move, and some are collected twice. Then it is measured over whole
intervals. Not counted is the CPU of the simulated AWS, and of the subscriber in this process. The subscriber receives
every sample and measures how late it is.
"""

from __future__ import annotations

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
import redis

from workermon import models
from workermon.local import up
from workermon.on_redis import client

#: Intervals to measure. In each fifth all requests are full ones, so use a multiple of five.
CYCLES = int(os.environ.get("BENCH_CYCLES", "5"))
#: Intervals before that, with all workers collected.
SETTLE = int(os.environ.get("BENCH_SETTLE", "6"))
#: Seconds that the baselines request. They do not know what is new, so they find late datapoints only if they request
#: the whole lateness, as workermon does. Three minutes hold the newest datapoints.
FULL_WINDOW, RECENT_WINDOW = models.LATENESS + 4 * house.INTERVAL, 3 * house.INTERVAL
#: Seconds: until workermon without workers is at rest after its start, and how long it is measured then. The first
#: canary, a minute after the start, makes stages and imports modules for the first time. CPU is counted in 10 ms.
SETTLED, IDLE = 130, 120
#: Measured: batches of 100 workers of the bare loop, and workers of the plain design.
BATCHES = 80
PLAIN = 500


class Cost(NamedTuple):
    """The cost of a fleet of one size. ``cpu`` is ms per worker and cycle, by process."""

    workers: int
    samples: int
    cpu: dict[str, float]
    rss: dict[str, float | None]
    late: tuple[float, float]
    calls: float
    points: float
    pending: int
    elapsed: float

    @property
    def total(self) -> float:
        """Return the CPU of all processes."""
        return sum(self.cpu.values())


class Reader(threading.Thread):
    """Receives the samples like any other subscriber."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        connection: Any = redis.Redis.from_url(url)
        self._pubsub = connection.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe("workermon:metrics")
        self._stopped = threading.Event()
        self.messages: list[tuple[float, bytes]] = []

    def run(self) -> None:
        """Record when each sample arrives."""
        while not self._stopped.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None:
                self.messages.append((time.time(), message["data"]))

    def stop(self) -> None:
        """Unsubscribe."""
        self._stopped.set()
        self.join(2)
        self._pubsub.close()


def measure(number: int, cycles: int, folder: Path, aws: house.Endpoint) -> Cost:
    """Run a fleet of ``number`` workers and measure it over ``cycles`` intervals."""
    folder.mkdir()
    with house.server(folder) as redis_server:
        env = house.environment(folder, redis_server.url, aws.url)
        if number:
            subprocess.run([sys.executable, str(house.ROOT / "benchmarks/seed.py"), str(number)], env=env, check=True)
        reader = Reader(redis_server.url)
        reader.start()
        with ExitStack() as stack:
            running = [
                stack.enter_context(house.started(child.name, child.argv, child.env, folder / f"{child.name}.log"))
                for child in up.children(env, collectors=up.collectors_for(number))
            ]
            pids = {process.name: process.pid for process in running} | {"valkey": int(redis_server.pid or 0)}
            connected: Any = client.connect(redis_server.url)
            house.wait_for(lambda: connected.hget("workermon:pulse", "listener"), 60, "listener")
            if number:
                house.wait_for(
                    lambda: len(reader.messages) >= number and len(_workers(reader)) >= number,
                    4 * house.INTERVAL,
                    f"all {number} collected",
                )
            time.sleep(SETTLE * house.INTERVAL if number else SETTLED)  # the learning is not measured
            before, stats_before = {name: house.cpu(pid) for name, pid in pids.items()}, aws.stats()
            began, first = time.time(), len(reader.messages)
            due = [_due(connected)]
            time.sleep(cycles * house.INTERVAL if number else IDLE)  # the measured time
            due.append(_due(connected))
            spent: dict[str, float] = {}
            for name, pid in pids.items():  # a large fleet has a second collecting process, collect-2
                part = name.partition("-")[0]
                spent[part] = spent.get(part, 0.0) + house.cpu(pid) - before[name]
            answered, elapsed = aws.stats(), time.time() - began
            received = reader.messages[first:]
            rss = {name: house.peak_rss(pid) for name, pid in pids.items()}
            pending = int(connected.zcount("workermon:pending", "-inf", time.time() - 5))
            connected.close()
        reader.stop()
    late = _lateness(received, due)
    if not number:
        return Cost(0, 0, {k: v / elapsed * 1000 for k, v in spent.items()}, rss, (0, 0), 0, 0, pending, elapsed)
    requests = {name: answered.get(name, 0) - stats_before.get(name, 0) for name in answered}
    expected = number * elapsed / house.INTERVAL
    return Cost(
        number,
        len(received),
        {name: cpu / expected * 1000 for name, cpu in spent.items()},
        rss,
        (house.percentile(late, 0.5), house.percentile(late, 0.99)),
        requests["calls"] / max(1, len(received)),
        requests.get("datapoints", 0) / max(1, requests.get("queries", 0)),
        pending,
        elapsed,
    )


def _workers(reader: Reader) -> set[str]:
    return {json.loads(text)["worker_id"] for _, text in list(reader.messages)}


def _due(connected: Any) -> dict[bytes, float]:
    """Return by worker id when each worker is due next."""
    entries = connected.zrange("workermon:redbeat::schedule", 0, -1, withscores=True)
    return {key.rpartition(b":")[2]: score for key, score in entries}


def _lateness(received: list[tuple[float, bytes]], due: list[dict[bytes, float]]) -> list[float]:
    """Return how late each sample was, against the time its cohort was due before or after it moved."""
    late = []
    for at, text in received:
        worker = json.loads(text)["worker_id"].encode()
        if all(worker in times for times in due):
            late.append(min((at - times[worker]) % house.INTERVAL for times in due))
    return late or [0.0]


def bare(folder: Path, aws: house.Endpoint, window: float) -> float:
    """Return the CPU of the bare loop in ms per worker and cycle."""
    env = house.environment(folder, "redis://127.0.0.1:1/1", aws.url)
    argv = [sys.executable, str(house.ROOT / "benchmarks/bare.py"), str(BATCHES), str(window)]
    output = json.loads(subprocess.run(argv, env=env, check=True, capture_output=True, text=True, timeout=300).stdout)
    return float(output["cpu"]) / BATCHES / 100 * 1000


def plain(folder: Path, aws: house.Endpoint, window: float) -> float:
    """Return the CPU of the plain design (beat, node and Valkey) in ms per worker and cycle."""
    folder.mkdir()
    with house.server(folder) as redis_server:
        broker = house.broker(redis_server.url).kombu_url
        env = {
            **house.environment(folder, redis_server.url, aws.url),
            "PYTHONPATH": f"{house.ROOT}{os.pathsep}{house.ROOT / 'benchmarks'}",
            "PLAIN_BROKER": broker,
            "PLAIN_WINDOW": str(window),
        }
        os.environ.update(PLAIN_BROKER=broker, PLAIN_WINDOW=str(window), WORKERMON_REDIS_URL=env["WORKERMON_REDIS_URL"])
        import plain as design

        celery = [sys.executable, "-m", "celery", "--quiet", "-A", "plain"]
        argv = [*celery, "worker", "--pool", "threads", "--concurrency", "16", "--without-mingle", "--without-gossip"]
        connected: Any = redis.Redis.from_url(redis_server.url)
        entries = design.schedule(range(1, 21 + PLAIN))
        with (
            house.started("plain", argv, env, folder / "plain.log") as node,
            house.started("beat", [*celery, "beat"], env, folder / "beat.log") as beat,
        ):

            def send(first: int, number: int) -> None:
                design.set_due(entries[first : first + number], time.time())
                written = {f"plain:i-{place + 1:017x}" for place in range(first, first + number)}
                house.wait_for(lambda: connected.exists(*written) == number, 400, "plain design")

            house.wait_for(lambda: connected.exists(design.LOCK), 60, "plain design's beat")
            send(0, 20)
            pids = (node.pid, beat.pid, int(redis_server.pid or 0))
            before = [house.cpu(pid) for pid in pids]
            send(20, PLAIN)
            # The wait above asks Redis twenty times a second; its CPU does not matter.
            spent = sum(house.cpu(pid) for pid in pids) - sum(before)
        connected.close()
    return spent / PLAIN * 1000


def main() -> None:
    """Measure, and print the tables."""
    print(f"# CPU per worker and cycle\n\n{house.machine()}")
    with house.folder() as folder, house.endpoint(folder) as aws:
        idle = measure(0, 0, folder / "0", aws)
        costs = []
        for number in house.sizes():
            costs.append(measure(number, CYCLES, folder / str(number), aws))
            _report(costs[-1])
        full_window, short_window = bare(folder, aws, FULL_WINDOW), bare(folder, aws, RECENT_WINDOW)
        design = plain(folder / "plain", aws, FULL_WINDOW)
    names = list(costs[0].cpu)
    house.table(
        "CPU in ms per worker and cycle of 5 metrics",
        ["workers", *names, "all", "all without idling"],
        [
            [
                cost.workers,
                *(f"{cost.cpu[name]:.3f}" for name in names),
                f"{cost.total:.3f}",
                f"{cost.total - sum(idle.cpu.values()) * house.INTERVAL / cost.workers:.3f}",
            ]
            for cost in costs
        ],
    )
    house.table(
        f"The same as ratios; the baselines request {FULL_WINDOW // 60} minutes every time",
        [
            "workers",
            "x bare loop (<= 0.8)",
            "x bare loop of 3 minutes",
            "x plain design (<= 0.12)",
            "x smallest fleet (<= 1.2)",
        ],
        [
            [
                cost.workers,
                f"{cost.total / full_window:.2f}",
                f"{cost.total / short_window:.2f}",
                f"{cost.total / design:.3f}",
                f"{cost.total / costs[0].total:.2f}",
            ]
            for cost in costs
        ],
    )
    print(
        f"\nBare boto3 loop: {full_window:.3f} ms, for 3 minutes {short_window:.3f} ms. Plain design: {design:.2f} ms."
    )
    print(f"Idle, without workers: {sum(idle.cpu.values()):.1f} ms a second ({_parts(idle)}).")
    _print_details(costs, names, idle)


def _parts(cost: Cost) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in cost.cpu.items())


def _report(cost: Cost) -> None:
    print(f"{cost.workers} workers: {cost.total:.3f} ms ({_parts(cost)}), {cost.samples} samples", file=sys.stderr)


def _print_details(costs: list[Cost], names: list[str], idle: Cost) -> None:
    house.table(
        f"Lateness of collections, from due until received; AWS answers after {house.LATENCY * 1000:.0f} ms",
        ["workers", "samples", "expected", "p50 s", "p99 s", "p99 / interval (< 0.1)", "AWS calls/sample",
         "points/query", "pending"],
        [
            [cost.workers, cost.samples, round(cost.workers * cost.elapsed / house.INTERVAL), f"{cost.late[0]:.2f}",
             f"{cost.late[1]:.2f}", f"{cost.late[1] / house.INTERVAL:.3f}", f"{cost.calls:.4f}", f"{cost.points:.1f}",
             cost.pending]
            for cost in costs
        ],
    )  # fmt: skip
    house.table(
        "Peak memory of each process in MB",
        ["workers", *names],
        [
            [
                fleet_cost.workers,
                *(_peak(fleet_cost, name) for name in names),
            ]
            for fleet_cost in [idle, *costs]
        ],
    )


def _peak(cost: Cost, part: str) -> str:
    """Return the peak memory of a part in MB, summed over its processes, or "?" if the system does not report it."""
    peaks = [peak for name, peak in cost.rss.items() if name.partition("-")[0] == part]
    known = [peak for peak in peaks if peak is not None]
    return f"{sum(known):.0f}" if len(known) == len(peaks) else "?"


if __name__ == "__main__":
    main()
