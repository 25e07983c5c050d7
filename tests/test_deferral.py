"""A steady worker is evaluated only at each fifteenth slot. Its notifications do not show that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies

from tests.support import cadence_replay
from tests.support.cadence_replay import METRIC, T
from tests.support.present import present
from workermon import config, models, rules, testing, views
from workermon.collect import deferral

#: The first of each batch, which is evaluated in any case, and one beside it.
FIRST, OTHER = "i-00000000000000001", "i-00000000000000002"
PERIOD = 60


def configuration(*own_rules: models.Rule) -> models.Configuration:
    """Return a configuration with these rules over one metric."""
    metric = config.DEFAULT.metrics[METRIC].model_copy(update={"period": PERIOD})
    changes = {"metrics": {**config.DEFAULT.metrics, METRIC: metric}, "collect": (METRIC,), "rules": own_rules}
    return config.DEFAULT.model_copy(update=changes)


class Pair(testing.Monitor):
    """Two workers of one batch with the same answers from EC2 and CloudWatch."""

    def __init__(self, *own_rules: models.Rule, **options: Any) -> None:
        super().__init__(configuration(*own_rules), T + PERIOD + cadence_replay.LATE)
        for worker_id in (FIRST, OTHER):
            self.add_worker(worker_id, **{"interval": PERIOD, "added_at": T, "detailed": True, **options})
        self.evaluations = 0
        self.show()

    def show(self, status: models.Status = "running", system: models.Check = "ok") -> None:
        """Set EC2's answer for both workers."""
        for worker_id in (FIRST, OTHER):
            instance = models.Instance(id=worker_id, region="us-east-1", status=status, detailed=True)
            checks = models.Checks(system=system, instance="ok") if status == "running" else None
            self.ec2.put(instance, checks)

    def put(self, at: int, value: float) -> None:
        """Set CloudWatch's answer for both workers."""
        for worker_id in (FIRST, OTHER):
            self.cloudwatch.put(worker_id, "CPUUtilization", [(at, value)])

    def cycle(self) -> bool:
        """Collect, evaluate pending workers, deliver. Return whether the second worker was evaluated."""
        self.collect(FIRST, OTHER)
        is_marked = self.samples.marked([FIRST, OTHER]) == [FIRST, OTHER]
        self.evaluate()
        self.deliver()
        self.evaluations += is_marked
        self.clock.advance(PERIOD)
        return is_marked


class Notified(NamedTuple):
    """A notification without whom it is about."""

    created_at: str | None
    status: str
    severity: str
    at: str
    since: str
    value: float | None
    summary: str


def notified(monitor: testing.Monitor, worker_id: str) -> list[Notified]:
    """Return the notifications about a worker."""
    return [
        Notified(
            notification.created_at, notification.status, notification.severity, notification.at, notification.since,
            notification.value, notification.summary.replace(worker_id, "it"),
        )
        for notification in monitor.received
        if notification.worker is not None and notification.worker.id == worker_id
    ]  # fmt: skip


def events(seed: int) -> Iterator[tuple[int, float | None, tuple[int, float] | None, bool]]:
    """Yield place, value, place of a late or revised value with that value, and whether the status check fails."""
    chance = random.Random(seed)
    for place, value in enumerate(cadence_replay.settled(cadence_replay.generated(seed, 160))):
        late = (place - chance.randint(1, 14), chance.choice((20.0, 96.0))) if chance.random() < 0.08 else None
        yield place, value, late, chance.random() < 0.04


