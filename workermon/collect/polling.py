"""Pure: when CloudWatch is asked for a metric, and from which time on: due times, watermarks, and learned delays.

All times are seconds since 1970, all durations seconds. The *age* of a datapoint is the time since its timestamp (the
start of its period). A metric waits for one datapoint, the *expected* one. Asking before it can be available costs
money and brings nothing. The age at which datapoints appear is learned for each account, region, metric, period and
interval, and within the interval for each place of the request. Requests from the same place see the same ages, so one
request a period is enough.
"""

from __future__ import annotations

import dataclasses
import statistics
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from workermon import models
from workermon.rules import horizon

#: Seconds. A collection may start this much earlier or later than its place in the interval (at most a quarter of it).
JITTER = 5.0

#: Arrivals that have to be observed before a delay counts as known.
MIN_ARRIVALS = 5

#: Periods in a window of learning. What is learned counts in its window and in the next.
WINDOW = 12

#: Once in this many periods a metric is requested one interval before the learned delay, because datapoints may have
#: begun to arrive earlier. Less than ``WINDOW``, so that each window has such a request.
PROBE_EVERY = 8

#: Places distinguished within an interval.
PLACES = 6


class Delay(NamedTuple):
    """What is learned about the ages at which datapoints appear.

    ``least`` is the least age at which a datapoint was still absent right before it appeared, in window number
    ``window``. ``before`` is the same for the window before, if there was one. ``arrivals_seen`` counts the datapoints
    whose arrival was observed, ``last`` is the newest one's timestamp. ``usual`` is the age at which they are usually
    available.
    """

    window: int
    least: float
    before: float | None
    arrivals_seen: int
    last: int
    usual: float

    @property
    def absent(self) -> float | None:
        """Return up to which age a datapoint is surely absent; ``None`` if that is unknown or outdated."""
        return self.floor if self.arrivals_seen >= MIN_ARRIVALS else None

    @property
    def floor(self) -> float:
        """Return up to which age datapoints were absent, however few were observed."""
        return self.least if self.before is None else min(self.least, self.before)

    @classmethod
    def of(cls, value: Any) -> Delay | None:
        """Parse a stored delay; ``None`` for any other value."""
        try:
            window, least, before, arrivals_seen, last, usual = value
            return cls(
                int(window),
                float(least),
                None if before is None else float(before),
                int(arrivals_seen),
                int(last),
                float(usual),
            )
        except (TypeError, ValueError):
            return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One collection's request for one metric of a worker.

    ``expected`` is the datapoint that the metric waits for, ``requested_at`` the time of the previous request, ``at``
    the time now. ``full_at`` is as in ``models.Condition``, ``turn`` as in ``turn_of``.
    """

    expected: int | None
    requested_at: float | None
    at: float
    period: int
    interval: int
    full_at: float | None = None
    turn: int = 0


class Arrival(NamedTuple):
    """How an expected datapoint appeared: it was available at ``age`` and not yet at the age ``absent``.

    If the request before was left out (not ``watched``), ``absent`` is the age that it would have had. So late
    datapoints alone cannot raise the learned delay.
    """

    expected: int
    age: float
    absent: float
    watched: bool


class Begin(NamedTuple):
    """The start of a request: ``full_since`` for all that may be missing, ``recent_since`` for what is new."""

    recent_since: int
    full_since: int


def _jitter(interval: int) -> float:
    return min(JITTER, interval / 4)


def place(interval: int, expected: int, at: float) -> int:
    """Return the place of a request within the interval, for an expected datapoint: 0 to ``PLACES`` - 1."""
    return min(int((at - expected) % interval * PLACES // interval), PLACES - 1)


def name(metric: str, period: int, interval: int, place: int) -> str:
    """Return the name under which the delay for a place is stored."""
    return f"delay:{metric}:{period}:{interval}:{place}"


def absent(delays: Sequence[Delay | None], interval: int) -> list[float | None]:
    """Return by place up to which age a datapoint is surely absent; ``None`` if unknown.

    No place may claim more than the others observed: with few requests it may have seen late datapoints only.
    """
    floors = [delay.absent if delay else None for delay in delays]
    highest = min((delay.floor + interval for delay in delays if delay), default=0.0)
    return [None if age is None else min(age, highest) for age in floors]


def is_due(look: Look, absent: float | None, period_multiplier: int = 1) -> bool:
    """Return whether a metric is worth a request: the expected datapoint may be available by now.

    ``absent`` is the age up to which it is surely not available. A metric is requested at least once a period, whatever
    was learned; ``period_multiplier`` makes that so many periods. Before anything is learned, and while a datapoint is
    overdue, each collection requests it.
    """
    expected, requested_at, at, period = look.expected, look.requested_at, look.at, look.period
    if requested_at is None or requested_at > at:
        return True
    jitter = _jitter(look.interval)
    if period_multiplier > 1:
        return at - requested_at >= period_multiplier * max(period, look.interval) - jitter
    if expected is None or at - requested_at >= period:
        return True
    age = at - expected
    if age < -jitter:
        return False
    if absent is None or age > absent + jitter:
        return True
    return expected // period % PROBE_EVERY == 0 and age + look.interval > absent + jitter


def arrival(look: Look, arrived: Sequence[int], *, lateness: int) -> Arrival | None:
    """Return how the expected datapoint appeared among those that arrived; ``None`` if it did not, or is no evidence.

    A datapoint is no evidence if it was available long before workermon asked, or if it is later than ``lateness``.
    """
    expected, requested_at, at, period, interval = look.expected, look.requested_at, look.at, look.period, look.interval
    if expected is None or requested_at is None or not requested_at < at or expected > at:
        return None
    if at - requested_at > period + 1.5 * interval or at - expected > period + _latest(lateness):
        return None
    if expected not in arrived:
        return None
    watched = at - requested_at <= 1.5 * interval
    return Arrival(expected, at - expected, (requested_at if watched else at - interval) - expected, watched)


def late(look: Look, newest: int, before: tuple[int, int], *, lateness: int) -> tuple[int, int]:
    """Return how many newest datapoints in a row arrived too late, and by how many seconds the last one was late.

    ``newest`` is the time of one that has just arrived; ``look.period`` is the metric's. If workermon itself asked
    late, nothing new is known, and ``before`` is returned.
    """
    if look.requested_at is None or look.at - look.requested_at > look.period + 1.5 * look.interval:
        return before
    seconds = round(look.at - newest - look.period)
    return (min(before[0] + 1, models.MANY_LATE), seconds) if seconds > lateness + look.interval else (0, 0)


def learn(before: Delay | None, arrivals: Sequence[Arrival], *, period: int, interval: int) -> Delay | None:
    """Return the delay after some datapoints of one metric appeared; ``before`` itself if they change nothing.

    A datapoint that arrived earlier than learned voids everything that was learned.
    """
    if not arrivals:
        return before
    newest = max(arrival.expected for arrival in arrivals)
    earliest = min(arrival.age for arrival in arrivals)
    least = min(arrival.absent for arrival in arrivals)
    watched = any(arrival.watched for arrival in arrivals)
    if before is not None and before.absent is not None and earliest <= before.absent + _jitter(interval):
        before = None
    window = newest // (WINDOW * period)
    usual = statistics.median(arrival.age for arrival in arrivals)
    if before is None or not before.window <= window <= before.window + 1:
        return Delay(window, least, None, int(watched), newest, usual)
    is_same_window = window == before.window
    lowest = min(least, before.least) if is_same_window else least
    older = before.before if is_same_window else before.least
    fresh = newest > before.last
    if not fresh and lowest == before.least:
        return before
    # Rises fast and falls slowly: it decides when a datapoint counts as absent, and one late datapoint proves little.
    usual = before.usual + (usual - before.usual) * (0.25 if usual > before.usual else 1 / 16)
    return Delay(
        window,
        lowest,
        older,
        min(before.arrivals_seen + int(fresh and watched), MIN_ARRIVALS),
        max(newest, before.last),
        usual if fresh else before.usual,
    )


def _latest(lateness: int) -> int:
    """Return how late a datapoint may be and still count: a short lateness is no reason to learn less."""
    return max(lateness, models.LATENESS)


def patience(delay: Delay | None, *, period: int, interval: int, lateness: int) -> float:
    """Return how long after its period's end a datapoint is awaited before it counts as absent.

    That is the usual age and one more request. By then the datapoint was requested without success at its usual time.
    """
    if delay is None or delay.arrivals_seen < MIN_ARRIVALS:
        return horizon.DELAY
    return min(max(delay.usual - period, 0.0) + interval, _latest(lateness))


def turn_of(worker_ids: Iterable[str]) -> int:
    """Return in which of ``horizon.FULL_LOOK_EVERY`` intervals workers that are requested together have a full request.

    AWS allows 180,000 datapoints a second in an account and region. Full requests of a large fleet in the same interval
    would exceed that. Workers of one call have the same turn, so that most calls are short.
    """
    return zlib.crc32(min(worker_ids, default="").encode()) % horizon.FULL_LOOK_EVERY


def is_full_look_due(full_at: float | None, at: float, interval: int, turn: int) -> bool:
    """Return whether it is this turn's first request for a full one, or the last request saw a revised value.

    Whatever the turns, no more than ``horizon.FULL_LOOK_EVERY`` intervals lie between two full requests.
    """
    window, shift = horizon.FULL_LOOK_EVERY * interval, turn * interval
    return full_at is None or (full_at - shift) // window != (at - shift) // window


def suffices_short(look: Look, newest: int) -> bool:
    """Return whether it is enough to ask from the newest datapoint's time on.

    That is so if no gap is awaited and no full request is due.

    A metric that was not requested, or without success, since its worker's full request has a full one of its own.
    """
    if look.requested_at is None or is_full_look_due(look.full_at, look.at, look.interval, look.turn):
        return False
    if look.full_at is None or not look.full_at <= look.requested_at <= look.at:
        return False
    return look.expected == newest + look.period and newest <= look.requested_at


def since(look: Look, newest: int | None, added_at: float, *, retention: int, lateness: int) -> Begin:
    """Return the start of a metric's full request. Both times are multiples of the period.

    ``newest`` is the time of its newest datapoint. Before there is one, ``added_at`` is when its worker was added.
    ``full_since`` is the watermark minus the lateness and a period, but not older than the retention. The watermark is
    the newest datapoint or the last full request, because later datapoints may arrive that late. Before there is a
    datapoint, it is an hour before the metric's last request, or before the worker was added. ``recent_since`` is later
    only if the metric stopped arriving long before its last request. A wide window for such a metric in each request
    would fill whole calls with nothing.
    """
    at, period = look.at, look.period
    reached = min(at if look.requested_at is None else look.requested_at, at)
    if newest is None:
        full = min(added_at if look.requested_at is None else look.requested_at, at) - horizon.BACKFILL
    else:
        full = min(newest, _seen_in_full(look)) - lateness - period
    full = max(full, at - retention)
    recent = reached - horizon.BACKFILL - lateness
    silent = newest is not None and look.requested_at is not None and newest < recent
    recent = max(full, recent) if silent else full
    return Begin(int(recent // period) * period, int(full // period) * period)


def _seen_in_full(look: Look) -> float:
    """Return when at the latest a metric had a request for all datapoints that may arrive late."""
    if look.requested_at is None or look.requested_at > look.at:
        return look.at
    if look.full_at is not None and look.full_at <= look.requested_at:
        return look.full_at
    # Its full request was before its last request, by fewer requests than lie between two full ones.
    return look.requested_at - horizon.FULL_LOOK_EVERY * look.interval


def shortened(begin: Begin, newest: int, period: int) -> Begin:
    """Return the start of a request for new datapoints only. The newest one is included, as it may be revised."""
    if begin.recent_since > begin.full_since:
        return begin  # silent: check whether anything arrived at all
    since = max(newest // period * period, begin.full_since)
    return Begin(since, since)


def expected(newest: int | None, arrived: Sequence[int], *, period: int, lateness: int) -> int | None:
    """Return the timestamp of the datapoint to wait for after an answer; ``None`` before there is any datapoint.

    ``newest`` is the time of the newest datapoint, ``arrived`` are those of the answer, in order.

    That is the one after the newest, or the earliest one that the answer lacks between two others, if datapoints may
    still arrive that late. While a metric waits for such a gap, each collection requests it. So a gap is awaited no
    longer than usual, even with a long lateness. If it is filled later, the next request made anyway finds it.
    """
    if newest is None:
        return None
    if arrived and arrived[-1] == newest and arrived[-1] - arrived[0] == (len(arrived) - 1) * period:
        return newest + period  # none is missing: one a slot, in order
    have = {at // period for at in arrived}
    last = newest // period
    begin = max(min(have, default=last), (newest - min(lateness, models.LATENESS)) // period)
    missing = next((slot for slot in range(begin, last) if slot not in have), last + 1)
    return missing * period + newest % period
