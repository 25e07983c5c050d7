"""The kind ``threshold``: a metric is above or below a number for M of N slots."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from workermon import models
from workermon.models import fields
from workermon.rules import (
    breaches,
    cadence,
    check_words,
    expression_facts,
    kind,
    label_levels,
    learned_period,
    over_slots,
    parsing,
    section,
    slots,
    threshold_details,
    wording,
)
from workermon.rules.horizon import Horizon
from workermon.rules.threshold_options import LEVEL_KEYS, LevelKey, Options, check_clear, check_order

#: Larger than the number of different labels in most fleets.
MAX_CACHED = 10_000


class ThresholdSection(section.RuleSection):
    """The keys of a rule with a threshold."""

    above: label_levels.GivenLevels | None = None
    below: label_levels.GivenLevels | None = None
    breach: parsing.Count = models.Count(m=3, n=3)
    lasts: fields.Duration | None = Field(default=None, alias="for")
    clear: label_levels.GivenLevels | None = None
    recover: parsing.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Threshold(over_slots.OverSlots[Options]):
    """A metric is above or below a number for M of N slots."""

    name = "threshold"
    section_type = ThresholdSection
    options_type = Options

    def __init__(self) -> None:
        super().__init__()
        self._limits: kind.ByRule[Callable[[int], breaches.Limits]] = kind.ByRule(
            lambda rule: functools.cache(self.options(rule).limits)
        )
        self._of_labels: kind.ByRule[dict[tuple[str | None, ...], models.Rule]] = kind.ByRule(lambda _: {})

    # --- the config file ---------------------------------------------------------------------------------------------

    def parse(self, raw_rule: ThresholdSection) -> tuple[Options, models.Severity]:
        """Return the thresholds of a [[rules]]."""
        if (raw_rule.above is None) == (raw_rule.below is None):
            reason = "needs a threshold: above or below, one of the two"
            raise section.Mistake("", reason, "write above = { critical = 90 }")
        side = "below" if raw_rule.above is None else "above"
        levels = raw_rule.above or raw_rule.below or label_levels.GivenLevels()
        if raw_rule.lasts is not None and "breach" in raw_rule.model_fields_set:
            raise section.Mistake("for", "cannot be combined with breach", "keep one of the two")
        if levels.warning is None and levels.critical is None:
            todo = "write { warning = …, critical = … }, or one of them"
            raise section.Mistake(side, "has no threshold", todo)
        check_order(levels, side)
        if raw_rule.clear is not None:
            check_clear(raw_rule.clear, levels, side)
        return Options(
            above=raw_rule.above and raw_rule.above.numbers(),
            below=raw_rule.below and raw_rule.below.numbers(),
            breach=raw_rule.breach,
            lasts=raw_rule.lasts,
            clear=raw_rule.clear and raw_rule.clear.numbers(),
            recover=raw_rule.recover,
            missing=raw_rule.missing,
            from_labels={
                key: numbers
                for key in LEVEL_KEYS
                if (level_option := getattr(raw_rule, key)) is not None and (numbers := level_option.from_labels())
            },
        ), "critical"

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options, keys = self.options(rule), dict[str, object]()
        for key in ("above", "below", "clear"):
            if (levels := getattr(options, key)) is not None:
                by_label = {severity: str(number) for severity, number in options.from_labels.get(key, {}).items()}
                numbers = levels.model_dump(exclude_none=True) | by_label
                keys[key] = {severity: numbers[severity] for severity in models.SEVERITIES if severity in numbers}
        breach = {"breach": str(options.breach)} if options.lasts is None else {"for": fields.written(options.lasts)}
        return keys | breach | {"recover": str(options.recover), "missing": options.missing}

    # --- for one worker ----------------------------------------------------------------------------------------------

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return for how long values have to be beyond the threshold."""
        lasts = self.options(rule).lasts
        return () if lasts is None else (("for", lasts),)

    def for_worker(self, rule: models.Rule, labels: Mapping[str, str]) -> models.Rule:
        """Return the rule with the thresholds from a worker's labels."""
        if not _is_from_labels(rule):
            return rule
        options = self.options(rule)
        names = (number.label for numbers in options.from_labels.values() for number in numbers.values())
        label_values, cached = tuple(labels.get(name) for name in names), self._of_labels(rule)
        if label_values not in cached:
            if len(cached) >= MAX_CACHED:
                cached.clear()
            new_options = options.of_worker(labels).model_dump(mode="json", exclude_defaults=True)
            cached[label_values] = rule.model_copy(update={"options": new_options})
        return cached[label_values]

    def not_applied(self, rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
        """Return why a rule does not apply to a worker: besides the usual reasons, it may have no threshold for it."""
        reason = super().not_applied(rule, worker, configuration)
        if reason is not None or not _is_from_labels(rule):
            return reason
        options = self.options(rule)
        if options.of_worker(worker.labels).thresholds != models.Levels():
            return reason
        names = dict.fromkeys(number.label for numbers in options.from_labels.values() for number in numbers.values())
        return f"it has no threshold without a number in the label {' or '.join(names)}"

    def doubts(self, rule: models.Rule, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return what is questionable about the thresholds from a worker's labels."""
        options = self.options(rule)
        return tuple(options.doubts(labels)) if options.from_labels else ()

    # --- evaluation --------------------------------------------------------------------------------------------------

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time from which the fold needs datapoints."""
        return slots.needed_from(rule_state, self._limits(rule)(horizon.period), _walk(rule, facts, horizon))

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fold the slots after the cursor."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        limits = self._limits(rule)(horizon.period)
        after, transitions = slots.judge(rule, limits, rule_state, _walk(rule, facts, horizon))
        described = tuple(
            _with_cause(rule.metric or "", transition, facts.condition, horizon) for transition in transitions
        )
        if described and self.options(rule).lasts is not None:
            described = tuple(transition.model_copy(update={"period": horizon.period}) for transition in described)
        return after, described

    def cadence(self, rule: models.Rule, values: Sequence[float]) -> models.CadenceReason:
        """Return how near to its thresholds a metric is. If an absent slot can make it fire, it counts as near."""
        options = self.options(rule)
        if options.missing == "breach" or self.metrics(rule) != (rule.metric,):
            return "watched"
        levels = breaches.levels_of(options.thresholds, options.clear)
        edges = [edge for level in levels for edge in (level.threshold, level.clear)]
        return cadence.nearness(values, edges, rising=options.above is not None, recover=options.recover.n)

    def steady_range(self, rule: models.Rule) -> tuple[float, float] | None:
        """Return the values beyond no threshold: they complete no "M of N". An absent slot may."""
        options = self.options(rule)
        if options.missing == "breach" or self.metrics(rule) != (rule.metric,):
            return None
        edges = [level.threshold for level in breaches.levels_of(options.thresholds, options.clear)]
        return (-math.inf, min(edges)) if options.above is not None else (max(edges), math.inf)

    def is_steady(self, rule: models.Rule, rule_state: models.RuleState) -> bool:
        """Return whether no level is latched, and no late datapoint can withdraw anything.

        If a trail was trimmed to its last change, that is out of reach of late datapoints.
        """
        trail = rule_state.trail
        is_clear = not trail or (len(trail) == 1 and rule_state.trimmed and not trail[0].latched)
        return is_clear and rule.flapping is None

    def waits(self, rule: models.Rule, condition: models.Condition) -> bool:
        """Return whether it is about a status check that EC2 has never returned for the worker."""
        metric = rule.metric or ""
        if metric not in models.CHECK_METRICS or metric in condition.latest or self.options(rule).missing != "keep":
            return False
        return condition.checks is None or condition.checks.value(metric) is None

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> kind.Obstacle | None:
        """Return why there are too few datapoints for "M of N". If absent slots count as breaches, none are needed."""
        horizon = self.horizon(rule, worker, condition, configuration)
        if horizon is None or self.options(rule).missing == "breach":
            return None
        limits = self._limits(rule)(horizon.period)
        reach = limits.reach(limits.n)
        for metric in self.metrics(rule):
            gap = learned_period.shortest_gap(condition.spacing.get(metric, ()))
            most = limits.m if gap is None else math.ceil(reach * horizon.period / gap)
            if gap is not None and most < limits.m:
                return kind.Obstacle(
                    f"{metric} is published each {wording.duration(gap)} at best, so {reach} slots of"
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
            check = check_words.CHECK_OF_METRIC[rule.metric]
            text = f"EC2 {check} check {verdict}{wording.for_count(transition, 'checks')}"
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
            text = f"{subject} absent, counted as {compared}"
        else:
            text = f"{subject} {wording.quantity_beside(transition.value, limit, unit)} {compared}"
        text += _for_count(options, transition)
        if not worse and transition.after is not None and transition.threshold is not None:
            text += f", {transition.after} still: {sign} {wording.quantity(transition.threshold, unit)}"
        if transition.present is not None and transition.present.at > transition.at:
            text += f"; now {wording.quantity(transition.present.value, unit)}"
        return text

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return thresholds and counts in words."""
        options = self.options(rule)
        sides: tuple[tuple[LevelKey, models.Levels | None], ...] = tuple(
            (key, getattr(options, key)) for key in LEVEL_KEYS
        )
        thresholds = tuple(
            " ".join(
                (
                    key,
                    *filter(None, (wording.levels(levels, unit), label_levels.words(options.from_labels.get(key, {})))),
                )
            )
            for key, levels in sides
            if levels is not None
        )
        breach = f"breach {options.breach}" if options.lasts is None else f"for {wording.duration(options.lasts)}"
        return (*thresholds, breach, f"recover {options.recover}", f"missing {options.missing}")

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the slots at the cursor."""
        assert horizon is not None
        details = threshold_details.Details(
            period=horizon.period,
            delay=horizon.delay,
            asked=wording.time(horizon.requested_at),
            horizon=wording.time(horizon.newest),
            impaired=check_words.impaired(rule.metric or "", facts.condition),
        )
        if self.waits(rule, facts.condition):
            about = check_words.CHECK_OF_METRIC[rule.metric or ""]
            return threshold_details.explanation(
                f"EC2 has not answered its {about} check for this instance", details, rule_state
            )
        if horizon.requested_at is None:
            return threshold_details.explanation(wording.NEVER_REQUESTED, details, rule_state)
        if rule_state.cursor is None:
            return threshold_details.explanation(wording.NEVER_EVALUATED, details, rule_state)
        if rule_state.period != horizon.period:
            now = f"the period became {horizon.period} s and no slot of it was evaluated yet"
            return threshold_details.explanation(now, details, rule_state)
        view = slots.view(rule, self._limits(rule)(horizon.period), rule_state, _walk(rule, facts, horizon))
        assert view is not None
        times = sorted({*(point.at for point in view.points), *view.absent})
        terms = expression_facts.terms(rule, facts, horizon, times)
        unit = facts.unit_of(rule.metric or "")
        now = "; ".join(threshold_details.levels_now(self.options(rule), view, unit, horizon.period))
        described = threshold_details.with_slots(details, view, terms, times)
        return threshold_details.explanation(
            now, described, rule_state, unit, threshold_details.operand_lines(terms, times)
        )

    def drawn(self, rule: models.Rule) -> tuple[kind.DrawnThreshold, ...]:
        """Return a line for each threshold, and where it clears."""
        options, lines = self.options(rule), list[kind.DrawnThreshold]()
        for severity in models.SEVERITIES:
            if (threshold := options.thresholds.of(severity)) is None:
                continue
            clear = options.clear.of(severity) if options.clear else None
            lines.append(kind.DrawnThreshold(severity, options.side, threshold, threshold if clear is None else clear))
        return tuple(lines)

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: Sequence[float]) -> float | None:
        """Return the value furthest beyond the threshold."""
        return (max if self.options(rule).side == "above" else min)(values, default=None)


def _with_cause(
    metric: str, transition: models.Transition, condition: models.Condition, horizon: Horizon
) -> models.Transition:
    """Return a transition to firing with EC2's details of the failed check, not of one that failed later."""
    if metric not in models.CHECK_METRICS or transition.after is None or transition.withdrawn or not transition.value:
        return transition
    cause = check_words.cause(metric, condition, until=transition.at + horizon.period)
    return transition if cause is None else transition.model_copy(update={"cause": cause})


def _is_from_labels(rule: models.Rule) -> bool:
    """Return whether a threshold may come from a label, without parsing the options: each worker asks for each rule."""
    return bool(rule.options.get("from_labels"))


def _for_count(options: Options, transition: models.Transition) -> str:
    """Write how many slots decided, and for how long if the rule has a duration."""
    if options.lasts is None or transition.period is None or transition.after is None or transition.count is None:
        return wording.for_count(transition, "datapoints")
    if transition.before == "critical":  # the slots that cleared it
        return wording.for_count(transition, "datapoints")
    return f" for {wording.duration(options.lasts)}: {transition.count} slots of {transition.period} s"


def _withdrawn(metric: str, side: str, transition: models.Transition, unit: str) -> str:
    """Describe what is true now, because a revised past withdrew what people were notified of."""
    now = transition.after or f"not {transition.before}"
    if transition.threshold is None or transition.count is None:
        return f"{metric} {now} after all: {transition.reason}"
    value_text = "absent" if transition.value is None else wording.quantity(transition.value, unit)
    limit = f"{'>' if side == 'above' else '<'} {wording.quantity(transition.threshold, unit)}"
    return f"{metric} {value_text} now, {transition.count} datapoints {limit}: {now} after all, a datapoint came late"


def _walk(rule: models.Rule, facts: kind.Facts, horizon: Horizon) -> slots.Walk:
    running_since = facts.condition.running_since
    expected_from = (horizon.requested_at or 0.0) if running_since is None else running_since
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


KIND = Threshold()
