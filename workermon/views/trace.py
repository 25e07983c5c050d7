"""A recorded series from a user: a CSV with the columns ``timestamp,value``."""

from __future__ import annotations

import csv
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from workermon import errors, models

#: Seconds. The period of a trace with a single datapoint: EC2's own period.
LONE_PERIOD = 300

_EPOCH = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_ABSENT = frozenset({"", "nan", "null", "none", "-", "inf", "+inf", "-inf", "+nan", "-nan"})


def read(lines: Iterable[str], source: str, period: int | None = None) -> models.Series:
    """Parse a CSV with the columns ``timestamp,value``; rows may be in any order.

    If rows have the same timestamp, the last one counts. An empty or infinite value is absent. ``period`` is in
    seconds; by default it is the median step of the timestamps. Raises ``errors.InvalidInput`` with the line number.
    """
    rows = csv.reader(lines)
    values: dict[int, float | None] = {}
    columns: tuple[int, int, int] | None = None
    try:
        for row in rows:
            if not row or not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _columns(row, f"{source}: line {rows.line_num}")
                continue
            at, value = _row(row, columns, f"{source}: line {rows.line_num}")
            values[at] = value
    except csv.Error as error:
        raise errors.InvalidInput(
            f"{source}: line {rows.line_num}", f"is not CSV: {error}", "correct it there"
        ) from None
    if not values:
        raise errors.InvalidInput(source, "has no datapoint", "add rows below the header timestamp,value")
    times = sorted(values)
    steps = [after - before for before, after in itertools.pairwise(times)]
    every = period or (statistics.median_low(steps) if steps else LONE_PERIOD)
    points = tuple(models.Datapoint(at, value) for at in times if (value := values[at]) is not None)
    return models.Series(every, points)


def _columns(head: Sequence[str], place: str) -> tuple[int, int, int]:
    names = [cell.strip().lower() for cell in head]
    if names.count("timestamp") != 1 or names.count("value") != 1:
        raise errors.InvalidInput(place, "does not have the columns timestamp and value", "write timestamp,value first")
    return names.index("timestamp"), names.index("value"), len(names)


def _row(row: Sequence[str], columns: tuple[int, int, int], place: str) -> tuple[int, float | None]:
    timestamp, value, width = columns
    if len(row) != width:
        raise errors.InvalidInput(place, f"has {len(row)} cells, not {width}", "correct it there")
    return _time(row[timestamp].strip(), place), _value(row[value].strip(), place)


def _time(text: str, place: str) -> int:
    try:
        if _EPOCH.fullmatch(text):
            at = float(text)
            datetime.fromtimestamp(at, UTC)
        else:
            at = models.moment_or_utc(text)
    except (ValueError, OverflowError, OSError):
        at = -1.0
    if at < 0:
        reason = f"{errors.printable(text[:40])!r} is not a time"
        raise errors.InvalidInput(
            place, reason, "write 2026-11-23T16:00:00Z, 2026-11-23 16:00:00 (UTC), or epoch seconds"
        )
    return math.floor(at)


def _value(text: str, place: str) -> float | None:
    if text.lower() in _ABSENT:
        return None
    if not _NUMBER.fullmatch(text):
        reason = f"{errors.printable(text[:40])!r} is not a number"
        raise errors.InvalidInput(place, reason, "write a number, or leave it empty")
    value = float(text)
    return value if math.isfinite(value) else None
