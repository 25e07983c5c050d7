"""``workermon.bill``: prices, the requests of a day, and what a budget reduces first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workermon import config, costs, models

MIDNIGHT = 1_700_006_400
CONFIGURATION = config.DEFAULT.model_copy(update={"budget": 5.0})
SCOPE = "default/us-east-1"
CPU, OUT = "AWS/EC2/CPUUtilization", "AWS/EC2/NetworkOut"


def hour(start: int, metrics: dict[str, int], calls: dict[str, int] | None = None, **changes: float) -> models.Hour:
    """Count an hour of one account and region."""
    return models.Hour(
        **{"counted_since": start, **changes},
        start=start,
        metrics={(SCOPE, name): number for name, number in metrics.items()},
        full={(SCOPE, name): number for name, number in metrics.items()},
        calls={(SCOPE, name): number for name, number in (calls or {}).items()},
    )


def state(
    full: dict[str, float], spent: float = 0.0, seconds_left: float = models.DAY, **period_multipliers: int
) -> costs.Spending:
    """Return the state of a day. ``full`` is dollars a day at full rate by metric."""
    rates = {name: dollars / costs.PER_METRIC / models.DAY for name, dollars in full.items()}
    return costs.Spending(spent, seconds_left, rates, 0.0, period_multipliers)


@pytest.mark.parametrize(
    ("metrics", "requests", "dollars"),
    [
        pytest.param(100 * 5 * 1440, [], 7.20, id="100 instances, 5 metrics, each minute"),
        pytest.param(100 * 7 * 1440 * 30, [], 302.40, id="100 instances, 7 metrics, each minute, 30 days"),
        pytest.param(100 * 5 * 288, [], 1.44, id="100 instances, 5 metrics, each 5 minutes"),
        pytest.param(0, [33_333], 0.0, id="ListMetrics within the free million"),
        pytest.param(0, [33_333, 33_333], 0.0, id="each account has its own free million"),
        pytest.param(0, [1_033_333], 10.0, id="a million requests beyond it"),
        pytest.param(0, [], 0.0, id="nothing asked, and EC2's calls are free"),
    ],
)
def test_a_day_is_priced_as_aws_prices_it(metrics: int, requests: list[int], dollars: float) -> None:
    """Metrics by the thousand, requests beyond the free million."""
    assert costs.dollars(metrics, requests) == pytest.approx(dollars, abs=0.001)


def test_the_last_24_hours_reach_into_25() -> None:
    """The oldest hour counts by its share within the last 24 hours."""
    hours = [hour(MIDNIGHT + 3600 * n, {CPU: 1000}, {"GetMetricData": 10}) for n in range(25)]
    usage = costs.used_last_day(hours, MIDNIGHT + 24.5 * 3600)
    assert usage.metrics == pytest.approx(24_500)
    assert usage.calls == pytest.approx(245)
    assert usage.dollars == pytest.approx(0.245)


@pytest.mark.parametrize("minutes", [10, 30, 60, 90, 119])
def test_the_present_rate_does_not_depend_on_the_time_of_the_hour(minutes: int) -> None:
    """100 metrics a minute are 144,000 a day, from ten minutes after the start on."""
    minutes_of_hour = [min(minutes, 60), max(0, minutes - 60)]
    hours = [hour(MIDNIGHT + 3600 * n, {CPU: number * 100}) for n, number in enumerate(minutes_of_hour) if number]
    usage = costs.daily_rate(hours, MIDNIGHT + minutes * 60)
    assert usage.metrics == pytest.approx(144_000)
    assert usage.dollars == pytest.approx(1.44)


def test_nothing_asked_costs_nothing() -> None:
    """Without requests there is no rate and no price."""
    assert costs.used_last_day([], MIDNIGHT) == costs.daily_rate([], MIDNIGHT) == costs.Usage(0, 0, 0)


def test_the_spending_of_a_day_is_computed_from_its_hours() -> None:
    """It gives today's spending, the rest, and the full rate by workermon's names. Yesterday is not included."""
    hours = [
        hour(MIDNIGHT - 3600, {CPU: 3_600_000}),
        hour(MIDNIGHT, {CPU: 3600, OUT: 900, "Gone/x": 3600}).model_copy(
            update={"full": {(SCOPE, CPU): 3600, (SCOPE, OUT): 3600, (SCOPE, "Gone/x"): 3600}}
        ),
    ]
    spending = costs.spending_today(CONFIGURATION, hours, MIDNIGHT + 3600, {"network_out": 4})
    assert spending.spent == pytest.approx(0.081)
    assert spending.seconds_left == 23 * 3600
    assert spending.full == pytest.approx({"cpu_utilization": 1.0, "network_out": 1.0})
    assert spending.other_dollars == pytest.approx(costs.PER_METRIC)
    assert costs.projected_dollars(spending, {"network_out": 4}) == pytest.approx(0.081 + 23 * 3600 * 2.25e-5)


FULL = dict.fromkeys(("cpu_utilization", "memory_utilization", "disk_utilization", "network_in", "network_out"), 2.0)


@pytest.mark.parametrize(
    ("full", "spent", "period_multipliers", "expected"),
    [
        pytest.param({"cpu_utilization": 4.9}, 0, {}, {}, id="within the budget nothing is given up"),
        pytest.param({**FULL, "cpu_utilization": 0.0}, 0, {}, {"network_out": 15, "network_in": 4},
                     id="the least important goes through all its steps, then the next"),
        pytest.param({"network_out": 9, "cpu_utilization": 0.4}, 0, {}, {"network_out": 2}, id="no more than it takes"),
        pytest.param({"cpu_utilization": 9}, 0, {},
                     {"network_out": 15, "network_in": 15, "disk_utilization": 15, "memory_utilization": 15,
                      "cpu_utilization": 2}, id="cpu comes last"),
        pytest.param({"cpu_utilization": 900}, 0, {},
                     dict.fromkeys(FULL, 15), id="too dear even so: the last step, and no more"),
        pytest.param({"network_out": 9.2}, 0, {"network_out": 4}, {"network_out": 4},
                     id="it is not relaxed for a step that only just fits"),
        pytest.param({"network_out": 8}, 0, {"network_out": 4}, {"network_out": 2},
                     id="it is relaxed where that leaves a tenth"),
        pytest.param({"network_out": 4}, 0, {"network_out": 15, "network_in": 15}, {}, id="and at once where all fits"),
        pytest.param({"network_out": 1}, 5.1, {}, dict.fromkeys(FULL, 15), id="what is spent is spent"),
    ],
)  # fmt: skip
def test_a_budget_gives_up_the_least_important_first(
    full: dict[str, float], spent: float, period_multipliers: dict[str, int], expected: dict[str, int]
) -> None:
    """network_out, network_in, disk, memory, then cpu: each at 2, 4, 8 and 15 times the period."""
    decision = costs.decide_multipliers(CONFIGURATION, state(full, spent, **period_multipliers))
    assert decision == expected
    assert list(decision) == [name for name in costs.by_importance(CONFIGURATION) if name in decision]


def test_without_a_budget_nothing_is_given_up() -> None:
    """Without a budget no period is lengthened, whatever the price."""
    free = CONFIGURATION.model_copy(update={"budget": None})
    assert costs.decide_multipliers(free, state({"cpu_utilization": 900.0}, network_out=4)) == {}


def test_custom_metrics_come_before_memory_and_cpu() -> None:
    """They are more important than network and disk traffic, and less important than memory and CPU."""
    own_configuration = CONFIGURATION.model_copy(
        update={"collect": ("cpu_utilization", "gpu", "network_in", "memory_utilization")}
    )
    assert costs.by_importance(own_configuration) == ["network_in", "gpu", "memory_utilization", "cpu_utilization"]
    assert "status_check_failed" not in costs.IMPORTANCE


def test_a_weight_is_by_the_name_of_cloudwatch() -> None:
    """Weights use CloudWatch's names, so that counts by those names can be converted to the full rate."""
    assert costs.weights(CONFIGURATION, {"network_out": 4}) == {OUT: 4}


