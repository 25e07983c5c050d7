"""Pure: evaluates whether the installation keeps to its budget."""

from __future__ import annotations

import math

from workermon import models
from workermon.alerts import builtin_rules, builtin_texts, lifecycle, verdict


def judge(
    builder: verdict.VerdictBuilder, decision: models.BudgetDecision, configuration: models.Configuration
) -> None:
    """Evaluate the effect of the budget.

    The alert is a warning when metrics are requested less often, and critical when that is not enough. It resolves when
    all are requested at their own periods again. It does not go back from critical to warning: only ``status`` shows
    such steps.
    """
    alert = builder.basis.alert(models.BUDGET)
    transition = _transition(decision, alert, builder.at)
    if transition is None and alert.rule_state.severity is None:
        return
    lifecycle.apply_present(builder, builtin_rules.budget(configuration, builder.kinds), alert, transition)


def _transition(decision: models.BudgetDecision, alert: models.Alert, now: float) -> models.Transition | None:
    """Return the changes; ``None`` if there are none."""
    before = alert.rule_state.severity
    if not decision.period_multipliers or decision.budget is None:
        if before is None:
            return None
        at = max(math.floor(decision.since or now), alert.since or 0)
        reason = "metrics are requested at their own periods again"
        return models.Transition(at=at, before=before, after=None, reason=reason, cause=f"{models.BUDGET}: {reason}")
    exceeded = decision.projected > decision.budget
    after: models.Severity = "critical" if exceeded else "warning"
    if before in ("critical", after):
        return None
    expected = builtin_texts.expected_cost(decision, decision.budget)
    return models.Transition(
        at=math.floor(decision.since or decision.at if before is None else decision.at),
        before=before,
        after=after,
        reason=f"{expected} though metrics are requested less often"
        if exceeded
        else "metrics are requested less often to keep to it",
        cause=f"{expected}; {builtin_texts.longer_periods(decision)}",
    )
