"""Evaluation of a rule over one metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workermon import models, rules
from workermon.rules import kind


def judge(
    used: models.Rule,
    state: models.RuleState,
    points: Sequence[models.Datapoint],
    horizon: rules.Horizon,
    **more_facts: Any,
) -> kind.Judgement:
    """Evaluate datapoints up to the horizon by the rule's kind. ``more_facts`` are further facts."""
    series = {used.metric or "": models.Series(horizon.period, tuple(points))}
    return rules.KINDS[used.kind].judge(used, state, rules.Facts(series=series, **more_facts), horizon)
