"""The points that a chart draws: datapoints with the slots that have none, or hourly roll-ups taken together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workermon import models, rules

#: Points that a chart shows: more than it has pixels. Of what is longer, the least and the highest of each stretch.
MAX_POINTS = 2000

#: Points of roll-ups that a chart shows: each has four values.
MAX_ROLLUPS = 800

#: Seconds that a point of roll-ups may stand for. A part of a day would show day and night in turn, as a thick bar.
STEPS = (models.HOUR, models.DAY)

#: A slot's time and its value; ``None`` if it has no datapoint.
Slot = tuple[int, float | None]


def with_gaps(points: Sequence[models.Datapoint], period: int | None, horizon: rules.Horizon) -> list[Slot]:
    """Return the points with every slot between them, and after the last one up to the horizon, that has none.

    A break of more than ``MAX_POINTS`` slots is one gap.
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
    """Return the slots from ``begin`` until before ``end`` that are a whole period before it."""
    if end - begin > MAX_POINTS * period:
        return [(begin, None), (end - period, None)]
    return [(at, None) for at in range(begin, end, period) if end - at > period // 2]


def thinned(slots: list[Slot]) -> list[Slot]:
    """Return the slots, or of each stretch of too many the least and the highest value; a gap stays a gap."""
    if len(slots) <= MAX_POINTS:
        return slots
    size = -(-2 * len(slots) // MAX_POINTS)
    chosen: list[Slot] = []
    for start in range(0, len(slots), size):
        stretch = slots[start : start + size]
        values = [(value, at) for at, value in stretch if value is not None]
        extremes = {(at, value) for value, at in (min(values), max(values))} if values else set()
        gap = next(((at, value) for at, value in stretch if value is None), None)
        chosen += sorted([*extremes, *([gap] if gap else [])], key=lambda slot: slot[0])
    return chosen


def step_for(seconds: float) -> int:
    """Return the seconds that a point stands for if roll-ups of so long a time are shown.

    >>> step_for(30 * 86_400), step_for(365 * 86_400)
    (3600, 86400)
    """
    return next((step for step in STEPS if seconds / step <= MAX_ROLLUPS), STEPS[-1])


def taken_together(hours: Sequence[models.RollUp], step: int) -> list[models.RollUp]:
    """Return roll-ups of ``step`` seconds, in order.

    The 95th percentile is the highest of the hours: what that of all their datapoints cannot exceed.
    """
    groups: dict[int, list[models.RollUp]] = {}
    for hour in hours:
        groups.setdefault(hour.at // step * step, []).append(hour)
    return [_together(at, group) for at, group in sorted(groups.items())]


def _together(at: int, hours: Sequence[models.RollUp]) -> models.RollUp:
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
    """Return every step from the first roll-up to the last, with ``None`` where there is no datapoint."""
    by_hour = {rollup.at: rollup for rollup in rollups}
    return [(at, by_hour.get(at)) for at in range(min(by_hour), max(by_hour) + 1, step)] if by_hour else []
