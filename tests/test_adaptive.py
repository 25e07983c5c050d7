"""Adaptive cadence: fewer requests, and nothing is lost, evaluated differently, or notified with other times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from tests.support import cadence_replay
from tests.support.cadence_replay import METRIC, WORKER, Replayed, T
from tests.support.present import present
from workermon import config, costs, fleet, models, ports, rules, testing, views
from workermon.rules import cadence

LATEST = models.RELAXED * 60


def agree(adaptive: Replayed, fixed: Replayed) -> bool:
    """Tell whether both have the same datapoints, but for those that adaptive has yet to ask for."""
    saved = len(fixed.stored) - len(adaptive.stored)
    return 0 <= saved < models.RELAXED and adaptive.stored == fixed.stored[: len(adaptive.stored)]


@pytest.mark.parametrize(("seed", "breach"), [(0, "1 of 1"), (1, "2 of 3"), (2, "3 of 3"), (3, "1 of 1")])
def test_whatever_fixed_notifies_adaptive_notifies_too(seed: int, breach: str) -> None:
    """Even for single spikes between two requests: the same ids, times and texts, at most some periods later."""
    load, rule = cadence_replay.settled(cadence_replay.generated(seed)), cadence_replay.rule(breach)
    fixed, adaptive = (cadence_replay.replayed(load, mode, rule) for mode in ("fixed", "adaptive"))
    assert list(adaptive.notified) == list(fixed.notified)
    assert all(0 <= adaptive.notified[page] - at <= LATEST for page, at in fixed.notified.items())
    assert agree(adaptive, fixed)
    assert adaptive.requests < fixed.requests


@pytest.mark.parametrize("name", sorted(cadence_replay.traces()) or [""])
def test_recorded_traces_notify_the_same(name: str) -> None:
    """Weeks of recorded instances notify the same, if a folder of traces is set."""
    if not name:
        pytest.skip(f"{cadence_replay.TRACES} is not set: recorded traces are not part of the project")
    load = cadence_replay.settled(cadence_replay.traces()[name][:1500])
    levels = models.Levels(warning=50.0, critical=90.0) if "fe7f93" not in name else models.Levels(warning=5.0)
    rule = cadence_replay.rule("1 of 1", levels)
    fixed, adaptive = (cadence_replay.replayed(load, mode, rule, 300) for mode in ("fixed", "adaptive"))
    assert list(adaptive.notified) == list(fixed.notified)
    assert agree(adaptive, fixed)


def test_a_quiet_series_is_asked_each_fifth_period() -> None:
    """After its first datapoints a series at rest is requested every fifth period."""
    load = [20.0 + place % 3 for place in range(200)]
    replay = cadence_replay.replayed(load, "adaptive", cadence_replay.rule())
    assert 200 / models.RELAXED <= replay.requests <= 200 / models.RELAXED + cadence.MIN_HISTORY + 2


def reason(values: Sequence[float], rule: models.Rule) -> str:
    """Return why a series with these values is asked for as often as it is."""
    points = [models.Datapoint(T + place * 60, value) for place, value in enumerate(values)]
    return cadence.of_series(points, [(rules.KINDS[rule.kind], rule)])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([20.0] * 3, "new"),
        ([20.0] * 10, "far"),
        ([60.0] * 10, "far"),
        ([73.0] * 10, "near"),
        ([95.0] * 10, "near"),
        ([20.0, 70.0] + [20.0] * 9, "near"),
        ([95.0] + [20.0] * 9, "near"),
        ([10.0, 20.0, 30.0, 40.0], "rising"),
        ([40.0] * 5 + [42.0, 46.0, 50.0, 54.0, 58.0], "rising"),
    ],
)
def test_near_means_that_something_may_come_of_it(values: list[float], expected: str) -> None:
    """Near is within a tenth of the threshold, or within the series' recent movement. It is requested each period."""
    assert reason(values, cadence_replay.rule()) == expected
    below = rules.KINDS["threshold"].rule(name="low", metric=METRIC, below=models.Levels(critical=-80.0))
    assert reason([-value for value in values], below) == expected


def test_what_can_fire_without_a_value_is_watched() -> None:
    """A series is near if an absent slot counts as a breach. Without a rule no series is near."""
    absent = rules.KINDS["threshold"].rule(
        name="gone", metric=METRIC, above=models.Levels(critical=90.0), missing="breach"
    )
    assert reason([20.0] * 10, absent) == "watched"
    assert cadence.of_series([models.Datapoint(T + place, 1.0) for place in range(9)], []) == "far"


def monitor_of_quiet_worker(**changes: object) -> testing.Monitor:
    """Return a monitor with one worker at rest for half an hour under adaptive cadence."""
    metric = config.DEFAULT.metrics[METRIC].model_copy(update={"period": 60})
    fields = {
        "metrics": {**config.DEFAULT.metrics, METRIC: metric}, "collect": (METRIC,), "cadence": "adaptive",
        "rules": (cadence_replay.rule(),), **changes,
    }  # fmt: skip
    monitor = testing.Monitor(config.DEFAULT.model_copy(update=fields), T + 65)
    monitor.add_worker(WORKER, added_at=T, detailed=True, labels={"team": "vfx"})
    monitor.cloudwatch.put(WORKER, "CPUUtilization", [(T + place * 60, 20.0) for place in range(90)])
    for _ in range(30):
        monitor.collect(WORKER)
        monitor.clock.advance(60)
    return monitor


