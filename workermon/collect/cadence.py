"""How often a run requests each metric, depending on the rules that use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from workermon import models, rules
from workermon.collect.account_run import Run
from workermon.rules import cadence

#: Rules, each with its kind.
_Rules = list[tuple[rules.Kind[Any], models.Rule]]


@dataclasses.dataclass(frozen=True, slots=True)
class Cadences:
    """Decides for the workers of one run. Workers with the same labels have the same rules."""

    run: Run
    _rules_by_labels: dict[tuple[tuple[tuple[str, str], ...], str], _Rules | None] = dataclasses.field(
        default_factory=dict
    )

    @property
    def is_plain(self) -> bool:
        """Return whether each metric is requested in each period, whatever its datapoints are."""
        return self.run.configuration.cadence == "fixed" and not self.run.period_multipliers

    def periods_apart(self, condition: models.Condition, metric: str) -> int:
        """Return how many periods lie between two requests now. The budget takes effect immediately."""
        stored_cadence = condition.cadence.get(metric)
        reason = None if stored_cadence is None or self.run.configuration.cadence == "fixed" else stored_cadence.reason
        decided = cadence.decide(reason, self._budget(metric))
        return 1 if decided is None else decided.periods

    def after(
        self, worker: models.Worker, metric: str, points: Sequence[models.Datapoint], period: int
    ) -> models.Cadence | None:
        """Return the cadence after an answer with the datapoints ``points``; ``period`` is the time between them."""
        reason: models.CadenceReason | None = None
        if self.run.configuration.cadence == "adaptive":
            looking = self._rules_of(worker, metric)
            reason = "watched" if looking is None else cadence.of_series(_without_gaps(points, period), looking)
        return cadence.decide(reason, self._budget(metric))

    def _budget(self, metric: str) -> int:
        return self.run.period_multipliers.get(metric, 1)

    def _rules_of(self, worker: models.Worker, metric: str) -> _Rules | None:
        """Return the rules over a worker's metric; ``None`` if another rule depends on their result."""
        key = tuple(sorted(worker.labels.items())), metric
        if key not in self._rules_by_labels:
            self._rules_by_labels[key] = cadence.rules_over(metric, worker, self.run.configuration, self.run.kinds)
        return self._rules_by_labels[key]


def _without_gaps(points: Sequence[models.Datapoint], period: int) -> Sequence[models.Datapoint]:
    """Return the newest datapoints, up to the first gap between them."""
    for place in range(len(points) - 1, 0, -1):
        if points[place].at - points[place - 1].at > period:
            return points[place:]
    return points
