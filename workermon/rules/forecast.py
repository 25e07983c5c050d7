"""The kind ``forecast``: a robust line over the recent history reaches a level within a time.

The line is evaluated at the end of each step, a part of the history, by the clock of the data. Each step gives one
value, the seconds until the level is reached. A fold over slots of that length latches and clears the alert.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from workermon import models
from workermon.models import fields
from workermon.rules import breaches, kind, latches, over_slots, parsing, robust_line, section, slots, wording
from workermon.rules.horizon import Horizon

#: Steps of a history: a line over one day is evaluated each 5 minutes.
STEPS = 288

#: An alert clears if the level is at least so many times further away than the time at which it fires.
CLEAR = 1.5

#: Seconds. Stands for a level that the line does not reach.
_NEVER = 1e12

#: Above this percentage, a level counts as reached by rising, unless the file sets the direction.
_HALF = 50.0

#: Datapoints beside a transition: the newest ones, which show the metric's present value.
_NEWEST = 3

Span = Annotated[fields.Seconds, fields.between(60, 31 * models.DAY)]


class ForecastKeys(fields.Section):
    """``forecast = { reaches = 98, within = "6h", over = "1d" }``."""

    reaches: fields.Number
    within: Span
    over: Span = models.DAY
    direction: robust_line.Direction | None = None


class ForecastSection(section.RuleSection):
    """The keys of a rule with a forecast."""

    forecast: ForecastKeys
    severity: models.Severity = "critical"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """It fires if a line over ``over`` seconds reaches the level ``reaches`` in ``within`` seconds.

    ``direction`` is ``None`` if it follows from the level and the values.
    """

    reaches: float
    within: int
    over: int = models.DAY
    direction: robust_line.Direction | None = None

    def direction_of(self, unit: str, values: Sequence[float]) -> robust_line.Direction:
        """Return whether values in a unit rise or fall to the level."""
        if self.direction is not None:
            return self.direction
        if unit == "percent":
            return "rising" if self.reaches >= _HALF else "falling"
        return "falling" if 2 * sum(value > self.reaches for value in values) > len(values) else "rising"

    def step(self, period: int) -> int:
        """Return the seconds between two evaluations of a metric with a period: whole periods, one at least."""
        return max(self.over // STEPS // period, 1) * period


class LineDetails(models.Frozen):
    """The line as JSON has it: ``slope`` and ``spread`` in the unit of the metric, the slope an hour.

    ``left`` and ``reached_at`` are ``None`` if the line does not reach the level.
    """

    state: robust_line.State
    direction: robust_line.Direction
    datapoints: int
    since: str
    value: float
    slope: float
    spread: float
    agreement: float
    left: int | None
    reached_at: str | None


class Details(models.Frozen):
    """The rule's input; durations in seconds, times in RFC 3339. ``line`` is ``None`` before there is one."""

    period: int
    step: int
    delay: int
    asked: str | None
    horizon: str | None
    line: LineDetails | None = None


class _Series(NamedTuple):
    """The datapoints of a metric, finite ones, and their times."""

    points: Sequence[models.Datapoint]
    times: Sequence[int]

    def between(self, begin: int, end: int) -> Sequence[models.Datapoint]:
        """Return the datapoints from ``begin`` until before ``end``."""
        return self.points[bisect.bisect_left(self.times, begin) : bisect.bisect_left(self.times, end)]


