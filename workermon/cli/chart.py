"""A replay as a chart of characters, with the times of alerts marked below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workermon import models
from workermon.cli import output

if TYPE_CHECKING:
    from workermon.views import backtest

#: Lines of the chart, each of eight steps.
HEIGHT = 8

_STEPS = " ▁▂▃▄▅▆▇█"


def draw(replay: backtest.Replay, width: int) -> list[str]:
    """Return the lines of a chart: the highest value of each column, then the columns in which something fired.

    A datapoint fills its period, so only absent data is left empty. ``width`` is in characters.
    """
    points = replay.points
    if not points:
        return []
    unit = replay.unit
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    labels = [output.quantity(high, unit), output.quantity(low, unit)]
    margin = max(len(label) for label in labels) + 1
    first, end = points[0].at, points[-1].at + replay.segments[-1].period
    columns = min(max(10, width - margin - 1), end - first)
    lines = _curve(_highest(replay, first, end, columns), labels, low, (high - low) or 1.0)
    lines.append(f"{'':>{margin - 1}} └{_marks(replay, first, end, columns)}".rstrip())
    lines.append(f"{'':>{margin}} {models.rfc3339(first)} to {models.rfc3339(points[-1].at)}; c critical, w warning")
    return lines


def _highest(replay: backtest.Replay, first: int, end: int, columns: int) -> list[float | None]:
    """Return the highest value of each column, ``None`` if there is none."""
    highest: list[float | None] = [None] * columns
    for segment in replay.segments:
        for at, value in segment.points:
            last = min(at + segment.period, end) - 1
            for place in range((at - first) * columns // (end - first), (last - first) * columns // (end - first) + 1):
                height = highest[place]
                highest[place] = value if height is None else max(height, value)
    return highest


def _curve(highest: list[float | None], labels: list[str], low: float, reach: float) -> list[str]:
    width = max(len(label) for label in labels)
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        label = labels[0] if row == HEIGHT - 1 else labels[1] if row == 0 else ""
        cells = "".join(_cell(value, low, reach, row) for value in highest)
        lines.append(f"{label:>{width}} ┤{cells}".rstrip())
    return lines


def _marks(replay: backtest.Replay, first: int, end: int, columns: int) -> str:
    """Return the first letter of the severity in each column in which something fired."""
    marks = [" "] * columns
    for episode in sorted(replay.episodes, key=lambda episode: models.SEVERITIES.index(episode.severity)):
        start = int(episode.begin - first) * columns // (end - first)
        stop = columns - 1 if episode.end is None else int(episode.end - first) * columns // (end - first)
        for place in range(max(0, start), min(columns - 1, max(start, stop)) + 1):
            marks[place] = episode.severity[0]
    return "".join(marks)


def _cell(value: float | None, low: float, reach: float, row: int) -> str:
    if value is None:
        return " "
    steps = round((value - low) / reach * HEIGHT * 8) - row * 8
    return _STEPS[max(1 if row == 0 else 0, min(8, steps))]
