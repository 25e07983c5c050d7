"""The warm-up of a rule: slots shortly after the worker started running do not count."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from workermon.models import Condition, Rule, RuleState

if TYPE_CHECKING:
    from workermon.rules.slots import Walk


def cut(rule: Rule, walk: Walk) -> Walk:
    """Return a walk in which the slots before the end of the worker's warm-up do not count, whatever their values.

    ``expected_from`` is when the worker started running. A slot that begins within the warm-up is part of it. Earlier
    decisions stay: they are not evaluated again.
    """
    if rule.warmup is None:
        return walk
    begin = -(-(walk.expected_from + rule.warmup) // walk.period) * walk.period
    changed_from = None if walk.changed_from is None else max(walk.changed_from, begin)
    points = [point for point in walk.points if point.at >= begin]
    return dataclasses.replace(walk, points=points, expected_from=begin, changed_from=changed_from)


def lasts_until(rule: Rule, rule_state: RuleState, condition: Condition, at: float) -> int | None:
    """Return when the warm-up ends that keeps slots from being evaluated at a time; ``None`` if none does.

    The slots decide that: one of the warm-up may still be the newest after it.
    """
    if rule.warmup is None or condition.running_since is None:
        return None
    until = math.ceil(condition.running_since) + rule.warmup
    reached = at if rule_state.cursor is None else rule_state.cursor
    return until if reached < until else None
