"""What every limiter, cost ledger and record of accounts and regions promises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import fakeredis
import pytest
import redis

from tests.contract import builders
from tests.contract.builders import NOW
from tests.support.present import present
from tests.support.repositories import DEFAULT, repository_on_redis
from workermon import models, ports, testing
from workermon.on_redis import accounts, client, costs, limiter

SCOPE = "lab/eu-west-1"
DENIED = models.CollectionError(kind="denied", message="EC2 in eu-west-1: no; allow it", at=NOW)


class Implementation(NamedTuple):
    """The three ports, and the readers of what they write."""

    limiter: ports.Limiter
    costs: ports.Costs
    accounts: ports.Accounts
    alerts: ports.Alerts
    outbox: ports.Outbox
    configurations: ports.Configurations


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Give the ports, once for each implementation."""
    if request.param == "memory":
        store = testing.MemoryStore()
        yield Implementation(
            testing.MemoryLimiter(),
            testing.MemoryCosts(),
            testing.MemoryAccounts(store),
            testing.MemoryAlerts(store),
            testing.MemoryOutbox(store),
            testing.MemoryConfigurations(store, DEFAULT),
        )
        return
    with contextlib.ExitStack() as stack:
        connection: redis.Redis
        if request.param == "fakeredis":
            connection = fakeredis.FakeRedis()
        else:
            connection = stack.enter_context(contextlib.closing(client.connect(request.getfixturevalue("redis_url"))))
        redis_repository = repository_on_redis(connection)
        yield Implementation(
            limiter.RedisLimiter(connection, lambda api: models.Limit(bucket=100, rate=20)),
            costs.RedisCosts(connection),
            accounts.RedisAccounts(connection),
            redis_repository.alerts,
            redis_repository.outbox,
            redis_repository.configurations,
        )


def basis_of(implementation: Implementation) -> ports.Basis[models.AccountState]:
    """Return the basis of a verdict about the account and region."""
    return implementation.alerts.load_monitor_alerts().accounts[SCOPE]


def verdict(basis: ports.Basis[models.AccountState], status: str, version: int, at: int = NOW) -> ports.Verdict:
    """Return a verdict in which the only alert of an account and region fires or resolves."""
    firing = status == "firing"
    notification = builders.notification(f"{SCOPE}/collector", version, status, worker=None).model_copy(
        update={"kind": "collector", "dedup_key": f"{SCOPE}/collector", "rule": "collector"}
    )
    alert = models.Alert(
        rule="collector",
        version=version,
        since=at if firing else None,
        notified_severity="critical" if firing else None,
        last=notification,
    )
    transition = models.Transition(
        at=at, before=None if firing else "critical", after="critical" if firing else None, reason="denied"
    )
    recorded = ports.RecordedTransition("collector", transition, notification)
    return ports.Verdict(basis, {"collector": alert}, (recorded,), {"collector": ("log", "ops")}, at)


# --- the limiter -------------------------------------------------------------------------------------------------


def test_a_full_rate_is_not_slowed(implementation: Implementation) -> None:
    """An API that was never refused is not listed as slowed."""
    implementation.limiter.take(SCOPE, "DescribeInstances")
    implementation.limiter.answered(SCOPE, "DescribeInstances")
    assert implementation.limiter.slowed() == {}


def test_a_refusal_halves_the_rate_of_that_api_alone(implementation: Implementation) -> None:
    """Other operations, accounts and regions keep their rates."""
    implementation.limiter.take(SCOPE, "GetMetricData")
    implementation.limiter.throttled(SCOPE, "GetMetricData")
    slowed = implementation.limiter.slowed()
    assert set(slowed) == {(SCOPE, "GetMetricData")}
    assert slowed[SCOPE, "GetMetricData"] == pytest.approx(0.5, abs=0.05)
    implementation.limiter.take("default/us-east-1", "GetMetricData")


# --- costs -------------------------------------------------------------------------------------------------------


