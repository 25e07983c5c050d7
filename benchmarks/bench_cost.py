"""The CPU of everything for each worker and cycle of five metrics, against a bare boto3 loop and the plain design.

Beat, the node that collects, the node that listens, evaluates and delivers, and Valkey run as with ``workermon up``,
on real minutes. After two cycles they are measured over whole intervals. The endpoint's CPU is not counted, nor is
that of the reader here, which receives every sample as it is published and measures how late it was.
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

#: Intervals that are measured. Each fifth is a full look, so fewer than five, or other than a multiple, says little.
CYCLES = int(os.environ.get("BENCH_CYCLES", "5"))
#: Seconds that the baselines ask for. Both keep nothing that tells them what is new, so only the whole lateness finds
#: late datapoints as workermon does; three minutes hold the newest ones.
WHOLE, RECENT = models.LATENESS + 4 * house.INTERVAL, 3 * house.INTERVAL
#: Seconds after its start that a house without workers is at rest, and for which it is measured then.
SETTLED, IDLE = 20, 30
#: Batches of 100 workers of the bare loop, and workers of the plain design.
BATCHES = 80
PLAIN = 500


class Cost(NamedTuple):
    """What one size cost; CPU in ms for each worker and cycle, by process."""

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
    """Hears the samples as any subscriber would."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        connection: Any = redis.Redis.from_url(url)
        self._pubsub = connection.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe("workermon:metrics")
        self._stopped = threading.Event()
        self.messages: list[tuple[float, bytes]] = []

    def run(self) -> None:
        """Note when each one came."""
        while not self._stopped.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None:
                self.messages.append((time.time(), message["data"]))

    def stop(self) -> None:
        """Hear no more."""
        self._stopped.set()
        self.join(2)
        self._pubsub.close()


def measured(number: int, cycles: int, folder: Path, aws: house.Endpoint) -> Cost:
    """Run a fleet of that size and measure it over that many intervals."""
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
            house.awaited(lambda: connected.hget("workermon:pulse", "listener"), 60, "listener")
            if number:
                house.awaited(
                    lambda: len(reader.messages) >= number and len(_workers(reader)) >= number,
                    4 * house.INTERVAL,
                    f"all {number} collected",
                )
            # A new fleet was late all at once; what comes after that is measured.
            time.sleep(house.INTERVAL if number else SETTLED)
            before, stats_before = {name: house.cpu(pid) for name, pid in pids.items()}, aws.stats()
            began, first = time.time(), len(reader.messages)
            due = [_due(connected)]
            time.sleep(cycles * house.INTERVAL if number else IDLE)  # what is measured is a length of time
            due.append(_due(connected))
            spent: dict[str, float] = {}
            for name, pid in pids.items():  # a large fleet has a second process that collects, collect-2
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
    return Cost(
        number,
        len(received),
        {name: cpu / max(1, len(received)) * 1000 for name, cpu in spent.items()},
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
    """Return when each worker is due next."""
    entries = connected.zrange("workermon:redbeat::schedule", 0, -1, withscores=True)
    return {key.rpartition(b":")[2]: score for key, score in entries}


def _lateness(received: list[tuple[float, bytes]], due: list[dict[bytes, float]]) -> list[float]:
    """Return how late samples were by when their workers were due: before their cohorts moved, or afterwards."""
    late = []
    for at, text in received:
        worker = json.loads(text)["worker_id"].encode()
        if all(worker in times for times in due):
            late.append(min((at - times[worker]) % house.INTERVAL for times in due))
    return late or [0.0]


def bare(folder: Path, aws: house.Endpoint, window: float) -> float:
    """Return the CPU of the bare loop in ms for each worker and cycle."""
    env = house.environment(folder, "redis://127.0.0.1:1/1", aws.url)
    argv = [sys.executable, str(house.ROOT / "benchmarks/bare.py"), str(BATCHES), str(window)]
    output = json.loads(subprocess.run(argv, env=env, check=True, capture_output=True, text=True, timeout=300).stdout)
    return float(output["cpu"]) / BATCHES / 100 * 1000


def plain(folder: Path, aws: house.Endpoint, window: float) -> float:
    """Return the CPU of beat, node and Valkey of the plain design in ms for each worker and cycle."""
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
                design.due(entries[first : first + number], time.time())
                written = {f"plain:i-{place + 1:017x}" for place in range(first, first + number)}
                house.awaited(lambda: connected.exists(*written) == number, 400, "plain design")

            house.awaited(lambda: connected.exists(design.LOCK), 60, "plain design's beat")
            send(0, 20)
            pids = (node.pid, beat.pid, int(redis_server.pid or 0))
            before = [house.cpu(pid) for pid in pids]
            send(20, PLAIN)
            # The wait above looks at Redis twenty times a second, which costs next to nothing.
            spent = sum(house.cpu(pid) for pid in pids) - sum(before)
        connected.close()
    return spent / PLAIN * 1000


def main() -> None:
    """Measure, and print the tables."""
    print(f"# What it costs\n\n{house.machine()}")
    with house.folder() as folder, house.endpoint(folder) as aws:
        idle = measured(0, 0, folder / "0", aws)
        costs = []
        for number in house.sizes():
            costs.append(measured(number, CYCLES, folder / str(number), aws))
            _report(costs[-1])
        full_window, short_window = bare(folder, aws, WHOLE), bare(folder, aws, RECENT)
        design = plain(folder / "plain", aws, WHOLE)
    names = list(costs[0].cpu)
    house.table(
        f"CPU in ms for each worker and cycle of 5 metrics (the baselines ask for {WHOLE // 60} minutes each time)",
        [
            "workers",
            *names,
            "all",
            "less idle",
            "x bare loop (<= 0.8)",
            "x bare loop of 3 minutes",
            "x plain (<= 0.12)",
            "x smallest (<= 1.2)",
        ],
        [
            [
                cost.workers,
                *(f"{cost.cpu[name]:.3f}" for name in names),
                f"{cost.total:.3f}",
                f"{cost.total - sum(idle.cpu.values()) * house.INTERVAL / cost.workers:.3f}",
                f"{cost.total / full_window:.2f}",
                f"{cost.total / short_window:.2f}",
                f"{cost.total / design:.3f}",
                f"{cost.total / costs[0].total:.2f}",
            ]
            for cost in costs
        ],
    )
    print(
        f"\nBare boto3 loop: {full_window:.3f} ms, of 3 minutes {short_window:.3f} ms; plain design: {design:.2f} ms."
    )
    print(f"With no worker at all: {sum(idle.cpu.values()):.1f} ms a second, of which: {_parts(idle)}.")
    _print_details(costs, names, idle)


def _parts(cost: Cost) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in cost.cpu.items())


def _report(cost: Cost) -> None:
    print(f"{cost.workers} workers: {cost.total:.3f} ms ({_parts(cost)}), {cost.samples} samples", file=sys.stderr)


def _print_details(costs: list[Cost], names: list[str], idle: Cost) -> None:
    house.table(
        f"Collections, from due at beat until received, with AWS answering after {house.LATENCY * 1000:.0f} ms",
        ["workers", "samples", "of", "late p50 s", "late p99 s", "p99 / interval (< 0.1)", "AWS calls a sample",
         "points a query", "pending 5 s later"],
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
    """Return the peak memory of a part in MB, of all its processes together; "?" if the system does not say."""
    peaks = [peak for name, peak in cost.rss.items() if name.partition("-")[0] == part]
    known = [peak for peak in peaks if peak is not None]
    return f"{sum(known):.0f}" if len(known) == len(peaks) else "?"


if __name__ == "__main__":
    main()