RATES = st.fixed_dictionaries({name: st.floats(0, 50) for name in FULL})


@given(full=RATES, spent=st.floats(0, 10), seconds_left=st.floats(0, models.DAY), budget=st.floats(0.01, 100))
def test_a_decision_is_within_the_budget_or_the_last_step(
    full: dict[str, float], spent: float, seconds_left: float, budget: float
) -> None:
    """A decision keeps to the budget, or is the last step. One step less would exceed it."""
    configuration = CONFIGURATION.model_copy(update={"budget": budget})
    now = state(full, spent, seconds_left)
    decision = costs.decide_multipliers(configuration, now)
    dearest = dict.fromkeys(FULL, costs.MULTIPLIERS[-1])
    assert costs.projected_dollars(now, decision) <= budget or decision == dearest
    assert set(decision.values()) <= set(costs.MULTIPLIERS)


@given(full=RATES, spent=st.floats(0, 5), budget=st.floats(0.01, 100))
def test_a_decision_is_kept_while_nothing_changes(full: dict[str, float], spent: float, budget: float) -> None:
    """Repeated with its own result in force, the decision is the same: periods do not oscillate."""
    configuration = CONFIGURATION.model_copy(update={"budget": budget})
    first = costs.decide_multipliers(configuration, state(full, spent))
    assert costs.decide_multipliers(configuration, state(full, spent, **first)) == first


@pytest.mark.parametrize(("api", "rate"), [("DescribeInstances", 20), ("ListMetrics", 25), ("GetMetricData", 50)])
def test_limits_are_those_of_aws_unless_configured(api: str, rate: float) -> None:
    """Each kind of call has its own limit, with AWS's as the default."""
    assert costs.limit_of(api, CONFIGURATION).rate == rate
    slow = models.Limit(bucket=3, rate=0.5)
    family = "Describe" if api.startswith("Describe") else api
    assert costs.limit_of(api, CONFIGURATION.model_copy(update={"limits": {family: slow}})) == slow
