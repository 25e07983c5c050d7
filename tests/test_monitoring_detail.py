"""Switching off detailed monitoring causes no absence. Datapoints that always arrive too late are reported."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.present import present
from workermon import evaluate, fleet, health, models, testing, views

ID = "i-0abc0123456789def"
REGION = models.AccountRegion(region="us-east-1")
#: On a whole hour.
T0 = 1_700_002_800
CPU = "cpu_utilization"
RULE = """
[[rules]]
name = "cpu"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "2 of 2"
missing = "breach"
"""


class One(testing.Monitor):
    """A monitor of one instance with detailed monitoring, until EC2 reports otherwise."""

    def __init__(self, text: str = RULE) -> None:
        super().__init__(now=float(T0))
        self.detail(True)
        self.get(fleet.Application).apply(self.parser.parse(text, "f.toml"), fleet.ApplyOptions(region="us-east-1"))
        self.get(fleet.Adding).add([ID], fleet.AddOptions(scope=REGION, interval=60))
        self.published: list[int] = []

    def detail(self, detailed: bool) -> None:
        """Set whether EC2 reports detailed monitoring."""
        self.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="one", detailed=detailed))
        self.period = 60 if detailed else 300

    def minutes(self, number: int, lag: int = 60, *, publishing: bool = True) -> list[str]:
        """Advance minutes, with a datapoint each period, ``lag`` seconds late. Return the transitions so far."""
        for _ in range(number):
            self.clock.advance(60)
            now = int(self.clock())
            newest = (now - lag) // self.period * self.period - self.period
            if publishing:
                self.cloudwatch.put(ID, "CPUUtilization", [(newest, 40.0)])
            self.collect()
            self.get(evaluate.Evaluation).evaluate([ID])
        history = self.alerts.history(f"{ID}/cpu", 100)
        return [entry.transition.after or "resolved" for entry in reversed(history)]


def test_detailed_monitoring_that_is_switched_off_pages_nobody() -> None:
    """Before the first absence EC2 is asked about monitoring, and the rule continues with five minutes."""
    monitor = One()
    assert monitor.minutes(20) == []
    described = sum(operation == "describe" for operation, _, _ in monitor.ec2.calls)
    monitor.detail(False)
    assert monitor.minutes(60) == []
    record = monitor.workers.get([ID])[ID]
    assert not record.worker.detailed
    assert record.condition.periods[CPU] == 300
    assert sum(operation == "describe" for operation, _, _ in monitor.ec2.calls) == described + 1


def test_an_absence_under_detailed_monitoring_still_breaches() -> None:
    """If EC2 confirms detailed monitoring, absent datapoints count. EC2 is asked once for each absence."""
    monitor = One()
    assert monitor.minutes(20) == []
    described = sum(operation == "describe" for operation, _, _ in monitor.ec2.calls)
    assert monitor.minutes(20, publishing=False) == ["critical"]
    assert sum(operation == "describe" for operation, _, _ in monitor.ec2.calls) == described + 1


def test_what_a_user_changed_meanwhile_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause between the reading of a worker and EC2's answer is not undone."""
    monitor = One()
    monitor.minutes(20)
    monitor.detail(False)
    inner = monitor.ec2.describe

    def pausing(scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.Instance]:
        worker = monitor.workers.get([ID])[ID].worker
        monitor.workers.update(worker.model_copy(update={"monitoring": "paused"}))
        return inner(scope, instance_ids)

    monkeypatch.setattr(monitor.ec2, "describe", pausing)
    for _ in range(6):
        monitor.clock.advance(60)
        monitor.collect(force=True)
    worker = monitor.workers.get([ID])[ID].worker
    assert (worker.monitoring, worker.detailed) == ("paused", False)


def test_datapoints_that_always_come_later_than_lateness_are_said() -> None:
    """why and doctor show how late they are and what to set. A long enough setting ends it."""
    monitor = One('[collect]\nlateness = "5m"\n')
    monitor.minutes(15, lag=900)
    record = monitor.workers.get([ID])[ID]
    [missing] = monitor.get(views.Explanation).explain(record, CPU).missing_metrics
    assert missing.reason.startswith("its datapoints arrive 900 s after their period, which is later than lateness; ")
    checks = {check.name: check for check in monitor.get(health.Doctor).examine("us-east-1").checks}
    check = present(checks.get(f"lateness of {CPU}"))
    assert not check.ok
    assert check.reason == "for one datapoints arrive 900 s after their period, later than lateness, 300 s"
    monitor.configure(lateness=1800)
    monitor.minutes(3, lag=900)
    assert monitor.workers.get([ID])[ID].condition.late == {}


def test_an_outage_of_the_monitor_is_not_lateness() -> None:
    """Backfilled datapoints were on time. A single late datapoint is not reported either."""
    monitor = One('[collect]\nlateness = "5m"\n')
    monitor.minutes(15)
    monitor.clock.advance(3600)
    monitor.minutes(1)
    assert monitor.workers.get([ID])[ID].condition.late == {}
    monitor.minutes(5)
    names = {check.name for check in monitor.get(health.Doctor).examine("us-east-1").checks}
    assert f"lateness of {CPU}" not in names
