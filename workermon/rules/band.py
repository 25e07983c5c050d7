"""The usual value of a metric at a time of the day or week: learned from its datapoints, stored as a short text.

A season is divided into hours. For each hour the band remembers its last occurrences: the median, highest and lowest of
their datapoints. The usual value is a median over these, so a few odd occurrences have no effect. This module has
numbers only; ``docs/explanation/forecasts.md`` explains it to users.
"""

from __future__ import annotations

import base64
import functools
import statistics
import struct
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

from workermon.models import DAY

Season = Literal["day", "week"]

#: Seconds that count as one time of the day; longer if the period of the metric is.
HOUR = 3600

#: Occurrences of an hour of the day that are remembered, and of an hour of the week.
DAYS_KEPT, WEEKS_KEPT = 5, 3

#: With fewer occurrences of an hour, its usual value is unknown.
MIN_OCCURRENCES = 2

#: The minimum share of an hour's expected datapoints for it to be learned.
MIN_PART = 0.25

#: Datapoints that an hour should have. It is longer if the metric is published less often.
MIN_DATAPOINTS = 4

#: Of all remembered hours, the part whose highest datapoint lies no further above their own median than is usual; and
#: the part that lies no further above the centre of its time, which an odd day must not move.
USUAL_PART, USUAL_PART_OF_DAYS = 0.95, 0.75

#: How many spreads the usual highest datapoint lies above the centre: of 12 to 60 datapoints of normal noise the
#: highest lies below 3 standard deviations in about 19 of 20 hours.
USUAL_SPREADS = 3.0

#: Share of the centre below which nothing is unusual, for the values of a nearly constant metric.
MIN_RELATIVE = 0.02

#: Smallest spread, so that a constant metric causes no division by zero.
_MIN_SPREAD = 1e-9

#: Largest distance that is reported, in spreads.
MAX_DISTANCE = 1e6

#: Version, season's hours of the week (0: a season of a day), width, hash of the metric, time up to which it has
#: learned, time from which on, datapoints learned.
_HEADER = struct.Struct(">BHIIqqI")
_VERSION = 1


class Usual(NamedTuple):
    """The usual value at a time: ``centre``, and the spread above and below it, in the unit of the metric.

    It was learned from so many ``occurrences`` of the season ``by``: days or weeks.
    """

    centre: float
    above: float
    below: float
    occurrences: int
    by: Season

    def distance(self, value: float) -> float:
        """Return how many spreads a value lies above the centre; negative below it."""
        distance = (value - self.centre) / (self.above if value >= self.centre else self.below)
        return max(-MAX_DISTANCE, min(MAX_DISTANCE, distance))


class Occurrence(NamedTuple):
    """One occurrence of an hour: the median of its datapoints, the highest and the lowest."""

    median_value: float
    highest: float
    lowest: float


class _Hour(NamedTuple):
    """The last occurrences of an hour, and the spreads of all hours when the last of them was learned."""

    occurrences: tuple[Occurrence, ...] = ()
    above: float = 0.0
    below: float = 0.0

    def centre(self) -> float:
        return median([occurrence.median_value for occurrence in self.occurrences])

    def usual(self, by: Season) -> Usual | None:
        """Return the usual value; ``None`` if too little is known."""
        if len(self.occurrences) < MIN_OCCURRENCES:
            return None
        centre = self.centre()
        least = max(MIN_RELATIVE * abs(centre), _MIN_SPREAD)
        above = max(median([occurrence.highest for occurrence in self.occurrences]) - centre, least) / USUAL_SPREADS
        below = max(centre - median([occurrence.lowest for occurrence in self.occurrences]), least) / USUAL_SPREADS
        # One of two occurrences may be the odd one, and nothing shows which. So both count as usual.
        difference = abs(self.occurrences[0].median_value - centre) if len(self.occurrences) == MIN_OCCURRENCES else 0.0
        return Usual(
            centre, max(above, self.above, difference), max(below, self.below, difference), len(self.occurrences), by
        )


