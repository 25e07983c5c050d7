"""The common part of the kinds that fold the slots of one metric: ``threshold``, ``unusual`` and ``outlier``."""

from __future__ import annotations

from collections.abc import Callable

from workermon import models
from workermon.rules import kind, slots


class OverSlots(kind.Kind[kind.Options]):
    """A kind whose state is that of ``slots.judge``, and whose rules are exported with ``missing``."""

    #: What the fold compares slots with, by the rule and the period of its slots in seconds.
    _limits: kind.ByRule[Callable[[int], slots.Limits]]

    def as_of(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return a state whose fold continues at the present."""
        return slots.as_of(rule_state, now)

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why an alert ended, if no value decided it."""
        if transition.withdrawn or (transition.after is None and transition.count is None):
            return transition.reason or None
        return transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return what the file asks for; ``missing`` is ``absent`` there."""
        keys = self.export(rule)
        return {**{key: keys[key] for key in keys if key != "missing"}, "absent": keys["missing"]}

    def explained_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span of the slots that decide at the cursor."""
        if rule_state.cursor is None or rule_state.period is None:
            return None
        period = rule_state.period
        return rule_state.cursor - (self._limits(rule)(period).lookback + 1) * period, rule_state.cursor + period - 1
