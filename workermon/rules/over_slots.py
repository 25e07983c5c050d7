"""The common part of the kinds that fold the slots of one metric: ``threshold``, ``unusual`` and ``outlier``."""

from __future__ import annotations

import math
from collections.abc import Callable

from workermon import models
from workermon.rules import breaches, kind
from workermon.rules.horizon import BACKFILL


class OverSlots(kind.Kind[kind.Options]):
    """A kind whose state is that of ``slots.judge``, and whose rules are exported with ``missing``."""

    #: Returns the fold's limits for a rule and the period of its slots in seconds.
    _limits: kind.ByRule[Callable[[int], breaches.Limits]]

    def clamped(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return a state whose fold continues at the present."""
        return clamped(rule_state, now)

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why an alert ended, if no value decided it."""
        if transition.withdrawn or (transition.after is None and transition.count is None):
            return transition.reason or None
        return transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return the file's name for ``missing``, which is ``absent`` there."""
        keys = self.export(rule)
        return {**{key: keys[key] for key in keys if key != "missing"}, "absent": keys["missing"]}

    def explained_span(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span of the slots that decide at the cursor."""
        if rule_state.cursor is None or rule_state.period is None:
            return None
        period = rule_state.period
        return rule_state.cursor - (self._limits(rule)(period).lookback + 1) * period, rule_state.cursor + period - 1


def clamped(rule_state: models.RuleState, now: float) -> models.RuleState:
    """Return a state that evaluates slots in the future again; the same object if there are none.

    If a clock was ahead, the slots in between were skipped. So the fold goes back to the last change, at most an hour.
    A decision at a future time still holds, and ends as usual: by slots that are clear of it.
    """
    if not rule_state.leads(now):
        return rule_state
    state, latest = rule_state.clamped(now), math.floor(now)
    past_changes = tuple(change for change in rule_state.trail if change.at <= latest)
    if rule_state.cursor is None:
        return state
    cursor = min(rule_state.cursor, latest)
    if len(past_changes) == len(rule_state.trail):
        cursor = min(cursor, max(latest - BACKFILL, past_changes[-1].at if past_changes else 0))
    period = rule_state.period or 1
    return state.model_copy(update={"cursor": cursor // period * period})
