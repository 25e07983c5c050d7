"""A series as a chart of characters, with the times of alerts marked below it."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import models

#: Lines of the chart, each of eight steps.
HEIGHT = 8

_STEPS = " ▁▂▃▄▅▆▇█"


def draw(
    points: Sequence[models.Datapoint], spans: Sequence[tuple[int, int | None, models.Severity]], width: int
) -> list[str]:
    """Return the lines of a chart: the highest value of each column, then the columns in which something fired.

    ``spans`` are ``(from, to, severity)`` in seconds, ``to`` is ``None`` if it still fires; ``width`` in characters.
    """
    if not points:
        return []
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    reach = (high - low) or 1.0
    labels = [f"{high:.6g}", f"{low:.6g}"]
    margin = max(len(label) for label in labels) + 1
    columns = max(10, width - margin - 1)
    first = points[0].at
    length = max(1, points[-1].at - first + 1)
    columns = min(columns, length)
    highest: list[float | None] = [None] * columns
    for at, value in points:
        place = (at - first) * columns // length
        there = highest[place]
        highest[place] = value if there is None else max(there, value)
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        label = labels[0] if row == HEIGHT - 1 else labels[1] if row == 0 else ""
        cells = "".join(_cell(value, low, reach, row) for value in highest)
        lines.append(f"{label:>{margin - 1}} ┤{cells}".rstrip())
    marks = [" "] * columns
    for begin, end, severity in sorted(spans, key=lambda span: models.SEVERITIES.index(span[2])):
        start = (begin - first) * columns // length
        stop = columns - 1 if end is None else (end - first) * columns // length
        for place in range(max(0, start), min(columns - 1, max(start, stop)) + 1):
            marks[place] = severity[0]
    lines.append(f"{'':>{margin - 1}} └{''.join(marks)}".rstrip())
    lines.append(f"{'':>{margin}} {models.rfc3339(first)} to {models.rfc3339(points[-1].at)}; c critical, w warning")
    return lines


def _cell(value: float | None, low: float, reach: float, row: int) -> str:
    if value is None:
        return " "
    steps = round((value - low) / reach * HEIGHT * 8) - row * 8
    return _STEPS[max(1 if row == 0 else 0, min(8, steps))]
