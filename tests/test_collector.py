"""The alert about a whole account and region, and the alerts that it inhibits, through ``evaluate``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.present import present
from tests.support.refused import CONFIGURATION, IDS, SCOPE, T0, last_error
from workermon import config, errors, evaluate, fleet, health, models, ports, testing
from workermon.alerts import lifecycle
from workermon.alerts.verdict import VerdictBuilder
from workermon.cli import output
from workermon.evaluate import account
from workermon.fleet import AccountClosing
from workermon.rules import threshold


@pytest.mark.parametrize("kind", ["denied", "throttled", "unreachable"])
def test_one_alert_for_the_account_and_none_for_each_worker(fleet: Any, kind: str) -> None:
    """It fires after three intervals without a success and resolves with the first. No other alert notifies."""
    fleet.minutes(1, 6, kind)
    (alert,) = fleet.alerts.open()
    notification = alert.last
    assert (notification.dedup_key, notification.kind) == (f"{SCOPE}/collector", "collector")
    assert (notification.status, notification.severity) == ("firing", "critical")
    assert (notification.worker, notification.scope) == (None, {"account": "lab", "region": "eu-west-1"})
    assert notification.at == notification.since == models.rfc3339(T0 + 180)
    assert notification.reason.startswith(f"{kind}: EC2 in eu-west-1")
    assert notification.summary == f"account lab in eu-west-1: no successful collection for 3 intervals (180 s): {kind}"
    assert output.reason(notification).startswith(f"{notification.summary}: EC2 in eu-west-1")
    fleet.minutes(7, 12, None)
    assert fleet.alerts.open() == []
    assert fleet.notified == [f"{SCOPE}/collector"] * 2
    after, before = fleet.alerts.history(f"{SCOPE}/collector")
    assert after.notification.status == "resolved"
    assert (after.notification.version, before.notification.version) == (2, 1)
    assert after.notification.at == models.rfc3339(T0 + 420)
    assert after.notification.id != before.notification.id
    assert [claimed.channel for claimed in fleet.outbox.claim(f"{SCOPE}/collector", fleet.clock.now, 5)] == ["ops"]


def test_what_is_held_back_is_recorded_with_the_reason(fleet: Any) -> None:
    """A worker's history shows why its silence was not notified."""
    fleet.minutes(1, 5)
    (recorded,) = fleet.alerts.history(f"{IDS[0]}/silence")
    assert recorded.notification is None
    assert recorded.transition.after == "critical"
    assert recorded.transition.reason.endswith(f"held back: collection fails in all of {SCOPE} (denied)")


def test_a_worker_that_is_still_silent_afterwards_notifies(fleet: Any) -> None:
    """A worker that is silent an interval and a half later notifies. One that was collected does not."""
    fleet.minutes(1, 6)
    fleet.notified.clear()
    for second in (420, 480, 540):
        for worker in (fleet.elsewhere, *fleet.ours[1:]):
            fleet.collected(worker, second)
        fleet.evaluate_at(second + 1)
        if second == 420:
            assert fleet.notified == [f"{SCOPE}/collector"]
    assert fleet.notified == [f"{SCOPE}/collector", f"{IDS[0]}/silence"]
    (alert,) = fleet.alerts.open()
    assert alert.last.worker.id == IDS[0]
    assert alert.last.since == models.rfc3339(T0 + 180)


def test_a_worker_that_is_silent_alone_notifies(fleet: Any) -> None:
    """A silent worker notifies if its account and region works."""
    for minute in range(1, 5):
        for worker in (fleet.elsewhere, *fleet.ours[1:]):
            fleet.collected(worker, 60 * minute)
        fleet.evaluate_at(60 * minute + 1)
    assert fleet.notified == [f"{IDS[0]}/silence"]


def test_two_refusals_in_a_row_are_nothing_yet(fleet: Any) -> None:
    """Two refusals in a row do not fire, because throttling is temporary."""
    fleet.minutes(1, 2, "throttled")
    fleet.minutes(3, 4, None)
    assert fleet.notified == []
    assert fleet.alerts.history() == []


def test_an_outage_of_the_monitor_is_no_failure_of_the_account(fleet: Any) -> None:
    """Intervals count from the monitor's own start."""
    fleet.refused(60)
    fleet.evaluate_at(61)
    fleet.refused(4000)
    assert fleet.evaluate_at(4001, away=True) == []
    for after in range(4010, 4160, 10):
        fleet.evaluate_at(after)
        fleet.collected(fleet.elsewhere, after)
    assert fleet.notified == []
    for after in range(4160, 4200, 10):
        fleet.refused(after)
        fleet.evaluate_at(after)
    assert fleet.notified == [f"{SCOPE}/collector"]


def test_the_end_has_its_own_reason_where_somebody_ends_it(fleet: Any) -> None:
    """If the last worker there is removed, the end has that reason."""
    fleet.minutes(1, 4)
    basis = fleet.alerts.load_monitor_alerts().accounts[SCOPE]
    verdict = lifecycle.closing(basis, CONFIGURATION, "no worker is left there", T0 + 400)
    assert fleet.alerts.commit(verdict)
    assert fleet.alerts.open() == []
    notification = fleet.alerts.history(f"{SCOPE}/collector")[0].notification
    assert (notification.status, notification.reason) == ("resolved", "no worker is left there")
    basis = fleet.alerts.load_monitor_alerts().accounts[SCOPE]
    assert lifecycle.closing(basis, CONFIGURATION, "again", T0 + 500).transitions == ()


