"""Redis memory per datapoint: an hour of five metrics a minute, written as collections write it.

The figure is the growth of the server's memory, with keys, hashes and lifetimes, divided by the datapoints.
"""

from __future__ import annotations

import random
import time
from typing import Any

import house

from workermon import config, models, ports
from workermon.on_redis import client, rollups, samples, workers
from workermon.rules import rollup

#: Datapoints of a series, a minute apart: a full hour of the ledger.
POINTS = 60
#: Workers with a week of roll-ups.
ROLLED = 200


def memory(connected: Any) -> int:
    """Return the bytes of the server's data, without its buffers."""
    return int(connected.info("memory")["used_memory"])


def write_hour(number: int, url: str) -> tuple[float, float, float]:
    """Write an hour of a fleet. Return the bytes of a worker without datapoints and of a datapoint, and the seconds."""
    connected: Any = client.connect(url)
    ledger = samples.RedisSamples(connected, "workermon:metrics", lambda: config.DEFAULT.retention)
    hour = int(time.time()) // 3600 * 3600 - 3600
    members = house.fleet(number, hour)
    names = config.DEFAULT.collect
    repository = workers.RedisWorkers(connected)
    empty = memory(connected)
    for start in range(0, number, 500):
        repository.add(members[start : start + 500])
    condition = models.Condition(status="running")
    # First, each worker's fields and its entry among the pending workers, without a datapoint.
    first = [_sample(worker, hour, {}) for worker in members]
    for start in range(0, number, 500):
        ledger.write_many([(sample, condition, "{}") for sample in first[start : start + 500]])
    registered = memory(connected)
    began = time.monotonic()
    for start in range(0, number, 500):
        writes = []
        for place, worker in enumerate(members[start : start + 500]):
            series = {
                name: models.Series(
                    house.INTERVAL,
                    tuple(
                        models.Datapoint(hour + 60 * minute, (start + place) * 0.37 + minute / 7)
                        for minute in range(POINTS)
                    ),
                )
                for name in names
            }
            writes.append((_sample(worker, hour + 3600, series), condition, "{}"))
        ledger.write_many(writes)
    spent = time.monotonic() - began
    full = memory(connected)
    connected.close()
    return (registered - empty) / number, (full - registered) / (number * len(names) * POINTS), spent


def write_week(number: int, url: str) -> tuple[float, float]:
    """Write a week of roll-ups. Return the bytes per series and hour, and the milliseconds per hour of a worker."""
    connected: Any = client.connect(url)
    repository = rollups.RedisRollUps(connected)
    week = models.week_of(time.time()) - models.WEEK
    members = house.fleet(number, week)
    workers.RedisWorkers(connected).add(members)
    names, numbers = config.DEFAULT.collect, random.Random(1)
    empty, began = memory(connected), time.monotonic()
    for hour in range(week, week + models.WEEK, models.HOUR):
        hours_written = []
        for worker in members:
            series = {name: rollup.of_hour(hour, [numbers.uniform(0, 100) for _ in range(POINTS)]) for name in names}
            hours_written.append((ports.LedgerHour(worker.id, worker.incarnation, hour, 0.0, {}), series))
        repository.save(hours_written, time.time())
    spent, hours = time.monotonic() - began, number * 168
    full = memory(connected)
    connected.close()
    return (full - empty) / (hours * len(names)), 1000 * spent / hours


def _sample(worker: models.Worker, at: float, series: dict[str, models.Series]) -> models.Sample:
    return models.Sample(worker=worker, collected_at=at, status="running", series=series)


def main() -> None:
    """Measure, and print the table."""
    print(f"# Ledger\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes():
            with house.server(folder / str(number), persistent=False) as redis_server:
                worker, point, spent = write_hour(number, redis_server.url)
            points = number * len(config.DEFAULT.collect) * POINTS
            day = point * points * 24 / 1e9
            rows.append([number, points, f"{point:.1f}", f"{point * points / 1e6:.0f}", f"{day:.2f}", f"{worker:.0f}",
                         f"{points / spent:.0f}"])  # fmt: skip
    house.table(
        "An hour of 5 metrics a minute",
        ["workers", "datapoints", "bytes/datapoint (<= 16)", "MB an hour", "GB a day", "other bytes/worker",
         "datapoints/s"],
        rows,
    )  # fmt: skip
    with house.folder() as folder, house.server(folder / "rollups", persistent=False) as redis_server:
        size, spent = write_week(ROLLED, redis_server.url)
    house.table(
        "A week of hourly roll-ups of 5 metrics, each of 60 noisy values",
        ["workers", "bytes per series and hour (<= 16)", "MB a day for 1,000 workers", "ms per hour of a worker"],
        [[ROLLED, f"{size:.1f}", f"{size * 1000 * len(config.DEFAULT.collect) * 24 / 1e6:.1f}", f"{spent:.2f}"]],
    )


if __name__ == "__main__":
    main()
