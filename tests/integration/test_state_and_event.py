"""A stopped worker and one with a scheduled event: over real HTTP, boto3 and Redis, up to the outbox."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws_house import House, a_clock
from workermon import (
    collect,
    config,
    evaluate,
    failpoints,
    fleet,
    models,
    notify,
    ports,
    testing,
    views,
)
from workermon.local.simulation import Simulation

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent

FILE = """
[[rules]]
name = "down"
metric = "state"
expected = ["Client.UserInitiatedShutdown"]
notify = ["ops"]

[[rules]]
name = "plans"
metric = "event"
ahead = "14d"
notify = ["ops"]

[channels.ops]
type = "log"
"""


class RecordingNotifier:
    """A channel that keeps its notifications."""

    def __init__(self) -> None:
        self.sent: list[models.Notification] = []

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Take them."""
        self.sent.extend(notifications)


class Five(House):
    """An installation with five workers."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notifier = RecordingNotifier()
        notifiers = {Mapping[str, ports.Notifier]: {"log": self.notifier}}
        super().__init__(redis_url, monkeypatch, Simulation(a_clock(), 5), notifiers)
        scope = models.AccountRegion(region="us-east-1")
        self.get(fleet.Adding).add(self.ids, fleet.AddOptions(scope=scope))
        configurations = self.get(ports.Configurations)
        assert configurations.save(config.to_configuration(testing.parse(FILE, "f"), configurations.load()))

    def minute(self) -> list[str]:
        """Advance a minute: collect, evaluate, deliver. Return (worker, rule, status) of the notifications."""
        self.clock.advance(60)
        self.container.get(collect.Collection).collect(self.ids, force=True)
        return self.judge()

    def judge(self) -> list[str]:
        """Evaluate all pending workers, and deliver."""
        self.get(ports.Liveness).beat("listener", self.clock())
        before = len(self.notifier.sent)
        marked = self.get(ports.Samples).pending(self.clock(), 100)
        self.deliver(self.get(evaluate.Evaluation).evaluate(marked))
        return [
            f"{notification.worker.name if notification.worker else ''} {notification.rule} {notification.status}"
            for notification in self.notifier.sent[before:]
        ]

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Send the waiting notifications of these alerts."""
        self.get(notify.Delivery).deliver(alert_ids)

    def explain(self, worker_id: str, metric: str) -> Any:
        """Explain the only rule of a kind."""
        record = self.get(ports.Workers).get([worker_id])[worker_id]
        return self.get(views.Explanation).explain(record, metric).to_json()["rules"][0]

    def reconcile(self) -> Any:
        """Run a reconciliation."""
        return self.get(fleet.Reconciliation).reconcile(region="us-east-1").repairs


@pytest.fixture
def house(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Five]:
    """Give an installation that was collected once."""
    new_house = Five(redis_url, monkeypatch)
    try:
        assert new_house.minute() == []
        yield new_house
    finally:
        new_house.close()


def test_a_worker_that_stops_by_itself_notifies_and_one_that_its_user_stops_does_not(house: Five) -> None:
    """Both take one call more. The alert resolves at the next start, and why explains each step."""
    first, second = house.ids[:2]
    requests = house.endpoint.calls["DescribeInstances"]
    reason = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
    house.simulation.set_state(first, "stopping", reason)
    house.simulation.set_state(second, "stopped")
    assert house.minute() == ["render-01 down firing"]
    house.simulation.set_state(first, "stopped", reason)
    assert house.minute() == []
    assert house.endpoint.calls["DescribeInstances"] == requests + 1
    notification = house.notifier.sent[-1]
    assert notification.summary == (
        "render-01: the instance is being stopped: it was shut down from its own operating system"
        " (Client.InstanceInitiatedShutdown)"
    )
    assert notification.reason == "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
    explanation = house.explain(first, "state")
    assert (explanation["state"], explanation["notified"]) == ("critical", "critical")
    assert [delivery["error"] for delivery in explanation["history"][0]["deliveries"]] == [None]
    assert house.explain(second, "state")["now"].endswith("that is expected")
    house.simulation.set_state(first, "pending")
    assert house.minute() == []
    house.simulation.set_state(first, "running")
    house.simulation.set_state(second, "running")
    assert house.minute() == ["render-01 down resolved"]
    assert house.get(ports.Alerts).open() == []


