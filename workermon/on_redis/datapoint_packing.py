"""How datapoints are packed: eight bytes each, in the order of their slots. One string holds an hour of a series.

A series' field is ``<metric>:<period>``. If its times are not multiples of the period, ``:<phase>`` (the remainder)
follows. A datapoint's place in the string is its slot, ``floor(at / period)``, minus the hour's first slot. Its bytes
are those of a big-endian double, with the bits of a NaN inverted. So eight zero bytes, which Redis fills in where
nothing was written, mean "absent". A NaN itself cannot be stored.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from workermon.models import Datapoint, datapoint

#: Seconds of one key. A longer period has at most one datapoint in it.
HOUR = 3600
#: Bytes of a datapoint.
WIDTH = 8

_NAN = b"\x7f\xf8\x00\x00\x00\x00\x00\x00"


class Run(NamedTuple):
    """The position of datapoints in consecutive slots: from slot ``offset`` on in the hour's ``field``.

    ``places`` are the datapoints' places in their series, ``at`` is the time of the first, ``period`` is in seconds.
    """

    hour: int
    field: str
    offset: int
    at: int
    period: int
    places: tuple[int, ...]


@lru_cache(maxsize=512)
def _mask(count: int) -> int:
    return int.from_bytes(_NAN * count, "big")


def _flipped(data: bytes) -> bytes:
    return (int.from_bytes(data, "big") ^ _mask(len(data) // WIDTH)).to_bytes(len(data), "big")


def hour_of(at: float, period: int) -> int:
    """Return the start of the hour under which a datapoint of that time is stored."""
    return int(at // period) * period // HOUR * HOUR


def packed(values: Sequence[float]) -> bytes:
    """Pack values, eight bytes each."""
    return _flipped(struct.pack(f">{len(values)}d", *values))


def runs(metric: str, period: int, times: Sequence[int]) -> list[Run]:
    """Return where the datapoints of a series belong. If two have the same time, the later one counts.

    >>> runs("cpu", 60, [7320])
    [Run(hour=7200, field='cpu:60', offset=2, at=7320, period=60, places=(0,))]
    """
    name = metric.replace("%", "%25").replace(":", "%3A")
    places: dict[tuple[int, int, int], int] = {}
    for place, at in enumerate(times):
        slot, phase = divmod(at, period)
        places[phase, slot * period // HOUR * HOUR, slot] = place
    found_runs: list[Run] = []
    keys = sorted(places)
    start = 0
    for end in range(1, len(keys) + 1):
        phase, hour, slot = keys[start]
        if end < len(keys) and keys[end] == (phase, hour, slot + end - start):
            continue
        offset = slot - -(-hour // period)
        field = f"{name}:{period}:{phase}" if phase else f"{name}:{period}"
        of_run = tuple([places[key] for key in keys[start:end]])
        found_runs.append(Run(hour, field, offset, slot * period + phase, period, of_run))
        start = end
    return found_runs


def datapoints(data: bytes, hour: int, period: int, phase: int, low: int, high: int) -> Iterable[Datapoint]:
    """Unpack the datapoints of a field whose slots lie between two slots, both included."""
    first = -(-hour // period)
    start, end = max(0, low - first), min(len(data) // WIDTH, high - first + 1)
    if start >= end:
        return ()
    values = struct.unpack(f">{end - start}d", _flipped(data[start * WIDTH : end * WIDTH]))
    at = (first + start) * period + phase
    pairs = zip(range(at, at + len(values) * period, period), values, strict=True)
    # A NaN does not equal itself. Usually there is none, and checking each value would take longer than all the rest.
    if not all(map(operator.eq, values, values)):
        return map(datapoint, [pair for pair in pairs if pair[1] == pair[1]])
    return map(datapoint, pairs)


def fields(names: Mapping[bytes, bytes]) -> dict[tuple[str, int], list[tuple[int, bytes]]]:
    """Group an hour's fields by metric and period: their phases with the data."""
    packed_points: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
    for name, data in names.items():
        metric, period, *phase = name.decode().split(":")
        metric = metric.replace("%3A", ":").replace("%25", "%")
        packed_points.setdefault((metric, int(period)), []).append((int(phase[0]) if phase else 0, data))
    return packed_points


def merged(period: int, parts: list[Datapoint]) -> list[Datapoint]:
    """Return datapoints in order of time, one a slot: if two share a slot, the later time counts."""
    return list({point.at // period: point for point in sorted(parts)}.values())
