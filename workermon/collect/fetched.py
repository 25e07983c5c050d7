"""What one collection fetched from CloudWatch for one worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import errors, models


@dataclasses.dataclass(slots=True)
class Fetched:
    """What one collection fetched from CloudWatch for one worker, by metric.

    ``situation`` is the number of what the plan for the worker was based on (``metric_requests.Situation``).

    ``answered`` are the metrics with an answer, ``refused`` those whose request failed. ``failures`` has the reason for
    each metric without an answer, also if it could not be requested. ``requested_at`` is the time up to which a metric
    was requested, ``periods`` are in seconds. ``delays`` are the seconds after a period's end for which its datapoint
    is awaited. ``expected`` is the datapoint that each answered metric waits for next.

    The others are as in ``models.Condition``, for metrics about which the answer says something new. They hold
    ``None``, 0 or nothing where the value is cleared. Workers in the same situation share what is immutable here.
    """

    situation: int = 0
    series: dict[str, models.Series] = dataclasses.field(default_factory=dict)
    requested_at: dict[str, float] = dataclasses.field(default_factory=dict)
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
        """Return whether the collection failed as a whole, and not only single metrics of it."""
        if not self.failures or self.answered:
            return False
        return bool(self.refused) or self.failures.keys() >= self.periods.keys()

    def points_of(self, metric: str) -> tuple[models.Datapoint, ...]:
        """Return the fetched datapoints of a metric, in order."""
        series = self.series.get(metric)
        return () if series is None else series.points