def condition_of(monitor: testing.Monitor) -> models.Condition:
    """Return the worker's condition."""
    return monitor.workers.get([WORKER])[WORKER].condition


def test_what_was_not_asked_for_is_unknown_and_not_absent_or_old() -> None:
    """Between two requests the horizon does not move. A value is old only if a request returned nothing."""
    monitor = monitor_of_quiet_worker()
    for _ in range(models.RELAXED):
        condition = condition_of(monitor)
        requested_at = condition.requested_at[METRIC]
        assert requested_at >= monitor.clock() - 60 - LATEST
        worker = monitor.workers.get([WORKER])[WORKER].worker
        readings = models.readings(worker, condition, monitor.configurations.load(), monitor.clock())
        assert not present(readings[METRIC]).old
        monitor.collect(WORKER)
        monitor.clock.advance(60)
    assert condition_of(monitor).cadence[METRIC] == (models.RELAXED, "far")


def test_the_budget_and_what_a_series_does_are_one_mechanism() -> None:
    """The longer of the two periods counts, and a tighter budget takes effect at once."""
    assert cadence.decide(None, 1) is None
    assert cadence.decide(None, 4) == (4, "budget")
    assert cadence.decide("far", 4) == (models.RELAXED, "far")
    assert cadence.decide("far", 8) == (8, "budget")
    assert cadence.decide("near", 2) == (2, "budget")
    assert cadence.decide("near", 1) == (1, "near")


def test_fixed_asks_each_period_again() -> None:
    """With a fixed cadence each period is requested again at once."""
    monitor = monitor_of_quiet_worker()
    monitor.configure(cadence="fixed")
    monitor.collect(WORKER)
    assert condition_of(monitor).requested_at[METRIC] == monitor.clock()
    assert condition_of(monitor).cadence == {}


@pytest.mark.parametrize("looking", ["operand", "inhibited"])
def test_what_other_rules_need_is_requested_each_period(looking: str) -> None:
    """They are evaluated together, at the same time."""
    high = cadence_replay.rule()
    second_rule = (
        rules.KINDS["when"].rule(name="both", when="cpu-high")
        if looking == "operand"
        else rules.KINDS["no-data"].rule(name="silent", inhibited_by=("cpu-high",))
    )
    monitor = monitor_of_quiet_worker(rules=(high, second_rule))
    assert condition_of(monitor).cadence[METRIC] == (1, "watched")


def test_a_rule_for_other_workers_does_not_count() -> None:
    """A rule for other workers does not make a series near."""
    near_rule = rules.KINDS["threshold"].rule(name="near", metric=METRIC, above=models.Levels(critical=21.0))
    assert condition_of(monitor_of_quiet_worker(rules=(near_rule,))).cadence[METRIC].reason == "near"
    labelled = near_rule.model_copy(update={"labels": {"team": "web"}})
    assert condition_of(monitor_of_quiet_worker(rules=(labelled,))).cadence[METRIC].reason == "far"


def test_why_and_show_say_how_often_and_why() -> None:
    """They show the cadence in JSON and text. With a fixed cadence they show nothing."""
    monitor = monitor_of_quiet_worker()
    record = monitor.workers.get([WORKER])[WORKER]
    cadences = monitor.get(views.Explanation).explain(record, METRIC).cadences
    assert [(row.metric, row.every, row.periods, row.reason) for row in cadences] == [(METRIC, 300, 5, "far")]
    assert str(cadences[0]) == "every 300 s: it is far from every threshold"
    assert monitor.get(views.WorkerView).show(record).cadences == cadences
    monitor.configure(cadence="fixed")
    monitor.collect(WORKER)
    record = monitor.workers.get([WORKER])[WORKER]
    assert monitor.get(views.WorkerView).show(record).cadences == ()


class Unchanged(NamedTuple):
    """A plan that changes nothing but the configuration."""

    before: models.Configuration
    after: models.Configuration
    fleet: Sequence[ports.Record]

    def fleet_after(self) -> list[models.Worker]:
        """Return the same workers."""
        return [record.worker for record in self.fleet]


def test_plan_prices_both_cadences_by_what_the_series_show() -> None:
    """A series at rest costs a fifth, a near one all. A tenth of unknown series is assumed to be near."""
    monitor = monitor_of_quiet_worker(cadence="fixed")
    was = monitor.configurations.load()
    will_be = was.model_copy(update={"cadence": "adaptive"})
    stored = monitor.workers.get([WORKER])[WORKER]
    new = stored._replace(condition=models.Condition())

    def price(after: models.Configuration, record: ports.Record) -> fleet.Price:
        return monitor.get(fleet.Pricing).price(Unchanged(was, after, [record]), ask=False)

    each_minute = round(costs.dollars(30 * 1440, ()), 2)
    assert price(will_be, stored).dollars == fleet.MonthlyPrice(before=each_minute, after=round(each_minute / 5, 2))
    assert price(was, stored).dollars.after == each_minute
    assert price(was, stored).by_cadence == price(will_be, stored).by_cadence
    assert price(will_be, new).by_cadence.adaptive == pytest.approx(each_minute * 0.28, abs=0.01)
    low = cadence_replay.rule(above=models.Levels(critical=21.0))
    assert price(will_be.model_copy(update={"rules": (low,)}), stored).by_cadence.adaptive == each_minute
