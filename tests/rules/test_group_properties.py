"""Rules over groups against a plain model, under any order, grouping, loss and lateness of wake-ups and datapoints."""

from __future__ import annotations

import math
import statistics
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.grouping import CPU, MINUTE, T0, Pools, rule, worker_id
from workermon import models, views
from workermon.rules import learned_period

SLOTS = 6
SIZE = 4
GROUP = "group:pool=a"
CONDITION: dict[str, Any] = {
    "above": {"warning": 80.0, "critical": 90.0},
    "breach": {"m": 1, "n": 1},
    "recover": {"m": 1, "n": 1},
}

#: The value of each worker in each slot; ``None`` never comes.
VALUES = st.lists(
    st.lists(st.sampled_from([None, 20.0, 85.0, 95.0]), min_size=SLOTS, max_size=SLOTS), min_size=SIZE, max_size=SIZE
)
#: What happens: a worker is collected up to a slot, with the datapoints of these slots only; then these are evaluated.
STEPS = st.lists(
    st.tuples(
        st.integers(0, SIZE - 1),
        st.integers(1, SLOTS),
        st.sets(st.integers(1, SLOTS)),
        st.sets(st.sampled_from([*map(worker_id, range(SIZE)), GROUP])),
    ),
    max_size=14,
)
ASKED = st.sampled_from(
    [
        {"count": models.Members(m=1, n=4)},
        {"count": models.Members(m=2, n=4)},
        {"count": models.Members(m=3, n=4)},
        {"count": None, "share": 0.3},
        {"count": None, "share": 0.75},
    ]
)


def at(slot: int) -> int:
    """Return the time of a slot, the first is 1."""
    return T0 + slot * MINUTE


def happened(pools: Pools, values: list[list[float | None]], steps: list[Any]) -> None:
    """Apply events in any order and with any loss. In the end everything has arrived and is evaluated."""
    reached = [0] * SIZE
    for number, upto, slots, evaluated in steps:
        reached[number] = max(reached[number], upto)
        arrived = {
            at(slot): value for slot in slots if slot <= upto and (value := values[number][slot - 1]) is not None
        }
        pools.collected(number, at(reached[number] + 1), arrived)
        pools.evaluate(*sorted(evaluated))
    for number in range(SIZE):
        arrived = {at(slot): value for slot, value in enumerate(values[number], 1) if value is not None}
        pools.collected(number, at(SLOTS + 1), arrived)
    for _ in range(3):
        pools.evaluate()
    assert pools.samples.pending(pools.clock(), 100) == []


def counted(values: list[list[float | None]], rule_keys: dict[str, Any]) -> list[tuple[int, str | None]]:
    """Go through the slots one by one: an absent one keeps the worker's state."""
    last_values, severity, changes = [0.0] * SIZE, None, list[tuple[int, str | None]]()
    count, share = rule_keys["count"], rule_keys.get("share") or 0.0
    needed = math.ceil(share * SIZE) if count is None else count.m
    for slot in range(1, SLOTS + 1):
        now = [row[slot - 1] for row in values]
        last_values = [before if value is None else value for before, value in zip(last_values, now, strict=True)]
        after = None
        for name, threshold in (("warning", 80.0), ("critical", 90.0)):
            if sum(value > threshold for value in last_values) >= needed:
                after = name
        if after != severity:
            changes.append((at(slot), after))
        severity = after
    return changes


@examples(60)
@given(values=VALUES, steps=STEPS, rule_keys=ASKED)
def test_how_many_hold_the_condition(
    values: list[list[float | None]], steps: list[Any], rule_keys: dict[str, Any]
) -> None:
    """In any order the result of each slot equals a plain count, and the notified state is the present."""
    pools = Pools(rule(condition=CONDITION, **rule_keys), lateness=models.DAY)
    for number in range(SIZE):
        pools.add(number)
    happened(pools, values, steps)
    basis = pools.alerts.load_groups([GROUP])[GROUP]
    alert = basis.alerts["pool-hot"]
    expected = counted(values, rule_keys)
    assert [(change.at, change.severity) for change in alert.rule_state.trail] == expected
    assert alert.rule_state.cursor == at(SLOTS + 1) - 1
    present = expected[-1][1] if expected else None
    assert alert.notified_severity == present
    assert bool(pools.alerts.open()) == (present is not None)
    assert {entry.subject for entry in pools.alerts.history()} <= {GROUP}


def aggregated(values: list[list[float | None]], name: str) -> list[tuple[int, str | None]]:
    """Go through the slots one by one, over the values that exist."""
    severity, changes = None, list[tuple[int, str | None]]()
    for slot in range(1, SLOTS + 1):
        present = sorted(value for row in values if (value := row[slot - 1]) is not None)
        if not present:
            continue
        every: dict[str, float] = {
            "avg": statistics.fmean(present),
            "sum": sum(present),
            "max": present[-1],
            "p95": present[math.ceil(0.95 * len(present)) - 1],
        }
        value = every[name]
        after = "critical" if value > 90 else "warning" if value > 80 else None
        if after != severity:
            changes.append((at(slot), after))
        severity = after
    return changes


