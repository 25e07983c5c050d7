"""A recorded CPU trace goes through endpoint, collection, ledger and evaluation, and is compared with a plain loop.

The trace is compressed in time: one datapoint a second instead of one every five minutes. The clock is the test's, so
an hour takes seconds. HTTP, boto3 and the Redis server are real.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.aws import use_aws
from workermon import collect, config, evaluate, models, ports, runtime, settings, testing
from workermon.local.endpoint import Endpoint
from workermon.local.simulation import Simulation

TRACE = Path(__file__).parents[3] / "shared" / "data" / "ec2-cpu-traces" / "ec2_cpu_utilization_77c1ca.csv"

Transitions = list[tuple[int, str | None, str | None]]


def plain_loop(values: Sequence[tuple[int, float]]) -> Transitions:
    """Judge the default rule over a gapless series: 3 of 3 above 80 or 90 fire, 2 of 2 not above clear."""
    transitions: Transitions = []
    on = {"warning": False, "critical": False}
    before: str | None = None
    for place, (at, _) in enumerate(values):
        for level, threshold in (("warning", 80.0), ("critical", 90.0)):
            above = [value > threshold for _, value in values[max(0, place - 2) : place + 1]]
            if above == [True] * 3:
                on[level] = True
            elif above[-2:] == [False, False]:
                on[level] = False
        after = "critical" if on["critical"] else "warning" if on["warning"] else None
        if after != before:
            transitions.append((at, before, after))
            before = after
    return transitions


def recorded_trace() -> list[float]:
    """Return the values of the recorded trace, or skip where the folder with it is absent."""
    if not TRACE.exists():
        pytest.skip(f"{TRACE.name} is not there: recorded traces are not part of the project")
    with TRACE.open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


def generated_trace() -> list[float]:
    """Return a load with plateaus, spikes and values exactly on the thresholds."""
    chance = random.Random(77)
    values: list[float] = []
    while len(values) < 1500:
        level = chance.choice((15.0, 60.0, 79.9, 80.0, 85.0, 90.0, 90.1, 97.0))
        values += [
            level + (chance.random() if chance.random() < 0.3 else 0.0) for _ in range(chance.choice((1, 2, 3, 4, 9)))
        ]
    return [round(min(value, 100.0), 2) for value in values]


class Monitor:
    """Collection and evaluation on real parts, with a clock of the test's."""

    def __init__(self, redis_url: str, endpoint: Endpoint, now: testing.ManualClock) -> None:
        self.endpoint = endpoint
        default = config.DEFAULT
        cpu = default.metrics["cpu_utilization"].model_copy(update={"period": 1})
        configuration = default.model_copy(
            update={"metrics": {**default.metrics, "cpu_utilization": cpu}, "collect": ("cpu_utilization",)}
        )
        self.container = runtime.open(
            settings.Settings(redis_url=SecretStr(redis_url)),
            overrides={
                ports.Clock: now,
                ports.Schedule: testing.MemorySchedule(),
                ports.Dispatcher: testing.MemoryDispatcher(),
                Sequence[ports.Violations]: [self],
            },
        )
        assert self.get(ports.Configurations).save(configuration.model_copy(update={"revision": 1}))
        self.workers = self.get(ports.Workers)
        self.transitions: Transitions = []
        self.notified: list[models.Notification] = []

    def get(self, kind: Any) -> Any:
        """Return a port or a stage."""
        return self.container.get(kind)

    def step(self, worker_id: str) -> None:
        """Collect and evaluate once, and keep the recorded transitions of the CPU's rule."""
        self.get(collect.Collection).collect([worker_id])
        self.get(evaluate.Evaluation).evaluate([worker_id])
        for entry in reversed(self.get(ports.Alerts).history(f"{worker_id}/cpu-high", limit=60)):
            transition = (entry.transition.at, entry.transition.before, entry.transition.after)
            assert not entry.transition.correction
            if transition not in self.transitions:
                self.transitions.append(transition)

    def violated(self, notification: models.Notification) -> None:
        """Take part as a user's own hook."""
        if notification.rule == "cpu-high":
            self.notified.append(notification)

    def close(self) -> None:
        """Close all connections and servers."""
        self.container.close()


@pytest.fixture
def now() -> testing.ManualClock:
    """Give a clock at a whole second."""
    return testing.ManualClock(float(int(time.time())))


@pytest.fixture
def monitor(redis_url: str, now: testing.ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """Give a monitor of a simulated instance behind a real endpoint."""
    endpoint = Endpoint(Simulation(now, workers=1, period=1))
    endpoint.start()
    use_aws(monkeypatch, endpoint.url, AWS_REGION="us-east-1")
    new_monitor = Monitor(redis_url, endpoint, now)
    yield new_monitor
    new_monitor.close()
    endpoint.stop()


@pytest.mark.integration
@pytest.mark.parametrize("trace", [recorded_trace, generated_trace], ids=["recorded", "generated"])
def test_a_trace_gives_the_alerts_of_a_plain_loop(
    monitor: Monitor, now: testing.ManualClock, trace: Callable[[], list[float]]
) -> None:
    """Whenever collections run, transitions and times equal those of a plain loop over the file."""
    values = trace()
    end = int(now())
    begin = end - len(values) - 1
    points = [(begin + place, value) for place, value in enumerate(values)]
    simulation = monitor.endpoint.simulation
    worker_id = next(iter(simulation.machines))
    simulation.replay(worker_id, "CPUUtilization", points)
    now.now = float(begin)
    monitor.workers.add(
        [
            models.Worker(
                id=worker_id,
                name="replayed",
                region="us-east-1",
                interval=7,
                added_at=now(),
                incarnation="one",
                detailed=True,
            )
        ]
    )

    chance = random.Random(5)
    while now() <= end + 60:
        now.advance(chance.choice((7, 9, 13, 40, 61)))
        monitor.step(worker_id)

    expected = plain_loop(points)
    assert len(expected) > 20
    assert monitor.transitions == expected

    # Each notification has the state of its time, never the same state twice in a row.
    state: str | None = None
    truth = {at: after for at, _, after in expected}
    for message in monitor.notified:
        at = datetime.fromisoformat(message.at).timestamp()
        present = message.severity if message.status == "firing" else None
        assert present == truth[int(at)]
        assert present != state
        state = present
    assert state == expected[-1][2]
    assert [message.version for message in monitor.notified] == list(range(1, len(monitor.notified) + 1))
