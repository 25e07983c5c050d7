"""Results of evaluating a threshold, and that they do not depend on how evaluations are grouped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.threshold_model import MINUTE, T0, Change, model, rule, rules
from workermon import models
from workermon.models import Count, Datapoint, Levels, Rule, RuleState
from workermon.rules import Facts, Horizon, threshold

nan = math.nan


def judge(
    used: Rule, state: RuleState, points: Sequence[Datapoint], horizon: int, *, period: int, **more_facts: Any
) -> tuple[RuleState, tuple[models.Transition, ...]]:
    """Evaluate datapoints up to the slot at ``horizon``. ``more_facts`` are further facts."""
    condition = models.Condition(running_since=more_facts.pop("expected_from"))
    facts = Facts(series={used.metric or "": models.Series(period, tuple(points))}, condition=condition, **more_facts)
    return threshold.KIND.judge(used, state, facts, Horizon.until(horizon, period))


def needed_from(used: Rule, state: RuleState, period: int, **facts: Any) -> int | None:
    """Return the time from which the evaluation needs datapoints."""
    return threshold.KIND.needed_from(used, state, Horizon.until(T0, period), Facts(**facts))


def series(values: Sequence[float | None]) -> list[Datapoint]:
    """Return datapoints a minute apart. ``None`` is an absent slot."""
    return [Datapoint(T0 + MINUTE * slot, value) for slot, value in enumerate(values) if value is not None]


def outcome(used: Rule, values: Sequence[float | None], **changes: int) -> list[tuple[int, str | None]]:
    """Return the transitions as ``(slot, severity)`` of one call over all values."""
    _, transitions = judge(
        used,
        RuleState(),
        series(values),
        T0 + MINUTE * (len(values) - 1),
        period=MINUTE,
        expected_from=changes.get("expected_from", T0),
        changed_from=None,
    )
    return [((transition.at - T0) // MINUTE, transition.after) for transition in transitions]


CRITICAL = {"above": Levels(critical=90)}
THREE = {**CRITICAL, "breach": Count(m=3, n=3), "recover": Count(m=2, n=2)}
BAND = {**CRITICAL, "clear": Levels(critical=85)}

#: A sentence; the rule; the values; the transitions.
CASES: list[tuple[str, Mapping[str, object], list[float | None], list[tuple[int, str | None]]]] = [
    ("90 is not above 90", CRITICAL, [90.0], []),
    ("a little more than 90 is", CRITICAL, [90.0, 90.001], [(1, "critical")]),
    ("10 is not below 10", {"above": None, "below": Levels(critical=10)}, [10.0], []),
    ("9.9 is, and 10 is well again",
     {"above": None, "below": Levels(critical=10)}, [9.9, 10.0], [(0, "critical"), (1, None)]),
    ("an absent value is not 0 and turns nothing", {"above": None, "below": Levels(critical=10)}, [None, None, 50], []),
    ("what is not a number is absent", CRITICAL, [nan, math.inf, -math.inf], []),
    ("what is not a number does not recover either", CRITICAL, [95, nan, nan], [(0, "critical")]),
    ("two of three are not enough for 3 of 3", THREE, [95, 95, 50, 95, 95], []),
    ("three in a row are", THREE, [95, 95, 95], [(2, "critical")]),
    ("one good value is not enough for 2 of 2", THREE, [95, 95, 95, 50, 95, 50], [(2, "critical")]),
    ("two good values in a row are", THREE, [95, 95, 95, 50, 50], [(2, "critical"), (4, None)]),
    ("the default clears at the threshold itself", THREE, [95, 95, 95, 90, 90], [(2, "critical"), (4, None)]),
    ("within the band of the hysteresis it neither fires nor clears", BAND, [89, 95, 89, 86, 85.5], [(1, "critical")]),
    ("at the clear threshold it clears", BAND, [95, 89, 85], [(0, "critical"), (2, None)]),
    ("warning, critical, warning and well",
     {}, [85, 95, 85, 50], [(0, "warning"), (1, "critical"), (2, "warning"), (3, None)]),
    ("from critical straight to well", {}, [95, 50], [(0, "critical"), (1, None)]),
    ("critical alone, without a warning level", CRITICAL, [85, 95, 85], [(1, "critical"), (2, None)]),
    ("a warning that only clears below 75 stays while critical goes",
     {"clear": Levels(warning=75, critical=85)}, [95, 82, 78, 75], [(0, "critical"), (1, "warning"), (3, None)]),
    ("2 of 3 fires across a good value", {**CRITICAL, "breach": Count(m=2, n=3)}, [95, 50, 95], [(2, "critical")]),
    ("2 of 3 does not reach back four", {**CRITICAL, "breach": Count(m=2, n=3)}, [95, 50, 50, 95], []),
    ("what fires stays, whatever recovers too",
     {**CRITICAL, "breach": Count(m=2, n=3)}, [95, 95, 50, 50], [(1, "critical"), (3, None)]),
    ("absent counts as a breach where told so", {**THREE, "missing": "breach"}, [95, None, None], [(2, "critical")]),
    ("absent as a breach does not recover",
     {**THREE, "missing": "breach"}, [95, 95, 95, 50, None, 50, 50], [(2, "critical"), (6, None)]),
    ("absent counts as ok where told so", {**THREE, "missing": "ok"}, [95, 95, None, 95], []),
    ("absent as ok recovers", {**THREE, "missing": "ok"}, [95, 95, 95, None, None], [(2, "critical"), (4, None)]),
    ("absent is skipped where told to keep", {**THREE, "missing": "keep"}, [95, None, 95, None, 95], [(4, "critical")]),
    ("keep looks back six slots for 3 of 3",
     {**THREE, "missing": "keep"}, [95, None, None, None, 95, 95], [(5, "critical")]),
    ("and not seven", {**THREE, "missing": "keep"}, [95, None, None, None, None, 95, 95], []),
    ("keep keeps an alert through silence",
     {**THREE, "missing": "keep"}, [95, 95, 95, *[None] * 50], [(2, "critical")]),
    ("fewer than recover's m that count cannot recover",
     {**THREE, "missing": "keep"}, [95, 95, 95, 50, None, None, None, 50], [(2, "critical")]),
    ("nothing at all fires nothing if absent is kept", THREE, [None] * 10, []),
    ("nothing at all fires where absent is a breach", {**THREE, "missing": "breach"}, [None] * 10, [(2, "critical")]),
]  # fmt: skip


@pytest.mark.parametrize(("used", "values", "changes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(used: dict[str, object], values: list[float | None], changes: list[tuple[int, str | None]]) -> None:
    """The rule fires and resolves as each row of the table says."""
    assert outcome(rule(**used), values) == changes


def test_before_expected() -> None:
    """A slot before the expected time counts if it has a datapoint. Without one it is not missing."""
    used = rule(**{**THREE, "missing": "breach"})
    assert outcome(used, [95, None, None, 95, None], expected_from=T0 + 3 * MINUTE) == [(4, "critical")]
    assert outcome(used, [None] * 5, expected_from=T0 + 3 * MINUTE) == []


def test_a_transition_has_its_details() -> None:
    """A transition has the deciding datapoint's own time and value, the threshold, the window and the reason."""
    used = rule(above=Levels(critical=90), clear=Levels(critical=85), breach=Count(m=2, n=3), recover=Count(m=2, n=2))
    points = [Datapoint(T0 + 7, 95), Datapoint(T0 + 67, 40), Datapoint(T0 + 127, 97.5), Datapoint(T0 + 187, 84)]
    _, (warned, cleared) = judge(
        used, RuleState(), [*points, Datapoint(T0 + 247, 70)], T0, period=MINUTE, expected_from=T0, changed_from=None
    )
    assert (warned.at, warned.before, warned.after, warned.value, warned.threshold) == (
        T0 + 127, None, "critical", 97.5, 90,
    )  # fmt: skip
    assert warned.points == tuple(points[:3])
    assert (warned.count, warned.reason) == ("2 of 3", "2 of 3 values above 90")
    assert (cleared.at, cleared.after, cleared.value, cleared.threshold) == (T0 + 247, None, 70, 85)
    assert (cleared.count, cleared.reason) == ("2 of 2", "2 of 2 values not above 85")


