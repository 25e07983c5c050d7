"""CPU of evaluating a fleet by one rule: expressions and other kinds, against a plain threshold over the same metric.

Each rule has its own Valkey. Each minute one datapoint of each metric is written, and the stage evaluates the fleet in
messages of 100 workers, as on a node. The CPU of the evaluation is counted, reading and writing included. The rules
take turns minute by minute, so other work on the machine affects all of them alike.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dishka
import house

from workermon import config, evaluate, models, ports, runtime, settings
from workermon.models import Count, Levels
from workermon.rules import forecast, outlier, threshold, unusual

#: Minutes to measure, after a first one in which the rule begins.
CYCLES = int(os.environ.get("BENCH_CYCLES", "4"))
#: Minutes of datapoints before the first evaluation, so that windows are full.
PAST = 40
#: The largest fleet that is also measured with windows and other kinds. Larger ones take too long.
FEW = 5000
#: Workers in a rack. Outliers are found within a rack.
RACK = 20

PLAIN = "network_in"
SUM = "(network_in + network_out) * 8 / period / 1e6"
#: Measured besides the plain threshold. The last two have windows, so they read more than a few slots.
EXPRESSIONS = (
    "network_in * 8 / period / 1e6",
    SUM,
    "100 * network_in / max(network_in + network_out, 1)",
    'avg(network_in, "10m")',
    'p95(network_in, "30m") - network_out',
)


def over(metric: str) -> models.Rule:
    """Return a threshold that no value reaches."""
    levels = Levels(warning=80e9, critical=90e9)
    return threshold.KIND.rule("measured", metric=metric, above=levels, breach=Count(m=3, n=3))


def measured_rules(number: int) -> dict[str, models.Rule]:
    """Return the rules to measure at ``number`` workers, by their names in the table. The first is the plain one."""
    measured = {f"`{metric}`": over(metric) for metric in (PLAIN, *(EXPRESSIONS if number <= FEW else (SUM,)))}
    if number > FEW:
        return measured
    return measured | {
        f"outlier in racks of {RACK}": outlier.KIND.rule("measured", metric=PLAIN, by="rack", beyond=1000.0),
        "forecast over 1 day": forecast.KIND.rule("measured", metric=PLAIN, reaches=98e9, within=6 * 3600),
        "unusual of the day": unusual.KIND.rule("measured", metric=PLAIN, beyond=1000.0),
    }


class Fleet:
    """A fleet with its own server and one rule. ``spent`` is the CPU of its evaluation so far, in seconds."""

    def __init__(self, number: int, rule: models.Rule, url: str, begin: int) -> None:
        self.spent, self._begin = 0.0, begin
        self.container: dishka.Container = runtime.open(settings.Settings(_env_file=None, redis_url=url))
        configuration = config.DEFAULT.model_copy(update={"rules": (rule,), "revision": 1})
        assert self.container.get(ports.Configurations).save(configuration)
        self._members = [
            worker.model_copy(update={"labels": {"rack": str(place // RACK)}})
            for place, worker in enumerate(house.fleet(number, begin))
        ]
        self.container.get(ports.Workers).add(self._members)

    def cycle(self, minute: int) -> None:
        """Write the datapoints of a minute, and evaluate the fleet. Minute 0 begins the rule and does not count."""
        end = self._begin + (PAST + minute) * 60
        _write(self.container, self._members, range(end if minute else self._begin, end + 1, 60))
        stage = self.container.get(evaluate.Evaluation)
        started = time.process_time()
        for place in range(0, len(self._members), 100):
            stage.evaluate([worker.id for worker in self._members[place : place + 100]])
        self.spent += time.process_time() - started if minute else 0.0


def measure(number: int, rules: Mapping[str, models.Rule], folder: Path) -> dict[str, float]:
    """Return the CPU of this process in ms per worker and cycle, by rule."""
    begin = int(time.time()) // 60 * 60 - (PAST + CYCLES + 2) * 60
    with contextlib.ExitStack() as stack:
        fleets = {}
        for place, (name, rule) in enumerate(rules.items()):
            server = stack.enter_context(house.server(folder / f"{number}-{place}", persistent=False))
            fleets[name] = Fleet(number, rule, server.url, begin)
            stack.callback(fleets[name].container.close)
        for minute in range(CYCLES + 1):
            for fleet in fleets.values():
                fleet.cycle(minute)
    return {name: fleet.spent / CYCLES / number * 1000 for name, fleet in fleets.items()}


def _write(container: Any, members: Sequence[models.Worker], times: range) -> None:
    """Write datapoints of two metrics at these times, like one collection right after they are available."""
    at, ledger = float(times[-1] + 61), container.get(ports.Samples)
    names = ("network_in", "network_out")
    condition = models.Condition(
        status="running",
        collected_at=at,
        succeeded_at=at,
        running_since=float(times[0]),
        requested_at=dict.fromkeys(names, at),
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
                requested_at=dict.fromkeys(names, at),
            )
            writes.append((sample, condition, "{}"))
        ledger.write_many(writes)


def main() -> None:
    """Measure, and print the table."""
    print(f"# Rules\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes("2000"):
            spent = measure(number, measured_rules(number), folder)
            plain = next(iter(spent.values()))
            rows += [[number, name, f"{seconds:.3f}", f"{seconds / plain:.2f}"] for name, seconds in spent.items()]
    house.table(
        f"CPU of evaluating one rule, over {CYCLES} cycles of a minute",
        ["workers", "rule", "ms per worker and cycle", "x plain (expressions <= 2)"],
        rows,
    )


if __name__ == "__main__":
    main()