class Forecast(kind.Kind[Options]):
    """A robust line over the recent history of a metric reaches a level within a time."""

    name = "forecast"
    section_type = ForecastSection
    options_type = Options

    def __init__(self) -> None:
        super().__init__()
        self._limits: kind.ByRule[breaches.Limits] = kind.ByRule(
            lambda rule: _limits(self.options(rule).within, rule.severity)
        )

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether there is a forecast."""
        return "forecast" in raw_rule

    @property
    def chosen_by(self) -> str:
        """Return how the file asks for it."""
        return "forecast = …"

    def parse(self, raw_rule: ForecastSection) -> tuple[Options, models.Severity]:
        """Return level, time and history."""
        keys = raw_rule.forecast
        if keys.within > robust_line.MAX_EXTENSION * keys.over:
            reason = (
                f"{fields.written(keys.within)} is more than {robust_line.MAX_EXTENSION:g} times over,"
                f" {fields.written(keys.over)}; a line is not extended further"
            )
            raise section.Mistake("forecast.within", reason, "choose less, or a longer over")
        return Options(**keys.model_dump()), raw_rule.severity

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        forecast: dict[str, object] = {
            "reaches": options.reaches,
            "within": fields.written(options.within),
            "over": fields.written(options.over),
        }
        if options.direction is not None:
            forecast["direction"] = options.direction
        return {"forecast": forecast, "severity": rule.severity}

    # --- evaluation --------------------------------------------------------------------------------------------------

    def step(self, rule: models.Rule, period: int) -> int:
        """Return how far apart the lines are."""
        return self.options(rule).step(period)

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time from which a due step needs its history; a short time ago if none is due."""
        walk = self._walk(rule, facts, horizon)
        begin = self._first(rule, rule_state, walk)
        if begin is None:
            return None if rule_state.start is None else rule_state.start - self.options(rule).over
        if begin > walk.horizon:
            return begin
        return begin + walk.period - self.options(rule).over

    def clamped(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return a state whose fold continues at the present."""
        return over_slots.clamped(rule_state, now)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fit a line at the end of each step after the cursor, and fold the results."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        options, walk = self.options(rule), self._walk(rule, facts, horizon)
        series, step = _series(facts.points(rule.metric)), walk.period
        begin = self._first(rule, rule_state, walk)
        first = begin if begin is not None else rule_state.start or 0
        lines: dict[int, robust_line.Line] = {}
        values: list[models.Datapoint] = []
        due = series.between(first // step * step, walk.horizon + step)
        for slot in sorted({point.at // step for point in due}):
            history = series.between((slot + 1) * step - options.over, (slot + 1) * step)
            at, fitted = history[-1].at, _fit(options, history, walk.unit)
            lines[at] = fitted
            values.append(models.Datapoint(at, _until_reached(fitted, options.within)))
        walk = dataclasses.replace(walk, points=values)
        state, transitions = slots.judge(rule, self._limits(rule), rule_state, walk)
        return state, tuple(
            self._with_details(rule, transition, lines, series, walk.unit) for transition in transitions
        )

    def _first(self, rule: models.Rule, rule_state: models.RuleState, walk: slots.Walk) -> int | None:
        """Return the time of the first step to evaluate; ``None`` if the fold has not begun for this series."""
        limits = self._limits(rule)
        needed = slots.needed_from(rule_state, limits, walk)
        return None if needed is None else needed + limits.lookback * walk.period

    def _walk(self, rule: models.Rule, facts: kind.Facts, horizon: Horizon) -> slots.Walk:
        """Return the walk over steps without their values. Its horizon is the last step with complete slots."""
        step, newest = self.options(rule).step(horizon.period), horizon.newest or 0
        end = (newest // horizon.period + 1) * horizon.period
        return slots.Walk(
            metric=rule.metric,
            points=(),
            period=step,
            horizon=(end // step - 1) * step,
            expected_from=math.ceil(facts.condition.running_since or horizon.requested_at or 0.0),
            changed_from=facts.changed_from,
            lateness=facts.lateness,
            unit=facts.unit_of(rule.metric or ""),
        )

    def _with_details(
        self,
        rule: models.Rule,
        transition: models.Transition,
        lines: Mapping[int, robust_line.Line],
        series: _Series,
        unit: str,
    ) -> models.Transition:
        """Return a transition in the unit of the metric, with the line that decided it."""
        options = self.options(rule)
        at = transition.at
        if transition.withdrawn:
            at = max(lines, default=at)
        fitted = lines.get(at)
        update: dict[str, object] = {"threshold": options.reaches, "count": None, "points": (), "value": None}
        if fitted is not None:
            late = ", seen late: a datapoint came late or was revised" if transition.correction else ""
            update |= {
                "value": fitted.value,
                "points": tuple(series.between(0, at + 1)[-_NEWEST:]),
                "reason": f"{_described(fitted, options, unit)}{late}",
            }
        if transition.present is not None:
            newest = series.between(0, transition.present.at + 1)
            update["present"] = newest[-1] if newest else None
        return transition.model_copy(update=update)

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> kind.Obstacle | None:
        """Return why the history is too short for the datapoints that a line needs."""
        horizon, options = self.horizon(rule, worker, condition, configuration), self.options(rule)
        if horizon is None:
            return None
        seconds_kept = min(options.over, configuration.retention)
        most = seconds_kept // horizon.period
        if most >= robust_line.MIN_DATAPOINTS:
            return None
        history = f"{wording.duration(seconds_kept)} of {self.subject(rule)} at {wording.duration(horizon.period)}"
        return kind.Obstacle(
            f"{history} are {most} datapoints, {robust_line.MIN_DATAPOINTS} are needed",
            "choose a longer over" if seconds_kept == options.over else "raise [collect] retention",
        )

    # --- wording -----------------------------------------------------------------------------------------------------

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the metric's value, how it moves, and when it reaches the level."""
        if transition.value is None:
            return f"{self.subject(rule)} {transition.after or 'resolved'}: {transition.reason}"
        return f"{self.subject(rule)} {transition.reason}"

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why an alert ended."""
        return transition.reason if transition.withdrawn or transition.after is None else transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return level, time and history; durations in seconds."""
        return {"forecast": self.options(rule).model_dump(mode="json"), "severity": rule.severity}

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return level, time and history in words."""
        options = self.options(rule)
        direction = () if options.direction is None else (options.direction,)
        return (
            f"reaches {wording.quantity(options.reaches, unit)}",
            f"within {wording.duration(options.within)}",
            f"over {wording.duration(options.over)}",
            *direction,
            f"severity {rule.severity}",
        )

    def explained_span(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the history of the line at the cursor."""
        if rule_state.cursor is None or rule_state.period is None:
            return None
        end = rule_state.cursor + rule_state.period
        return end - self.options(rule).over, end - 1

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the line at the cursor."""
        assert horizon is not None
        options, unit = self.options(rule), facts.unit_of(rule.metric or "")
        details = Details(
            period=horizon.period,
            step=options.step(horizon.period),
            delay=horizon.delay,
            asked=wording.time(horizon.requested_at),
            horizon=wording.time(horizon.newest),
        )
        if horizon.requested_at is None:
            return kind.Explanation(wording.NEVER_REQUESTED, details)
        if rule_state.cursor is None or rule_state.period is None:
            now = f"no step of {wording.duration(details.step)} is over yet"
            return kind.Explanation(now, details)
        history = _series(facts.points(rule.metric)).between(0, rule_state.cursor + rule_state.period)
        until = f"up to {models.rfc3339(rule_state.cursor)}; each {wording.duration(details.step)}"
        if not history:
            now = f"no datapoint in the {wording.duration(options.over)} before"
            return kind.Explanation(now, details, (("evaluated", until),))
        fitted = _fit(options, history, unit)
        lines = (*_in_words(fitted, unit), ("evaluated", until))
        return kind.Explanation(
            _described(fitted, options, unit),
            details.model_copy(update={"line": _details(fitted, history[-1].at)}),
            lines,
        )

    def drawn(self, rule: models.Rule) -> tuple[kind.DrawnThreshold, ...]:
        """Return the level."""
        options = self.options(rule)
        falling = options.direction_of("percent", ()) == "falling"
        side: Literal["above", "below"] = "below" if falling else "above"
        return (kind.DrawnThreshold(rule.severity, side, options.reaches, options.reaches),)

    def curve_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the history of the line at the cursor."""
        return self.explained_span(rule, rule_state)

    def curve(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, times: Sequence[int]
    ) -> kind.Curve | None:
        """Return the line at the cursor if it is firm, from its first datapoint on until it reaches the level.

        It goes no further than the rule looks ahead.
        """
        if rule_state.cursor is None or rule_state.period is None:
            return None
        history = _series(facts.points(rule.metric)).between(0, rule_state.cursor + rule_state.period)
        if not history:
            return None
        options, last = self.options(rule), history[-1].at
        fitted = _fit(options, history, facts.unit_of(rule.metric or ""))
        if fitted.state != "firm" or fitted.seconds_left is None:
            return None
        reached = last + fitted.seconds_left
        ends = fitted.since, last, math.ceil(last + min(fitted.seconds_left, options.within))
        values = [options.reaches - fitted.slope * (reached - at) for at in ends]
        return kind.Curve(
            rule.severity, tuple(kind.CurvePoint(at, value, value) for at, value in zip(ends, values, strict=True))
        )

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the value nearest to the level, or furthest beyond it."""
        rising = self.options(rule).direction_of("count", values) == "rising"
        return (max if rising else min)(values, default=None)


def _limits(within: int, severity: models.Severity) -> breaches.Limits:
    """Return the limits of the seconds until the level is reached; one step decides."""
    level = breaches.Level(severity, latches.BITS[severity], within + 1.0, CLEAR * within + 1.0)
    return breaches.Limits((level,), False, 1, 1, 1, 1, "keep")


def _series(points: Sequence[models.Datapoint]) -> _Series:
    finite = [point for point in points if math.isfinite(point.value)]
    return _Series(finite, [point.at for point in finite])


def _fit(options: Options, history: Sequence[models.Datapoint], unit: str) -> robust_line.Line:
    values = [point.value for point in history]
    return robust_line.fit(history, options.reaches, options.direction_of(unit, values))


def _until_reached(fitted: robust_line.Line, within: int) -> float:
    """Return the seconds until a line reaches the level, as the fold compares them.

    A line that is not firm makes no alert, but keeps one while it goes on to the level in time.
    """
    if fitted.seconds_left is None:
        return _NEVER
    return fitted.seconds_left if fitted.state in ("firm", "reached") else max(fitted.seconds_left, within + 1.0)


def _described(fitted: robust_line.Line, options: Options, unit: str) -> str:
    """Describe a line, such as "91 %, rises 1.2 % an hour: reaches 98 % in about 5 h 40 min"."""
    value, level = wording.quantity(fitted.value, unit), wording.quantity(options.reaches, unit)
    verb = "rises" if fitted.direction == "rising" else "falls"
    if fitted.state == "reached":
        return f"{value}, has reached {level}"
    if fitted.state == "few":
        datapoints = models.plural(fitted.datapoints, "datapoint")
        return f"{value}, {datapoints} since {models.rfc3339(fitted.since)}, {robust_line.MIN_DATAPOINTS} are needed"
    if fitted.state == "flat" or fitted.seconds_left is None:
        return f"{value}, {'does not rise' if fitted.direction == 'rising' else 'does not fall'} to {level}"
    moves = f"{value}, {verb} {wording.rate(abs(fitted.slope), unit)}"
    if fitted.state == "noisy":
        return f"{moves}, but too unevenly to say when it reaches {level}"
    reaches = f"{moves}: reaches {level} in about {wording.about(fitted.seconds_left)}"
    return f"{reaches}, which is too far ahead for its history" if fitted.state == "far" else reaches


def _details(fitted: robust_line.Line, at: int) -> LineDetails:
    return LineDetails(
        state=fitted.state,
        direction=fitted.direction,
        datapoints=fitted.datapoints,
        since=models.rfc3339(fitted.since),
        value=fitted.value,
        slope=fitted.slope * 3600,
        spread=fitted.spread,
        agreement=round(fitted.agreement, 3),
        left=None if fitted.seconds_left is None else round(fitted.seconds_left),
        reached_at=None if fitted.seconds_left is None else models.rfc3339(at + fitted.seconds_left),
    )


def _in_words(fitted: robust_line.Line, unit: str) -> tuple[tuple[str, str], ...]:
    """Return the line for ``why``."""
    history = ("history", f"{fitted.datapoints} datapoints since {models.rfc3339(fitted.since)}")
    if fitted.state in ("few", "reached"):
        return (history,)
    slope = f"{'-' if fitted.slope < 0 else ''}{wording.rate(abs(fitted.slope), unit)}"
    agreement = f"{fitted.agreement:.0%} of the pairs have its direction" if fitted.agreement else "no agreement"
    return (history, ("line", f"{slope}; spread {wording.quantity(fitted.spread, unit)}; {agreement}"))


KIND = Forecast()
