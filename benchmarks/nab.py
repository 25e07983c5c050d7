"""Scoring of the Numenta Anomaly Benchmark (standard profile), and reading of its labelled series.

Implements the benchmark's description (Lavin and Ahmad, 2015, and its published scorer): the weights of the standard
profile, the sigmoid within and after windows, the probation, and the scale from a detector that never fires (0) to a
perfect one (100).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

#: Weights of the standard profile: a window found, a window missed, a false alarm.
FOUND, MISSED, FALSE_ALARM = 1.0, 1.0, 0.11

#: The first part of a series does not count: this share of it, at most that many datapoints.
PROBATION, MAX_PROBATION = 0.15, 750


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A labelled series. Times are in seconds; a window is its first and last index, inclusive."""

    name: str
    times: tuple[int, ...]
    values: tuple[float, ...]
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Return how many datapoints at the start do not count."""
        return min(math.floor(PROBATION * len(self.times)), MAX_PROBATION)


def load(directories: Sequence[Path]) -> Iterator[Labelled]:
    """Yield each series in ``windows.json`` of the first directory. Its file may be in any of the directories."""
    labels = json.loads((directories[0] / "windows.json").read_text("utf-8"))
    for name, windows in sorted(labels.items()):
        path = next(directory / name for directory in directories if (directory / name).exists())
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(_seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        times = tuple(at for at, _ in rows)
        yield Labelled(
            name=name.removesuffix(".csv"),
            times=times,
            values=tuple(value for _, value in rows),
            windows=tuple(_places(times, *(_seconds(text) for text in window)) for window in windows),
        )


def score(series: Iterable[tuple[Labelled, Sequence[int]]]) -> float:
    """Return the score, at most 100, of series with the indexes of their flagged datapoints."""
    total, windows = 0.0, 0
    for labelled, flagged in series:
        total += raw(labelled, flagged)
        windows += len(labelled.windows)
    silent, perfect = -MISSED * windows, FOUND * windows
    return 100 * (total - silent) / (perfect - silent)


def raw(labelled: Labelled, flagged: Sequence[int]) -> float:
    """Return the unscaled score of one series: from ``-MISSED`` to ``FOUND`` for each window."""
    best = dict.fromkeys(labelled.windows, -MISSED)
    false_alarms = 0.0
    for place in flagged:
        if place < labelled.probation:
            continue
        window = next((window for window in labelled.windows if window[0] <= place <= window[1]), None)
        if window is not None:
            within = -(window[1] - place + 1) / (window[1] - window[0] + 1)
            best[window] = max(best[window], FOUND * sigmoid(within) / sigmoid(-1.0))
            continue
        before = [window for window in labelled.windows if window[1] < place]
        if before:
            first, last = before[-1]
            false_alarms += FALSE_ALARM * sigmoid((place - last) / max(last - first, 1))
        else:
            false_alarms -= FALSE_ALARM
    return sum(best.values()) + false_alarms


def sigmoid(position: float) -> float:
    """Return the value of a detection: nearly 1 at the start of a window (-1), 0 at its end, -1 far after it.

    >>> round(sigmoid(-1.0), 3), sigmoid(0.0), sigmoid(4.0)
    (0.987, 0.0, -1.0)
    """
    return -1.0 if position > 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def _places(times: Sequence[int], begin: int, end: int) -> tuple[int, int]:
    """Return the first and last index with a time within a window."""
    within = [place for place, at in enumerate(times) if begin <= at <= end]
    return within[0], within[-1]


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
