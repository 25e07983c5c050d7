"""The fold over the slots of a metric: at most one datapoint a slot, walked in order of time.

A slot is one period of a metric, ``floor(at / period)``. ``breaches`` decides which levels of a rule a slot latches or
unlatches. The severity is the highest latched level. ``docs/explanation/evaluation.md`` explains it to users.

Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from workermon.models import (
    LATENESS,
    Datapoint,
    Rule,
    RuleState,
    Severity,
    SeverityChange,
    Transition,
)
from workermon.rules import breaches, flapping, warmup, wording
from workermon.rules.breaches import Level, Limits
from workermon.rules.latches import SEVERITY_OF


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The datapoints of one metric, and which slots of it are expected; all times and durations in seconds.

    ``points`` reach at least ``Limits.lookback`` slots before the first slot that is evaluated. ``horizon`` is the time
    of the newest slot that can have arrived: a later slot without a datapoint is unknown, not absent. ``expected_from``
    is when the worker started running: an earlier slot without a datapoint is not expected. ``changed_from`` is the
    earliest datapoint written since the last evaluation: slots that it may have changed are evaluated again, up to one
    ``lateness`` before the cursor. ``unit`` is that of the values, for the text of a transition.
    """

    metric: str | None
    points: Sequence[Datapoint]
    period: int
    horizon: int
    expected_from: int
    changed_from: int | None = None
    lateness: int = LATENESS
    unit: str = "count"


class View(NamedTuple):
    """The slots that a rule compares at its cursor: the datapoints, newest last, and the absent slots.

    ``counted`` and ``recovering`` are the sizes of the two windows; ``absent`` are times of slots.
    """

    points: tuple[Datapoint, ...]
    absent: tuple[int, ...]
    counted: int
    recovering: int
    levels: tuple[LevelView, ...]


class LevelView(NamedTuple):
    """One level at the cursor: how many of the counted slots breach it, and how many are clear of it."""

    severity: Severity
    threshold: float
    clear: float
    latched: bool
    breaching: int
    cleared: int


class _Change(NamedTuple):
    """A slot at which levels latched or unlatched; the windows are newest first, ``None`` is an absent slot."""

    slot: int
    at: int
    before: int
    after: int
    window: Sequence[Datapoint | None]
    recover: Sequence[Datapoint | None]


class _Grid:
    """Datapoints by slot, and the two windows that look back from a slot."""

    __slots__ = ("expected", "keep", "period", "values")

    def __init__(self, values: dict[int, Datapoint], period: int, expected: int, limits: Limits) -> None:
        self.values, self.period, self.expected = values, period, expected
        self.keep = limits.missing == "keep"

    def window(self, slot: int, size: int) -> list[Datapoint | None]:
        """Return the last ``size`` slots that count, newest first, looking back at most ``2 size`` slots."""
        values, period, keep, expected = self.values, self.period, self.keep, self.expected
        counted: list[Datapoint | None] = []
        for place in range(slot, slot - 2 * size, -1):
            point = values.get(place)
            if point is None and (keep or place * period < expected):
                continue
            counted.append(point)
            if len(counted) == size:
                break
        return counted


