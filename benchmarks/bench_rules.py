"""CPU of evaluating a fleet by one rule: expressions against a plain threshold over one of their metrics.

A real Valkey has the ledger. Each minute one datapoint of each metric is written, and the fleet is evaluated by the
stage as nodes run it, in messages of 100 workers; what is counted is the CPU of that, reading and writing included.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import house

from workermon import config, evaluate, models, ports, runtime, settings
from workermon.models import Count, Levels
from workermon.rules import threshold

#: Minutes that are evaluated after the first, which begins the rule.
CYCLES = int(os.environ.get("BENCH_CYCLES", "4"))
#: Minutes that the ledger has before, so that windows are full.
PAST = 40

PLAIN = "network_in"
#: What is measured beside the plain threshold; the last two look back, so they read more than a few slots.
EXPRESSIONS = (
    "network_in * 8 / period / 1e6",
    "(network_in + network_out) * 8 / period / 1e6",
    "100 * network_in / max(network_in + network_out, 1)",
    'avg(network_in, "10m")',
    'p95(network_in, "30m") - network_out',
)


def evaluated(number: int, metric: str, where: Path) -> float:
    """Return the CPU milliseconds of this process for each worker and cycle."""
    rule = threshold.KIND.rule(
        name="measured", metric=metric, above=Levels(warning=80e9, critical=90e9), breach=Count(m=3, n=3)
    )
    with house.server(where, persistent=False) as redis_server:
        container = runtime.open(settings.Settings(_env_file=None, redis_url=redis_server.url))
        made = config.DEFAULT.model_copy(update={"rules": (rule,), "revision": 1})
        assert container.get(ports.Configurations).save(made)
        begin = int(time.time()) // 60 * 60 - (PAST + CYCLES + 2) * 60
        members = house.fleet(number, begin)
        container.get(ports.Workers).add(members)
        stage, spent = container.get(evaluate.Evaluation), 0.0
        for cycle in range(CYCLES + 1):
            first = begin if not cycle else begin + (PAST + cycle) * 60
            _write(container, members, range(first, begin + (PAST + cycle) * 60 + 1, 60))
            started = time.process_time()
            for place in range(0, number, 100):
                stage.evaluate([worker.id for worker in members[place : place + 100]])
            spent += time.process_time() - started if cycle else 0.0
        container.close()
    return spent / CYCLES / number * 1000


def _write(container: Any, members: list[models.Worker], times: range) -> None:
    """Write datapoints of two metrics at these times, as one collection does right after they can be had."""
    at, ledger = float(times[-1] + 61), container.get(ports.Samples)
    names = ("network_in", "network_out")
    condition = models.Condition(
        status="running",
        collected_at=at,
        succeeded_at=at,
        running_since=float(times[0]),
        asked=dict.fromkeys(names, at),
        periods=dict.fromkeys(names, 60),
        delays=dict.fromkeys(names, 0.0),
    )
    for place in range(0, len(members), 500):
        writes = []
        for offset, worker in enumerate(members[place : place + 500]):
            points = tuple(models.Datapoint(when, 1e6 * ((when // 60 + place + offset) % 97)) for when in times)
            sample = models.Sample(
                worker=worker,
                collected_at=at,
                status="running",
                series=dict.fromkeys(names, models.Series(60, points)),
                asked=dict.fromkeys(names, at),
            )
            writes.append((sample, condition, "{}"))
        ledger.write_many(writes)


def main() -> None:
    """Measure, and print the table."""
    print(f"# Rules\n\n{house.machine()}")
    rows = []
    with house.folder() as where:
        for number in house.sizes("2000"):
            plain = evaluated(number, PLAIN, where / f"{number}-plain")
            rows.append([number, f"`{PLAIN}`", f"{plain:.3f}", "1.00"])
            for place, text in enumerate(EXPRESSIONS):
                spent = evaluated(number, text, where / f"{number}-{place}")
                rows.append([number, f"`{text}`", f"{spent:.3f}", f"{spent / plain:.2f}"])
    house.table(
        f"CPU of evaluating one rule, over {CYCLES} cycles of a minute",
        ["workers", "metric", "ms a worker and cycle", "x plain (<= 2)"],
        rows,
    )


if __name__ == "__main__":
    main()
