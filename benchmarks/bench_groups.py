"""CPU of evaluating a fleet by a threshold, without and with a rule over pools of 100 workers.

Time is simulated. In each minute every worker has a new datapoint. The fleet is evaluated in batches of 100 in random
order, with the sweep between them. Writing the samples is not counted. The rules take turns minute by minute, so other
work on the machine affects all of them alike.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Mapping
from typing import NamedTuple

import dishka
import house

from workermon import config, evaluate, models, ports, runtime, settings, testing
from workermon.config import catalogue
from workermon.local import embedded
from workermon.pipeline import sweep
from workermon.rules import group, threshold

#: Workers in a pool, and in a batch.
POOL, BATCH = 100, 100
#: Minutes to measure, after a first one that is not counted.
MINUTES = int(os.environ.get("BENCH_CYCLES", "3"))
#: The largest fleet that is also measured with two thresholds. Larger ones take too long.
FEW = 10_000
CPU = "cpu_utilization"
START = 1_700_000_040

PLAIN = threshold.KIND.rule("cpu-high", metric=CPU, above=models.Levels(critical=90.0), notify=("log",))
OVER = group.KIND.rule(
    "pool-hot",
    metric=CPU,
    by="pool",
    count=models.Members(m=30, n=POOL),
    condition={"above": {"critical": 90.0}},
    notify=("log",),
)


class Cost(NamedTuple):
    """CPU in microseconds per worker and minute."""

    evaluation: float
    valkey: float

    @property
    def total(self) -> float:
        """Return the CPU of both."""
        return self.evaluation + self.valkey


class Fleet:
    """A fleet with its own server and rules. ``spent`` is the CPU of its evaluation so far, in seconds."""

    def __init__(self, number: int, rules: tuple[models.Rule, ...], server: embedded.Server) -> None:
        self.spent, self._pid = Cost(0.0, 0.0), int(server.pid or 0)
        self._clock = testing.ManualClock(START)
        app_settings = settings.Settings(redis_url=server.url, _env_file=None)
        self.container: dishka.Container = runtime.open(app_settings, {ports.Clock: self._clock})
        configuration = config.DEFAULT.model_copy(
            update={"revision": 1, "rules": rules, "metrics": catalogue.CATALOGUE, "collect": (CPU,)}
        )
        assert self.container.get(ports.Configurations).save(configuration)
        self._members = [_worker(worker_number, max(1, number // POOL)) for worker_number in range(number)]
        for begin in range(0, number, 1000):
            self.container.get(ports.Workers).add(self._members[begin : begin + 1000])

    def minute(self, place: int) -> None:
        """Write a datapoint for each worker, and evaluate the fleet. The first minute (0) does not count."""
        stage, samples = self.container.get(evaluate.Evaluation), self.container.get(ports.Samples)
        minute_start = START + 60 * (place + 1)
        self._clock.now = float(minute_start)
        _write(samples, self._members, minute_start)
        cpu, before = time.process_time(), house.cpu(self._pid)
        _evaluate(stage, samples, self._clock, [worker.id for worker in self._members])
        if place:
            spent, valkey = time.process_time() - cpu, house.cpu(self._pid) - before
            self.spent = Cost(self.spent.evaluation + spent, self.spent.valkey + valkey)


def measure(number: int, rules: Mapping[str, tuple[models.Rule, ...]]) -> dict[str, Cost]:
    """Evaluate a fleet of ``number`` workers for each set of rules, in turns minute by minute."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(house.folder())
        fleets = {}
        for place, (name, used) in enumerate(rules.items()):
            server = stack.enter_context(house.server(folder / str(place), persistent=False))
            fleets[name] = Fleet(number, used, server)
            stack.callback(fleets[name].container.close)
        for minute in range(MINUTES + 1):
            for fleet in fleets.values():
                fleet.minute(minute)
    return {
        name: Cost(*(seconds / MINUTES / number * 1e6 for seconds in fleet.spent)) for name, fleet in fleets.items()
    }


def _worker(number: int, pools: int) -> models.Worker:
    return models.Worker(
        id=f"i-{number:017x}",
        name=f"web-{number}",
        region="us-east-1",
        added_at=START - 7200,
        detailed=True,
        incarnation=f"of {number}",
        labels={"pool": f"p{number % pools}"},
    )


def _write(samples: ports.Samples, fleet: list[models.Worker], at: int) -> None:
    """Write a datapoint for each worker."""
    condition = models.Condition(
        status="running",
        collected_at=at,
        succeeded_at=at,
        running_since=START - 7200,
        requested_at={CPU: float(at)},
        periods={CPU: 60},
        delays={CPU: 0.0},
    )
    for begin in range(0, len(fleet), 500):
        samples.write_many(
            [
                (
                    models.Sample(
                        worker=worker,
                        collected_at=at,
                        status="running",
                        series={
                            CPU: models.Series(60, (models.Datapoint(at - 60, random.choice((20.0, 50.0, 95.0))),))
                        },
                        requested_at={CPU: float(at)},
                    ),
                    condition,
                    "{}",
                )
                for worker in fleet[begin : begin + 500]
            ],
            force=True,
        )


def _evaluate(
    stage: evaluate.Evaluation, samples: ports.Samples, clock: testing.ManualClock, worker_ids: list[str]
) -> None:
    """Evaluate the fleet in batches over a minute, and the groups that the sweep finds."""
    random.shuffle(worker_ids)
    batches = [worker_ids[begin : begin + BATCH] for begin in range(0, len(worker_ids), BATCH)]
    swept = started = clock()
    for place, batch in enumerate(batches):
        clock.now = started + 55 * place / len(batches)
        stage.evaluate(batch)
        if clock.now - swept >= sweep.INTERVAL:
            swept = clock.now
            late = samples.pending(clock.now, sweep.MAX_FOUND, sweep.UNANNOUNCED_AFTER)
            stage.evaluate([subject_id for subject_id in late if models.group_of(subject_id) is not None])
    clock.now = started + 60
    stage.evaluate(
        [subject_id for subject_id in samples.pending(clock.now, 5000) if models.group_of(subject_id) is not None]
    )


def main() -> None:
    """Measure, and print the table."""
    print(house.machine())
    rows = []
    for number in house.sizes("2000,10000"):
        kinds = {"a threshold": (PLAIN,), "a threshold, and a rule over pools": (PLAIN, OVER)}
        if number <= FEW:
            kinds["two thresholds"] = (PLAIN, PLAIN.model_copy(update={"name": "cpu-higher"}))
        spent = measure(number, kinds)
        plain = spent["a threshold"]
        for name, cost in spent.items():
            ratio = f"{cost.total / plain.total:.2f}"
            rows.append((number, name, f"{cost.evaluation:.0f}", f"{cost.valkey:.0f}", ratio))
    head = ("workers", "rules", "evaluation, µs", "Valkey, µs", "ratio")
    house.table(f"CPU per worker and minute, over {MINUTES} minutes", head, rows)


if __name__ == "__main__":
    main()