def judge(rule: Rule, limits: Limits, rule_state: RuleState, walk: Walk) -> tuple[RuleState, tuple[Transition, ...]]:
    """Walk the slots after the state's cursor; return the new state and the transitions, in order of time.

    Transitions that a revised past withdraws are listed before them, newest first. A different result before the cursor
    is a correction. If a shorter lateness trimmed the trail, less of the past is evaluated again.
    """
    walk = warmup.cut(rule, walk)
    period = walk.period
    rule_state = _for_series(rule, rule_state, walk)
    if (calm := calm_state(rule, limits, rule_state, walk)) is not None:
        return calm, ()
    expected_from = max(walk.expected_from, rule_state.start or walk.expected_from)
    values = by_slot(walk.points, period, rule_state.start)
    first, cursor_slot, last = _range(rule_state, values, walk, expected_from)
    if first > last:
        return rule_state, ()

    unchanged = [change for change in rule_state.trail if change.at // period < first]
    grid = _Grid(values, period, expected_from, limits)
    changes = _fold(limits, grid, first, last, unchanged[-1].latched if unchanged else 0)
    trail = unchanged + [SeverityChange(change.at, SEVERITY_OF[change.after], change.after) for change in changes]
    recent = trimmed(trail, last, period, walk.lateness)
    state = RuleState(
        cursor=last * period,
        trail=recent,
        trimmed=rule_state.trimmed or len(recent) < len(trail),
        metric=walk.metric,
        period=period,
        start=rule_state.start,
        flap_state=flapping.settled(rule, rule_state.flap_state, trail[: len(trail) - len(recent)]),
    )
    if not changes and len(unchanged) == len(rule_state.trail):
        return state, ()
    past = steps(rule_state.trail, len(unchanged))
    flaps = flapping.among(rule, rule_state.flap_state, trail)
    transitions: list[Transition] = []
    kept_steps = set()
    for change in changes:
        before, after = SEVERITY_OF[change.before], SEVERITY_OF[change.after]
        if before == after:
            continue
        step = (change.at, before, after)
        kept_steps.add(step)
        if step not in past:
            transition = _transition(limits, change, walk.unit, correction=change.slot <= cursor_slot)
            transitions.append(transition.model_copy(update={"flapping": True}) if change.at in flaps else transition)
    window = grid.window(last, limits.n)
    withdrawn = [_withdrawn(limits, step, window) for step in reversed(past) if step not in kept_steps]
    return state, (*withdrawn, *(_with_present(change, window) for change in transitions))


def calm_state(rule: Rule, limits: Limits, rule_state: RuleState, walk: Walk) -> RuleState | None:
    """Return the state after a walk on which no value breaches a level and nothing has to be withdrawn.

    ``None``: the slots have to be walked. Most walks are calm, and this takes a fraction of their time.
    """
    if rule_state.trail or rule_state.cursor is None or limits.missing == "breach":
        return None
    least, greatest = breaches.calm_range(limits)
    newest = walk.horizon
    for at, value in walk.points:
        if not least <= value <= greatest:  # a NaN is within no range
            return None
        if at > newest:
            newest = at
    last = newest // walk.period * walk.period
    if last <= rule_state.cursor:
        return rule_state
    return RuleState(
        cursor=last,
        trimmed=rule_state.trimmed,
        metric=walk.metric,
        period=walk.period,
        start=rule_state.start,
        flap_state=flapping.settled(rule, rule_state.flap_state, ()),
    )


def view(rule: Rule, limits: Limits, rule_state: RuleState, walk: Walk) -> View | None:
    """Return the slots that the rule compares at its cursor; ``None`` if no slot was evaluated yet."""
    if rule_state.cursor is None:
        return None
    walk = warmup.cut(rule, walk)
    period, last = walk.period, rule_state.cursor // walk.period
    expected_from = max(walk.expected_from, rule_state.start or walk.expected_from)
    values = {slot: point for slot, point in by_slot(walk.points, period, rule_state.start).items() if slot <= last}
    grid = _Grid(values, period, expected_from, limits)
    window, recover = grid.window(last, limits.n), grid.window(last, limits.recover_n)
    longer = max(window, recover, key=len)
    used = tuple(point for point in reversed(longer) if point is not None)
    reach = max(limits.n, limits.recover_n)
    oldest = used[0].at // period if len(longer) == reach and used else last - 2 * reach + 1
    began = rule_state.start or 0
    absent = [slot * period for slot in range(oldest, last + 1) if slot not in values and slot * period >= began]
    latched = rule_state.trail[-1].latched if rule_state.trail else 0
    level_views = tuple(
        LevelView(
            level.severity,
            level.threshold,
            level.clear,
            bool(latched & level.bit),
            breaches.breaching(limits, level, window),
            breaches.cleared(limits, level, recover),
        )
        for level in limits.levels
    )
    return View(used, tuple(absent), len(window), len(recover), level_views)


def needed_from(rule_state: RuleState, limits: Limits, walk: Walk) -> int | None:
    """Return the time from which ``judge`` needs datapoints; ``None`` if the fold has not begun for this series.

    ``walk`` needs no datapoints here.
    """
    if rule_state.cursor is None or (rule_state.metric, rule_state.period) != (walk.metric, walk.period):
        return None
    first = rule_state.cursor // walk.period + 1
    if walk.changed_from is not None:
        reach = _earliest_slot(first - 1, walk.period, walk.lateness)
        first = min(first, max(walk.changed_from // walk.period, reach))
    return (first - limits.lookback) * walk.period


def by_slot(points: Sequence[Datapoint], period: int, start: int | None) -> dict[int, Datapoint]:
    """Return the newest datapoint of each slot. A value that is not finite counts as absent."""
    values: dict[int, Datapoint] = {}
    for point in points:
        if (start is not None and point.at < start) or not math.isfinite(point.value):
            continue
        slot = point.at // period
        if slot not in values or point.at >= values[slot].at:
            values[slot] = point
    return values


def _for_series(rule: Rule, rule_state: RuleState, walk: Walk) -> RuleState:
    """Return the state to continue with. If metric or period changed, the fold starts again after the old cursor."""
    if rule_state.cursor is None or (rule_state.metric, rule_state.period) == (walk.metric, walk.period):
        return rule_state
    return rule_state.model_copy(
        update={
            "cursor": None,
            "metric": walk.metric,
            "period": walk.period,
            "start": rule_state.cursor + (rule_state.period or walk.period),
            "trail": rule_state.trail[-1:],
            "flap_state": flapping.settled(rule, rule_state.flap_state, rule_state.trail[:-1]),
        }
    )


def _range(rule_state: RuleState, values: dict[int, Datapoint], walk: Walk, expected_from: int) -> tuple[int, int, int]:
    """Return the first slot to evaluate, the last one that was evaluated before, and the last one to evaluate."""
    period = walk.period
    newest = max(values, default=None)
    last = walk.horizon // period if newest is None else max(walk.horizon // period, newest)
    if rule_state.cursor is None:
        first = -(-expected_from // period)
        if values:
            first = min(first, min(values))
        cursor_slot = first - 1
    else:
        cursor_slot = rule_state.cursor // period
        first = cursor_slot + 1
        if walk.changed_from is not None and walk.changed_from // period <= cursor_slot:
            first = max(walk.changed_from // period, _earliest_slot(cursor_slot, period, walk.lateness))
            if rule_state.trimmed and rule_state.trail:  # the state before the trail is no longer known
                first = max(first, rule_state.trail[0].at // period + 1)
            if rule_state.start is not None:
                first = max(first, -(-rule_state.start // period))
    return first, cursor_slot, max(last, cursor_slot)


def _earliest_slot(cursor: int, period: int, lateness: int) -> int:
    """Return the earliest slot that may be evaluated again if ``cursor`` is the last slot evaluated."""
    return (cursor * period - lateness) // period


def trimmed(trail: list[SeverityChange], cursor: int, period: int, lateness: int) -> tuple[SeverityChange, ...]:
    """Drop the changes that are out of reach, except the last of them."""
    reach = _earliest_slot(cursor, period, lateness)
    while len(trail) > 1 and trail[1].at // period < reach:
        trail = trail[1:]
    return tuple(trail)


def _fold(limits: Limits, grid: _Grid, first: int, last: int, latched: int) -> list[_Change]:
    """Walk the slots from ``first`` to ``last``; only numbers and tuples, because this is the hot path."""
    values, period, expected, keep = grid.values, grid.period, grid.expected, grid.keep
    if not latched and limits.missing != "breach" and not breaches.any_breaches(limits, values):
        return []
    changes, absent, slot = [], 0, first
    present = iter(sorted(slot for slot in values if slot >= first))
    upcoming = next(present, None)
    while slot <= last:
        while upcoming is not None and upcoming < slot:
            upcoming = next(present, None)
        point = values.get(slot)
        if point is None:
            # Nothing can change here: the slot does not count, or the windows hold only such slots.
            if keep or slot * period < expected or absent > limits.lookback:
                ahead = last + 1 if upcoming is None else upcoming
                if not keep and slot * period < expected:
                    ahead = min(ahead, -(-expected // period))
                slot = ahead
                continue
            absent += 1
        else:
            absent = 0
        window = grid.window(slot, limits.n)
        recover = grid.window(slot, limits.recover_n) if latched else []
        after = breaches.latched_after(limits, latched, window, recover)
        if after != latched:
            changes.append(_Change(slot, slot * period if point is None else point.at, latched, after, window, recover))
            latched = after
        slot += 1
    return changes


_Step = tuple[int, Severity | None, Severity | None]


def steps(trail: Sequence[SeverityChange], begin: int) -> list[_Step]:
    """Return the changes of severity from the place ``begin`` of the trail on, as ``(at, before, after)``."""
    before = trail[begin - 1].severity if begin else None
    steps = []
    for change in trail[begin:]:
        if change.severity != before:
            steps.append((change.at, before, change.severity))
        before = change.severity
    return steps


def _transition(limits: Limits, change: _Change, unit: str, *, correction: bool) -> Transition:
    """Return the transition of a slot at which the severity changed, with the level and window that decided it."""
    before, after = SEVERITY_OF[change.before], SEVERITY_OF[change.after]
    worse = change.after > change.before
    level = _deciding_level(limits, change)
    window = change.window if worse else change.recover
    point = window[0] if window and window[0] is not None and window[0].at == change.at else None
    began = None if level is None or before is not None else _began(limits, level, change)
    side = "above" if limits.rising else "below"
    if level is None:
        threshold, count, reason = None, None, "the rule no longer has this level"
    else:
        number = breaches.breaching(limits, level, window) if worse else breaches.cleared(limits, level, window)
        count = f"{number} of {len(window)}"
        threshold = level.threshold if worse else level.clear
        reason = f"{count} values {'' if worse else 'not '}{side} {wording.quantity(threshold, unit)}"
        absent = sum(point is None for point in window)
        if absent:
            reason += f", {absent} absent (missing = {limits.missing})"
    if not worse and after:
        threshold = next(level.threshold for level in limits.levels if level.severity == after)
    return Transition(
        at=change.at,
        before=before,
        after=after,
        value=None if point is None else point.value,
        threshold=threshold,
        points=tuple(point for point in reversed(window) if point is not None),
        count=count,
        correction=correction,
        condition_since=began,
        reason=reason + (", seen late: a datapoint came late or was revised" if correction else ""),
    )


def _began(limits: Limits, level: Level, change: _Change) -> int:
    """Return the time of the first datapoint beyond the threshold in the window that latched a level."""
    beyond = [point.at for point in change.window if point is not None and breaches.breaching(limits, level, [point])]
    return min(beyond, default=change.at)


def _deciding_level(limits: Limits, change: _Change) -> Level | None:
    """Return the level that decided a change; ``None`` if the rule no longer has it."""
    before, after = SEVERITY_OF[change.before], SEVERITY_OF[change.after]
    if after is None:  # the level that cleared last decided: the least severe latched one
        return next((level for level in limits.levels if change.before & level.bit), None)
    decided = after if change.after > change.before else before
    return next((level for level in limits.levels if level.severity == decided), None)


def _with_present(transition: Transition, window: Sequence[Datapoint | None]) -> Transition:
    """Return a transition. A correction also has the newest datapoint."""
    return transition.model_copy(update={"present": _newest(window)}) if transition.correction else transition


def _newest(window: Sequence[Datapoint | None]) -> Datapoint | None:
    return next((point for point in window if point is not None), None)


def _withdrawn(limits: Limits, step: _Step, window: Sequence[Datapoint | None]) -> Transition:
    """Return the reverse transition for a change of severity that the revised past no longer shows.

    It has the present ``window``, because nothing decided at its time.
    """
    at, before, after = step
    present, severity = _newest(window), before or after
    level = next((level for level in limits.levels if level.severity == severity), None)
    return Transition(
        at=at,
        before=after,
        after=before,
        value=None if present is None else present.value,
        threshold=None if level is None else level.threshold,
        points=tuple(point for point in reversed(window) if point is not None),
        count=None if level is None else f"{breaches.breaching(limits, level, window)} of {len(window)}",
        correction=True,
        withdrawn=True,
        present=present,
        reason=f"a datapoint came late or was revised: it did not change from {before or 'ok'} to {after or 'ok'}",
    )