@pytest.mark.parametrize(
    ("seed", "breach"), [(1, "1 of 1"), (2, "2 of 3"), (3, "3 of 3"), (4, "1 of 1"), (5, "1 of 1"), (6, "2 of 3")]
)
def test_a_worker_whose_evaluation_waits_is_notified_of_the_same_at_the_same_time(seed: int, breach: str) -> None:
    """A deferred worker has the same notifications at the same second.

    This covers breaches, late and revised values, gaps and failed checks.
    """
    check = rules.KINDS["threshold"].rule(
        name="check", metric="status_check_failed", above=models.Levels(critical=0.0), breach=models.Count(m=1, n=1)
    )
    monitor = Pair(cadence_replay.rule(breach), check)
    cycles = 0
    for place, value, late, fails in events(seed):
        if value is not None:
            monitor.put(T + place * PERIOD, value)
        if late is not None and late[0] >= 0:
            monitor.put(T + late[0] * PERIOD, late[1])
        monitor.show(system="impaired" if fails else "ok")
        monitor.cycle()
        cycles += 1
    notifications = notified(monitor, OTHER)
    assert notifications == notified(monitor, FIRST)
    assert len(notifications) > 5
    assert monitor.evaluations < cycles


def stay_quiet(monitor: Pair, cycles: int, value: float = 20.0) -> list[bool]:
    """Advance minutes without changes. Return those in which the second worker was evaluated."""
    evaluated = []
    for _ in range(cycles):
        at = int(monitor.clock()) - PERIOD - cadence_replay.LATE
        monitor.put(at, value)
        evaluated.append(monitor.cycle())
    return evaluated


@pytest.fixture
def monitor() -> Pair:
    """Give two workers that are steady."""
    new_pair = Pair(cadence_replay.rule("2 of 2"))
    stay_quiet(new_pair, 6)
    return new_pair


def test_a_steady_worker_is_evaluated_at_each_fifteenth_slot(monitor: Pair) -> None:
    """The first worker of its batch is evaluated at each slot, so that its account is."""
    assert sum(stay_quiet(monitor, 4 * deferral.SLOTS)) == 4
    cursors = [
        present(monitor.alerts.load([worker_id])[worker_id].alerts["cpu-high"].rule_state.cursor)
        for worker_id in (FIRST, OTHER)
    ]
    assert 0 <= cursors[0] - cursors[1] < deferral.SLOTS * PERIOD


