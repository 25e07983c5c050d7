"""The kind ``when``: an expression with and, or, not over other rules of the same worker is true.

It uses the times at which those rules changed, not the time of evaluation. So it is a pure fold like theirs: its result
for a time is known once the rules that decide it are evaluated up to that time. If one of them is corrected, so is this
rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from workermon import models
from workermon.models import SeverityChange
from workermon.rules import flapping, kind, latches, parsing, section, slots, wording
from workermon.rules.horizon import Horizon
from workermon.rules.operands import OperandState
from workermon.rules.when_expression import MAX_LENGTH, WhenExpression


class WhenSection(section.RuleSection):
    """The keys of a ``when`` rule."""

    when: Annotated[str, Field(max_length=MAX_LENGTH)]
    severity: models.Severity = "critical"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """The expression, as the file has it."""

    when: str


class OperandDetails(models.Frozen):
    """A rule of the expression: its state, since when (RFC 3339), and until when it is known.

    ``fires`` is the value used in the expression; null while unknown at the cursor. ``not_applied`` is why the rule
    does not apply.
    """

    rule: str
    state: str
    since: str | None
    known_until: str | None
    fires: bool | None
    not_applied: str | None


class Details(models.Frozen):
    """The rules of the expression, and whether it holds at the cursor."""

    holds: bool | None
    operands: tuple[OperandDetails, ...]


class When(kind.Kind[Options]):
    """An expression over other rules of the same worker is true."""

    name = "when"
    needs_metric = False
    section_type = WhenSection
    options_type = Options
    # It depends on rules that are evaluated while the worker is stopped, too. Others count as not firing then.
    ends_with = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._expression = kind.ByRule(lambda rule: WhenExpression.parse(self.options(rule).when))

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether the keys of a [[rules]] ask for this kind."""
        return "when" in raw_rule

    @property
    def chosen_by(self) -> str:
        """Return how the file asks for this kind, for an error."""
        return "a rule with when"

    def parse(self, raw_rule: WhenSection) -> tuple[Options, models.Severity]:
        """Return the expression of a [[rules]]."""
        WhenExpression.parse(raw_rule.when)
        return Options(when=raw_rule.when), raw_rule.severity

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        return {"when": self.options(rule).when, "severity": rule.severity}

    # --- what it needs -----------------------------------------------------------------------------------------------

    def operands(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the names of the rules in the expression."""
        return self._expression(rule).names

    def operand_place(self, rule: models.Rule, name: str) -> tuple[str, int | None]:
        """Return the key and the place in its text that name a rule."""
        return "when", self._expression(rule).offsets[name]

    # --- evaluation --------------------------------------------------------------------------------------------------

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fold the changes of the other rules.

        A different result before the cursor is a correction.
        """
        states = self._operand_states(rule, facts)
        state = _for_series(rule, rule_state, _series(rule, self._expression(rule), states))
        first = _first(state, facts, states)
        unchanged = [change for change in state.trail if change.at < first]
        severity = unchanged[-1].severity if unchanged else None
        changes, last = _walk(rule, self._expression(rule), states, _Begin(first, severity))
        cursor = first - 1 if state.cursor is None else state.cursor
        trail = [*unchanged, *changes]
        nothing_new = state is rule_state and last == cursor and trail == [*state.trail]
        if last < cursor or last < first or nothing_new:
            return rule_state, ()
        until = min([last, *(state.known_until for state in states.values() if state.known_until is not None)])
        recent = slots.trimmed(trail, until, 1, facts.lateness)
        after = state.model_copy(
            update={
                "cursor": last,
                "trail": recent,
                "trimmed": state.trimmed or len(recent) < len(trail),
                "flap_state": flapping.settled(rule, state.flap_state, trail[: len(trail) - len(recent)]),
            }
        )
        return after, _transitions(rule, state, trail, states, _Span(first, cursor, last))

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the expression, and the states of its rules at that time."""
        expression = str(self._expression(rule))
        if transition.withdrawn:
            verdict = "holds" if transition.after else "does not hold"
            return f"{expression} {verdict} after all: {transition.reason}"
        if transition.after is None:
            return f"{expression} no longer holds: {transition.reason}"
        return f"{expression}: {transition.reason}"

    # --- wording -----------------------------------------------------------------------------------------------------

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return the expression."""
        return self.export(rule)

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return the expression in words."""
        return (f"when {self._expression(rule)}", f"severity {rule.severity}")

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the state of each rule of the expression at the cursor, and since when."""
        states, at = self._operand_states(rule, facts), rule_state.cursor
        described = tuple(_operand_details(name, state, at) for name, state in states.items())
        is_true = (
            None
            if at is None
            else self._expression(rule).is_true({reading.rule: reading.fires for reading in described})
        )
        lines = tuple((name, _described(state, _newest(state, at))) for name, state in states.items())
        words = {None: "it is not known yet whether", True: "it holds that", False: "it is not true that"}
        return kind.Explanation(
            f"{words[is_true]} {self._expression(rule)}", Details(holds=is_true, operands=described), lines
        )

    def _operand_states(self, rule: models.Rule, facts: kind.Facts) -> dict[str, OperandState]:
        """Return the known state of each rule of the expression."""
        return {name: facts.states.get(name, OperandState()) for name in self._expression(rule).names}


# --- the fold ----------------------------------------------------------------------------------------------------


class _Begin(NamedTuple):
    """The start of a walk, and the severity just before it."""

    at: int
    severity: models.Severity | None


class _Span(NamedTuple):
    """The first and last second of a walk, and the last that was known before it."""

    first: int
    known_until: int
    last: int


def _series(rule: models.Rule, expression: WhenExpression, states: Mapping[str, OperandState]) -> str:
    """Name what the fold walks. If the name changes, nothing of the past is evaluated again."""
    without = "".join(f", not {name}" for name, state in states.items() if state.not_applied is not None)
    return f"{rule.severity} when {expression}{without}"


def _for_series(rule: models.Rule, rule_state: models.RuleState, series: str) -> models.RuleState:
    """Return the state to continue with. If the rule changed, the fold starts again after the old cursor."""
    if rule_state.metric == series:
        return rule_state
    if rule_state.cursor is None:
        return models.RuleState(start=rule_state.start, metric=series)
    return models.RuleState(
        metric=series,
        start=rule_state.cursor + max(rule_state.period or 1, 1),
        trail=rule_state.trail[-1:],
        flap_state=flapping.settled(rule, rule_state.flap_state, rule_state.trail[:-1]),
    )


def _first(rule_state: models.RuleState, facts: kind.Facts, states: Mapping[str, OperandState]) -> int:
    """Return the first second that can be evaluated, again or for the first time."""
    begin = rule_state.start
    if begin is None:
        since = facts.condition.running_since
        begin = math.ceil(facts.added_at if since is None else since)
    known_from = (state.known_from for state in states.values() if state.not_applied is None)
    first = max([begin, *(at for at in known_from if at is not None)])
    if rule_state.trimmed and rule_state.trail:  # the state before the trail is no longer known
        first = max(first, rule_state.trail[0].at + 1)
    return first


def _walk(
    rule: models.Rule, expression: WhenExpression, states: Mapping[str, OperandState], begin: _Begin
) -> tuple[list[SeverityChange], int]:
    """Return the changes from a second on, and the last second for which it is known whether the expression holds."""
    known_until = [state.known_until for state in states.values() if state.known_until is not None]
    end = max(known_until, default=begin.at if all(state.not_applied for state in states.values()) else begin.at - 1)
    times = {begin.at, *(at + 1 for at in known_until)}
    times |= {change.at for state in states.values() for change in state.changes}
    changes, severity = list[SeverityChange](), begin.severity
    for at in sorted(at for at in times if begin.at <= at <= end):
        is_true = _is_true(expression, states, at)
        if is_true is None:
            return changes, at - 1
        after = rule.severity if is_true else None
        if after != severity:
            changes.append(SeverityChange(at, after, latches.BITS[after]))
            severity = after
    return changes, end


def _is_true(expression: WhenExpression, states: Mapping[str, OperandState], at: int) -> bool | None:
    """Return whether an expression is true at a time; it is false if none of its rules applies."""
    if all(state.not_applied is not None for state in states.values()):
        return False
    return expression.is_true({name: _fires(state, at) for name, state in states.items()})


def _fires(state: OperandState, at: int) -> bool | None:
    if state.not_applied is not None:
        return False
    if state.known_until is None or at > state.known_until:
        return None
    return state.severity(at) is not None


def _transitions(
    rule: models.Rule,
    before: models.RuleState,
    trail: Sequence[SeverityChange],
    states: Mapping[str, OperandState],
    span: _Span,
) -> tuple[models.Transition, ...]:
    """Return the transitions: first those that a correction withdraws, newest first, then the new ones."""
    unchanged = sum(change.at < span.first for change in trail)
    past, present = slots.steps(before.trail, unchanged), slots.steps(trail, unchanged)
    flaps = flapping.among(rule, before.flap_state, trail)
    now = _reason(states, span.last)
    withdrawn = [
        models.Transition(at=at, before=after, after=severity, correction=True, withdrawn=True, reason=now)
        for at, severity, after in reversed(past)
        if (at, severity, after) not in present
    ]
    fresh = [
        models.Transition(
            at=at,
            before=severity,
            after=after,
            correction=at <= span.known_until,
            flapping=at in flaps,
            reason=_reason(states, at) + (", seen late: another rule was corrected" if at <= span.known_until else ""),
        )
        for at, severity, after in present
        if (at, severity, after) not in past
    ]
    return (*withdrawn, *fresh)


# --- wording -----------------------------------------------------------------------------------------------------


def _reason(states: Mapping[str, OperandState], at: int) -> str:
    """Return in words the state of each rule of an expression at a time."""
    return ", ".join(f"{name} {_described(state, at)}" for name, state in states.items())


def _described(state: OperandState, at: int | None) -> str:
    """Return in words the state of a rule at a time, and since when."""
    if state.not_applied is not None:
        return f"counts as not firing: {state.not_applied}"
    if at is None or state.known_until is None:
        return "is not evaluated yet"
    change = next((change for change in reversed(state.changes) if change.at <= at), None)
    if change is None:
        return "ok"
    since = models.rfc3339(change.at) if at - change.at >= models.DAY else wording.time_of_day(change.at)
    return f"{change.severity or 'ok'} since {since}"


def _newest(state: OperandState, at: int | None) -> int | None:
    """Return the time for which a rule is shown: that of the expression, or later if it is known by then."""
    return max((time for time in (at, state.known_until) if time is not None), default=None)


def _operand_details(name: str, state: OperandState, at: int | None) -> OperandDetails:
    last = state.last
    return OperandDetails(
        rule=name,
        state=(last.severity if last else None) or "ok",
        since=None if last is None else models.rfc3339(last.at),
        known_until=wording.time(state.known_until),
        fires=None if at is None else _fires(state, at),
        not_applied=state.not_applied,
    )


KIND = When()
