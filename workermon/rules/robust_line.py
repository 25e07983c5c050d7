"""A robust line through the recent history of a metric, and when it reaches a level. Pure numbers, no words.

The line is that of Theil and Sen: its slope is the median of the slopes between all pairs of points. At most
``MAX_POINTS`` points are compared, so the cost is bounded: neighbouring datapoints are combined into their medians.
``docs/explanation/forecasts.md`` explains it to users.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from workermon.models import Datapoint

#: Maximum points of a line: 2,016 pairs.
MAX_POINTS = 64

#: With fewer datapoints there is no line.
MIN_DATAPOINTS = 12

#: A share. The line counts as firm if at least so many of the slopes between pairs have its sign (noise has 1/2).
MIN_AGREEMENT = 0.75

#: Standard deviations of Kendall's tau under pure noise. With few points this requires a larger share.
MIN_SIGNIFICANCE = 3.5

#: The line counts as firm if its total rise is at least so many times the datapoints' distance from it.
MIN_RISE = 4.0

#: The line is not extended by more than so many times its own length.
MAX_EXTENSION = 4.0

#: The line's present value is the median of so many of the newest points.
NEWEST = 5

#: The scaled median absolute deviation of normal noise is its standard deviation.
SCALE = 1.4826

#: Share of the whole range of values. A fall by more than this, to a value below all of the hours before, is a
#: clean-up: the history starts again after it.
DROP_SHARE = 0.5

#: Points before a fall that must all lie above it, so that the end of a peak does not count as a clean-up.
POINTS_BEFORE_DROP = 8

Direction = Literal["rising", "falling"]
State = Literal["few", "flat", "noisy", "far", "firm", "reached"]


class Line(NamedTuple):
    """The result for a level; times in seconds since 1970, ``slope`` and ``spread`` in the metric's unit.

    ``state`` is ``few`` (fewer than ``MIN_DATAPOINTS`` datapoints since ``since``), ``flat`` (the line does not go
    towards the level), ``noisy`` (it does, but the datapoints do not follow it), ``far`` (it would have to be extended
    too far), ``firm`` (it reaches the level in ``seconds_left`` seconds) or ``reached`` (the level is already reached).
    ``value`` is the metric's present value, ``spread`` how far datapoints lie from the line (scaled MAD), ``agreement``
    the share of pairs with its sign.
    """

    state: State
    direction: Direction
    datapoints: int
    since: int
    value: float
    slope: float = 0.0
    spread: float = 0.0
    agreement: float = 0.0
    seconds_left: float | None = None


def median(values: Sequence[float]) -> float:
    """Return the median of values in order.

    >>> median([1, 2, 3, 10])
    2.5
    """
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def fit(points: Sequence[Datapoint], level: float, direction: Direction) -> Line:
    """Return the result for at least one datapoint, in order of time, and a level that the metric may reach."""
    sign = 1.0 if direction == "rising" else -1.0
    recent, thinned = since_cleaned(points, sign)
    value = median(sorted(point.value for point in recent[-3:]))
    line = Line("few", direction, len(recent), recent[0].at, value)
    if len(points) < MIN_DATAPOINTS:
        return line
    if sign * (level - value) <= 0:
        return line._replace(state="reached", seconds_left=0.0)
    if len(recent) < MIN_DATAPOINTS:
        return line
    slopes = sorted(
        [
            (later - earlier) / (end - begin)
            for place, (begin, earlier) in enumerate(thinned)
            for end, later in thinned[place + 1 :]
        ]
    )
    slope = median(slopes)
    residuals = [value - slope * at for at, value in thinned]
    median_residual = median(sorted(residuals))
    spread = SCALE * median(sorted([abs(value - median_residual) for value in residuals]))
    line = line._replace(slope=slope, spread=spread)
    if sign * slope <= 0:
        return line._replace(state="flat")
    agreement = _agreement(slopes, sign)
    length = thinned[-1][0] - thinned[0][0]
    now = median(sorted(residuals[-NEWEST:])) + slope * points[-1].at
    seconds_left = max((level - now) / slope, 0.0)
    line = line._replace(agreement=agreement, seconds_left=seconds_left)
    if agreement < needed_agreement(len(thinned)) or abs(slope) * length < MIN_RISE * spread:
        return line._replace(state="noisy")
    return line._replace(state="far" if seconds_left > MAX_EXTENSION * length else "firm")


def needed_agreement(number: int) -> float:
    """Return the share of slopes that have to agree for a line through so many points.

    >>> round(needed_agreement(12), 2), needed_agreement(64)
    (0.89, 0.75)
    """
    deviation = math.sqrt(2 * (2 * number + 5) / (9 * number * (number - 1)))
    return max(MIN_AGREEMENT, (1 + MIN_SIGNIFICANCE * deviation) / 2)


def _agreement(slopes: Sequence[float], sign: float) -> float:
    """Return the share of the ordered slopes with a sign; a slope of 0 counts half."""
    below, not_above = bisect.bisect_left(slopes, 0.0), bisect.bisect_right(slopes, 0.0)
    agreeing = len(slopes) - not_above if sign > 0 else below
    return (agreeing + (not_above - below) / 2) / len(slopes)


def averaged(points: Sequence[Datapoint]) -> list[tuple[float, float]]:
    """Return at most ``MAX_POINTS`` pairs of time and value: the medians of neighbouring datapoints.

    >>> averaged([Datapoint(0, 5.0), Datapoint(60, 6.0)])
    [(0.0, 5.0), (60.0, 6.0)]
    """
    size = -(-len(points) // MAX_POINTS)
    if size == 1:
        return [(float(at), value) for at, value in points]
    parts = []
    for begin in range(0, len(points), size):
        times, values = zip(*points[begin : begin + size], strict=True)
        parts.append((median(times), median(sorted(values))))
    return parts


def since_cleaned(points: Sequence[Datapoint], sign: float) -> tuple[Sequence[Datapoint], list[tuple[float, float]]]:
    """Return the datapoints after the last clean-up, and the same combined.

    ``sign`` is 1 if the metric rises to the level, else -1.
    """
    size, thinned = -(-len(points) // MAX_POINTS), averaged(points)
    values = [sign * value for _, value in thinned]
    drop = DROP_SHARE * (max(values) - min(values))
    for place in range(len(values) - 1, 0, -1):
        # It may span two points, because the first may lie within the fall.
        value = values[place]
        if values[place - 1] - value <= drop and values[max(0, place - 2)] - value <= drop:
            continue
        before = values[max(0, place - POINTS_BEFORE_DROP) : place - 1] or values[:1]
        if value < min(before) - drop / 2:
            recent = points[place * size :]
            return recent, averaged(recent)
    return points, thinned
