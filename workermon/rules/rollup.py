"""Computes the roll-up of an hour of a series."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from workermon import models
from workermon.rules import expression_values


def of_hour(at: int, points: Sequence[float]) -> models.RollUp:
    """Return the roll-up of at least one datapoint of the hour that starts then."""
    mean = math.fsum(points) / len(points)
    least, most = min(points), max(points)
    # A mean of equal numbers may differ in the last digit.
    return models.RollUp(
        at, least, min(max(mean, least), most), most, expression_values.percentile(points, 95), len(points)
    )


def by_hour(points: Iterable[models.Datapoint]) -> dict[int, models.RollUp]:
    """Return the roll-ups of datapoints by the start of their hours."""
    hours: dict[int, list[float]] = {}
    for at, value in points:
        hours.setdefault(at // models.HOUR * models.HOUR, []).append(value)
    return {hour: of_hour(hour, of) for hour, of in hours.items()}


def more_complete(first: Mapping[int, models.RollUp], second: Mapping[int, models.RollUp]) -> dict[int, models.RollUp]:
    """Return the roll-ups of both by hour. For the same hour the one with more datapoints wins, otherwise ``second``'s.

    The ledger never withdraws datapoints, so fewer of them mean that it no longer has all of the hour.
    """
    return {
        **first,
        **{hour: rollup for hour, rollup in second.items() if hour not in first or first[hour].number <= rollup.number},
    }
