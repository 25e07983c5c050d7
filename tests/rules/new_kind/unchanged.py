"""The kind ``unchanged``: a metric has had the same value for some slots, as if its source hung."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict

from workermon import models
from workermon.rules import kind, latches, parsing, section, slots, wording
from workermon.rules.horizon import Horizon


class UnchangedSection(section.RuleSection):
    """The keys of an ``unchanged`` rule."""

    unchanged: Annotated[int, Strict(), Field(ge=2, le=parsing.MAX_SLOTS)]
    severity: models.Severity = "warning"


class Options(models.Frozen):
    """For how many slots the value may stay the same."""

    unchanged: int


class Details(models.Frozen):
    """The values that the rule compares."""

    values: tuple[float, ...]


class Unchanged(kind.Kind[Options]):
    """A metric has had the same value for some slots."""

    name = "unchanged"
    section_type = UnchangedSection
    options_type = Options

    def claims(self, table: Mapping[str, object]) -> bool:
        """Return whether the key is there."""
        return "unchanged" in table

    @property
    def chosen_by(self) -> str:
        """Return the key that asks for it."""
        return "unchanged = …"

    def parse(self, raw: UnchangedSection) -> tuple[Options, models.Severity]:
        """Refuse a value that changes by itself."""
        if raw.metric == models.STATUS_CHECK_FAILED:
            raise section.Mistake("metric", "is the same as long as all is well", "name another metric")
        return Options(unchanged=raw.unchanged), raw.severity

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        return {"unchanged": self.options(rule).unchanged, "severity": rule.severity}

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time of the first slot that is compared."""
        if rule_state.cursor is None:
            return None
        return rule_state.cursor - self.options(rule).unchanged * horizon.period

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fire when the last slots have the same value, resolve with another value."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        size, period = self.options(rule).unchanged, horizon.period
        values = slots.by_slot(facts.points(rule.metric), period, rule_state.start)
        severity, transitions = rule_state.severity, list[models.Transition]()
        for slot in sorted(values):
            if rule_state.cursor is not None and slot <= rule_state.cursor // period:
                continue
            window = [values.get(place) for place in range(slot - size + 1, slot + 1)]
            hangs = None not in window and len({point.value for point in window if point is not None}) == 1
            after = rule.severity if hangs else None
            if after != severity:
                point = values[slot]
                reason = f"{size} slots with the same value" if hangs else "the value changed"
                transitions.append(
                    models.Transition(at=point.at, before=severity, after=after, value=point.value, reason=reason)
                )
                severity = after
        last = max([horizon.newest // period, *values]) * period
        if not transitions and rule_state.cursor is not None and last <= rule_state.cursor:
            return rule_state, ()
        changes = tuple(
            models.SeverityChange(transition.at, transition.after, latches.BITS[transition.after])
            for transition in transitions[-1:]
        )
        state = models.RuleState(
            cursor=last, trail=changes or rule_state.trail, metric=rule.metric, period=period, start=rule_state.start
        )
        return state, tuple(transitions)

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the value that does not change."""
        value = wording.quantity(transition.value or 0.0, unit)
        return f"{rule.metric} {'hangs at' if transition.after else 'moves again:'} {value}"

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return the number of slots."""
        return self.export(rule)

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return the number of slots in words."""
        return (f"the same for {self.options(rule).unchanged} slots",)

    def explained_span(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span of the slots that are compared."""
        if rule_state.cursor is None or rule_state.period is None:
            return None
        return rule_state.cursor - (self.options(rule).unchanged - 1) * rule_state.period, rule_state.cursor

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Count the values that differ."""
        values = tuple(point.value for point in facts.points(rule.metric))
        now = f"{len(set(values))} different values in {self.options(rule).unchanged} slots"
        return kind.Explanation(now, Details(values=values), (("values", " ".join(f"{value:g}" for value in values)),))


KIND: kind.Kind[Any] = Unchanged()