def test_requests_and_metrics_are_counted_by_the_hour(implementation: Implementation) -> None:
    """Each account, region, operation and metric has its own count. Names may have spaces."""
    assert implementation.costs.hours(NOW) == []
    implementation.costs.note(NOW + 5, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3, "My App/a b": 1})
    implementation.costs.note(NOW + 65, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3})
    implementation.costs.note(NOW + 70, "default/us-east-1", "ListMetrics", {})
    implementation.costs.note(NOW + 3600, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
    first, second = implementation.costs.hours(NOW + 100)
    assert (first.start, first.counted_since, second.start) == (NOW, NOW + 5, NOW + 3600)
    assert first.calls == {(SCOPE, "GetMetricData"): 2, ("default/us-east-1", "ListMetrics"): 1}
    assert first.metrics == first.full == {(SCOPE, "AWS/EC2/CPUUtilization"): 6, (SCOPE, "My App/a b"): 1}
    assert second.metrics == {(SCOPE, "AWS/EC2/CPUUtilization"): 2}
    assert implementation.costs.hours(NOW + 3600) == [second]


def test_totals_only_grow(implementation: Implementation) -> None:
    """Totals include every hour and never decrease."""
    assert implementation.costs.totals() == models.UsageTotals()
    implementation.costs.note(NOW, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3, "My App/a b": 1})
    implementation.costs.note(NOW + 90 * models.DAY, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
    totals = implementation.costs.totals()
    assert totals.calls == {(SCOPE, "GetMetricData"): 2}
    assert totals.metrics == {(SCOPE, "AWS/EC2/CPUUtilization"): 5, (SCOPE, "My App/a b"): 1}


def test_a_decision_replaces_only_the_one_it_was_made_from(implementation: Implementation) -> None:
    """Of two concurrent decisions one succeeds. Requests in between are counted."""
    before = implementation.costs.budget_decision()
    assert before == models.BudgetDecision()
    first = models.BudgetDecision(
        at=NOW, period_multipliers={"network_out": 4}, weights={"AWS/EC2/NetworkOut": 4}, budget=5
    )
    assert implementation.costs.decide(first, before)
    assert not implementation.costs.decide(first.model_copy(update={"at": NOW + 1}), before)
    assert implementation.costs.budget_decision() == first
    implementation.costs.note(NOW, SCOPE, "GetMetricData", {"AWS/EC2/NetworkOut": 2, "AWS/EC2/CPUUtilization": 2})
    (hour,) = implementation.costs.hours(NOW)
    assert hour.metrics[SCOPE, "AWS/EC2/NetworkOut"] == 2
    assert hour.full == {(SCOPE, "AWS/EC2/NetworkOut"): 8, (SCOPE, "AWS/EC2/CPUUtilization"): 2}


# --- accounts and regions ----------------------------------------------------------------------------------------


def test_lost_metrics_are_noted_where_something_was_collected(implementation: Implementation) -> None:
    """They are stored with the account's state and read with it. They create no account."""
    lost = (models.LostMetric(metric="memory_utilization", workers=36, of=40, since=int(NOW)),)
    implementation.accounts.note_lost(SCOPE, lost)
    assert implementation.accounts.load() == {}
    implementation.accounts.note(SCOPE, NOW, 60, None)
    implementation.accounts.note_lost(SCOPE, lost)
    implementation.accounts.note(SCOPE, NOW + 60, 60, None)
    assert implementation.accounts.load()[SCOPE].lost_metrics == lost
    assert basis_of(implementation).record.lost_metrics == lost
    implementation.accounts.note_lost(SCOPE, ())
    assert implementation.accounts.load()[SCOPE].lost_metrics == ()


def test_a_failure_lasts_until_the_next_success(implementation: Implementation) -> None:
    """A failure lasts since the first one after the last success. Late reports change nothing."""
    implementation.accounts.note(SCOPE, NOW, 60, None)
    implementation.accounts.note(SCOPE, NOW + 60, 60, DENIED)
    implementation.accounts.note(SCOPE, NOW + 120, 60, DENIED.model_copy(update={"kind": "throttled"}))
    implementation.accounts.note(SCOPE, NOW - 5, 60, DENIED)
    state = implementation.accounts.load()[SCOPE]
    assert (state.account, state.region, state.interval) == ("lab", "eu-west-1", 60)
    assert (state.succeeded_at, state.failing_since, state.at) == (NOW, NOW + 60, NOW + 120)
    assert present(state.last_error).kind == "throttled"
    implementation.accounts.note(SCOPE, NOW + 180, 60, None)
    state = implementation.accounts.load()[SCOPE]
    assert (state.succeeded_at, state.recovered_at, state.failing_since) == (NOW + 180, NOW + 180, None)
    assert state.last_error is None


@pytest.mark.parametrize("failing", [False, True])
def test_a_clock_that_was_set_back_ends_no_record(implementation: Implementation, failing: bool) -> None:
    """A report two hours before the stored one counts, a success as well as a failure."""
    implementation.accounts.note(SCOPE, NOW + 7200, 60, None)
    implementation.accounts.note(SCOPE, NOW + 7260, 60, DENIED if failing else None)
    implementation.accounts.note(SCOPE, NOW, 60, DENIED)
    implementation.accounts.note(SCOPE, NOW + 60, 60, DENIED)
    state = implementation.accounts.load()[SCOPE]
    assert (state.failing_since, state.at, present(state.last_error).kind) == (NOW, NOW + 60, "denied")
    implementation.accounts.note(SCOPE, NOW + 120, 60, None)
    state = implementation.accounts.load()[SCOPE]
    assert (state.succeeded_at, state.recovered_at, state.failing_since, state.at) == (
        NOW + 120,
        NOW + 120,
        None,
        NOW + 120,
    )
    implementation.accounts.note(SCOPE, NOW + 90, 60, DENIED)
    assert implementation.accounts.load()[SCOPE].last_error is None


def test_the_shortest_interval_counts_while_it_is_used(implementation: Implementation) -> None:
    """A longer interval replaces it if the shorter one has not been used for long."""
    for at, interval in ((0, 300), (10, 60), (20, 300)):
        implementation.accounts.note(SCOPE, NOW + at, interval, None)
    assert implementation.accounts.load()[SCOPE].interval == 60
    implementation.accounts.note(SCOPE, NOW + 1000, 300, None)
    assert implementation.accounts.load()[SCOPE].interval == 300


def test_an_alert_of_an_account_is_written_like_a_workers(implementation: Implementation) -> None:
    """State, version, history and outbox are written in one step. It is among the open alerts until it resolves."""
    implementation.accounts.note(SCOPE, NOW, 60, DENIED)
    basis = basis_of(implementation)
    assert implementation.alerts.commit(verdict(basis, "firing", 1))
    assert not implementation.alerts.commit(verdict(basis, "resolved", 1)), "the basis has moved on"
    after = basis_of(implementation)
    assert after.alerts["collector"].notified_severity == "critical"
    assert after.last_versions == {"collector": 1}
    assert [present(alert.last).dedup_key for alert in implementation.alerts.open()] == [f"{SCOPE}/collector"]
    assert implementation.outbox.due(NOW + 1, 10) == [f"{SCOPE}/collector"]
    claims = implementation.outbox.claim(f"{SCOPE}/collector", NOW + 1, 10)
    assert [(claim.channel, claim.notification.version, claim.notification.worker) for claim in claims] == [
        ("log", 1, None),
        ("ops", 1, None),
    ]
    assert implementation.alerts.commit(verdict(after, "resolved", 2, NOW + 60))
    assert implementation.alerts.open() == []
    history = implementation.alerts.history(f"{SCOPE}/collector")
    assert [present(entry.notification).version for entry in history] == [2, 1]
    assert [entry.subject for entry in implementation.alerts.history()] == [SCOPE, SCOPE]


def test_an_account_that_was_left_is_forgotten(implementation: Implementation) -> None:
    """It is forgotten unless its alert has changed. Its history and versions stay."""
    implementation.accounts.note(SCOPE, NOW, 60, DENIED)
    assert implementation.alerts.commit(verdict(basis_of(implementation), "firing", 1))
    early = basis_of(implementation)
    assert implementation.alerts.commit(verdict(early, "resolved", 2))
    assert not implementation.alerts.retire(ports.Verdict(early, {}, (), {}, NOW))
    assert implementation.alerts.retire(ports.Verdict(basis_of(implementation), {}, (), {}, NOW))
    assert implementation.accounts.load() == {}
    assert len(implementation.alerts.history(f"{SCOPE}/collector")) == 2
    implementation.accounts.note(SCOPE, NOW - 60, 60, DENIED)
    basis = basis_of(implementation)
    assert (basis.record.failing_since, basis.version, basis.last_versions) == (NOW - 60, 0, {"collector": 2})


def test_a_last_verdict_forgets_in_the_same_step(implementation: Implementation) -> None:
    """It notifies of the end and leaves nothing to evaluate, unless the alert has changed."""
    implementation.accounts.note(SCOPE, NOW, 60, DENIED)
    early = basis_of(implementation)
    assert implementation.alerts.commit(verdict(early, "firing", 1))
    assert not implementation.alerts.retire(verdict(early, "resolved", 2))
    assert implementation.alerts.retire(verdict(basis_of(implementation), "resolved", 2))
    assert (implementation.accounts.load(), implementation.alerts.open()) == ({}, [])
    assert [present(entry.notification).version for entry in implementation.alerts.history(f"{SCOPE}/collector")] == [
        2,
        1,
    ]
    assert implementation.outbox.backlog() == 4


def test_a_changed_configuration_refuses_a_verdict(implementation: Implementation) -> None:
    """A verdict with earlier channels is refused."""
    implementation.accounts.note(SCOPE, NOW, 60, DENIED)
    basis = basis_of(implementation)
    assert implementation.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    assert not implementation.alerts.commit(verdict(basis, "firing", 1))
    assert implementation.alerts.commit(verdict(basis_of(implementation), "firing", 1))
