"""What an hour of a series comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from workermon import models
from workermon.rules import values


def of_hour(at: int, points: Sequence[float]) -> models.RollUp:
    """Return the roll-up of the datapoints of the hour that starts then; there is one at least."""
    mean = math.fsum(points) / len(points)
    least, most = min(points), max(points)
    # A mean of equal numbers may be off by the last digit.
    return models.RollUp(at, least, min(max(mean, least), most), most, values.percentile(points, 95), len(points))


def by_hour(points: Iterable[models.Datapoint]) -> dict[int, models.RollUp]:
    """Return the roll-ups of datapoints by the start of their hours."""
    hours: dict[int, list[float]] = {}
    for at, value in points:
        hours.setdefault(at // models.HOUR * models.HOUR, []).append(value)
    return {hour: of_hour(hour, of) for hour, of in hours.items()}


def fuller(first: Mapping[int, models.RollUp], second: Mapping[int, models.RollUp]) -> dict[int, models.RollUp]:
    """Return the roll-ups of both by hour, of the same hour the one of more datapoints, else ``other``'s.

    No datapoint of the ledger is ever taken back, so fewer mean that its hour is not all there any more.
    """
    return {
        **first,
        **{hour: rollup for hour, rollup in second.items() if hour not in first or first[hour].number <= rollup.number},
    }
