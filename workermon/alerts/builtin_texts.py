"""Pure: what the alerts of the built-in rules and ``why`` say about the present state, in the same words."""

from __future__ import annotations

from collections.abc import Iterable

from workermon import models


def lost_metrics(lost: Iterable[models.LostMetric]) -> str:
    """Describe the metrics that stopped arriving, each with the number of workers and the time."""
    return "; ".join(
        f"{metric.metric} stopped arriving from {metric.workers} of {metric.of} workers,"
        f" first at {models.rfc3339(metric.since)}"
        for metric in lost
    )


def expected_cost(decision: models.BudgetDecision, budget: float) -> str:
    """Describe the expected cost of the day, beside the budget (dollars)."""
    return f"${decision.projected:.2f} are expected today, of ${budget:.2f}"


def longer_periods(decision: models.BudgetDecision) -> str:
    """Describe how much less often the budget has metrics requested."""
    return ", ".join(f"{name} each {factor} periods" for name, factor in sorted(decision.period_multipliers.items()))


def unreadable_records(records: Iterable[tuple[str, str]]) -> str:
    """Describe records that cannot be read: their keys, each with the reason."""
    return "; ".join(f"{name} ({reason})" for name, reason in records)
