"""What CloudWatch brought for one worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import errors, models


@dataclasses.dataclass(slots=True)
class Fetched:
    """What CloudWatch brought for one worker, by metric.

    ``answered`` are the metrics asked for with success, ``refused`` those asked for in vain. ``failures`` says why a
    metric has no answer; it also holds the metrics that could not be asked for. ``asked`` is the time up to which a
    metric was asked for, ``periods`` are in seconds, ``delays`` say how many seconds after its period's end a
    datapoint is waited for. ``expected`` is the datapoint that each answered metric waits for next. ``full_at`` is as
    in ``models.Condition``.

    The others are as in ``models.Condition`` too, for the metrics about which the answer says something new; ``None``,
    0 or nothing where there is none any more. Workers in the same situation share what cannot be changed here.
    """

    series: dict[str, models.Series] = dataclasses.field(default_factory=dict)
    asked: dict[str, float] = dataclasses.field(default_factory=dict)
    periods: Mapping[str, int] = dataclasses.field(default_factory=dict)
    delays: Mapping[str, float] = dataclasses.field(default_factory=dict)
    expected: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    spacing: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    late: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    learned_periods: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cadence: dict[str, models.Cadence | None] = dataclasses.field(default_factory=dict)
    unseen_since: dict[str, int | None] = dataclasses.field(default_factory=dict)
    full_at: float | None = None
    failures: dict[str, errors.AwsError] = dataclasses.field(default_factory=dict)
    answered: set[str] = dataclasses.field(default_factory=set)
    refused: set[str] = dataclasses.field(default_factory=set)

    @property
    def failed(self) -> bool:
        """Return whether the collection failed, and not only single metrics of it."""
        if not self.failures or self.answered:
            return False
        return bool(self.refused) or self.failures.keys() >= self.periods.keys()

    def came(self, metric: str) -> tuple[models.Datapoint, ...]:
        """Return the datapoints of a metric that came, in order."""
        series = self.series.get(metric)
        return () if series is None else series.points
