"""The values of a rule's expression, beside the datapoints that they are computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workermon import models
from workermon.rules import expression, expression_values, units
from workermon.rules.horizon import Horizon
from workermon.rules.kind import Facts


def with_values(rule: models.Rule, facts: Facts, horizon: Horizon | None, since: int | None = None) -> Facts:
    """Return facts with the values of a rule's expression under ``rule.metric``, as if it were a metric.

    For a rule over a plain metric it returns the same object. ``since`` is the time from which they are needed.
    """
    of = expression.of(rule.metric)
    if of is None or horizon is None or rule.metric is None:
        return facts
    computed = expression_values.series(of, _operands(of, facts, horizon), horizon.period, since)
    series = {**facts.series, rule.metric: models.Series(horizon.period, computed)}

    def unit_of(metric: str) -> str:
        return units.of_rule(rule, facts.unit_of) if metric == rule.metric else facts.unit_of(metric)

    return dataclasses.replace(facts, series=series, unit_of=unit_of)


class Term(NamedTuple):
    """A term of an expression as written, its unit, and its value in each slot; ``None`` is absent."""

    text: str
    unit: str
    values: tuple[float | None, ...]


def terms(rule: models.Rule, facts: Facts, horizon: Horizon, times: Sequence[int]) -> tuple[Term, ...]:
    """Return the distinct terms of a rule's expression in the slots of these times; none for a plain metric."""
    of = expression.of(rule.metric)
    if of is None:
        return ()
    values_by_term = expression_values.terms(of, _operands(of, facts, horizon), horizon.period, times)
    described = {
        str(term): Term(str(term), units.of_term(term, facts.unit_of), value) for term, value in values_by_term.items()
    }
    return tuple(described.values())


def _operands(of: expression.Expression, facts: Facts, horizon: Horizon) -> Mapping[str, expression_values.Operand]:
    return {
        name: expression_values.Operand(facts.points(name), horizon.period_of(name), facts.statistic_of(name))
        for name in of.operands
    }
