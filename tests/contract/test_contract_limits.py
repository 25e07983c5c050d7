"""What every limiter, ledger of costs and record of accounts and regions promises."""

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


class Kept(NamedTuple):
    """The three ports, and those that read what they wrote."""

    limiter: ports.Limiter
    costs: ports.Costs
    accounts: ports.Accounts
    alerts: ports.Alerts
    outbox: ports.Outbox
    configurations: ports.Configurations


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Give the ports over each implementation in turn."""
    if request.param == "memory":
        store = testing.MemoryStore()
        yield Kept(
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
        others = repository_on_redis(connection)
        yield Kept(
            limiter.RedisLimiter(connection, lambda api: models.Limit(bucket=100, rate=20)),
            costs.RedisCosts(connection),
            accounts.RedisAccounts(connection),
            others.alerts,
            others.outbox,
            others.configurations,
        )


def basis_of(kept: Kept) -> ports.Basis[models.AccountState]:
    """Return what a verdict about the account and region is based on."""
    return kept.alerts.load_monitor_alerts().accounts[SCOPE]


def verdict(basis: ports.Basis[models.AccountState], status: str, version: int, at: int = NOW) -> ports.Verdict:
    """Judge an account and region: its one alert fires or resolves."""
    firing = status == "firing"
    told = builders.notification(f"{SCOPE}/collector", version, status, worker=None).model_copy(
        update={"kind": "collector", "dedup_key": f"{SCOPE}/collector", "rule": "collector"}
    )
    alert = models.Alert(
        rule="collector",
        version=version,
        since=at if firing else None,
        notified_severity="critical" if firing else None,
        last=told,
    )
    transition = models.Transition(
        at=at, before=None if firing else "critical", after="critical" if firing else None, reason="denied"
    )
    recorded = ports.RecordedTransition("collector", transition, told)
    return ports.Verdict(basis, {"collector": alert}, (recorded,), {"collector": ("log", "ops")}, at)


# --- the limiter -------------------------------------------------------------------------------------------------


def test_a_full_rate_is_not_slowed(kept: Kept) -> None:
    """Nothing is reported of an API that was never refused."""
    kept.limiter.take(SCOPE, "DescribeInstances")
    kept.limiter.answered(SCOPE, "DescribeInstances")
    assert kept.limiter.slowed() == {}


def test_a_refusal_halves_the_rate_of_that_api_alone(kept: Kept) -> None:
    """Other operations, and other accounts and regions, go on as before."""
    kept.limiter.take(SCOPE, "GetMetricData")
    kept.limiter.throttled(SCOPE, "GetMetricData")
    slowed = kept.limiter.slowed()
    assert set(slowed) == {(SCOPE, "GetMetricData")}
    assert slowed[SCOPE, "GetMetricData"] == pytest.approx(0.5, abs=0.05)
    kept.limiter.take("default/us-east-1", "GetMetricData")


# --- costs -------------------------------------------------------------------------------------------------------


def test_requests_and_metrics_are_counted_by_the_hour(kept: Kept) -> None:
    """Each account, region, operation and metric has a count of its own; names may have spaces."""
    assert kept.costs.hours(NOW) == []
    kept.costs.note(NOW + 5, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3, "My App/a b": 1})
    kept.costs.note(NOW + 65, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3})
    kept.costs.note(NOW + 70, "default/us-east-1", "ListMetrics", {})
    kept.costs.note(NOW + 3600, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
    first, second = kept.costs.hours(NOW + 100)
    assert (first.start, first.counted_since, second.start) == (NOW, NOW + 5, NOW + 3600)
    assert first.calls == {(SCOPE, "GetMetricData"): 2, ("default/us-east-1", "ListMetrics"): 1}
    assert first.metrics == first.full == {(SCOPE, "AWS/EC2/CPUUtilization"): 6, (SCOPE, "My App/a b"): 1}
    assert second.metrics == {(SCOPE, "AWS/EC2/CPUUtilization"): 2}
    assert kept.costs.hours(NOW + 3600) == [second]


def test_totals_only_grow(kept: Kept) -> None:
    """What was counted in any hour is in the totals, and stays there."""
    assert kept.costs.totals() == models.UsageTotals()
    kept.costs.note(NOW, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 3, "My App/a b": 1})
    kept.costs.note(NOW + 90 * models.DAY, SCOPE, "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
    totals = kept.costs.totals()
    assert totals.calls == {(SCOPE, "GetMetricData"): 2}
    assert totals.metrics == {(SCOPE, "AWS/EC2/CPUUtilization"): 5, (SCOPE, "My App/a b"): 1}


def test_a_decision_replaces_only_the_one_it_was_made_from(kept: Kept) -> None:
    """Of two that decide at once one wins; what is asked meanwhile counts in full too."""
    before = kept.costs.budget_decision()
    assert before == models.BudgetDecision()
    first = models.BudgetDecision(
        at=NOW, period_multipliers={"network_out": 4}, weights={"AWS/EC2/NetworkOut": 4}, budget=5
    )
    assert kept.costs.decide(first, before)
    assert not kept.costs.decide(first.model_copy(update={"at": NOW + 1}), before)
    assert kept.costs.budget_decision() == first
    kept.costs.note(NOW, SCOPE, "GetMetricData", {"AWS/EC2/NetworkOut": 2, "AWS/EC2/CPUUtilization": 2})
    (hour,) = kept.costs.hours(NOW)
    assert hour.metrics[SCOPE, "AWS/EC2/NetworkOut"] == 2
    assert hour.full == {(SCOPE, "AWS/EC2/NetworkOut"): 8, (SCOPE, "AWS/EC2/CPUUtilization"): 2}


# --- accounts and regions ----------------------------------------------------------------------------------------


def test_lost_metrics_are_noted_where_something_was_collected(kept: Kept) -> None:
    """They stand beside how collection goes, are read with it for a verdict, and make no account of their own."""
    lost = (models.LostMetric(metric="memory_utilization", workers=36, of=40, since=int(NOW)),)
    kept.accounts.note_lost(SCOPE, lost)
    assert kept.accounts.load() == {}
    kept.accounts.note(SCOPE, NOW, 60, None)
    kept.accounts.note_lost(SCOPE, lost)
    kept.accounts.note(SCOPE, NOW + 60, 60, None)
    assert kept.accounts.load()[SCOPE].lost_metrics == lost
    assert basis_of(kept).record.lost_metrics == lost
    kept.accounts.note_lost(SCOPE, ())
    assert kept.accounts.load()[SCOPE].lost_metrics == ()


def test_a_failure_lasts_until_the_next_success(kept: Kept) -> None:
    """Since when it fails is the first failure after the last success; what came late changes nothing."""
    kept.accounts.note(SCOPE, NOW, 60, None)
    kept.accounts.note(SCOPE, NOW + 60, 60, DENIED)
    kept.accounts.note(SCOPE, NOW + 120, 60, DENIED.model_copy(update={"kind": "throttled"}))
    kept.accounts.note(SCOPE, NOW - 5, 60, DENIED)
    state = kept.accounts.load()[SCOPE]
    assert (state.account, state.region, state.interval) == ("lab", "eu-west-1", 60)
    assert (state.succeeded_at, state.failing_since, state.at) == (NOW, NOW + 60, NOW + 120)
    assert present(state.last_error).kind == "throttled"
    kept.accounts.note(SCOPE, NOW + 180, 60, None)
    state = kept.accounts.load()[SCOPE]
    assert (state.succeeded_at, state.recovered_at, state.failing_since) == (NOW + 180, NOW + 180, None)
    assert state.last_error is None


@pytest.mark.parametrize("failing", [False, True])
def test_a_clock_that_was_set_back_ends_no_record(kept: Kept, failing: bool) -> None:
    """What is noted two hours before what stands there counts, whether that was a success or a failure."""
    kept.accounts.note(SCOPE, NOW + 7200, 60, None)
    kept.accounts.note(SCOPE, NOW + 7260, 60, DENIED if failing else None)
    kept.accounts.note(SCOPE, NOW, 60, DENIED)
    kept.accounts.note(SCOPE, NOW + 60, 60, DENIED)
    state = kept.accounts.load()[SCOPE]
    assert (state.failing_since, state.at, present(state.last_error).kind) == (NOW, NOW + 60, "denied")
    kept.accounts.note(SCOPE, NOW + 120, 60, None)
    state = kept.accounts.load()[SCOPE]
    assert (state.succeeded_at, state.recovered_at, state.failing_since, state.at) == (
        NOW + 120,
        NOW + 120,
        None,
        NOW + 120,
    )
    kept.accounts.note(SCOPE, NOW + 90, 60, DENIED)
    assert kept.accounts.load()[SCOPE].last_error is None


def test_the_shortest_interval_counts_while_it_is_used(kept: Kept) -> None:
    """A longer one takes its place when the shorter one was not seen for long."""
    for at, interval in ((0, 300), (10, 60), (20, 300)):
        kept.accounts.note(SCOPE, NOW + at, interval, None)
    assert kept.accounts.load()[SCOPE].interval == 60
    kept.accounts.note(SCOPE, NOW + 1000, 300, None)
    assert kept.accounts.load()[SCOPE].interval == 300


def test_an_alert_of_an_account_is_written_like_a_workers(kept: Kept) -> None:
    """State, version, history and outbox in one step; it is among the open alerts until it resolves."""
    kept.accounts.note(SCOPE, NOW, 60, DENIED)
    basis = basis_of(kept)
    assert kept.alerts.commit(verdict(basis, "firing", 1))
    assert not kept.alerts.commit(verdict(basis, "resolved", 1)), "the basis has moved on"
    after = basis_of(kept)
    assert after.alerts["collector"].notified_severity == "critical"
    assert after.last_versions == {"collector": 1}
    assert [present(alert.last).dedup_key for alert in kept.alerts.open()] == [f"{SCOPE}/collector"]
    assert kept.outbox.due(NOW + 1, 10) == [f"{SCOPE}/collector"]
    claims = kept.outbox.claim(f"{SCOPE}/collector", NOW + 1, 10)
    assert [(claim.channel, claim.notification.version, claim.notification.worker) for claim in claims] == [
        ("log", 1, None),
        ("ops", 1, None),
    ]
    assert kept.alerts.commit(verdict(after, "resolved", 2, NOW + 60))
    assert kept.alerts.open() == []
    history = kept.alerts.history(f"{SCOPE}/collector")
    assert [present(entry.notification).version for entry in history] == [2, 1]
    assert [entry.subject for entry in kept.alerts.history()] == [SCOPE, SCOPE]


def test_an_account_that_was_left_is_forgotten(kept: Kept) -> None:
    """Unless its alert has turned meanwhile; its history stays, and its versions go on."""
    kept.accounts.note(SCOPE, NOW, 60, DENIED)
    assert kept.alerts.commit(verdict(basis_of(kept), "firing", 1))
    early = basis_of(kept)
    assert kept.alerts.commit(verdict(early, "resolved", 2))
    assert not kept.alerts.retire(ports.Verdict(early, {}, (), {}, NOW))
    assert kept.alerts.retire(ports.Verdict(basis_of(kept), {}, (), {}, NOW))
    assert kept.accounts.load() == {}
    assert len(kept.alerts.history(f"{SCOPE}/collector")) == 2
    kept.accounts.note(SCOPE, NOW - 60, 60, DENIED)
    basis = basis_of(kept)
    assert (basis.record.failing_since, basis.version, basis.last_versions) == (NOW - 60, 0, {"collector": 2})


def test_a_last_verdict_forgets_in_the_same_step(kept: Kept) -> None:
    """It tells the end and leaves nothing that could be judged again, unless the alert has turned meanwhile."""
    kept.accounts.note(SCOPE, NOW, 60, DENIED)
    early = basis_of(kept)
    assert kept.alerts.commit(verdict(early, "firing", 1))
    assert not kept.alerts.retire(verdict(early, "resolved", 2))
    assert kept.alerts.retire(verdict(basis_of(kept), "resolved", 2))
    assert (kept.accounts.load(), kept.alerts.open()) == ({}, [])
    assert [present(entry.notification).version for entry in kept.alerts.history(f"{SCOPE}/collector")] == [2, 1]
    assert kept.outbox.backlog() == 4


def test_a_changed_configuration_stands_in_the_way_of_a_verdict(kept: Kept) -> None:
    """It was made with other channels."""
    kept.accounts.note(SCOPE, NOW, 60, DENIED)
    basis = basis_of(kept)
    assert kept.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    assert not kept.alerts.commit(verdict(basis, "firing", 1))
    assert kept.alerts.commit(verdict(basis_of(kept), "firing", 1))