@examples(60)
# A member that is first collected after the group was evaluated is not known up to there.
@example(
    values=[[None, 85.0] + [None] * 4, [None] * 6, [20.0] + [None] * 5, [None] * 6],
    steps=[(0, 2, {1, 2}, set()), (2, 1, {1}, set())],
    name="avg",
)
@given(values=VALUES, steps=STEPS, name=st.sampled_from(["avg", "sum", "max", "p95"]))
def test_what_the_values_come_to(values: list[list[float | None]], steps: list[Any], name: str) -> None:
    """In any order each slot has the aggregate of all its values."""
    pools = Pools(rule(condition=CONDITION, count=None, aggregate=name), lateness=models.DAY)
    for number in range(SIZE):
        pools.add(number)
    happened(pools, values, steps)
    alert = pools.alerts.load_groups([GROUP])[GROUP].alerts["pool-hot"]
    expected = aggregated(values, name)
    assert [(change.at, change.severity) for change in alert.rule_state.trail] == expected
    assert alert.notified_severity == (expected[-1][1] if expected else None)
    assert alert.rule_state.metric == CPU


def episodes(changes: list[tuple[int, str | None]]) -> list[tuple[int, int | None]]:
    """Return from when until when something fired."""
    spans: list[tuple[int, int | None]] = []
    for when, severity in changes:
        if severity is not None and (not spans or spans[-1][1] is not None):
            spans.append((when, None))
        elif severity is None and spans:
            spans[-1] = (spans[-1][0], when)
    return spans


@examples(40)
@given(values=VALUES, drawn_keys=st.one_of(ASKED, st.sampled_from(["avg", "sum", "max", "p95"])))
def test_a_backtest_of_the_ledger_says_the_same(values: list[list[float | None]], drawn_keys: Any) -> None:
    """What would have fired is what a plain loop over the recorded values says."""
    rule_keys: dict[str, Any] = drawn_keys if isinstance(drawn_keys, dict) else {"count": None, "aggregate": drawn_keys}
    pools = Pools(rule(condition=CONDITION, **rule_keys), lateness=models.DAY)
    for number in range(SIZE):
        pools.add(number)
    # Every worker has a first value that is well, because what was before its datapoints is not known.
    for number in range(SIZE):
        arrived = {at(slot): value for slot, value in enumerate(values[number], 1) if value is not None}
        points = tuple(models.Datapoint(*point) for point in ({at(0): 20.0} | arrived).items())
        # Of a recording, datapoints that come each second minute are those of a metric with that period.
        assume(learned_period.of_recorded(models.Series(MINUTE, points)).period == MINUTE)
        pools.collected(number, at(SLOTS + 1), dict(points))
    configuration = pools.configurations.load()
    records = list(pools.workers.every())
    [replay] = pools.get(views.LedgerBacktest).replay(records, configuration.rules[0], configuration)
    plain = counted(values, rule_keys) if isinstance(drawn_keys, dict) else aggregated(values, drawn_keys)
    assert replay.worker is not None
    assert (replay.worker.id, replay.worker.name) == (GROUP, "pool=a")
    assert [(episode.begin, episode.end) for episode in replay.episodes] == episodes(plain)


#: In which order workers are collected, each up to a slot with all that it has, and who is evaluated then.
ON_TIME = st.lists(
    st.tuples(
        st.integers(0, SIZE - 1),
        st.integers(1, SLOTS),
        st.sets(st.sampled_from([*map(worker_id, range(SIZE)), GROUP])),
    ),
    max_size=14,
)


def first_known(values: list[list[float]], rule_keys: dict[str, Any]) -> set[tuple[int, str | None]]:
    """Return the result for each slot if all of it is known."""
    if rule_keys.get("aggregate") is not None:
        return set(aggregated([[*row] for row in values], rule_keys["aggregate"]))
    return set(counted([[*row] for row in values], rule_keys))


@examples(40)
@given(
    values=st.lists(
        st.lists(st.sampled_from([20.0, 85.0, 95.0]), min_size=SLOTS, max_size=SLOTS), min_size=SIZE, max_size=SIZE
    ),
    steps=ON_TIME,
    rule_keys=st.sampled_from(
        [
            {"count": None, "share": 0.3},
            {"count": None, "share": 0.75},
            {"count": None, "aggregate": "avg"},
            {"count": None, "aggregate": "max"},
        ]
    ),
)
def test_nothing_is_notified_of_a_part_of_a_new_group(
    values: list[list[float]], steps: list[Any], rule_keys: dict[str, Any]
) -> None:
    """In any order of evaluation a rule fires only if it fires with all members' values."""
    pools = Pools(rule(condition=CONDITION, **rule_keys), lateness=models.DAY)
    for number in range(SIZE):
        pools.add(number)
    reached = [0] * SIZE
    for number, upto, evaluated in [*steps, *((number, SLOTS, set[str]()) for number in range(SIZE))]:
        reached[number] = max(reached[number], upto)
        arrived = {at(slot): values[number][slot - 1] for slot in range(1, reached[number] + 1)}
        pools.collected(number, at(reached[number] + 1), arrived)
        pools.evaluate(*sorted(evaluated))
    for _ in range(3):
        pools.evaluate()
    expected = first_known(values, rule_keys)
    entries = [entry for entry in pools.alerts.history() if entry.subject == GROUP]
    recorded = [(entry.transition.at, entry.transition.after, entry.transition.correction) for entry in entries]
    assert {(at, after, False) for at, after in expected} == set(recorded)
