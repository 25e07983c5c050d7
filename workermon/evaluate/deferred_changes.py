"""Pure: steps through several changes of an alert whose datapoints arrived with one deliberately late request.

Only the present notifies. But if a metric is requested less often (adaptive cadence, or the budget), what happened
between two requests was never the present. So an alert that fired and resolved in between is first evaluated up to its
first change, which then counts as the present. After that is written, evaluation continues from there.
"""

from __future__ import annotations

import dataclasses

from workermon import models, rules
from workermon.alerts import verdict
from workermon.evaluate import worker

#: A sequence that no record has. A verdict written with it leaves the worker pending.
_UNFINISHED = -1


def first_step(
    builder: verdict.VerdictBuilder, case: worker.Case, series: worker.SeriesByMetric
) -> tuple[worker.Case, worker.SeriesByMetric] | None:
    """Return the case up to the first change, and its series; ``None`` if no alert changed more than once unseen.

    ``builder`` has the evaluation of the whole case.
    """
    if len(builder.transitions) < 2 or not case.basis.record.condition.unseen_since:
        return None
    for plan in case.plans:
        metric = plan.rule.metric
        since = case.basis.record.condition.unseen_since.get(metric or "")
        if since is None or metric is None or plan.horizon is None or plan.horizon.operands:
            continue
        times = [
            transition.at
            for rule, transition, _ in builder.transitions
            if rule == plan.rule.name and not transition.correction and transition.at > since
        ]
        if len(times) > 1:
            return _until(case, series, plan, min(times))
    return None


def _until(
    case: worker.Case, series: worker.SeriesByMetric, plan: worker.Plan, at: int
) -> tuple[worker.Case, worker.SeriesByMetric]:
    """Return a case with one rule, without anything known after a time."""
    assert plan.horizon is not None
    period, recorded = plan.horizon.period, plan.horizon.recorded_period
    step = plan.kind.step(plan.rule, period)
    horizon = rules.Horizon(period, 0, at // step * step + step, recorded)
    key = case.worker_id, plan.rule.metric or ""
    cut = series.get(key, models.Series(period, ())).until(at)
    basis = case.basis
    return (
        worker.Case(
            basis=dataclasses.replace(basis, record=basis.record._replace(sequence=_UNFINISHED)),
            plans=(dataclasses.replace(plan, horizon=horizon),),
        ),
        {**series, key: cut},
    )
