"""The short ways for evaluations in which nothing happens have the same results as the long ones."""

from __future__ import annotations

import math

import hypothesis
import pytest
from hypothesis import strategies

from workermon import models, ports, rules
from workermon.alerts import lifecycle, verdict
from workermon.rules import breaches, slots, threshold

#: The begin of every series: a multiple of the period.
T = 1_700_000_040
PERIOD = 60
#: Values of a metric with thresholds at 80 and 90, and ``None`` for an absent slot.
VALUES = strategies.sampled_from([20.0, 79.9, 80.0, 80.1, 95.0, None, math.inf, -math.inf, math.nan])
NUMBERS = strategies.integers(0, 30)


def limits_of(*, rising: bool, count: tuple[int, int], missing: str) -> breaches.Limits:
    """Return the limits of a rule with thresholds at 80 and 90, or at 80 and 70 from above."""
    numbers = models.Levels(warning=80.0, critical=90.0 if rising else 70.0)
    m, n = count
    levels = breaches.levels_of(numbers, None)
    return breaches.Limits(levels, rising, m, n, 1, 2, "keep" if missing == "keep" else "ok")


def walk_of(values: list[float | None], until: int, changed_from: int | None, read_from: int = 0) -> slots.Walk:
    """Return a walk up to a slot over the values of a series; the first ``read_from`` datapoints are not read."""
    points = [models.Datapoint(T + place * PERIOD, value) for place, value in enumerate(values) if value is not None]
    return slots.Walk(
        metric="cpu",
        points=points[read_from:],
        period=PERIOD,
        horizon=T + until * PERIOD,
        expected_from=T,
        changed_from=None if changed_from is None else T + changed_from * PERIOD,
    )


RULE = threshold.KIND.rule(name="r", metric="cpu", above=models.Levels(warning=80.0))


@hypothesis.given(
    before=strategies.lists(VALUES, max_size=20),
    after=strategies.lists(VALUES, max_size=20),
    until=NUMBERS,
    read_from=NUMBERS,
    changed_from=strategies.none() | NUMBERS,
    rising=strategies.booleans(),
    count=strategies.sampled_from([(1, 1), (2, 2), (2, 3)]),
    missing=strategies.sampled_from(["keep", "ok"]),
    start=strategies.sampled_from([None, T, T + 5 * PERIOD]),
)
def test_a_calm_walk_ends_in_the_state_of_a_full_walk(
    before: list[float | None],
    after: list[float | None],
    until: int,
    read_from: int,
    changed_from: int | None,
    rising: bool,
    count: tuple[int, int],
    missing: str,
    start: int | None,
) -> None:
    """Late, absent and infinite values, a horizon before the cursor, and rules that begin later included."""
    limits = limits_of(rising=rising, count=count, missing=missing)
    state, _ = slots.judge(RULE, limits, models.RuleState(start=start), walk_of(before, len(before), None))
    walk = walk_of([*before, *after], until, changed_from, read_from)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "calm_state", lambda *_: None)
        full = slots.judge(RULE, limits, state, walk)
    assert slots.judge(RULE, limits, state, walk) == full


@pytest.mark.parametrize(
    ("value", "missing", "is_calm"), [(20.0, "keep", True), (80.0, "ok", True), (80.1, "ok", False)]
)
def test_values_beyond_no_threshold_make_a_walk_calm(value: float, missing: str, is_calm: bool) -> None:
    """The comparison is the rule's own: strict."""
    limits = limits_of(rising=True, count=(1, 1), missing=missing)
    state, _ = slots.judge(RULE, limits, models.RuleState(start=T), walk_of([20.0], 0, None))
    assert (slots.calm_state(RULE, limits, state, walk_of([20.0, value], 1, None)) is not None) is is_calm


#: Fields of an alert that keep it from being at rest, or do not.
FIELDS = strategies.fixed_dictionaries(
    {},
    optional={
        "since": strategies.just(T),
        "condition_since": strategies.just(T),
        "notified_severity": strategies.just("warning"),
        "silenced_by": strategies.just("s"),
        "inhibited_by": strategies.just("other"),
        "flapping": strategies.just(True),
        "version": strategies.just(3),
        "channels": strategies.just(("log",)),
    },
)
STATES = strategies.sampled_from(
    [
        models.RuleState(cursor=T, metric="cpu", period=60),
        models.RuleState(cursor=T + 60, metric="cpu", period=60, trail=(models.SeverityChange(T, None, 0),)),
        models.RuleState(cursor=T + 60, metric="cpu", period=60, trail=(models.SeverityChange(T, "warning", 1),)),
    ]
)


@hypothesis.given(FIELDS, STATES, STATES, strategies.booleans())
def test_an_alert_that_stays_at_rest_is_written_as_ever(
    fields: dict[str, object], before: models.RuleState, after: models.RuleState, flaps: bool
) -> None:
    """And without a transition."""
    rule = RULE.model_copy(update={"flapping": models.Flapping(turns=3, within=600)}) if flaps else RULE
    alert = models.Alert(rule="r", rule_state=before).model_copy(update=fields)
    worker = models.Worker(id="i-0abc1234", name="w", region="us-east-1", added_at=T, incarnation="1")
    basis = ports.Basis(
        models.worker_subject(worker), ports.Record(worker, models.Condition(), {}, 0.0, None, 1), {"r": alert}
    )
    short, long = (verdict.VerdictBuilder(basis, T + 120.0, kinds=rules.KINDS) for _ in range(2))
    if lifecycle.continue_at_rest(short, rule, alert, after):
        lifecycle.apply(long, lifecycle.RuleOutcome(rule=rule, alert=alert, rule_state=after))
        assert short.alerts == long.alerts
        assert long.transitions == []
    else:
        assert short.alerts == {}
