"""Evaluation of an expression does not depend on when datapoints arrive or how evaluations are grouped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import expression_model, threshold_model
from tests.support.examples import examples
from workermon import models, rules
from workermon.models import Datapoint, RuleState
from workermon.rules import expression, threshold
from workermon.rules.horizon import of_expression

T0 = threshold_model.T0
Arrivals = list[tuple[int, str, int, float]]
Datapoints = dict[str, dict[int, float]]


@dataclasses.dataclass
class Evaluator:
    """Evaluates a rule over ``a`` and ``b`` like a node: it reads what is needed and knows what changed."""

    rule: models.Rule
    periods: Mapping[str, int]
    lateness: int
    statistic: str = "Average"
    state: RuleState = dataclasses.field(default_factory=RuleState)
    recorded: list[models.Transition] = dataclasses.field(default_factory=list)

    def evaluate(self, datapoints: Datapoints, requested: Mapping[str, float], changed_from: int | None) -> None:
        """Evaluate the present datapoints. ``requested`` is the end of the last request to CloudWatch."""
        of = expression.of(self.rule.metric)
        assert of is not None
        operands = {name: rules.Horizon(period, 0, requested[name]) for name, period in self.periods.items()}
        horizon = of_expression(operands, of.longest_window)
        facts = rules.Facts(
            condition=models.Condition(running_since=T0),
            changed_from=changed_from,
            lateness=self.lateness,
            statistic_of=lambda _: self.statistic,
        )
        needed = threshold.KIND.needed_from(self.rule, self.state, horizon, facts)
        read_from = None if needed is None else needed - horizon.reach_back
        series = {
            name: models.Series(
                self.periods[name],
                tuple(
                    Datapoint(at, value)
                    for at, value in sorted(points.items())
                    if at <= requested[name] and (read_from is None or at >= read_from)
                ),
            )
            for name, points in datapoints.items()
        }
        facts = rules.with_values(self.rule, dataclasses.replace(facts, series=series), horizon, needed)
        self.state, transitions = threshold.KIND.judge(self.rule, self.state, facts, horizon)
        self.recorded += transitions


def written(text: str, period: int) -> str:
    """Return an expression of the table with its windows in seconds."""
    for size in (2, 3, 4, 12):
        text = text.replace(f"{{{size}}}", f"{size * period}s")
    return text


def standing(recorded: list[models.Transition]) -> list[tuple[int, str | None, str | None]]:
    """Return the recorded transitions without those that corrections have withdrawn."""
    remaining: list[tuple[int, str | None, str | None]] = []
    for transition in recorded:
        change, undone = (
            (transition.at, transition.before, transition.after),
            (transition.at, transition.after, transition.before),
        )
        if transition.correction and undone in remaining:
            remaining.remove(undone)
        else:
            remaining.append(change)
    return sorted(remaining, key=lambda change: change[0])


VALUES = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 20.0, 35.0, 60.0, 75.0])), min_size=12, max_size=25)


@given(st.sampled_from(expression_model.TEXTS), threshold_model.rules(), VALUES, VALUES, st.data())
@examples(250)
def test_any_order_grouping_and_lateness(
    text: str, drawn: models.Rule, first: list[float | None], second: list[float | None], data: st.DataObject
) -> None:
    """With late or revised operands and lost evaluations, the result is that of a plain model."""
    period = data.draw(st.sampled_from([10, 60, 300]))
    lateness = data.draw(st.sampled_from([600, 1800]))
    rule = drawn.model_copy(update={"metric": written(text, period)})
    reach = data.draw(st.sampled_from([0, 2, min(lateness // period, 20)]))
    arrivals: Arrivals = [
        (slot + data.draw(st.integers(0, reach)), name, slot, value)
        for name, values in (("a", first), ("b", second))
        for slot, value in enumerate(values)
        if value is not None
    ]
    for _, name, slot, _ in data.draw(st.lists(st.sampled_from(arrivals), max_size=3)) if arrivals else []:
        arrivals.append((slot + reach, name, slot, data.draw(st.sampled_from([0.0, 35.0, 75.0]))))
    arrivals.sort(key=lambda arrival: arrival[:3])
    last = max(len(first), len(second)) - 1
    end = max([last, *(arrival[0] for arrival in arrivals)])
    evaluator, datapoints = Evaluator(rule, {"a": period, "b": period}, lateness), Datapoints(a={}, b={})
    pending: list[int] = []
    for step in range(end + 1):
        for _, name, slot, value in (arrival for arrival in arrivals if arrival[0] == step):
            at = T0 + period * slot
            if datapoints[name].get(at) != value:
                pending.append(at)
            datapoints[name][at] = value
        if step < end and data.draw(st.booleans()):
            continue  # a lost wake-up
        requested = dict.fromkeys(datapoints, float(T0 + period * (min(step, last) + 1)))
        evaluator.evaluate(datapoints, requested, min(pending, default=None))
        pending = []
    at_once = Evaluator(rule, {"a": period, "b": period}, lateness)
    at_once.evaluate(datapoints, dict.fromkeys(datapoints, float(T0 + period * (last + 1))), None)
    assert evaluator.state == at_once.state
    a, b = ({(at - T0) // period: value for at, value in points.items()} for points in datapoints.values())
    computed = {slot: expression_model.plain(text, slot, a, b, period) for slot in range(last + 1)}
    by_slot = {
        T0 // period + slot: Datapoint(T0 + period * slot, value)
        for slot, value in computed.items()
        if value is not None
    }
    expected = threshold_model.model(rule, by_slot, T0 // period + last, period, T0)
    assert standing(evaluator.recorded) == [tuple(change) for change in expected]


@given(threshold_model.rules(), st.data())
@examples(100)
def test_operands_of_two_periods(drawn: models.Rule, data: st.DataObject) -> None:
    """One operand has a period of one minute, one of five. A slot has both or is absent, whichever is late."""
    statistic = data.draw(st.sampled_from(["Average", "Sum", "Maximum"]))
    rule = drawn.model_copy(update={"metric": "a + b"})
    number = st.sampled_from([5.0, 10.0, 30.0, 50.0])
    minutes = data.draw(st.lists(st.one_of(st.none(), number, number, number), min_size=5, max_size=60))
    fives = data.draw(st.lists(st.one_of(st.none(), number, number), min_size=1, max_size=12))
    arrivals: Arrivals = [
        (place + data.draw(st.integers(0, 15)), "a", place, value)
        for place, value in enumerate(minutes)
        if value is not None
    ]
    arrivals += [
        (5 * place + 4 + data.draw(st.integers(0, 10)), "b", place, value)
        for place, value in enumerate(fives)
        if value is not None
    ]
    periods, datapoints = {"a": 60, "b": 300}, Datapoints(a={}, b={})
    evaluator, at_once = (Evaluator(rule, periods, 1800, statistic) for _ in range(2))
    pending: list[int] = []
    slots = max(-(-len(minutes) // 5), len(fives))
    for step in range(5 * slots + 16):
        for _, name, place, value in (arrival for arrival in arrivals if arrival[0] == step):
            datapoints[name][T0 + periods[name] * place] = value
            pending.append(T0 + periods[name] * place)
        if step < 5 * slots + 15 and data.draw(st.booleans()):
            continue
        requested = {name: float(T0 + 60 * min(step, 5 * slots)) for name in datapoints}
        evaluator.evaluate(datapoints, requested, min(pending, default=None))
        pending = []
    at_once.evaluate(datapoints, dict.fromkeys(datapoints, float(T0 + 300 * slots)), None)
    assert evaluator.state == at_once.state
    by_slot = {}
    for slot in range(slots):
        present = [value for value in minutes[5 * slot : 5 * slot + 5] if value is not None]
        five_minutes = fives[slot] if slot < len(fives) else None
        if len(present) == 5 and five_minutes is not None:
            combined = {"Average": sum(present) / 5, "Sum": sum(present), "Maximum": max(present)}
            by_slot[T0 // 300 + slot] = Datapoint(T0 + 300 * slot, combined[statistic] + five_minutes)
    expected = threshold_model.model(rule, by_slot, T0 // 300 + slots - 1, 300, T0)
    assert standing(evaluator.recorded) == [tuple(change) for change in expected]


def test_slot_by_slot_a_window_is_whole() -> None:
    """Evaluated each minute, a window still contains slots from before the deciding ones."""
    rule = threshold.KIND.rule(
        name="r",
        metric='max(a, "12m") - b',
        above=models.Levels(critical=50),
        breach=models.Count(m=1, n=1),
        recover=models.Count(m=1, n=1),
    )
    evaluator, datapoints = Evaluator(rule, {"a": 60, "b": 60}, 900), Datapoints(a={}, b={})
    for minute in range(20):
        datapoints["a"][T0 + 60 * minute] = 99.0 if minute == 2 else 1.0
        datapoints["b"][T0 + 60 * minute] = 1.0
        evaluator.evaluate(datapoints, dict.fromkeys(datapoints, float(T0 + 60 * minute + 60)), None)
    assert [((transition.at - T0) // 60, transition.after) for transition in evaluator.recorded] == [
        (5, "critical"),
        (14, None),
    ]


@pytest.mark.parametrize(("late", "slots"), [("a", 1), ("b", 4)])
def test_a_late_datapoint_reaches_as_far_as_its_window(late: str, slots: int) -> None:
    """A late operand corrects its slot and those whose window contains it, and no other."""
    rule = threshold.KIND.rule(
        name="r",
        metric='a + max(b, "4m")',
        above=models.Levels(critical=50),
        breach=models.Count(m=1, n=1),
        recover=models.Count(m=1, n=1),
    )
    evaluator = Evaluator(rule, {"a": 60, "b": 60}, 900)
    datapoints = Datapoints(a={T0 + 60 * n: 1.0 for n in range(12)}, b={T0 + 60 * n: 1.0 for n in range(12)})
    requested = dict.fromkeys(datapoints, float(T0 + 720))
    evaluator.evaluate(datapoints, requested, None)
    assert evaluator.recorded == []
    datapoints[late][T0 + 300] = 99.0
    evaluator.evaluate(datapoints, requested, T0 + 300)
    recorded = evaluator.recorded
    assert [((transition.at - T0) // 60, transition.after, transition.correction) for transition in recorded] == [
        (5, "critical", True), (5 + slots, None, True),
    ]  # fmt: skip
