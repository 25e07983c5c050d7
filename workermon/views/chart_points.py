"""The points of a chart: datapoints and absent slots, or combined hourly roll-ups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workermon import models, rules

#: Points in a chart: more than it has pixels. Longer series show the least and the highest value of each stretch.
MAX_POINTS = 2000

#: Points of roll-ups in a chart: each has four values.
MAX_ROLLUPS = 800

#: Seconds that a point of roll-ups may stand for. Parts of a day would alternate day and night, like a thick bar.
STEPS = (models.HOUR, models.DAY)

#: A slot's time and its value; ``None`` if it has no datapoint.
Slot = tuple[int, float | None]


def with_gaps(points: Sequence[models.Datapoint], period: int | None, horizon: rules.Horizon) -> list[Slot]:
    """Return the points with the absent slots between them, and those after the last one up to the horizon.

    A break of more than ``MAX_POINTS`` slots becomes one gap.
    """
    if not points or period is None:
        return []
    slots: list[Slot] = []
    expected = points[0].at
    for point in points:
        slots += _absent(expected, point.at, period)
        slots.append((point.at, point.value))
        expected = point.at + period
    if horizon.newest is not None:
        slots += _absent(expected, horizon.newest + 1, period)
    return slots


def _absent(begin: int, end: int, period: int) -> list[Slot]:
    """Return the slots from ``begin`` that end before ``end``."""
    if end - begin > MAX_POINTS * period:
        return [(begin, None), (end - period, None)]
    return [(at, None) for at in range(begin, end, period) if end - at > period // 2]


def thinned(slots: list[Slot]) -> list[Slot]:
    """Return the slots; if they are too many, the least and the highest value of each stretch. A gap stays a gap."""
    if len(slots) <= MAX_POINTS:
        return slots
    size = -(-2 * len(slots) // MAX_POINTS)
    chosen: list[Slot] = []
    for start in range(0, len(slots), size):
        chunk = slots[start : start + size]
        values = [(value, at) for at, value in chunk if value is not None]
        extremes = {(at, value) for value, at in (min(values), max(values))} if values else set()
        gap = next(((at, value) for at, value in chunk if value is None), None)
        chosen += sorted([*extremes, *([gap] if gap else [])], key=lambda slot: slot[0])
    return chosen


def step_for(seconds: float) -> int:
    """Return the seconds that a point stands for in a chart of roll-ups over so long a time.

    >>> step_for(30 * 86_400), step_for(365 * 86_400)
    (3600, 86400)
    """
    return next((step for step in STEPS if seconds / step <= MAX_ROLLUPS), STEPS[-1])


def combined_hours(hours: Sequence[models.RollUp], step: int) -> list[models.RollUp]:
    """Return roll-ups of ``step`` seconds, in order.

    A 95th percentile is the highest one of the hours: that of all their datapoints cannot exceed it.
    """
    groups: dict[int, list[models.RollUp]] = {}
    for hour in hours:
        groups.setdefault(hour.at // step * step, []).append(hour)
    return [_combined_hour(at, group) for at, group in sorted(groups.items())]


def _combined_hour(at: int, hours: Sequence[models.RollUp]) -> models.RollUp:
    if len(hours) == 1:
        return hours[0]._replace(at=at)
    number = sum(hour.number for hour in hours)
    return models.RollUp(
        at=at,
        least=min(hour.least for hour in hours),
        mean=math.fsum(hour.mean * hour.number for hour in hours) / number,
        most=max(hour.most for hour in hours),
        p95=max(hour.p95 for hour in hours),
        number=number,
    )


def filled(rollups: Sequence[models.RollUp], step: int) -> list[tuple[int, models.RollUp | None]]:
    """Return every step from the first roll-up to the last, with ``None`` for steps without datapoints."""
    by_hour = {rollup.at: rollup for rollup in rollups}
    return [(at, by_hour.get(at)) for at in range(min(by_hour), max(by_hour) + 1, step)] if by_hour else []
