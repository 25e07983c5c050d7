"""How often a worker's metrics are requested, and why, if not in each period anyway."""

from __future__ import annotations

from workermon import models
from workermon.rules import cadence
from workermon.views.document import Document


class MetricCadence(Document):
    """A metric is requested every so many seconds: each period, or each few (``periods``). ``why`` is the reason."""

    metric: str
    every: int
    periods: int
    reason: models.CadenceReason
    why: str

    def __str__(self) -> str:
        return f"every {self.every} s: {self.why}"


def cadences(condition: models.Condition, metric: str | None = None) -> tuple[MetricCadence, ...]:
    """Return the cadences of a worker's metrics, or of one; none if cadence is fixed."""
    return tuple(
        MetricCadence(
            metric=name,
            every=metric_cadence.periods * condition.periods.get(name, 0),
            periods=metric_cadence.periods,
            reason=metric_cadence.reason,
            why=cadence.REASON_TEXTS[metric_cadence.reason],
        )
        for name, metric_cadence in sorted(condition.cadence.items())
        if metric in (None, name)
    )