def test_a_terminated_worker_notifies_in_every_order_of_events(house: Five) -> None:
    """Reconciled before its collection or evaluation, it notifies once, and once at its removal."""
    first = house.ids[0]
    house.simulation.set_state(first, "terminated", ("Server.SpotInstanceTermination", "no capacity"))
    assert house.reconcile() == ()
    house.clock.advance(60)
    assert house.container.get(collect.Collection).collect(house.ids, force=True).retired == (first,)
    assert first not in house.schedule.ids()
    assert house.reconcile() == ()
    house.clock.advance(3600)  # no evaluation: the evaluating node died
    assert house.judge() == ["render-01 down firing"]
    notification = house.notifier.sent[-1]
    assert notification.at == notification.since
    assert models.moment(notification.at) == house.clock() - 3600
    assert [(repair.action, repair.worker_id) for repair in house.reconcile()] == [("retire", first)]
    house.deliver([notification.dedup_key])
    resolved = house.notifier.sent[-1]
    assert (resolved.status, resolved.reason, resolved.dedup_key) == ("resolved", "terminated", notification.dedup_key)
    assert house.get(ports.Alerts).open() == []


def test_what_ec2_schedules_notifies_days_ahead_and_resolves_when_ec2_says_so(house: Five) -> None:
    """Events too far ahead, near, added, postponed, completed and cancelled have the right result."""
    first = house.ids[0]
    now = house.clock()
    reboot = house.simulation.schedule(
        first, "system-reboot", now + 20 * models.DAY, now + 20 * models.DAY + 7200, description="Maintenance <host>"
    )
    assert house.minute() == []
    assert house.explain(first, "event")["events"][0]["not_notified"].startswith("it notifies from")
    reboot.not_before, reboot.not_after, reboot.deadline = now + models.DAY, now + 2 * models.DAY, now + 9 * models.DAY
    assert house.minute() == ["render-01 plans firing"]
    notification = house.notifier.sent[-1]
    assert (notification.severity, notification.kind) == ("warning", "event")
    assert f"system-reboot scheduled for {models.rfc3339(now + models.DAY)}" in notification.summary
    assert "(in 24 hours): Maintenance <host> (it can be postponed until" in notification.summary
    retired = house.simulation.schedule(first, "instance-retirement", now + 7 * models.DAY)
    assert house.minute() == ["render-01 plans firing"]
    assert (house.notifier.sent[-1].severity, house.notifier.sent[-1].version) == ("critical", 2)
    house.endpoint.fail("error", "DescribeInstanceStatus")
    assert house.minute() == []
    house.endpoint.recover()
    record = house.get(ports.Workers).get([first])[first]
    assert [event.code for event in house.get(views.WorkerView).show(record).events] == [
        "system-reboot",
        "instance-retirement",
    ]
    reboot.description = "[Completed] " + reboot.description
    assert house.minute() == []
    retired.description = "[Canceled] The host is well"
    assert house.minute() == ["render-01 plans resolved"]
    assert "EC2 has marked it as cancelled" in house.notifier.sent[-1].summary
    assert house.get(ports.Alerts).open() == []


#: A process that does one step, as a task of a worker process does, on the test's clock.
CHILD = """
import sys
from workermon import collect, ports, runtime, settings, testing
from workermon.evaluate import Evaluation
clock = testing.ManualClock(float(sys.argv[2]))
overrides = {ports.Clock: clock, ports.Schedule: testing.MemorySchedule(), ports.Dispatcher: testing.MemoryDispatcher(),
             ports.Nodes: testing.MemoryNodes(["there"])}
container = runtime.open(settings.Settings(), overrides=overrides)
if sys.argv[1] == "collect":
    container.get(collect.Collection).collect(sys.argv[3:], force=True)
else:
    container.get(Evaluation).evaluate(sys.argv[3:])
print("survived")
"""


@pytest.mark.parametrize(
    ("step", "failpoint"),
    [("collect", "collect.written"), ("evaluate", "evaluate.decided"), ("evaluate", "evaluate.committed")],
)
def test_a_process_that_dies_takes_nothing_with_it(house: Five, redis_url: str, step: str, failpoint: str) -> None:
    """If a process exits while it handles a termination, that notifies once."""
    first = house.ids[0]
    house.simulation.set_state(first, "terminated", ("Server.SpotInstanceTermination", "no capacity"))
    house.clock.advance(60)
    if step == "evaluate":
        house.container.get(collect.Collection).collect(house.ids, force=True)
    environment = {**os.environ, "WORKERMON_REDIS_URL": redis_url, "WORKERMON_FAILPOINT": failpoint}
    completed = subprocess.run(
        [sys.executable, "-c", CHILD, step, str(house.clock()), *house.ids],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "survived" not in completed.stdout, completed.stderr
    assert completed.returncode == failpoints.EXIT, completed.stderr
    seen_at = house.clock()
    house.clock.advance(300)
    assert house.reconcile() == () or failpoint == "evaluate.committed"
    house.judge()
    house.deliver(house.get(ports.Outbox).due(house.clock(), 100))
    sent = [
        notification
        for notification in house.notifier.sent
        if notification.rule == "down" and notification.status == "firing"
    ]
    assert [models.moment(notification.at) for notification in sent] == [seen_at]
    assert len({notification.id for notification in sent}) == 1