class _Packed(NamedTuple):
    """Hours in packed form, each unpacked on request, because an evaluation needs only one of them.

    The text has the number of occurrences of each hour, then the upper bytes of all numbers, then the lower ones.
    """

    header: tuple[int, ...]
    counts: bytes
    upper: bytes
    lower: bytes

    def hour(self, place: int) -> _Hour:
        count, before = self.counts[place], self.counts[:place]
        if not count:
            return _Hour()
        begin = 3 * sum(before) + 2 * (place - before.count(0))
        size = 3 * count + 2
        raw = bytearray(4 * size)
        raw[0::4], raw[1::4] = self.upper[begin : begin + size], self.lower[begin : begin + size]
        numbers = struct.unpack(f">{size}f", raw)
        occurrences = tuple(Occurrence(*numbers[at : at + 3]) for at in range(0, 3 * count, 3))
        return _Hour(occurrences, *numbers[3 * count :])


@functools.lru_cache(maxsize=1024)
def _unpacked(text: str) -> _Packed | None:
    """Return the content of a text; ``None`` if it cannot be read."""
    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
        header = _HEADER.unpack_from(data)
    except (ValueError, zlib.error, struct.error):
        return None
    number = DAY // header[2] + header[1]
    counts, numbers = data[_HEADER.size : _HEADER.size + number], data[_HEADER.size + number :]
    return _Packed(header, counts, numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])


