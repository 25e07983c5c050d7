"""Collection under a budget, and errors of a whole account."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import structlog

from tests.support.collecting import CPU, NOW, ONE, TWO, World
from tests.support.present import present
from workermon import config, costs, errors, models
from workermon.models import DAY

SCOPE = "default/us-east-1"
DENIED = errors.AwsDenied("EC2 in us-east-1", "no for i-0000000000000001a", "allow it")
THROTTLED = errors.AwsThrottled("CloudWatch in us-east-1", "slow down", "wait")
OUT = "AWS/EC2/NetworkOut"


class Billed(World):
    """A world with access to costs and the states of accounts and regions."""

    def state(self, scope: str = SCOPE) -> models.AccountState:
        return self.accounts.load()[scope]

    def budget(self, dollars: float | None) -> None:
        self.configure(budget=dollars)

    def metrics_requested(self) -> set[str]:
        """Return the metrics that the last collection asked for."""
        number = len(self.cloudwatch.calls)
        self.collect()
        return {query.metric for call in self.cloudwatch.calls[number:] for query in call}


@pytest.fixture
def world() -> Billed:
    """Return a world without workers."""
    return Billed()


# --- the state of an account and region --------------------------------------------------------------------------


def test_a_collection_that_brings_something_is_a_success(world: Billed) -> None:
    """It is a success of the account and region, with its time and the shortest interval of the workers."""
    world.add()
    world.add(TWO, interval=30)
    world.collect(ONE, TWO)
    state = world.state()
    assert (state.succeeded_at, state.failing_since, state.last_error, state.interval) == (NOW, None, None, 30)


@pytest.mark.parametrize("last_error", [DENIED, THROTTLED, errors.AwsUnreachable("EC2", "no answer", "wait")])
def test_an_account_where_ec2_refuses_fails(world: Billed, last_error: errors.AwsError) -> None:
    """The error has its kind. The record contains no worker's id."""
    world.add()
    world.ec2.error = last_error
    world.collect()
    state = world.state()
    assert (state.failing_since, present(state.last_error).kind, state.succeeded_at) == (NOW, last_error.kind, None)
    assert ONE not in state.model_dump_json()


def test_an_account_where_cloudwatch_refuses_everything_fails(world: Billed) -> None:
    """It fails although EC2 answers. A stopped instance needs no CloudWatch and is not a success."""
    world.add()
    world.add(TWO, status="stopped")
    world.cloudwatch.error = THROTTLED
    world.collect(ONE, TWO)
    assert present(world.state().last_error).kind == "throttled"


def test_an_account_where_one_metric_fails_is_well(world: Billed) -> None:
    """One failed metric is not a failure of the account, because others arrived."""
    world.add()
    world.cloudwatch.failing["NetworkOut"] = DENIED
    world.collect()
    assert world.state().succeeded_at == NOW


def test_a_worker_whose_id_is_gone_is_no_failure_of_the_account(world: Billed) -> None:
    """EC2 answered that it does not know the id, so the account works."""
    world.add(added_at=NOW - 10)
    world.ec2.forget(ONE)
    report = world.collect()
    assert report.failed[ONE].kind == "gone"
    assert (world.state().succeeded_at, world.state().last_error) == (NOW, None)


def test_one_failing_account_says_nothing_of_another(world: Billed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own record."""
    world.add()
    world.add(TWO, region="eu-west-1")
    inner = world.ec2.statuses

    def statuses(scope: models.AccountRegion, ids: Sequence[str]) -> dict[str, models.InstanceStatus]:
        if scope.region == "eu-west-1":
            raise DENIED
        return inner(scope, ids)

    monkeypatch.setattr(world.ec2, "statuses", statuses)
    world.collect(ONE, TWO)
    assert world.state().last_error is None
    assert present(world.state("default/eu-west-1").last_error).kind == "denied"


# --- the budget --------------------------------------------------------------------------------------------------


#: Ten minutes after midnight (UTC), on a whole five minutes.
START = 1_700_007_000.0


def spend(world: Billed, dollars: float) -> None:
    """Have that much a day asked for network_out, for the ten minutes since midnight."""
    world.clock.now = START
    number = round(dollars / DAY / costs.PER_METRIC * 10)
    for second in range(-600, 0, 10):
        world.costs.note(world.clock() + second, SCOPE, "GetMetricData", {OUT: number})


def test_without_a_budget_nothing_is_looked_at(world: Billed) -> None:
    """Without a budget no costs are read, however much is spent."""
    world.add()
    spend(world, 500)
    world.collect()
    assert world.costs.budget_decision() == models.BudgetDecision()


def test_a_day_too_dear_lengthens_the_least_important_periods(world: Billed) -> None:
    """network_out is requested less often, cpu and status checks as before. No datapoint is lost."""
    world.add()
    spend(world, 9)
    world.budget(5)
    assert world.metrics_requested() >= {"network_out", CPU}
    assert world.costs.budget_decision().period_multipliers == {"network_out": 2}
    assert world.costs.budget_decision().weights == {OUT: 2}
    assert world.costs.budget_decision().projected <= 5
    looks = []
    for minute in range(1, 21):
        world.clock.now = START + 60 * minute
        # The rest of the fleet keeps to it too, and so asks half as often as it would.
        world.costs.note(world.clock.now, SCOPE, "GetMetricData", {OUT: round(9 / DAY / costs.PER_METRIC * 60 / 2)})
        moment = int(world.clock.now - 60) // 300 * 300
        world.cloudwatch.put(ONE, "CPUUtilization", [(moment, 1.0)])
        world.cloudwatch.put(ONE, "NetworkOut", [(moment, 1.0)])
        requested = world.metrics_requested()
        looks += [(minute, name) for name in sorted(requested & {"network_out"})]
        assert world.condition().collected_at == world.clock.now, "the status checks go on each interval"
    assert [minute for minute, _ in looks] == [10, 20]
    assert world.points("network_out") == world.points(CPU)


def test_it_is_logged_once(world: Billed) -> None:
    """A change is logged once, not in each collection."""
    world.add()
    spend(world, 9)
    world.budget(5)
    with structlog.testing.capture_logs() as logged:
        for minute in range(4):
            world.clock.now = START + 61 * minute
            world.collect()
    warnings = [entry for entry in logged if entry["event"] == "budget.stretched"]
    assert [(entry["period_multipliers"], entry["budget"]) for entry in warnings] == [({"network_out": 2}, 5)]


def test_it_recovers_when_the_projection_falls(world: Billed) -> None:
    """Periods are shortened a minute after a larger budget or smaller fleet, and at once without a budget."""
    world.add()
    spend(world, 9)
    world.budget(5)
    world.collect()
    world.budget(50)
    world.collect()
    assert world.costs.budget_decision().period_multipliers == {}
    world.budget(1)
    world.collect()
    assert world.costs.budget_decision().period_multipliers
    world.budget(None)
    world.collect()
    assert world.costs.budget_decision().period_multipliers == {}


def test_what_somebody_asks_for_is_collected_whatever_the_budget(world: Billed) -> None:
    """``refresh`` requests every metric."""
    world.add()
    spend(world, 900)
    world.budget(1)
    world.collect()
    world.clock.advance(60)
    world.collect(force=True)
    assert {query.metric for query in world.cloudwatch.calls[-1]} >= {"network_out", CPU}


def test_status_checks_are_in_no_order_of_sacrifice() -> None:
    """Status checks are free, so a budget never reduces them."""
    assert "status_check_failed" not in costs.by_importance(config.DEFAULT)
