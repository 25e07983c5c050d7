"""The settings of one run over the workers of one account and region."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import models, rules


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When and how the workers of ``scope`` are collected.

    ``at`` is the time of the collection. ``force``: it was requested, so every metric is, and its slot does not matter.
    ``in_full``: by a user, who wants everything that may have arrived late.
    ``period_multipliers`` has by metric how many periods the budget puts between two requests. If the configuration's
    cadence is adaptive, the values of a worker's metric may put more between them. ``kinds`` are the kinds of rules.
    """

    scope: models.AccountRegion
    at: float
    force: bool
    in_full: bool
    configuration: models.Configuration
    period_multipliers: Mapping[str, int]
    kinds: rules.Kinds

    def cloudwatch_metrics(self) -> list[models.Metric]:
        """Return the metrics to request from CloudWatch."""
        metrics = self.configuration.metrics
        return [metrics[name] for name in self.configuration.collect if name in metrics]
