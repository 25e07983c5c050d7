"""Checks a rule's expression against the existing metrics."""

from __future__ import annotations

from typing import Any

from workermon import models
from workermon.config import problems
from workermon.models import fields
from workermon.rules import Kind, expression, section, units


def check(path: str, rule: models.Rule, kind: Kind[Any], configuration: models.Configuration) -> None:
    """Reject incompatible units and times beyond the ledger; ``path`` is the rule's.

    Raises ``problems.Mistake``, with the position in the expression if it is there.
    """
    for key, seconds in kind.looks_back(rule):
        _check_kept(f"{path}.{key}", seconds, None, configuration)
    of = expression.of(rule.metric)
    if of is None:
        return
    try:
        derived = units.derive(of, configuration.unit_of)
        if rule.unit is not None:
            units.check_given(rule.unit, derived)
    except section.Mistake as wrong:
        raise problems.Mistake(f"{path}.{wrong.key}", wrong.reason, wrong.todo, wrong.place) from None
    for term in of.windows:
        _check_kept(f"{path}.metric", term.window, term.at, configuration)


def _check_kept(path: str, seconds: int, place: int | None, configuration: models.Configuration) -> None:
    longest = configuration.retention - configuration.lateness
    if seconds > longest:
        reason = (
            f"looks back {fields.written(seconds)}, but datapoints are kept for"
            f" {fields.written(configuration.retention)} and may come {fields.written(configuration.lateness)} late"
        )
        todo = f"choose {fields.written(longest)} at most, or a longer [collect] retention"
        raise problems.Mistake(path, reason, todo, place)


def unknown(text: str | None, name: str, configuration: models.Configuration) -> str | None:
    """Return what to do about an unknown metric whose name contains an operator, or is cut by one."""
    if text == name:
        parts = [part for part in name.split("-") if part in configuration.metrics]
        if len(parts) > 1 and "-".join(parts) == name:
            return f'for a difference write spaces: "{" - ".join(parts)}"'
        return None
    longer = [
        metric_name
        for metric_name in sorted(configuration.metrics)
        if metric_name.startswith(f"{name}-") and metric_name in (text or "")
    ]
    return f"write '{longer[0]}' in quotes, for its name has a minus in it" if longer else None
