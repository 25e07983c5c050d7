"""Hourly roll-ups of a series, and how those of a week are packed: the values as floats of 28 bits (6 digits).

Each hour has a count (2 bytes) and four floats (4 bytes, of which 4 bits are zero). They are sorted by column and by
byte, so that similar bytes are adjacent, and compressed. That takes 9 to 13 bytes for varying values, and hardly any
for constant ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from workermon.models.base import Frozen

#: Seconds.
HOUR, WEEK = 3600, 7 * 86_400
#: Bytes of an hour before compression: a count and four floats.
_WIDTH = 18
#: The greatest float of 28 bits. Greater values are stored as this one.
_MAX = 3.4028e38
#: The number added to a float's bits so that cutting off the last four rounds, and the mask of the remaining bits.
_HALF, _LEFT = 8, 0xFFFFFFF0


class RollUp(NamedTuple):
    """The datapoints of one series within the hour that starts at ``at``; ``number`` is at least 1."""

    at: int
    least: float
    mean: float
    most: float
    p95: float
    number: int


class SavedWeek(Frozen):
    """The roll-ups of a worker in the week that starts at ``week``: by metric, packed and in base64."""

    worker_id: str
    week: int
    series: dict[str, str]


def week_of(at: float) -> int:
    """Return the start of the week that contains a time. Weeks begin on Thursday, as the epoch does."""
    return int(at // WEEK) * WEEK


def pack(week: int, rollups: Mapping[int, RollUp]) -> bytes:
    """Pack the roll-ups of a week, by the start of their hours.

    >>> unpack(0, pack(0, {3600: RollUp(3600, 1.0, 1.5, 2.0, 2.0, 60)}))
    {3600: RollUp(at=3600, least=1.0, mean=1.5, most=2.0, p95=2.0, number=60)}
    """
    hours = range(week, max(rollups, default=week - HOUR) + HOUR, HOUR)
    absent = RollUp(0, 0.0, 0.0, 0.0, 0.0, 0)
    rows = [rollups.get(hour, absent) for hour in hours]
    columns = [_planes(struct.pack(f">{len(rows)}H", *(min(row.number, 0xFFFF) for row in rows)), 2)]
    for column in range(1, 5):
        values = (min(max(row[column], -_MAX), _MAX) for row in rows)
        bits = struct.unpack(f">{len(rows)}I", struct.pack(f">{len(rows)}f", *values))
        columns.append(_planes(struct.pack(f">{len(rows)}I", *((word + _HALF) & _LEFT for word in bits)), 4))
    return zlib.compress(b"".join(columns), 6)


def unpack(week: int, packed: bytes) -> dict[int, RollUp]:
    """Return the roll-ups of a week by the start of their hours. Raises ``ValueError`` for malformed data."""
    try:
        data = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    number, remainder = divmod(len(data), _WIDTH)
    if remainder or number * HOUR > WEEK:
        raise ValueError("these are not the roll-ups of a week")
    counts = struct.unpack(f">{number}H", _joined(data[: 2 * number], 2))
    columns = [
        struct.unpack(f">{number}f", _joined(data[(2 + 4 * column) * number : (6 + 4 * column) * number], 4))
        for column in range(4)
    ]
    return {
        week + place * HOUR: RollUp(week + place * HOUR, least, mean, most, p95, count)
        for place, (count, least, mean, most, p95) in enumerate(zip(counts, *columns, strict=True))
        if count
    }


def _planes(data: bytes, width: int) -> bytes:
    """Sort by byte: the first of each value, then the second of each, and so on."""
    return b"".join(data[place::width] for place in range(width))


def _joined(data: bytes, width: int) -> bytes:
    number = len(data) // width
    joined = bytearray(len(data))
    for place in range(width):
        joined[place::width] = data[place * number : (place + 1) * number]
    return bytes(joined)