def test_where_no_worker_is_collected_any_more_it_is_over(fleet: Any) -> None:
    """It resolves when the last worker is removed or paused. Otherwise the next collection decides."""
    fleet.minutes(1, 4)
    closing = fleet.get(AccountClosing)
    for worker in fleet.ours[:2]:
        assert fleet.workers.update(worker.model_copy(update={"monitoring": "paused"}))
    assert closing.close_unused_accounts() == ()
    basis = fleet.alerts.load([IDS[2]])[IDS[2]]
    assert fleet.alerts.retire(ports.Verdict(basis, {}, (), {}, fleet.clock()))
    assert [alert.rule for alert in fleet.alerts.open()] == ["collector"]
    assert closing.close_unused_accounts() == (SCOPE,)
    assert fleet.alerts.open() == []
    assert closing.close_unused_accounts() == ()
    notification = fleet.alerts.history(f"{SCOPE}/collector")[0].notification
    assert (notification.status, notification.reason) == ("resolved", "no worker is collected there")
    fleet.notified.clear()
    for after in range(300, 900, 30):
        fleet.collected(fleet.elsewhere, after)
        fleet.evaluate_at(after + 1)
    assert fleet.notified == [], "what is known of a place that was left fires no more"


def test_a_failure_after_which_nobody_collects_holds_nothing_back(fleet: Any) -> None:
    """If beat dies right after a refusal, workers' silence notifies."""
    fleet.refused(60)
    for after in range(61, 700, 30):
        fleet.collected(fleet.elsewhere, after)
        fleet.evaluate_at(after)
    assert sorted(fleet.notified) == [f"{worker_id}/silence" for worker_id in IDS]


def test_without_a_no_data_rule_every_channel_is_notified() -> None:
    """It notifies all channels of rules, or the log if there are none."""
    state = models.AccountState(
        key=SCOPE, at=T0 + 120, interval=60, failing_since=T0, last_error=last_error("denied", T0)
    )
    basis = ports.Basis(models.account_subject(SCOPE), state)

    def notified_channels(*rules: models.Rule) -> tuple[str, ...]:
        configuration = CONFIGURATION.model_copy(update={"rules": rules})
        builder = VerdictBuilder(basis, T0 + 200)
        account.judge(builder, state, configuration, monitoring_since=T0 - 999)
        return builder.channels["collector"]

    cpu = threshold.KIND.rule(
        name="a", metric="cpu_utilization", above=models.Levels(critical=1), notify=("ops", "log")
    )
    assert notified_channels(cpu, cpu) == ("ops", "log")
    assert notified_channels(cpu, models.Rule(name="b", kind="no-data", notify=("night",))) == ("night",)
    assert notified_channels() == ("log",)


@pytest.fixture
def discovering() -> Any:
    """Give a monitor without workers. Its [discover] names two regions, and one is refused."""
    monitor = testing.Monitor(
        config.DEFAULT.model_copy(
            update={"discover": models.Discover(regions=("us-east-1", "me-south-1"), tags={"Role": "render"})}
        )
    )

    class Ec2(testing.MemoryEc2):
        refused = True

        def find(self, scope: Any, tags: Any) -> Any:
            if self.refused and scope.region == "me-south-1":
                raise errors.CredentialsRejected("EC2 in me-south-1", "DescribeInstances: AuthFailure", "enable it")
            return super().find(scope, tags)

    monitor.ec2 = Ec2()
    monitor.liveness.beat("listener", monitor.clock())
    return monitor


def reconciled(monitor: Any, times: int = 1) -> None:
    """Reconcile and evaluate every five minutes, as the listener has it done."""
    for _ in range(times):
        monitor.get(fleet.Reconciliation).reconcile()
        monitor.get(AccountClosing).close_unused_accounts()
        monitor.get(evaluate.Evaluation).evaluate([])
        for _ in range(30):
            monitor.clock.advance(10)
            monitor.liveness.beat("listener", monitor.clock())


def test_a_region_of_discover_that_is_refused_is_one_alert(discovering: Any) -> None:
    """It fires although no worker is collected there, and resolves when the region answers."""
    reconciled(discovering, times=3)
    (alert,) = discovering.alerts.open()
    assert (alert.rule, alert.last.scope) == ("collector", {"account": "default", "region": "me-south-1"})
    assert "the region may not be enabled for the account" in alert.last.reason
    discovering.ec2.refused = False
    reconciled(discovering, times=2)
    assert discovering.alerts.open() == []


def test_a_region_of_discover_that_is_refused_shows_in_status_and_doctor(discovering: Any) -> None:
    """Both name it with the likely reason. It ends if the region is no longer searched."""
    reconciled(discovering)
    status = discovering.get(health.StatusCheck).status()
    (scope,) = status.scopes
    assert (scope.region, scope.state) == ("me-south-1", "denied")
    assert scope.reason == present(discovering.accounts.load()["default/me-south-1"].last_error).message
    (part,) = [part for part in status.parts if part.name == "collection"]
    assert (part.ok, part.reason) == (False, "[discover] cannot search in default/me-south-1 (denied)")
    checks = {check.name: check for check in discovering.get(health.Doctor).examine("us-east-1").checks}
    assert checks["ec2:DescribeInstances of [discover] in default/us-east-1"].ok
    refused = checks["ec2:DescribeInstances of [discover] in default/me-south-1"]
    assert not refused.ok
    assert "because the same credentials serve us-east-1" in refused.reason
    discovering.configure(discover=models.Discover(regions=("us-east-1",), tags={"Role": "render"}))
    reconciled(discovering)
    assert discovering.get(health.StatusCheck).status().scopes == ()
