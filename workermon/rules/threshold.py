"""The kind ``threshold``: a metric is above or below a number for M of N slots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from workermon import models
from workermon.rules import check_words, computed, kind, parsing, section, slots, spacing, wording
from workermon.rules.horizon import Horizon


class ThresholdSection(section.RuleSection):
    """The keys of a rule with a threshold."""

    above: section.Levels | None = None
    below: section.Levels | None = None
    breach: parsing.Count = models.Count(m=3, n=3)
    clear: section.Levels | None = None
    recover: parsing.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """``above`` and ``below`` are strict, and one of the two. ``clear`` is the hysteresis, by default the threshold."""

    above: models.Levels | None = None
    below: models.Levels | None = None
    breach: models.Count = models.Count(m=3, n=3)
    clear: models.Levels | None = None
    recover: models.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"

    @property
    def side(self) -> Literal["above", "below"]:
        """Return on which side of the threshold it breaches."""
        return "below" if self.above is None else "above"

    @property
    def thresholds(self) -> models.Levels:
        """Return the thresholds."""
        return self.above or self.below or models.Levels()

    @property
    def limits(self) -> slots.Limits:
        """Return what the fold over slots compares them with."""
        return slots.Limits(
            slots.levels(self.thresholds, self.clear),
            self.above is not None,
            self.breach.m,
            self.breach.n,
            self.recover.m,
            self.recover.n,
            self.missing,
        )


class PointDetails(models.Frozen):
    """A datapoint as JSON has it."""

    at: str
    value: float
    operands: dict[str, float | None] | None = Field(default=None, exclude_if=lambda operands: operands is None)


class MissingDetails(models.Frozen):
    """An absent slot of an expression, and which of its operands are absent; none: it cannot be computed of them."""

    at: str
    operands: tuple[str, ...]


class LevelDetails(models.Frozen):
    """A level as it stands: ``breaching`` of ``of`` counted slots, ``clear_of`` of ``recovering`` ones are clear."""

    severity: models.Severity
    threshold: float
    clear: float
    latched: bool
    breaching: int
    of: int
    clear_of: int
    recovering: int


class Details(models.Frozen):
    """What the rule looked at; durations in seconds, times in RFC 3339."""

    period: int
    delay: int
    asked: str | None
    horizon: str | None
    points: tuple[PointDetails, ...] = ()
    missing: tuple[str, ...] = ()
    missing_operands: tuple[MissingDetails, ...] = Field(default=(), exclude_if=lambda missing: not missing)
    levels: tuple[LevelDetails, ...] = ()
    impaired: tuple[check_words.ImpairmentDetails, ...] = Field(default=(), exclude_if=lambda checks: not checks)


class Threshold(kind.Kind[Options]):
    """A metric is above or below a number for M of N slots."""

    name = "threshold"
    section_type = ThresholdSection
    options_type = Options

    def __init__(self) -> None:
        super().__init__()
        self._limits: kind.ByRule[slots.Limits] = kind.ByRule(lambda rule: self.options(rule).limits)

    # --- the config file ---------------------------------------------------------------------------------------------

    def parse(self, given: ThresholdSection) -> tuple[Options, models.Severity]:
        """Return the thresholds of a [[rules]]."""
        if (given.above is None) == (given.below is None):
            why = "needs a threshold: above or below, one of the two"
            raise section.Mistake("", why, "write above = { critical = 90 }")
        side = "below" if given.above is None else "above"
        levels = given.above or given.below or section.Levels()
        if levels.warning is None and levels.critical is None:
            todo = "write { warning = …, critical = … }, or one of them"
            raise section.Mistake(side, "names no threshold", todo)
        _check_order(levels, side)
        if given.clear is not None:
            _check_clear(given.clear, levels, side)
        return Options(
            above=given.above and given.above.levels(),
            below=given.below and given.below.levels(),
            breach=given.breach,
            clear=given.clear and given.clear.levels(),
            recover=given.recover,
            missing=given.missing,
        ), "critical"

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options, keys = self.options(rule), dict[str, object]()
        for key in ("above", "below", "clear"):
            if (levels := getattr(options, key)) is not None:
                keys[key] = levels.model_dump(exclude_none=True)
        return keys | {"breach": str(options.breach), "recover": str(options.recover), "missing": options.missing}

    # --- evaluation --------------------------------------------------------------------------------------------------

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return from what time on the fold needs datapoints."""
        return slots.needed_from(rule_state, self._limits(rule), _walk(rule, facts, horizon))

    def as_of(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return a state whose fold goes on at the present."""
        return slots.as_of(rule_state, now)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fold the slots after the cursor."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        after, transitions = slots.judge(rule, self._limits(rule), rule_state, _walk(rule, facts, horizon))
        return after, tuple(_with_cause(rule.metric or "", each, facts.condition, horizon) for each in transitions)

    def waits(self, rule: models.Rule, condition: models.Condition) -> bool:
        """Return whether it is about a status check that EC2 has never answered for the worker."""
        metric = rule.metric or ""
        if metric not in models.CHECK_METRICS or metric in condition.latest or self._limits(rule).missing != "keep":
            return False
        return condition.checks is None or condition.checks.value(metric) is None

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> kind.Obstacle | None:
        """Return why too few datapoints come for "M of N"; an absent slot that counts as a breach needs none."""
        horizon, limits = self.horizon(rule, worker, condition, configuration), self._limits(rule)
        if horizon is None or limits.missing == "breach":
            return None
        reach = limits.reach(limits.n)
        for metric in self.metrics(rule):
            gap = spacing.shortest_gap(condition.spacing.get(metric, ()))
            most = limits.m if gap is None else math.ceil(reach * horizon.period / gap)
            if gap is not None and most < limits.m:
                return kind.Obstacle(
                    f"{metric} comes each {wording.duration(gap)} at best, so {reach} slots of"
                    f" {wording.duration(horizon.period)} have {most} of the {limits.m} datapoints that it needs",
                    f"give {metric} a longer period in [[metrics]], or ask for fewer datapoints",
                )
        return None

    # --- wording -----------------------------------------------------------------------------------------------------

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the value beside the threshold that decided."""
        options, subject = self.options(rule), self.subject(rule)
        if transition.withdrawn:
            return _withdrawn(subject, options.side, transition, unit)
        if (
            rule.metric is not None
            and rule.metric in models.CHECK_METRICS
            and options.above
            and transition.value in (0.0, 1.0)
        ):
            verdict = "impaired" if transition.value else "ok"
            text = f"EC2 {check_words.ABOUT[rule.metric]} check {verdict}{wording.for_count(transition, 'checks')}"
            return f"{rule.metric}: {text}{f'; {transition.cause}' if transition.cause else ''}"
        sign, opposite = (">", "≤") if options.side == "above" else ("<", "≥")
        rank = {severity: place for place, severity in enumerate((None, *models.SEVERITIES))}
        worse = rank[transition.after] > rank[transition.before]
        limit = transition.threshold
        if not worse and transition.before is not None and transition.after is not None:
            clear = options.clear.of(transition.before) if options.clear else None
            limit = options.thresholds.of(transition.before) if clear is None else clear
        if transition.count is None or limit is None:
            return f"{subject} {transition.after or 'resolved'}: {transition.reason}"
        compared = f"{sign if worse else opposite} {wording.quantity(limit, unit)}"
        if transition.value is None:
            text = f"{subject} absent, taken for {compared}"
        else:
            text = f"{subject} {wording.quantity_beside(transition.value, limit, unit)} {compared}"
        text += wording.for_count(transition, "datapoints")
        if not worse and transition.after is not None and transition.threshold is not None:
            text += f", {transition.after} still: {sign} {wording.quantity(transition.threshold, unit)}"
        if transition.present is not None and transition.present.at > transition.at:
            text += f"; now {wording.quantity(transition.present.value, unit)}"
        return text

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why an alert is over if no value decided it."""
        if transition.withdrawn or (transition.after is None and transition.count is None):
            return transition.reason or None
        return transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return thresholds and counts."""
        keys = self.export(rule)
        return {**{key: keys[key] for key in keys if key != "missing"}, "absent": keys["missing"]}

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return thresholds and counts in words."""
        options = self.options(rule)
        sides = (("above", options.above), ("below", options.below), ("clear", options.clear))
        thresholds = tuple(f"{key} {wording.levels(levels, unit)}" for key, levels in sides if levels is not None)
        return (*thresholds, f"breach {options.breach}", f"recover {options.recover}", f"missing {options.missing}")

    def explained_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span of the slots that decide at the cursor."""
        if rule_state.cursor is None or rule_state.period is None:
            return None
        period = rule_state.period
        return rule_state.cursor - (self._limits(rule).lookback + 1) * period, rule_state.cursor + period - 1

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the slots at the cursor."""
        assert horizon is not None
        details = Details(
            period=horizon.period,
            delay=horizon.delay,
            asked=wording.time(horizon.asked),
            horizon=wording.time(horizon.newest),
            impaired=check_words.impaired(rule.metric or "", facts.condition),
        )
        if self.waits(rule, facts.condition):
            about = check_words.ABOUT[rule.metric or ""]
            return _explanation(f"EC2 has not answered its {about} check for this instance", details, rule_state)
        if horizon.asked is None:
            return _explanation("CloudWatch was never asked with success", details, rule_state)
        if rule_state.cursor is None:
            return _explanation("no slot was evaluated yet", details, rule_state)
        if rule_state.period != horizon.period:
            now = f"the period became {horizon.period} s and no slot of it was evaluated yet"
            return _explanation(now, details, rule_state)
        view = slots.view(rule, self._limits(rule), rule_state, _walk(rule, facts, horizon))
        assert view is not None
        times = sorted({*(point.at for point in view.points), *view.absent})
        terms = computed.terms(rule, facts, horizon, times)
        operands = {at: {term.text: term.values[place] for term in terms} for place, at in enumerate(times) if terms}
        shown = details.model_copy(
            update={
                "points": tuple(
                    PointDetails(at=models.rfc3339(at), value=value, operands=operands.get(at))
                    for at, value in view.points
                ),
                "missing": tuple(models.rfc3339(at) for at in view.absent),
                "missing_operands": tuple(
                    MissingDetails(
                        at=models.rfc3339(at),
                        operands=tuple(text for text, value in operands[at].items() if value is None),
                    )
                    for at in view.absent
                    if terms
                ),
                "levels": tuple(
                    LevelDetails(
                        severity=level.severity,
                        threshold=level.threshold,
                        clear=level.clear,
                        latched=level.latched,
                        breaching=level.breaching,
                        of=view.counted,
                        clear_of=level.cleared,
                        recovering=view.recovering,
                    )
                    for level in view.levels
                ),
            }
        )
        unit = facts.unit_of(rule.metric or "")
        now = "; ".join(_levels_now(self.options(rule), view, unit))
        return _explanation(now, shown, rule_state, unit, _operand_lines(terms, times))

    def drawn(self, rule: models.Rule) -> tuple[kind.Drawn, ...]:
        """Return a line for each threshold, and where it clears."""
        options, lines = self.options(rule), list[kind.Drawn]()
        for severity in models.SEVERITIES:
            if (threshold := options.thresholds.of(severity)) is None:
                continue
            clear = options.clear.of(severity) if options.clear else None
            lines.append(kind.Drawn(severity, options.side, threshold, threshold if clear is None else clear))
        return tuple(lines)

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: Sequence[float]) -> float | None:
        """Return the value furthest beyond the threshold."""
        return (max if self.options(rule).side == "above" else min)(values, default=None)


def _with_cause(
    metric: str, transition: models.Transition, condition: models.Condition, horizon: Horizon
) -> models.Transition:
    """Return a transition to firing with what EC2 says of the check that failed, not of one that failed later."""
    if metric not in models.CHECK_METRICS or transition.after is None or transition.withdrawn or not transition.value:
        return transition
    cause = check_words.cause(metric, condition, until=transition.at + horizon.period)
    return transition if cause is None else transition.model_copy(update={"cause": cause})


def _withdrawn(metric: str, side: str, transition: models.Transition, unit: str) -> str:
    """Say what is true now, because a revised past took back what people were notified of."""
    now = transition.after or f"not {transition.before}"
    if transition.threshold is None or transition.count is None:
        return f"{metric} {now} after all: {transition.reason}"
    shown = "absent" if transition.value is None else wording.quantity(transition.value, unit)
    limit = f"{'>' if side == 'above' else '<'} {wording.quantity(transition.threshold, unit)}"
    return f"{metric} {shown} now, {transition.count} datapoints {limit}: {now} after all, a datapoint came late"


def _walk(rule: models.Rule, facts: kind.Facts, horizon: Horizon) -> slots.Walk:
    running_since = facts.condition.running_since
    expected_from = (horizon.asked or 0.0) if running_since is None else running_since
    return slots.Walk(
        metric=rule.metric,
        points=facts.points(rule.metric),
        period=horizon.period,
        horizon=horizon.newest or 0,
        expected_from=math.ceil(expected_from),
        changed_from=facts.changed_from,
        lateness=facts.lateness,
        unit=facts.unit_of(rule.metric or ""),
    )


def _is_beyond(value: float, other: float, side: str) -> bool:
    return value > other if side == "above" else value < other


def _check_order(levels: section.Levels, side: str) -> None:
    """Refuse a critical threshold that is not beyond the warning."""
    if levels.warning is None or levels.critical is None or _is_beyond(levels.critical, levels.warning, side):
        return
    why = f"{levels.critical:g} must be {side} the warning, {levels.warning:g}"
    raise section.Mistake(f"{side}.critical", why, "exchange them, or leave one out")


def _check_clear(clear: section.Levels, levels: section.Levels, side: str) -> None:
    """Refuse a hysteresis that would make the alert flap, or that is about no threshold of the rule."""
    if clear.warning is None and clear.critical is None:
        raise section.Mistake("clear", "names no number", "write { warning = …, critical = … }, or leave it out")
    for severity in models.SEVERITIES:
        cleared, threshold = clear.levels().of(severity), levels.levels().of(severity)
        if cleared is None:
            continue
        if threshold is None:
            raise section.Mistake(f"clear.{severity}", f"clears a severity that {side} does not have", "remove it")
        if _is_beyond(cleared, threshold, side):
            why = f"{cleared:g} is {side} the threshold, {threshold:g}, so the alert would flap"
            todo = f"choose {threshold:g} or {'less' if side == 'above' else 'more'}"
            raise section.Mistake(f"clear.{severity}", why, todo)


def _levels_now(options: Options, view: slots.View, unit: str) -> list[str]:
    return [
        f"{level.cleared} of {view.recovering} values not {options.side} {wording.quantity(level.clear, unit)},"
        f" {options.recover} end {level.severity}"
        if level.latched
        else f"{level.breaching} of {view.counted} values {options.side} {wording.quantity(level.threshold, unit)},"
        f" {options.breach} make it {level.severity}"
        for level in view.levels
    ]


def _operand_lines(terms: Sequence[computed.Term], times: Sequence[int]) -> list[tuple[str, str]]:
    """Say what each operand of an expression is in each slot."""
    return [
        (
            "operands",
            f"{wording.time_of_day(at)} "
            + "  ".join(
                f"{term.text} {'absent' if value is None else wording.quantity(value, term.unit)}"
                for term in terms
                for value in term.values[place : place + 1]
            ),
        )
        for place, at in enumerate(times)
        if terms
    ]


def _explanation(
    now: str,
    details: Details,
    rule_state: models.RuleState,
    unit: str = "count",
    operands: Sequence[tuple[str, str]] = (),
) -> kind.Explanation:
    points = "  ".join(f"{point.at[11:]} {wording.quantity(point.value, unit)}" for point in details.points)
    until = "nothing yet" if rule_state.cursor is None else models.rfc3339(rule_state.cursor)
    evaluated = (
        f"up to {until}; period {details.period} s, delay {details.delay} s,"
        f" absent counts up to {details.horizon or '-'}"
    )
    lines: tuple[tuple[str, str], ...] = (
        ("points", points or "none"),
        *operands,
        ("missing", "  ".join(at[11:] for at in details.missing) or "none"),
        ("judged", evaluated),
    )
    if (said := check_words.words(details.impaired)) is not None:
        lines = (*lines, ("EC2", said.removeprefix("EC2: ")))
    return kind.Explanation(now, details, lines)


KIND = Threshold()
