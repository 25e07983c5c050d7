"""Pure: evaluates whether a metric stopped arriving from much of an account and region's fleet."""

from __future__ import annotations

import math

from workermon import models
from workermon.alerts import builtin_rules, builtin_texts, lifecycle, verdict


def judge(builder: verdict.VerdictBuilder, state: models.AccountState, configuration: models.Configuration) -> None:
    """Evaluate which metrics an account and region has lost.

    The alert fires when a metric is lost, notifies again when another one is lost, and resolves when all are back.
    """
    alert = builder.basis.alert(models.LOST_METRICS)
    transition = _transition(state.lost_metrics, alert, builder.at)
    if transition is None and alert.rule_state.severity is None:
        return
    rule = builtin_rules.lost_metrics(configuration, builder.kinds)
    lifecycle.apply_present(builder, rule, alert, transition, tuple(lost.metric for lost in state.lost_metrics))


def _transition(lost: tuple[models.LostMetric, ...], alert: models.Alert, now: float) -> models.Transition | None:
    """Return the changes; ``None`` if there are none."""
    before, at = alert.rule_state.severity, max(math.floor(now), alert.since or 0)
    if not lost:
        if before is None:
            return None
        return models.Transition(at=at, before=before, after=None, reason="every metric is published again")
    if before is not None and {metric.metric for metric in lost} <= set(alert.rule_state.lost_metrics):
        return None
    names = ", ".join(metric.metric for metric in lost)
    reason = f"{names} stopped arriving from much of the fleet"
    return models.Transition(
        at=at, before=before, after="warning", reason=reason, cause=builtin_texts.lost_metrics(lost)
    )