def test_absent_decides() -> None:
    """Where an absent slot decides, the time is the slot's and there is no value."""
    used = rule(**{**THREE, "missing": "breach"})
    _, (fired,) = judge(
        used, RuleState(), series([95, 95]), T0 + 150, period=MINUTE, expected_from=T0, changed_from=None
    )
    assert (fired.at, fired.value, fired.count) == (T0 + 120, None, "3 of 3")
    assert "1 absent" in fired.reason


def test_horizon() -> None:
    """Slots after the horizon are unknown. Only slots up to the horizon are absent."""
    used = rule(**{**THREE, "missing": "breach"})
    state, transitions = judge(
        used, RuleState(), series([95, 95]), T0 + 60, period=MINUTE, expected_from=T0, changed_from=None
    )
    assert transitions == ()
    assert state.cursor == T0 + 60


def test_nothing_new() -> None:
    """A second evaluation of the same datapoints changes nothing."""
    used, points = rule(), series([95, 50, 95])
    state, first = judge(used, RuleState(), points, T0 + 120, period=MINUTE, expected_from=T0, changed_from=None)
    repeated, second = judge(used, state, points, T0 + 120, period=MINUTE, expected_from=T0, changed_from=None)
    assert len(first) == 3
    assert repeated is state
    assert second == ()


