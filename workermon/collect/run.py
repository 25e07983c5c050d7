"""What one run over the workers of one account and region goes by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import models, rules


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When and how the workers of ``scope`` are collected.

    ``at`` is the time of the collection. ``force``: a user asked for it, so every metric is asked for.
    ``period_multipliers`` says by metric how many periods lie between two requests, because of the budget; where the
    configuration's cadence is adaptive, what a worker's metric does may put more of them there. ``kinds`` are the kinds
    of rules.
    """

    scope: models.AccountRegion
    at: float
    force: bool
    configuration: models.Configuration
    period_multipliers: Mapping[str, int]
    kinds: rules.Kinds

    def cloudwatch_metrics(self) -> list[models.Metric]:
        """Return the metrics to ask CloudWatch for."""
        metrics = self.configuration.metrics
        return [metrics[name] for name in self.configuration.collect if name in metrics]