def go_to_a_deferred_slot(monitor: Pair) -> None:
    """Let minutes pass until the next sample need not be evaluated."""
    while not deferral.is_due(OTHER, int(monitor.clock()) // PERIOD - 1):
        stay_quiet(monitor, 1)


def is_evaluated(monitor: Pair, value: float = 20.0) -> bool:
    """Advance a minute. Return whether its sample was evaluated."""
    return stay_quiet(monitor, 1, value)[0]


def test_what_is_not_evaluated_yet_is_seen_by_why(monitor: Pair) -> None:
    """why shows the newest slot, like after an evaluation."""
    go_to_a_deferred_slot(monitor)
    assert not is_evaluated(monitor)
    explanations = [
        monitor.get(views.Explanation).explain(monitor.workers.get([worker_id])[worker_id], METRIC).rules[0]
        for worker_id in (FIRST, OTHER)
    ]
    assert explanations[0].cursor == explanations[1].cursor
    assert explanations[0].details == explanations[1].details
    assert explanations[0].now == explanations[1].now


@pytest.mark.parametrize(("value", "evaluated"), [(80.0, False), (80.1, True), (float("inf"), True)])
def test_a_value_beyond_a_threshold_is_evaluated_at_once(monitor: Pair, value: float, evaluated: bool) -> None:
    """The comparison is strict, like the rule's."""
    go_to_a_deferred_slot(monitor)
    assert is_evaluated(monitor, value) is evaluated


def test_news_of_ec2_is_evaluated_at_once(monitor: Pair) -> None:
    """A failed check and a stop are evaluated at once."""
    go_to_a_deferred_slot(monitor)
    monitor.show(system="impaired")
    assert is_evaluated(monitor)
    monitor.show()
    stay_quiet(monitor, 10)
    go_to_a_deferred_slot(monitor)
    monitor.show("stopped")
    assert is_evaluated(monitor)


def test_a_rule_that_has_to_see_each_sample_does() -> None:
    """Workers are not deferred with rules that fire on absent slots, flap, or depend on other rules."""
    threshold = rules.KINDS["threshold"]
    high = cadence_replay.rule("2 of 2")
    absent_breaches = threshold.rule(name="gone", metric=METRIC, above=models.Levels(critical=90.0), missing="breach")
    flapping = high.model_copy(update={"flapping": models.Flapping(turns=3, within=600)})
    text = """
        [[rules]]
        name = "cpu-high"
        metric = "cpu_utilization"
        above = { critical = 90 }
        [[rules]]
        name = "both"
        when = "cpu-high"
    """
    two_rules = config.to_configuration(testing.parser().parse(text, "f.toml"), config.DEFAULT).rules
    for own_rules in ((absent_breaches,), (flapping,), two_rules):
        monitor = Pair(*own_rules)
        stay_quiet(monitor, 6)
        assert all(stay_quiet(monitor, 5))


def test_a_long_interval_is_evaluated_each_time() -> None:
    """A worker with a long interval is evaluated at each slot, because fifteen would take too long."""
    monitor = Pair(cadence_replay.rule("2 of 2"), interval=120)
    stay_quiet(monitor, 6)
    assert sum(stay_quiet(monitor, 10)) == 5


def test_other_labels_and_other_rules_are_evaluated_at_once(monitor: Pair) -> None:
    """A worker is steady for one revision and its own labels."""
    go_to_a_deferred_slot(monitor)
    worker = monitor.workers.get([OTHER])[OTHER].worker
    monitor.workers.update(worker.model_copy(update={"labels": {"team": "vfx"}}))
    assert is_evaluated(monitor)
    go_to_a_deferred_slot(monitor)
    configuration = monitor.configurations.load()
    changes = {"lateness": 600, "revision": configuration.revision + 1}
    assert monitor.configurations.save(configuration.model_copy(update=changes))
    assert is_evaluated(monitor)


# --- the property on which it rests ------------------------------------------------------------------------------

VALUES = strategies.one_of(strategies.none(), strategies.sampled_from([20.0, 79.9, 80.0, 80.1, 90.0, 90.1, 99.0]))


@hypothesis.given(
    strategies.lists(VALUES, min_size=1, max_size=40),
    strategies.lists(VALUES, min_size=1, max_size=10),
    strategies.sampled_from(["1 of 1", "2 of 2", "2 of 3", "3 of 3"]),
    strategies.sampled_from(["keep", "ok"]),
)
def test_values_within_the_range_lead_a_steady_rule_nowhere(
    before: list[float | None], after: list[float | None], breach: str, missing: str
) -> None:
    """Late, absent or grouped datapoints within the range never change a steady rule."""
    rule = cadence_replay.rule(breach)
    rule = rule.model_copy(update={"options": {**rule.options, "missing": missing}})
    kind = rules.KINDS["threshold"]
    steady = kind.steady_range(rule)
    assert steady is not None
    values = [*before, *(None if value is None or not steady[0] <= value <= steady[1] else value for value in after)]
    points = [models.Datapoint(T + place * PERIOD, value) for place, value in enumerate(values) if value is not None]

    def judgement(rule_state: models.RuleState, until: int, changed_from: int | None) -> rules.Judgement:
        horizon = rules.Horizon.until(T + (until - 1) * PERIOD, PERIOD)
        facts = rules.Facts.recorded(
            METRIC, models.Series(PERIOD, tuple(p for p in points if p.at < T + until * PERIOD)), T
        )
        return kind.judge(rule, rule_state, facts, horizon)

    rule_state, _ = judgement(models.RuleState(start=T), len(before), None)
    if kind.is_steady(rule, rule_state):
        later, transitions = judgement(rule_state, len(values), T + len(before) * PERIOD)
        assert transitions == ()
        assert kind.is_steady(rule, later)
