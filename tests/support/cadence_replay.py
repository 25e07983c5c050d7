"""The same load under both cadences: its notifications, their times, and the number of requests."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from workermon import config, models, testing
from workermon.rules import threshold

#: The begin of every load: a multiple of any period.
T = 1_699_999_200
WORKER = "i-00000000000000001"
METRIC = "cpu_utilization"
#: Seconds after the end of its period that a datapoint is there.
LATE = 5
#: Names the folder of recorded traces (CSV with ``timestamp`` and ``value``), which are not part of the project.
TRACES = "EC2_CPU_TRACES"


class Notified(NamedTuple):
    """A notification as people see it, whenever it came."""

    id: str
    status: str
    severity: str
    at: str
    since: str
    value: float | None
    summary: str


class Replayed(NamedTuple):
    """What became of a load: notifications with the times at which they were written, and how often it was asked."""

    notified: dict[Notified, float]
    requests: int
    points: int
    stored: tuple[models.Datapoint, ...]


def replayed(
    values: Sequence[float | None],
    cadence: Literal["fixed", "adaptive"],
    rule: models.Rule,
    period: int = 60,
) -> Replayed:
    """Collect and evaluate a load with one value for each period. ``None`` is absent."""
    metric = config.DEFAULT.metrics[METRIC].model_copy(update={"period": period})
    changes = {
        "metrics": {**config.DEFAULT.metrics, METRIC: metric},
        "collect": (METRIC,), "rules": (rule,), "cadence": cadence,
    }  # fmt: skip
    monitor = testing.Monitor(config.DEFAULT.model_copy(update=changes), T + period + LATE)
    monitor.add_worker(WORKER, interval=period, added_at=T, incarnation="one", detailed=True)
    notified: dict[Notified, float] = {}
    requests = 0
    for place, value in enumerate(values):
        if value is not None:
            monitor.cloudwatch.put(WORKER, metric.metric_name, [(T + place * period, value)])
        monitor.collect(WORKER)
        monitor.evaluate()
        monitor.deliver()
        for page in monitor.received[len(notified) :]:
            notified[_notified(page)] = monitor.clock()
        condition = monitor.workers.get([WORKER])[WORKER].condition
        requests += condition.requested_at.get(METRIC) == monitor.clock()
        monitor.clock.advance(period)
    stored = monitor.samples.read([(WORKER, METRIC, period)], T, T + len(values) * period)
    return Replayed(notified, requests, len(values), stored[WORKER, METRIC].points)


def _notified(page: models.Notification) -> Notified:
    return Notified(page.id, page.status, page.severity, str(page.at), str(page.since), page.value, page.summary)


def settled(values: Sequence[float | None]) -> list[float | None]:
    """Return a load that ends so quietly that even a late request has seen all of it."""
    return [*values, *(20.0 for _ in range(40))]


def generated(seed: int, number: int = 240) -> list[float | None]:
    """Return a load with rest, ramps, plateaus, short spikes out of nothing, and absent datapoints."""
    chance = random.Random(seed)
    values: list[float | None] = []
    level = 20.0
    while len(values) < number:
        kind = chance.choice(("rest", "rest", "rest", "ramp", "plateau", "spike", "hole"))
        if kind == "rest":
            values += [20.0 + chance.uniform(0, 3) for _ in range(chance.randint(10, 40))]
        elif kind == "ramp":
            rise = chance.uniform(1, 15)
            values += [min(100.0, level + rise * place) for place in range(chance.randint(3, 12))]
        elif kind == "plateau":
            values += [chance.choice((79.9, 80.0, 81.0, 91.0, 97.0)) for _ in range(chance.randint(2, 9))]
        elif kind == "spike":
            values += [chance.choice((85.0, 99.0)) for _ in range(chance.randint(1, 3))]
        else:
            values += [None] * chance.randint(1, 3)
    return values


def traces() -> dict[str, list[float | None]]:
    """Return the recorded loads by name, or none without a path to them."""
    folder = os.environ.get(TRACES)
    loads: dict[str, list[float | None]] = {}
    for path in sorted(Path(folder).glob("*.csv")) if folder else ():
        with path.open(newline="") as file:
            rows = {
                int(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp()): float(row["value"])
                for row in csv.DictReader(file)
            }
        first = min(rows) // 300
        by_slot = {at // 300: value for at, value in rows.items()}
        loads[path.stem] = [by_slot.get(slot) for slot in range(first, max(by_slot) + 1)]
    return loads


def rule(breach: str = "3 of 3", above: models.Levels | None = None) -> models.Rule:
    """Return a rule over the load."""
    m, n = breach.split(" of ")
    levels = above or models.Levels(warning=80, critical=90)
    recover = models.Count(m=1, n=1) if breach == "1 of 1" else models.Count(m=2, n=2)
    return threshold.KIND.rule(
        name="cpu-high", metric=METRIC, above=levels, breach=models.Count(m=int(m), n=int(n)), recover=recover
    )
