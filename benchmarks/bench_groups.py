"""The CPU of evaluating a fleet by a threshold for each worker, without and with a rule over its pools of 100.

Minutes are as long as it takes. In each, every worker has a new datapoint; they are evaluated in batches of 100 in
random order, as messages come, with the sweep between them. Writing the samples is not counted.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import house

from workermon import config, evaluate, models, ports, runtime, settings, testing
from workermon.config import catalogue
from workermon.pipeline import sweep
from workermon.rules import group, threshold

#: Workers of a pool, and of a batch.
POOL, BATCH = 100, 100
#: Minutes that are measured, after one that is not.
MINUTES = 3
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
    """CPU in microseconds for each worker and minute."""

    evaluation: float
    valkey: float

    @property
    def total(self) -> float:
        """Return the CPU of both."""
        return self.evaluation + self.valkey


def measured(number: int, rules: tuple[models.Rule, ...]) -> Cost:
    """Evaluate a fleet of that size by these rules."""
    with house.folder() as where, house.server(where, persistent=False) as server:
        clock = testing.ManualClock(START)
        own = settings.Settings(redis_url=server.url, _env_file=None)
        container = runtime.open(own, {ports.Clock: clock})
        configuration = config.DEFAULT.model_copy(
            update={"revision": 1, "rules": rules, "metrics": catalogue.CATALOGUE, "collect": (CPU,)}
        )
        assert container.get(ports.Configurations).save(configuration)
        fleet = [_worker(each) for each in range(number)]
        for begin in range(0, number, 1000):
            container.get(ports.Workers).add(fleet[begin : begin + 1000])
        stage, samples = container.get(evaluate.Evaluation), container.get(ports.Samples)
        spent = valkey = 0.0
        for minute in range(MINUTES + 1):
            begun = START + 60 * (minute + 1)
            clock.now = float(begun)
            _write(samples, fleet, begun)
            cpu, before = time.process_time(), house.cpu(int(server.pid or 0))
            _evaluate(stage, samples, clock, [worker.id for worker in fleet])
            if minute:
                spent += time.process_time() - cpu
                valkey += house.cpu(int(server.pid or 0)) - before
        container.close()
    return Cost(*(each / MINUTES / number * 1e6 for each in (spent, valkey)))


def _worker(number: int) -> models.Worker:
    return models.Worker(
        id=f"i-{number:017x}",
        name=f"web-{number}",
        region="us-east-1",
        added_at=START - 7200,
        detailed=True,
        incarnation=f"of {number}",
        labels={"pool": f"p{number % max(1, number_of_pools)}"},
    )


number_of_pools = 1


def _write(samples: ports.Samples, fleet: list[models.Worker], at: int) -> None:
    """Write a datapoint of each worker."""
    condition = models.Condition(
        status="running",
        collected_at=at,
        succeeded_at=at,
        running_since=START - 7200,
        asked={CPU: float(at)},
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
                        asked={CPU: float(at)},
                    ),
                    condition,
                    "{}",
                )
                for worker in fleet[begin : begin + 500]
            ],
            again=True,
        )


def _evaluate(
    stage: evaluate.Evaluation, samples: ports.Samples, clock: testing.ManualClock, worker_ids: list[str]
) -> None:
    """Evaluate the fleet in batches over a minute, and what the sweep finds."""
    random.shuffle(worker_ids)
    batches = [worker_ids[begin : begin + BATCH] for begin in range(0, len(worker_ids), BATCH)]
    swept = begun = clock()
    for place, batch in enumerate(batches):
        clock.now = begun + 55 * place / len(batches)
        stage.evaluate(batch)
        if clock.now - swept >= sweep.INTERVAL:
            swept = clock.now
            late = samples.pending(clock.now, sweep.MAX_FOUND, sweep.UNANNOUNCED)
            stage.evaluate([each for each in late if models.group_of(each) is not None])
    clock.now = begun + 60
    stage.evaluate([each for each in samples.pending(clock.now, 5000) if models.group_of(each) is not None])


def main() -> None:
    """Print the table."""
    global number_of_pools
    print(house.machine())
    rows = []
    for number in house.sizes("2000,10000"):
        number_of_pools = number // POOL
        plain, both = measured(number, (PLAIN,)), measured(number, (PLAIN, OVER))
        two = measured(number, (PLAIN, PLAIN.model_copy(update={"name": "cpu-higher"})))
        rows += [
            (number, "a threshold", f"{plain.evaluation:.0f}", f"{plain.valkey:.0f}", "1.00"),
            (number, "two", f"{two.evaluation:.0f}", f"{two.valkey:.0f}", f"{two.total / plain.total:.2f}"),
            (
                number,
                "and over pools",
                f"{both.evaluation:.0f}",
                f"{both.valkey:.0f}",
                f"{both.total / plain.total:.2f}",
            ),
        ]
    head = ("workers", "rules", "evaluation, µs", "Valkey, µs", "ratio")
    house.table("CPU for each worker and minute", head, rows)


if __name__ == "__main__":
    main()