def test_one_datapoint_a_slot() -> None:
    """Of two datapoints in one slot the later counts."""
    used = rule(**CRITICAL)
    points = [Datapoint(T0 + 30, 50), Datapoint(T0 + 5, 95)]
    assert judge(used, RuleState(), points, T0, period=60, expected_from=T0, changed_from=None)[1] == ()


def test_revised_past_is_a_correction() -> None:
    """A late datapoint that undoes an alert is a correction, and the present is well."""
    used = rule(**{**THREE, "missing": "breach"})
    state, (fired,) = judge(
        used, RuleState(), series([95, 95]), T0 + 120, period=MINUTE, expected_from=T0, changed_from=None
    )
    assert state.severity == fired.after == "critical"
    state, (undone,) = judge(
        used, state, series([95, 95, 50]), T0 + 120, period=MINUTE, expected_from=T0, changed_from=T0 + 120
    )
    assert state.severity is None
    assert (undone.at, undone.before, undone.after, undone.correction) == (T0 + 120, "critical", None, True)


def test_reach() -> None:
    """A datapoint older than the lateness changes nothing that was evaluated."""
    used = rule(**CRITICAL)
    slots = models.LATENESS // MINUTE
    values: list[float | None] = [50.0] * (slots + 3)
    state, _ = judge(used, RuleState(), series(values), T0, period=MINUTE, expected_from=T0, changed_from=None)
    last = len(values) - 1
    too_old, in_time = list(values), list(values)
    too_old[last - slots - 1] = in_time[last - slots] = 99
    for changed, corrections in ((too_old, 0), (in_time, 2)):
        at = T0 + MINUTE * changed.index(99)
        _, transitions = judge(used, state, series(changed), T0, period=MINUTE, expected_from=T0, changed_from=at)
        assert [transition.correction for transition in transitions] == [True] * corrections


def test_period_changes() -> None:
    """A changed period begins a new evaluation after the last slot. An open alert stays open until it clears."""
    used = rule(**THREE)
    state, _ = judge(
        used, RuleState(), [Datapoint(T0 + 300 * slot, 95) for slot in range(3)], T0 + 600, period=300,
        expected_from=T0, changed_from=None,
    )  # fmt: skip
    assert state.severity == "critical"
    fine = [Datapoint(T0 + 60 * slot, 20) for slot in range(16)]
    changed, transitions = judge(used, state, fine, T0, period=60, expected_from=T0, changed_from=T0)
    assert transitions == ()
    assert changed.severity == "critical", "one minute of the new period is not 2 of 2"
    fine.append(Datapoint(T0 + 960, 20))
    changed, (cleared,) = judge(used, changed, fine, T0, period=60, expected_from=T0, changed_from=None)
    assert (cleared.at, changed.severity) == (T0 + 960, None)


def test_level_taken_away() -> None:
    """A level that the rule no longer has is unlatched at the next slot."""
    state, _ = judge(rule(), RuleState(), series([95]), T0, period=60, expected_from=T0, changed_from=None)
    changed, (transition,) = judge(
        rule(above=Levels(warning=80)), state, series([95, 95]), T0, period=60, expected_from=T0, changed_from=None
    )
    assert (transition.before, transition.after, changed.severity) == ("critical", "warning", "warning")
    assert transition.threshold == 80


# --- however it is fed -------------------------------------------------------------------------------------------


NUMBERS = st.sampled_from([20.0, 40.0, 55.0, 60.0, 65.0, 70.0, 75.0, 95.0])
VALUES = st.one_of(st.none(), NUMBERS)
PERIODS = st.sampled_from([10, 60, 300, 3600])