class Band:
    """What was learned about one metric. Times are in seconds since 1970.

    ``until`` is the time up to which datapoints were learned, ``since`` that of the first, ``None`` if there is none;
    ``datapoints`` is how many were learned.
    """

    def __init__(self, season: Season, width: int, metric: str) -> None:
        self.season, self.width = season, width
        self.until: int | None = None
        self.since: int | None = None
        self.datapoints = 0
        self._metric = zlib.crc32(metric.encode())
        self._weeks = 7 * DAY // width if season == "week" else 0
        self._packed: _Packed | None = None
        self._hours: list[_Hour] | None = None
        self._usual: dict[int, Usual | None] = {}

    # --- what is usual -----------------------------------------------------------------------------------------------

    def usual(self, at: int) -> Usual | None:
        """Return the usual value at a time; ``None`` while too little is known about that time.

        Until an hour of the week is known, the same hour of any day is used.
        """
        hour = at // self.width
        if hour not in self._usual:
            of_week = self._hour(self._of_week(at)).usual("week") if self._weeks else None
            self._usual[hour] = of_week or self._hour(self._of_day(at)).usual("day")
        return self._usual[hour]

    def occurrences(self, at: int) -> int:
        """Return how many occurrences of the time of day are remembered."""
        return len(self._hour(self._of_day(at)).occurrences)

    def _of_day(self, at: int) -> int:
        return at % DAY // self.width

    def _of_week(self, at: int) -> int:
        return DAY // self.width + at % (7 * DAY) // self.width

    def _hour(self, place: int) -> _Hour:
        if self._hours is not None:
            return self._hours[place]
        return _Hour() if self._packed is None else self._packed.hour(place)

    # --- learning ----------------------------------------------------------------------------------------------------

    def learn(self, begin: int, values: Sequence[float], expected: float) -> None:
        """Learn the finite datapoints of the hour from ``begin``; ``expected`` is how many an hour has."""
        self.until = begin + self.width
        if not values or len(values) < MIN_PART * expected:
            return
        self.since = begin if self.since is None else self.since
        self.datapoints = min(self.datapoints + len(values), 2**32 - 1)
        if self._hours is None:
            self._hours = [self._hour(place) for place in range(DAY // self.width + self._weeks)]
        self._usual.clear()
        ordered = sorted(values)
        occurrence = Occurrence(_rounded(median(ordered)), _rounded(ordered[-1]), _rounded(ordered[0]))
        places = {self._of_day(begin): DAYS_KEPT} | ({self._of_week(begin): WEEKS_KEPT} if self._weeks else {})
        for place, limit in places.items():
            hour = self._hours[place]
            self._hours[place] = hour._replace(occurrences=(*hour.occurrences, occurrence)[-limit:])
        above, below = _spreads(self._hours[: DAY // self.width], expected)
        for place in places:
            self._hours[place] = self._hours[place]._replace(above=_rounded(above), below=_rounded(below))

    def skip(self, until: int) -> None:
        """Skip hours without datapoints."""
        assert self.until is not None
        self.until = max(self.until + self.width, until)

    @property
    def changed(self) -> bool:
        """Return whether it has learned anything since it was read from its text."""
        stored = -1 if self._packed is None else self._packed.header[4]
        return self.until is not None and self.until != stored

    # --- the text ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the band as text: the upper 16 bits of each number, packed and in base64."""
        header = _HEADER.pack(
            _VERSION,
            self._weeks,
            self.width,
            self._metric,
            -1 if self.until is None else self.until,
            -1 if self.since is None else self.since,
            self.datapoints,
        )
        counts, numbers = bytearray(), list[float]()
        for place in range(DAY // self.width + self._weeks):
            hour = self._hour(place)
            counts.append(len(hour.occurrences))
            for occurrence in hour.occurrences:
                numbers += occurrence
            if hour.occurrences:
                numbers += (hour.above, hour.below)
        raw = struct.pack(f">{len(numbers)}f", *numbers)
        return base64.b64encode(zlib.compress(header + counts + raw[0::4] + raw[1::4], 6)).decode()

    @classmethod
    def read(cls, text: str | None, season: Season, width: int, metric: str) -> Band:
        """Parse a band. It is empty if the text is of another metric, season or hour, or unreadable."""
        band = cls(season, width, metric)
        packed = None if text is None else _unpacked(text)
        if packed is not None and packed.header[:4] == (_VERSION, band._weeks, width, band._metric):
            band._packed = packed
            until, since, band.datapoints = packed.header[4:]
            band.until, band.since = (None if at < 0 else at for at in (until, since))
        return band


def due(until: int, width: int, lateness: int) -> int:
    """Return when the hour after ``until`` is learned: no late datapoint can change it then."""
    return until + width + lateness


def width_of(period: int) -> int:
    """Return how long an "hour" is for a metric of a period: an hour, or more for a long period; it divides a day.

    >>> width_of(60), width_of(900), width_of(3600), width_of(100_000)
    (3600, 3600, 14400, 86400)
    """
    widths = (HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR)
    return next((width for width in widths if width >= MIN_DATAPOINTS * period), DAY)


def _spreads(hours: Sequence[_Hour], expected: float) -> tuple[float, float]:
    """Return the common spread above and below the centre of the hours of a day."""
    above, below, above_days, below_days = list[float](), list[float](), list[float](), list[float]()
    for hour in hours:
        if hour.occurrences:
            centre = hour.centre()
            above += [occurrence.highest - occurrence.median_value for occurrence in hour.occurrences]
            below += [occurrence.median_value - occurrence.lowest for occurrence in hour.occurrences]
            above_days += [occurrence.highest - centre for occurrence in hour.occurrences]
            below_days += [centre - occurrence.lowest for occurrence in hour.occurrences]
    return _spread(above, above_days, expected), _spread(below, below_days, expected)


def _spread(within: list[float], days: list[float], expected: float) -> float:
    """Return a spread from how far hours lie beyond their own medians and beyond the centre of their time.

    It is at least the standard deviation of normal noise whose highest of so many datapoints lies as far as in the
    median hour.
    """
    usual = max(_part(within, USUAL_PART), _part(days, USUAL_PART_OF_DAYS)) / USUAL_SPREADS
    return max(usual, median(within) / _highest(max(round(expected), MIN_DATAPOINTS)))


@functools.lru_cache(maxsize=64)
def _highest(number: int) -> float:
    """Return how many standard deviations the highest of so many normal numbers lies above their mean, in the median.

    >>> round(_highest(4), 2), round(_highest(12), 2), round(_highest(60), 2)
    (1.0, 1.59, 2.27)
    """
    return statistics.NormalDist().inv_cdf(0.5 ** (1 / number))


def median(values: Sequence[float]) -> float:
    """Return the median of values in any order."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _part(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def _rounded(value: float) -> float:
    """Return a number with the stored precision: 8 bits, steps of half a percent.

    >>> _rounded(90.0), _rounded(0.1), _rounded(_rounded(1e12)) == _rounded(1e12)
    (90.0, 0.10009765625, True)
    """
    clipped = max(-1e38, min(1e38, value * (1 + 1 / 512)))
    (rounded,) = struct.unpack(">f", struct.pack(">f", clipped)[:2] + b"\0\0")
    return float(rounded)
