"""Redis memory of a datapoint, all in: an hour of five metrics a minute, written as collections write it.

What is counted is what the server's memory grows by, keys, hashes and lifetimes included, divided by the datapoints.
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
#: Workers whose week is rolled up.
ROLLED = 200


def memory(connected: Any) -> int:
    """Return the bytes that the server holds, what it was given and not its own buffers."""
    return int(connected.info("memory")["used_memory"])


def written(number: int, url: str) -> tuple[float, float, float]:
    """Write a fleet's hour; return the bytes before a datapoint came, those of a datapoint, and the seconds it took."""
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
    # The worker's own fields and its place among the pending ones are there first, without a datapoint.
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


def rolled(number: int, url: str) -> tuple[float, float]:
    """Write a fleet's week of roll-ups; return the bytes a series and hour, and the milliseconds of an hour of one."""
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
                worker, point, spent = written(number, redis_server.url)
            points = number * len(config.DEFAULT.collect) * POINTS
            day = point * points * 24 / 1e9
            rows.append([number, points, f"{point:.1f}", f"{point * points / 1e6:.0f}", f"{day:.2f}", f"{worker:.0f}",
                         f"{points / spent:.0f}"])  # fmt: skip
    house.table(
        "An hour of 5 metrics a minute",
        ["workers", "datapoints", "bytes a datapoint (<= 16)", "MB an hour", "GB a day", "bytes a worker beside",
         "datapoints/s written"],
        rows,
    )  # fmt: skip
    with house.folder() as folder, house.server(folder / "rollups", persistent=False) as redis_server:
        size, spent = rolled(ROLLED, redis_server.url)
    house.table(
        "A week of hourly roll-ups of 5 metrics, noisy values of 60 datapoints each",
        ["workers", "bytes a series and hour (<= 16)", "MB a day of 1,000 workers", "ms an hour of a worker"],
        [[ROLLED, f"{size:.1f}", f"{size * 1000 * len(config.DEFAULT.collect) * 24 / 1e6:.1f}", f"{spent:.2f}"]],
    )


if __name__ == "__main__":
    main()