def evaluated_once(
    used: Rule, points: Sequence[Datapoint], horizon: int, period: int, expected: int, lateness: int = models.LATENESS
) -> tuple[RuleState, list[Change]]:
    """Return state and transitions of one call over everything."""
    state, transitions = judge(
        used, RuleState(), points, horizon, period=period, expected_from=expected, changed_from=None, lateness=lateness
    )
    return state, [Change(transition.at, transition.before, transition.after) for transition in transitions]


@given(rules(), st.lists(VALUES, max_size=60), PERIODS, st.integers(0, 59), st.integers(0, 70), st.data())
@examples(300)
def test_equals_a_plain_loop(
    used: Rule, values: list[float | None], period: int, offset: int, expected: int, data: st.DataObject
) -> None:
    """One call over everything gives the result of a plain loop over the whole series."""
    offset = min(offset, period - 1)
    points = [Datapoint(T0 + period * slot + offset, value) for slot, value in enumerate(values) if value is not None]
    horizon = T0 + period * data.draw(st.integers(0, 70))
    expected_from = T0 + period * expected
    by_slot = {point.at // period: point for point in points}
    last = max([horizon // period, *by_slot])
    _, changes = evaluated_once(used, points, horizon, period, expected_from)
    assert changes == model(used, by_slot, last, period, expected_from)


@given(rules(), st.lists(VALUES, min_size=1, max_size=60), PERIODS, st.integers(0, 30), st.data())
@examples(300)
def test_sixty_calls_equal_one(
    used: Rule, values: list[float | None], period: int, expected: int, data: st.DataObject
) -> None:
    """Datapoints in order give the transitions and final state of one call, in any grouping, with repetitions."""
    points = [Datapoint(T0 + period * slot, value) for slot, value in enumerate(values) if value is not None]
    expected_from = T0 + period * expected
    horizon = T0 + period * (len(values) - 1)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=60)))
    state, changes = RuleState(), []
    for cut in [*cuts, len(values) - 1]:
        until = T0 + period * cut
        need = needed_from(used, state, period)
        available = [point for point in points if point.at <= until and (need is None or point.at >= need)]
        state, transitions = judge(
            used, state, available, until, period=period, expected_from=expected_from, changed_from=None
        )
        assert not any(transition.correction for transition in transitions)
        changes += [Change(transition.at, transition.before, transition.after) for transition in transitions]
    at_once, expected_turns = evaluated_once(used, points, horizon, period, expected_from)
    assert changes == expected_turns
    assert state == at_once


LATE = st.sampled_from([120, 600, 900, 1800, 7200])


