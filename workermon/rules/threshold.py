"""Pure judgement: a rule folded over the expected slots of a metric, in order of their time.

A slot is one period of a metric, ``floor(at / period)``. Each level of a rule (warning, critical) is latched when at
least ``m`` of the last ``n`` counted slots breach it, and unlatched when it does not fire and enough slots are clear
of it; the severity is the highest level that is latched. ``docs/explanation/evaluation.md`` explains it to users.

Nothing here knows the time of day but ``no_data``, which is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from workermon.models import SEVERITIES, Datapoint, Rule, RuleState, Severity, SeverityChange, Transition
from workermon.rules import flapping

_BITS: dict[Severity, int] = {"warning": 1, "critical": 2}
_SEVERITY_OF: tuple[Severity | None, ...] = (None, "warning", "critical", "critical")


class _Level(NamedTuple):
    """One level of a rule, as the loop needs it."""

    bit: int
    threshold: float
    clear: float


class _Rule(NamedTuple):
    """A rule as the loop needs it: plain numbers, no models."""

    levels: tuple[_Level, ...]
    rising: bool
    m: int
    n: int
    recover_m: int
    recover_n: int
    keep: bool
    breach: bool


class _Turned(NamedTuple):
    """A slot at which something was latched or unlatched; the windows are newest first, ``None`` is absent."""

    slot: int
    at: int
    before: int
    after: int
    window: Sequence[Datapoint | None]
    recover: Sequence[Datapoint | None]


class Level(NamedTuple):
    """One level of a rule as it stands: how many of the counted slots breach it, and how many are clear of it."""

    severity: Severity
    threshold: float
    clear: float
    latched: bool
    breaching: int
    cleared: int


class Look(NamedTuple):
    """What a rule looks at where it is judged up to: the counted slots, newest last, and those without a datapoint.

    ``counted`` and ``recovering`` are how many slots the two windows hold; ``absent`` are times of slots.
    """

    points: tuple[Datapoint, ...]
    absent: tuple[int, ...]
    counted: int
    recovering: int
    levels: tuple[Level, ...]


def look(
    rule: Rule, rule_state: RuleState, points: Sequence[Datapoint], *, period: int, expected_from: int
) -> Look | None:
    """Return what the rule looks at in its present state, ``None`` where nothing was judged yet; see ``judge``."""
    if rule_state.cursor is None:
        return None
    if rule_state.start is not None:
        expected_from = max(expected_from, rule_state.start)
    plain, last = _plain(rule), rule_state.cursor // period
    values = {slot: point for slot, point in _by_slot(points, period, rule_state.start).items() if slot <= last}
    window = _window(plain, values, last, plain.n, expected_from, period)
    recover = _window(plain, values, last, plain.recover_n, expected_from, period)
    longer = max(window, recover, key=len)
    used = tuple(point for point in reversed(longer) if point is not None)
    reach = max(plain.n, plain.recover_n)
    oldest = used[0].at // period if len(longer) == reach and used else last - 2 * reach + 1
    begun = rule_state.start or 0
    absent = [slot * period for slot in range(oldest, last + 1) if slot not in values and slot * period >= begun]
    latched = rule_state.trail[-1].latched if rule_state.trail else 0
    levels = tuple(
        Level(
            "critical" if level.bit == _BITS["critical"] else "warning",
            level.threshold,
            level.clear,
            bool(latched & level.bit),
            _breaching(plain, level, window),
            _clear(plain, level, recover),
        )
        for level in plain.levels
    )
    return Look(used, tuple(absent), len(window), len(recover), levels)


def judge(
    rule: Rule,
    rule_state: RuleState,
    points: Sequence[Datapoint],
    horizon: int,
    *,
    period: int,
    expected_from: int,
    changed_from: int | None,
    lateness: int,
) -> tuple[RuleState, tuple[Transition, ...]]:
    """Walk the slots after the state's cursor; return the new state and what turned, in order of time.

    What a revised past withdraws comes before that, newest first.

    ``points`` reach at least ``lookback(rule)`` slots before the first slot that is judged. ``horizon`` is the time
    of the newest slot that can have come: an absent one after it is unknown, not absent. Slots before
    ``expected_from`` that have no datapoint are not expected. ``changed_from``, the earliest datapoint written since
    the last judgement, has what it may have changed judged again, up to one ``lateness`` before the cursor (less far
    where the trail was trimmed by a shorter one); what comes out differently there is a correction. All times,
    ``period`` and ``lateness`` in seconds.
    """
    if rule_state.cursor is not None and (rule_state.metric, rule_state.period) != (rule.metric, period):
        rule_state = rule_state.model_copy(
            update={
                "cursor": None,
                "metric": rule.metric,
                "period": period,
                "start": rule_state.cursor + (rule_state.period or period),
                "trail": rule_state.trail[-1:],
                "damping": flapping.settled(rule, rule_state.damping, rule_state.trail[:-1]),
            }
        )
    if rule_state.start is not None:
        expected_from = max(expected_from, rule_state.start)
    values = _by_slot(points, period, rule_state.start)
    newest = max(values, default=None)
    last = horizon // period if newest is None else max(horizon // period, newest)

    if rule_state.cursor is None:
        first = -(-expected_from // period)
        if values:
            first = min(first, min(values))
        known = first - 1
    else:
        known = rule_state.cursor // period
        first = known + 1
        if changed_from is not None and changed_from // period <= known:
            first = max(changed_from // period, _reach(known, period, lateness))
            if rule_state.trimmed and rule_state.trail:  # what it was before the trail is not known any more
                first = max(first, rule_state.trail[0].at // period + 1)
            if rule_state.start is not None:
                first = max(first, -(-rule_state.start // period))
    last = max(last, known)
    if first > last:
        return rule_state, ()

    kept = [turn for turn in rule_state.trail if turn.at // period < first]
    plain = _plain(rule)
    turned = _fold(plain, values, first, last, expected_from, kept[-1].latched if kept else 0, period)
    turns = kept + [SeverityChange(at, _SEVERITY_OF[after], after) for _, at, _, after, _, _ in turned]
    trail = _trimmed(turns, last, period, lateness)
    state = RuleState(
        cursor=last * period,
        trail=trail,
        trimmed=rule_state.trimmed or len(trail) < len(turns),
        metric=rule.metric,
        period=period,
        start=rule_state.start,
        damping=flapping.settled(rule, rule_state.damping, turns[: len(turns) - len(trail)]),
    )
    if not turned and len(kept) == len(rule_state.trail):
        return state, ()
    past = _steps(rule_state.trail, len(kept))
    flaps = flapping.among(rule, rule_state.damping, turns)
    transitions: list[Transition] = []
    seen = set()
    for found in turned:
        before, after = _SEVERITY_OF[found.before], _SEVERITY_OF[found.after]
        if before == after:
            continue
        seen.add((found.at, before, after))
        if (found.at, before, after) not in past:
            transition = _transition(rule, plain, found, before, after, correction=found.slot <= known)
            transitions.append(transition.model_copy(update={"damped": True}) if found.at in flaps else transition)
    withdrawn = [
        _withdrawn(at, before, after, values.get(at // period))
        for at, before, after in reversed(past)
        if (at, before, after) not in seen
    ]
    return state, (*withdrawn, *transitions)


def lookback(rule: Rule) -> int:
    """Return how many slots before a slot its judgement may look at, itself included."""
    return 2 * max(rule.breach.n, rule.recover.n)


def reread_from(
    rule_state: RuleState, rule: Rule, changed_from: int | None, *, period: int, lateness: int
) -> int | None:
    """Return from what time on ``judge`` needs datapoints; ``None`` where the fold has not begun."""
    if rule_state.cursor is None or (rule_state.metric, rule_state.period) != (rule.metric, period):
        return None
    first = rule_state.cursor // period + 1
    if changed_from is not None:
        first = min(first, max(changed_from // period, _reach(first - 1, period, lateness)))
    return (first - lookback(rule)) * period


def no_data(
    rule: Rule,
    rule_state: RuleState,
    *,
    succeeded_at: float | None,
    added_at: float,
    monitoring_since: float | None,
    interval: int,
    now: float,
) -> tuple[RuleState, tuple[Transition, ...]]:
    """Judge the absence of successful collections; return the new state and what turned.

    It fires ``rule.intervals`` intervals (of ``interval`` seconds) after the latest of the last success, the
    worker's addition, the state's ``start`` and the monitor's own start, at exactly that time; it is over with the
    next success. While the monitor's start is unknown (``None``) nothing fires.
    """
    patience = rule.intervals * interval
    state, transitions = rule_state, []
    if state.severity is not None and succeeded_at is not None and succeeded_at > state.trail[-1].at - patience:
        at = max(math.floor(succeeded_at), state.trail[-1].at)
        reason = "a collection succeeded"
        transitions.append(Transition(at=at, before=state.severity, after=None, reason=reason))
        state = state.model_copy(update={"trail": (SeverityChange(at, None, 0),)})
    if state.severity is None and monitoring_since is not None:
        at = math.ceil(max(succeeded_at or added_at, added_at, monitoring_since, state.start or 0) + patience)
        if now > at:
            reason = f"no successful collection for {rule.intervals} intervals ({patience} s)"
            transitions.append(Transition(at=at, before=None, after=rule.severity, reason=reason))
            state = state.model_copy(update={"trail": (SeverityChange(at, rule.severity, _BITS[rule.severity]),)})
    if transitions and rule.flapping is not None:
        # Nothing of the past is revised here, so all turns are settled at once.
        turns = [SeverityChange(one.at, one.after, 0) for one in transitions]
        flaps = flapping.among(rule, rule_state.damping, turns)
        transitions = [one.model_copy(update={"damped": one.at in flaps}) for one in transitions]
        state = state.model_copy(update={"damping": flapping.settled(rule, rule_state.damping, turns)})
    return state, tuple(transitions)


#: Rules as the loop needs them, by identity: a configuration's are judged thousands of times.
_PLAIN: dict[int, tuple[Rule, _Rule]] = {}
#: So many are kept; more than any configuration has.
_KEPT = 2000


def _plain(rule: Rule) -> _Rule:
    """Return a rule as the loop needs it, made once."""
    kept = _PLAIN.get(id(rule))
    if kept is None or kept[0] is not rule:
        if len(_PLAIN) >= _KEPT:
            _PLAIN.clear()
        kept = _PLAIN[id(rule)] = rule, _made_plain(rule)
    return kept[1]


def _made_plain(rule: Rule) -> _Rule:
    limits = rule.above or rule.below
    levels = []
    for severity in SEVERITIES:
        threshold = limits.of(severity) if limits else None
        if threshold is not None:
            clear = rule.clear.of(severity) if rule.clear else None
            levels.append(_Level(_BITS[severity], threshold, threshold if clear is None else clear))
    return _Rule(
        tuple(levels),
        rule.above is not None,
        rule.breach.m,
        rule.breach.n,
        rule.recover.m,
        rule.recover.n,
        rule.missing == "keep",
        rule.missing == "breach",
    )


def _by_slot(points: Sequence[Datapoint], period: int, start: int | None) -> dict[int, Datapoint]:
    """Return one datapoint a slot; what is no number counts as absent."""
    values: dict[int, Datapoint] = {}
    for point in points:
        if (start is not None and point.at < start) or not math.isfinite(point.value):
            continue
        slot = point.at // period
        if slot not in values or point.at >= values[slot].at:
            values[slot] = point
    return values


def _reach(cursor: int, period: int, lateness: int) -> int:
    """Return the earliest slot that may be judged again when ``cursor`` is the last slot judged."""
    return (cursor * period - lateness) // period


def _trimmed(trail: list[SeverityChange], cursor: int, period: int, lateness: int) -> tuple[SeverityChange, ...]:
    """Leave out the turns that nothing looks at any more, all but the last of those out of reach."""
    reach = _reach(cursor, period, lateness)
    while len(trail) > 1 and trail[1].at // period < reach:
        trail = trail[1:]
    return tuple(trail)


def _fold(
    rule: _Rule, values: dict[int, Datapoint], first: int, last: int, expected: int, latched: int, period: int
) -> list[_Turned]:
    """Walk the slots from ``first`` to ``last``; nothing but numbers and tuples, for this is the hot path."""
    turned = []
    longest = 2 * max(rule.n, rule.recover_n)
    absent = 0
    slot = first
    present = iter(sorted(slot for slot in values if slot >= first))
    upcoming = next(present, None)
    while slot <= last:
        while upcoming is not None and upcoming < slot:
            upcoming = next(present, None)
        point = values.get(slot)
        if point is None:
            # Nothing can turn here: the slot counts for nothing, or the windows hold nothing else than such slots.
            if rule.keep or slot * period < expected or absent > longest:
                ahead = last + 1 if upcoming is None else upcoming
                if not rule.keep and slot * period < expected:
                    ahead = min(ahead, -(-expected // period))
                slot = ahead
                continue
            absent += 1
        else:
            absent = 0
        window = _window(rule, values, slot, rule.n, expected, period)
        recover = _window(rule, values, slot, rule.recover_n, expected, period) if latched else ()
        after = 0
        for level in rule.levels:
            if _breaching(rule, level, window) >= rule.m or (
                latched & level.bit and _clear(rule, level, recover) < rule.recover_m
            ):
                after |= level.bit
        if after != latched:
            turned.append(_Turned(slot, slot * period if point is None else point.at, latched, after, window, recover))
            latched = after
        slot += 1
    return turned


def _window(
    rule: _Rule, values: dict[int, Datapoint], slot: int, n: int, expected: int, period: int
) -> list[Datapoint | None]:
    """Return the last ``n`` slots that count, newest first, looking back at most ``2 n`` slots in all."""
    counted: list[Datapoint | None] = []
    for place in range(slot, slot - 2 * n, -1):
        point = values.get(place)
        if point is None and (rule.keep or place * period < expected):
            continue
        counted.append(point)
        if len(counted) == n:
            break
    return counted


def _breaching(rule: _Rule, level: _Level, window: Sequence[Datapoint | None]) -> int:
    found = 0
    for point in window:
        if point is None:
            found += rule.breach
        elif rule.rising:
            found += point.value > level.threshold
        else:
            found += point.value < level.threshold
    return found


def _clear(rule: _Rule, level: _Level, window: Sequence[Datapoint | None]) -> int:
    found = 0
    for point in window:
        if point is None:
            found += not rule.breach
        elif rule.rising:
            found += point.value <= level.clear
        else:
            found += point.value >= level.clear
    return found


def _steps(trail: Sequence[SeverityChange], begin: int) -> list[tuple[int, Severity | None, Severity | None]]:
    """Return the changes of severity from the turn at ``begin`` on, as ``(at, before, after)``."""
    before = trail[begin - 1].severity if begin else None
    steps = []
    for turn in trail[begin:]:
        if turn.severity != before:
            steps.append((turn.at, before, turn.severity))
        before = turn.severity
    return steps


def _transition(
    rule: Rule, plain: _Rule, found: _Turned, before: Severity | None, after: Severity | None, *, correction: bool
) -> Transition:
    """Return the transition of a slot at which the severity changed, with the level and window that decided it."""
    worse = found.after > found.before
    if after is None:  # what held out longest decided: the least severe level that was latched
        level = next((level for level in plain.levels if found.before & level.bit), None)
    else:
        rule_state = after if worse else before
        level = next((level for level in plain.levels if rule_state and level.bit == _BITS[rule_state]), None)
    window = found.window if worse else found.recover
    point = window[0] if window and window[0] is not None and window[0].at == found.at else None
    side = "above" if plain.rising else "below"
    if level is None:
        threshold, count, reason = None, None, "the rule no longer has this level"
    else:
        number = _breaching(plain, level, window) if worse else _clear(plain, level, window)
        count = f"{number} of {len(window)}"
        reason = f"{count} values {'' if worse else 'not '}{side} {level.threshold if worse else level.clear:.15g}"
        absent = sum(point is None for point in window)
        if absent:
            reason += f", {absent} absent (missing = {rule.missing})"
        threshold = level.threshold if worse else level.clear
    if not worse and after:
        threshold = next(level.threshold for level in plain.levels if level.bit == _BITS[after])
    return Transition(
        at=found.at,
        before=before,
        after=after,
        value=None if point is None else point.value,
        threshold=threshold,
        points=tuple(point for point in reversed(window) if point is not None),
        count=count,
        correction=correction,
        reason=reason + (", seen late: a datapoint came late or was revised" if correction else ""),
    )


def _withdrawn(at: int, before: Severity | None, after: Severity | None, point: Datapoint | None) -> Transition:
    """Return the transition back for one from ``before`` to ``after`` that a revised past no longer shows."""
    return Transition(
        at=at,
        before=after,
        after=before,
        value=None if point is None else point.value,
        correction=True,
        reason=f"a datapoint came late or was revised: it did not turn from {before or 'well'} to {after or 'well'}",
    )
