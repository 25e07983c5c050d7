"""CPU time and memory that ``web`` takes for a page of ``/metrics``, and for reading the fleet for its other pages.

The baseline validates every record and gives it to prometheus-client. Both take turns, each in a new process. Elapsed
time is not measured, because other programs use the machine too.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple, TypeVar

import house
from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.core import GaugeMetricFamily

from workermon import health, ports, runtime, settings, views
from workermon.on_celery import schedule
from workermon.on_celery.app import app
from workermon.web import compression, prometheus

T = TypeVar("T")

#: Turns of each program; pages that a turn makes after its first one.
TURNS, REPEATS = 2, 1
#: The filters of the fleet's page.
FILTERS = (
    views.FleetQuery(),
    views.FleetQuery(text="render-000"),
    views.FleetQuery(labels={"team": "vfx"}),
    views.FleetQuery(status="running"),
    views.FleetQuery(state="late"),
    views.FleetQuery(group="region", metric="cpu_utilization"),
)


class Spent(NamedTuple):
    """CPU seconds of the first page and of the best later one; MB of a page, compressed, and of memory at the peak."""

    first: float
    later: float
    plain: float
    compressed: float
    peak: float


class FleetCost(NamedTuple):
    """CPU milliseconds of the first and the next reading, and of the slowest filter; MB of memory at the peak."""

    cold: float
    repeated: float
    slowest: float
    peak: float


class Plain:
    """The baseline: a collector of prometheus-client over every record."""

    def __init__(self, workers: ports.Workers) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        """Yield the metric families with a sample for each worker."""
        label_names = ["id", "name", "region", "account"]
        info = GaugeMetricFamily("workermon_worker_info", "x", labels=[*label_names, "label_team"])
        status = GaugeMetricFamily("workermon_worker_status", "x", labels=["id", "status"])
        checks = GaugeMetricFamily("workermon_status_check", "x", labels=["id", "check"])
        values = GaugeMetricFamily("workermon_metric_value", "x", labels=[*label_names, "metric"])
        times = GaugeMetricFamily("workermon_metric_timestamp_seconds", "x", labels=[*label_names, "metric"])
        for record in self._workers.every():
            worker, condition = record.worker, record.condition
            labels = [worker.id, worker.name, worker.region, worker.account]
            info.add_metric([*labels, worker.labels.get("team", "")], 1)
            status.add_metric([worker.id, condition.status], 1)
            for check, outcome in condition.checks.answered.items() if condition.checks else ():
                checks.add_metric([worker.id, check], outcome == "ok")
            for metric, point in condition.latest.items():
                values.add_metric([*labels, metric], point.value)
                times.add_metric([*labels, metric], point.at)
        yield from (info, status, checks, values, times)


def fill(url: str, first: int, number: int) -> None:
    """Add the workers from ``first`` to ``number``, with their entries in the schedule."""
    now = time.time()
    members = house.fleet(number, now)[first:]
    house.register(url, members, now, random.Random(first))
    schedule.RedBeatSchedule(app).put(members, now)


def _timed(make: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = make()
    return time.process_time() - started, result


def _spent(make: Callable[[], tuple[float, float]]) -> Spent:
    first, sizes = _timed(make)
    later = min(_timed(make)[0] for _ in range(REPEATS))
    return Spent(first, later, *sizes, house.peak_rss(os.getpid()) or 0.0)


def ours(_url: str) -> Spent:
    """Measure pages made as ``web`` makes them, with gzip."""
    container = runtime.open(settings.Settings(_env_file=None))
    exposed = container.get(health.Exposition)

    def make() -> tuple[float, float]:
        page = prometheus.page(exposed)
        parts = (*page.workers, page.text)
        return compression.size(parts) / 1e6, len(compression.gzipped(parts)) / 1e6

    return _spent(make)


def plain(_url: str) -> Spent:
    """Measure the workers' families made by prometheus-client, without compression."""
    container = runtime.open(settings.Settings(_env_file=None))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Plain(container.get(ports.Workers)))
    return _spent(lambda: (len(exposition.generate_latest(registry)) / 1e6, 0.0))


def fleet_cost(_url: str) -> FleetCost:
    """Measure reading the fleet twice, and each filter."""
    container = runtime.open(settings.Settings(_env_file=None))
    overview, reading = container.get(views.FleetOverview), container.get(views.FleetSnapshot)
    cold, snapshot = _timed(reading.snapshot)
    repeated, snapshot = _timed(reading.snapshot)
    spent = [
        min(_timed(functools.partial(overview.look, snapshot, query, limit=50))[0] for _ in range(REPEATS))
        for query in FILTERS
    ]
    return FleetCost(cold * 1000, repeated * 1000, max(spent) * 1000, house.peak_rss(os.getpid()) or 0.0)


def in_new_process(measure: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def main() -> None:
    """Measure, and print the tables."""
    print(f"# /metrics\n\n{house.machine()}")
    pages, fleets, filled = [], [], 0
    # One server for all sizes: Celery's side reads its address once in a process.
    with house.folder() as folder, house.server(folder / "redis", persistent=False) as redis_server:
        url = redis_server.url
        os.environ["WORKERMON_REDIS_URL"] = url
        for number in house.sizes("1000,50000"):
            in_new_process(fill, url, filled, number)
            filled = number
            rounds = [(in_new_process(ours, url), in_new_process(plain, url)) for _ in range(TURNS)]
            for name, spent in (
                ("workermon", [measured for measured, _ in rounds]),
                ("prometheus-client (the baseline)", [measured for _, measured in rounds]),
            ):
                best = Spent(*(min(column) for column in zip(*spent, strict=True)))
                seconds, sizes = (best.first, best.later), (best.plain, best.compressed)
                rows = [
                    *(f"{figure:.2f}" for figure in seconds),
                    *(f"{figure:.1f}" for figure in sizes),
                    round(best.peak),
                ]
                pages.append([number, name, *rows])
            fleets.append([number, *map(round, in_new_process(fleet_cost, url))])
    head = ["workers", "made by", "first s", "later s (< 2)", "MB", "MB as gzip", "peak MB (< 300)"]
    house.table("A page of /metrics, in seconds of CPU", head, pages)
    head = ["workers", "first reading", "next reading", "slowest filter (< 1000)", "peak MB"]
    house.table("Reading the fleet for the other pages, in ms of CPU", head, fleets)


if __name__ == "__main__":
    main()
