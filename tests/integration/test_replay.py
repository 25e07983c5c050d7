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

import pytest

from tests.integration.aws_house import House
from workermon import collect, config, evaluate, models, ports, testing
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


class Replaying(House):
    """A simulated instance whose CPU is collected and evaluated."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = testing.ManualClock(float(int(time.time())))
        hooks = {Sequence[ports.Violations]: [self]}
        super().__init__(redis_url, monkeypatch, Simulation(clock, workers=1, period=1), hooks)
        default = config.DEFAULT
        cpu = default.metrics["cpu_utilization"].model_copy(update={"period": 1})
        configuration = default.model_copy(
            update={"metrics": {**default.metrics, "cpu_utilization": cpu}, "collect": ("cpu_utilization",)}
        )
        assert self.get(ports.Configurations).save(configuration.model_copy(update={"revision": 1}))
        self.transitions: Transitions = []
        self.notified: list[models.Notification] = []

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


@pytest.fixture
def monitor(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replaying]:
    """Give a monitor of a simulated instance behind a real endpoint."""
    new_monitor = Replaying(redis_url, monkeypatch)
    yield new_monitor
    new_monitor.close()


@pytest.mark.integration
@pytest.mark.parametrize("trace", [recorded_trace, generated_trace], ids=["recorded", "generated"])
def test_a_trace_gives_the_alerts_of_a_plain_loop(monitor: Replaying, trace: Callable[[], list[float]]) -> None:
    """Whenever collections run, transitions and times equal those of a plain loop over the file."""
    values, now = trace(), monitor.clock
    end = int(now())
    begin = end - len(values) - 1
    points = [(begin + place, value) for place, value in enumerate(values)]
    [worker_id] = monitor.ids
    monitor.simulation.replay(worker_id, "CPUUtilization", points)
    now.now = float(begin)
    monitor.get(ports.Workers).add(
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
