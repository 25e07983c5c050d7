"""A metric that is missing on much of a fleet is one alert about the account and region."""

from __future__ import annotations

import pytest

from workermon import collect, errors, fleet, models, testing, views

REGION = models.AccountRegion(region="us-east-1")
ALERT = "default/us-east-1/lost-metrics"
#: On a whole hour.
T0 = 1_700_002_800
MEMORY, DISK, CPU = "mem_used_percent", "disk_used_percent", "CPUUtilization"
CREDIT = "CPUCreditBalance"


class Fleet(testing.Monitor):
    """Instances whose agents publish memory and disk each minute, until they stop."""

    def __init__(self, number: int = 8) -> None:
        super().__init__(now=float(T0))
        self.ids = [f"i-{place:017x}" for place in range(number)]
        for worker_id in self.ids:
            self.ec2.put(models.Instance(id=worker_id, region="us-east-1", status="running", name=worker_id))
        self.silent: dict[str, set[str]] = {MEMORY: set(), DISK: set(), CPU: set()}
        self.get(fleet.Adding).add(self.ids, fleet.AddOptions(scope=REGION, interval=60))

    def minutes(self, number: int) -> None:
        """Advance minutes, with the pipeline's work of each minute and of every five."""
        for _ in range(number):
            self.beat_for(60)
            now = int(self.clock())
            for metric, silent in self.silent.items():
                for worker_id in self.ids:
                    if worker_id not in silent:
                        namespace = "AWS/EC2" if metric in (CPU, CREDIT) else "CWAgent"
                        self.cloudwatch.put(worker_id, metric, [(now - 120, 40.0)], namespace=namespace)
            self.collect(*self.ids)
            if now % 300 == 0:
                self.get(collect.LostMetrics).survey()
            self.evaluate(self.ids[0])

    @property
    def notified(self) -> list[tuple[str, str | None]]:
        """Return the notifications about lost metrics, oldest first."""
        entries = reversed(self.alerts.history(ALERT, 100))
        return [(entry.notification.status, entry.notification.reason) for entry in entries if entry.notification]


def test_a_metric_that_much_of_a_fleet_lost_is_one_alert() -> None:
    """It names the metric, the number of workers and the time, fires once, and resolves when the metric returns."""
    monitor = Fleet()
    monitor.minutes(20)
    assert monitor.notified == []
    monitor.silent[MEMORY] = set(monitor.ids[:6])
    monitor.minutes(20)
    since = models.rfc3339(T0 + 18 * 60)
    summary = f"memory_utilization stopped arriving from 6 of 8 workers, first at {since}"
    assert monitor.notified == [("firing", summary)]
    [alert] = [alert for alert in monitor.alerts.open() if alert.rule == "lost-metrics"]
    assert alert.last is not None
    assert (alert.last.kind, alert.last.severity, alert.last.worker) == ("collector", "warning", None)
    assert alert.last.scope == {"account": "default", "region": "us-east-1"}
    assert alert.last.dedup_key == ALERT
    explanation = monitor.get(views.ExplainAccount).explain("default/us-east-1", "lost-metrics")
    assert (explanation.rule, explanation.state) == ("lost-metrics", "warning")
    assert explanation.now == f"memory_utilization stopped arriving from 6 of 8 workers, first at {since}"
    monitor.silent[MEMORY] = set()
    monitor.minutes(15)
    assert [status for status, _ in monitor.notified] == ["firing", "resolved"]


def test_another_metric_that_joins_is_said() -> None:
    """People hear of each metric once."""
    monitor = Fleet()
    monitor.minutes(20)
    monitor.silent[MEMORY] = set(monitor.ids)
    monitor.minutes(20)
    monitor.silent[DISK] = set(monitor.ids)
    monitor.minutes(20)
    assert [status for status, _ in monitor.notified] == ["firing", "firing"]
    assert "disk_utilization stopped arriving from 8 of 8" in (monitor.notified[-1][1] or "")


def test_a_metric_is_not_taken_for_one_whose_name_contains_its_name() -> None:
    """The alert notifies again although the first metric's name ends like the second one's."""
    monitor = Fleet()
    monitor.minutes(5)
    lost = [
        models.LostMetric(metric=metric, workers=8, of=8, since=T0)
        for metric in ("swap_memory_utilization", "memory_utilization")
    ]
    for number in (1, 2, 1, 2):
        monitor.accounts.note_lost(REGION.key, lost[:number])
        monitor.evaluate(monitor.ids[0])
    assert [status for status, _ in monitor.notified] == ["firing", "firing"]
    assert "; memory_utilization stopped arriving" in (monitor.notified[-1][1] or "")


@pytest.mark.parametrize(("number", "silent"), [(8, 2), (20, 4)])
def test_a_few_are_no_matter_of_the_fleet(number: int, silent: int) -> None:
    """Fewer than three workers, or less than a quarter of those that published it, make no alert of the region."""
    monitor = Fleet(number)
    monitor.minutes(20)
    monitor.silent[MEMORY] = set(monitor.ids[:silent])
    monitor.minutes(20)
    assert monitor.notified == []


def test_an_account_that_cloudwatch_no_longer_shows_is_told_however_small() -> None:
    """As when the link to a monitoring account is removed: every answer is empty, and none is refused."""
    monitor = Fleet(1)
    monitor.minutes(20)
    monitor.silent = {MEMORY: set(monitor.ids), DISK: set(monitor.ids), CPU: set()}
    monitor.minutes(20)
    assert monitor.notified == []
    monitor.silent[CPU] = set(monitor.ids)
    monitor.minutes(30)
    monitor.silent[CPU] = set()
    monitor.minutes(10)
    [(firing, reason), (resolved, _)] = monitor.notified
    assert (firing, resolved) == ("firing", "resolved")
    assert "cpu_utilization" in str(reason)
    assert "memory_utilization" not in str(reason)


def test_a_metric_that_only_some_instance_types_have_may_end_in_a_small_account() -> None:
    """An instance that is no longer of a burstable type publishes no credits any more."""
    monitor = Fleet(1)
    monitor.configure(collect=("cpu_utilization", "cpu_credit_balance"))
    monitor.silent[CREDIT] = set()
    monitor.minutes(20)
    monitor.silent[CREDIT] = set(monitor.ids)
    monitor.minutes(40)
    assert monitor.notified == []


def test_machines_that_start_have_time_for_their_agents() -> None:
    """A fleet that is stopped at night and started in the morning has lost no metric."""
    monitor = Fleet()
    monitor.minutes(20)
    for worker_id in monitor.ids:
        monitor.ec2.become(worker_id, "stopped")
    monitor.silent = {metric: set(monitor.ids) for metric in (MEMORY, DISK, CPU)}
    monitor.minutes(30)
    for worker_id in monitor.ids:
        monitor.ec2.become(worker_id, "running")
    monitor.minutes(10)
    monitor.silent = {metric: set() for metric in (MEMORY, DISK, CPU)}
    monitor.minutes(20)
    assert monitor.notified == []


def test_it_fires_beside_the_alert_about_collection() -> None:
    """Neither alert of an account and region takes the other's state away."""
    monitor = Fleet()
    monitor.minutes(20)
    monitor.silent[MEMORY] = set(monitor.ids)
    monitor.minutes(20)
    monitor.ec2.error = errors.AwsDenied("EC2", "no", "ask")
    monitor.minutes(10)
    assert {alert.rule for alert in monitor.alerts.open()} >= {"lost-metrics", "collector"}
    monitor.ec2.error = None
    monitor.minutes(5)
    assert "lost-metrics" in {alert.rule for alert in monitor.alerts.open()}
