"""One worker, from ``add`` to an alert that fires and resolves: the way of the data, a step a test."""

from __future__ import annotations

import json

import pytest

from tests.support.present import present
from workermon import collect, evaluate, fleet, models, notify, testing

ID = "i-0abc0123456789def"
HERE = models.AccountRegion(region="us-east-1")


@pytest.fixture
def monitor() -> testing.Monitor:
    """Give a monitor that watches nothing yet."""
    return testing.Monitor(now=1_700_000_040.0)


def add(monitor: testing.Monitor) -> None:
    """Let EC2 have an instance, and monitor it."""
    monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    monitor.get(fleet.Adding).add([ID], fleet.AddOptions(scope=HERE, interval=60))


def minutes(monitor: testing.Monitor, *cpu: float) -> None:
    """Let that many minutes pass with these loads; each is collected, evaluated and delivered as it comes."""
    for value in cpu:
        at = int(monitor.clock()) // 60 * 60
        monitor.cloudwatch.put(ID, "CPUUtilization", [(at, value)])
        monitor.clock.advance(60)
        monitor.get(collect.Collection).collect([ID])
        monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))


def test_1_adding_a_worker_checks_it_with_ec2_and_schedules_its_id(monitor: testing.Monitor) -> None:
    """Adding takes the name from EC2, and schedules nothing but the id."""
    add(monitor)
    assert monitor.workers.get([ID])[ID].worker.name == "render-07"
    assert monitor.schedule.ids() == {ID}


def test_2_a_collection_writes_the_ledger_and_one_event(monitor: testing.Monitor) -> None:
    """A collection brings datapoints into the ledger at CloudWatch's own times, and tells the channel."""
    add(monitor)
    listening = monitor.feed.listen(timeout=0.01)
    next(listening)  # the subscription stands

    minutes(monitor, 41.2)

    series = monitor.samples.read([(ID, "cpu_utilization", 60)], 0, monitor.clock())[ID, "cpu_utilization"]
    assert series.points == (models.Datapoint(1_700_000_040, 41.2),)
    event = json.loads(present(next(listening)))
    assert event["event"] == "worker.metrics.collected"
    assert event["metrics"]["cpu_utilization"] == {"value": 41.2, "unit": "percent", "at": "2023-11-14T22:14:00Z"}
    assert event["metrics"]["memory_utilization"] is None, "absent is null, never 0"


def test_3_three_of_three_datapoints_above_90_fire(monitor: testing.Monitor) -> None:
    """Two datapoints above the threshold are not enough, exactly 90 is not above it, three fire once."""
    add(monitor)
    minutes(monitor, 97.0, 97.0, 79.0, 90.0)
    assert monitor.received == []

    minutes(monitor, 95.0, 96.0, 97.5)

    last = monitor.received[-1]
    assert (last.status, last.severity, last.rule) == ("firing", "critical", "cpu-high")
    assert last.summary == "render-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints"


def test_4_it_clears_when_two_of_two_are_well_again(monitor: testing.Monitor) -> None:
    """It resolves once, at the time of the deciding datapoint, and sends no other notification."""
    add(monitor)
    minutes(monitor, 97.0, 97.0, 97.0, 97.0, 50.0, 50.0, 50.0)
    assert [(notification.status, notification.at) for notification in monitor.received] == [
        ("firing", "2023-11-14T22:16:00Z"),
        ("resolved", "2023-11-14T22:19:00Z"),
    ]
    assert monitor.alerts.open() == []


def test_5_an_outage_of_the_monitor_is_made_up_for(monitor: testing.Monitor) -> None:
    """After an outage of the monitor the ledger is complete, and alerts that have already ended notify nobody."""
    add(monitor)
    minutes(monitor, 50.0)
    at = int(monitor.clock())
    monitor.cloudwatch.put(ID, "CPUUtilization", [(at + 60 * n, 97.0 if n < 20 else 50.0) for n in range(30)])
    monitor.clock.advance(30 * 60)

    monitor.get(collect.Collection).collect([ID])
    monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))

    series = monitor.samples.read([(ID, "cpu_utilization", 60)], at, monitor.clock())[ID, "cpu_utilization"]
    assert len(series.points) == 30
    assert monitor.received == []
    episode = [entry.transition for entry in reversed(monitor.alerts.history(f"{ID}/cpu-high"))]
    assert [(transition.before, transition.after) for transition in episode] == [(None, "critical"), ("critical", None)]


def test_6_removing_it_resolves_what_fires_and_forgets_it(monitor: testing.Monitor) -> None:
    """A removal tells why the alert is over, and leaves neither worker nor entry."""
    add(monitor)
    minutes(monitor, 97.0, 97.0, 97.0)

    monitor.get(fleet.Removing).remove([ID])
    monitor.get(notify.Delivery).deliver([f"{ID}/cpu-high"])

    assert [(notification.status, notification.reason) for notification in monitor.received] == [
        ("firing", None),
        ("resolved", "removed"),
    ]
    assert monitor.workers.ids() == []
    assert monitor.schedule.ids() == set()