@given(rules(), st.lists(VALUES, min_size=1, max_size=50), st.sampled_from([10, 60, 300]), LATE, st.data())
@examples(400)
def test_late_and_revised(
    used: Rule, values: list[float | None], period: int, lateness: int, data: st.DataObject
) -> None:
    """Late, reordered or revised datapoints within the lateness leave the state of one call.

    The recorded transitions with their corrections add up to those of a plain loop over all of them.
    """
    reach = min(lateness // period, 60)
    arrivals = sorted(
        (slot + data.draw(st.integers(0, reach)), data.draw(st.integers(0, 9)), slot, value)
        for slot, value in enumerate(values)
        if value is not None
    )
    for slot in data.draw(st.lists(st.integers(0, len(values) - 1), max_size=5)):
        value = values[slot]
        if value is not None:
            arrivals.append((slot + reach, 9, slot, data.draw(NUMBERS)))
    arrivals.sort(key=lambda arrival: arrival[:3])
    datapoints: dict[int, Datapoint] = {}
    state = RuleState()
    recorded: list[models.Transition] = []
    pending: list[int] = []
    end = max([len(values) - 1, *(arrival[0] for arrival in arrivals)])
    for step in range(end + 1):
        changed: list[int] = []
        for _, _, slot, value in (arrival for arrival in arrivals if arrival[0] == step):
            point = Datapoint(T0 + period * slot, value)
            if datapoints.get(slot) != point:
                changed.append(point.at)
            datapoints[slot] = point
        # Wake-ups may be lost: what changed is remembered until the next evaluation.
        pending += changed
        if step < end and data.draw(st.booleans()):
            continue
        changed_from = min(pending, default=None)
        pending = []
        need = needed_from(used, state, period, changed_from=changed_from, lateness=lateness)
        state, transitions = judge(
            used,
            state,
            [point for point in datapoints.values() if need is None or point.at >= need],
            T0 + period * min(step, len(values) - 1),
            period=period,
            expected_from=T0,
            changed_from=changed_from,
            lateness=lateness,
        )
        recorded += transitions
    final = [datapoints[slot] for slot in sorted(datapoints)]
    at_once, changes = evaluated_once(used, final, T0 + period * (len(values) - 1), period, T0, lateness)
    assert state == at_once
    by_slot = {point.at // period: point for point in final}
    assert changes == model(used, by_slot, max([T0 // period + len(values) - 1, *by_slot]), period, T0)
    standing: list[Change] = []
    for transition in recorded:
        change = Change(transition.at, transition.before, transition.after)
        undone = Change(change.at, change.after, change.before)
        if transition.correction and undone in standing:
            standing.remove(undone)
        else:
            standing.append(change)
    assert sorted(standing, key=lambda change: change.at) == changes


def test_a_longer_lateness_reaches_no_further_than_the_trail() -> None:
    """If earlier transitions are forgotten, an alert stays open and its past unchanged."""
    used = rule(clear=Levels(warning=75, critical=85))
    values: list[float | None] = [82.0, 78.0, 95.0, *[78.0] * 60]  # since the fourth value a warning, within its band
    short, long = {"lateness": 600}, {"lateness": 7200}
    state, _ = judge(used, RuleState(), series(values), T0, period=MINUTE, expected_from=T0, changed_from=None, **short)
    assert (state.trimmed, state.severity, len(state.trail)) == (True, "warning", 1)
    values[3] = 79.0  # revised, where it is not known any more what it came from
    after, transitions = judge(
        used, state, series(values), T0, period=MINUTE, expected_from=T0, changed_from=T0 + 3 * MINUTE, **long
    )
    assert (after.severity, transitions) == ("warning", ())
    values[5] = 50.0  # revised, and within what is known: it is over there
    after, (over,) = judge(
        used, after, series(values), T0, period=MINUTE, expected_from=T0, changed_from=T0 + 5 * MINUTE, **long
    )
    assert (after.severity, over.at, over.correction) == (None, T0 + 5 * MINUTE, True)


@given(rules(), st.lists(VALUES, min_size=20, max_size=120), st.data())
@examples(300)
def test_another_lateness_upsets_no_fold(used: Rule, values: list[float | None], data: st.DataObject) -> None:
    """A changed lateness causes no transition if the datapoints have not changed."""
    points = series(values)
    state, changes = RuleState(), []
    for cut in [*sorted(data.draw(st.sets(st.integers(0, len(values) - 1), max_size=12))), len(values) - 1]:
        until, lateness = T0 + MINUTE * cut, data.draw(LATE)
        available = [point for point in points if point.at <= until]
        changed_from = data.draw(st.sampled_from([None, *(point.at for point in available)]))
        state, transitions = judge(
            used, state, available, until, period=MINUTE, expected_from=T0, changed_from=changed_from, lateness=lateness
        )
        assert not any(transition.correction for transition in transitions)
        changes += [Change(transition.at, transition.before, transition.after) for transition in transitions]
    at_once, expected = evaluated_once(used, points, T0 + MINUTE * (len(values) - 1), MINUTE, T0)
    assert changes == expected
    assert state.severity == at_once.severity


def test_state_survives_json() -> None:
    """The state is the same after JSON."""
    state, _ = evaluated_once(rule(), series([95, 50, 95]), T0, MINUTE, T0)
    assert RuleState.model_validate_json(state.model_dump_json()) == state
    assert isinstance(RuleState.model_validate_json(state.model_dump_json()).trail[0], models.SeverityChange)


def test_the_example_of_the_docs() -> None:
    """The worked example of docs/explanation/evaluation.md changes its state as its table says."""
    used = rule(clear=Levels(warning=75, critical=85), breach=Count(m=2, n=3), recover=Count(m=2, n=2), missing="keep")
    rows = [
        [cell.strip() for cell in line.strip("|\n ").split("|")][1:]
        for line in (Path(__file__).parents[2] / "docs" / "explanation" / "evaluation.md")
        .read_text("utf-8")
        .splitlines()
        if line.startswith(("| value |", "| state |"))
    ]
    values = [None if cell == "–" else float(cell) for cell in rows[0]]
    changes = dict(outcome(used, values))
    states, state = [], None
    for slot in range(len(values)):
        state = changes.get(slot, state)
        states.append(state or "ok")
    assert states == rows[1]
