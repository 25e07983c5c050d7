"""Pure: when CloudWatch is asked for a metric, and from when on. Watermarks, lateness and the learnt delay.

All times are seconds since 1970, all durations seconds. The *age* of a datapoint is how long ago its timestamp (the
start of its period) is. A metric waits for one datapoint, the *expected* one; asking before it can be there is money
for nothing. How old datapoints are when they appear is learnt for each account, region, metric and period, apart for
each place of the look within the interval: looks that share a place see the same ages, and so need one look a period.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from workermon import models
from workermon.config import catalogue

#: Seconds. A collection may start so much earlier or later than its place in the interval (a quarter of it at most).
JITTER = 5.0

#: Datapoints that have to be watched coming before anything is made of it.
ENOUGH = 5

#: Periods of a window of learning. What is learnt counts in its window and in the next.
WINDOW = 12

#: Each so many periods the look before the learnt one is made too: datapoints may have begun to come earlier. Below
#: ``WINDOW``, so that no window is without news.
PROBE = 8

#: Places within an interval that are told apart.
PLACES = 6

_AT = operator.itemgetter(0)


class Delay(NamedTuple):
    """What is learnt of the ages at which datapoints appear.

    ``least`` is the least age at which a datapoint was still absent right before it came, within window number
    ``window``, ``before`` the same of the window before it, if there was one. ``seen`` counts the datapoints that
    were watched coming, ``last`` is the timestamp of the newest. ``usual`` is the age at which they are there.
    """

    window: int
    least: float
    before: float | None
    seen: int
    last: int
    usual: float

    @property
    def absent(self) -> float | None:
        """Return up to which age a datapoint is surely absent; ``None``: that is not known (any more)."""
        return self.floor if self.seen >= ENOUGH else None

    @property
    def floor(self) -> float:
        """Return the same, however little was seen."""
        return self.least if self.before is None else min(self.least, self.before)

    @classmethod
    def of(cls, value: Any) -> Delay | None:
        """Read what was kept; ``None`` where it is nothing of ours."""
        try:
            window, least, before, seen, last, usual = value
            return cls(
                int(window),
                float(least),
                None if before is None else float(before),
                int(seen),
                int(last),
                float(usual),
            )
        except (TypeError, ValueError):
            return None


class Arrival(NamedTuple):
    """How an expected datapoint appeared: at ``age`` it was there; at the age ``absent`` it had not been.

    Where the look before was left out (not ``watched``), ``absent`` is the age at which that would have been: it
    keeps what was learnt from rising by those datapoints alone that came late.
    """

    expected: int
    age: float
    absent: float
    watched: bool


def _jitter(interval: int) -> float:
    return min(JITTER, interval / 4)


def place(interval: int, expected: int, at: float) -> int:
    """Return the place within the interval of a look at a time, for an expected datapoint: 0 to ``PLACES`` - 1."""
    return min(int((at - expected) % interval * PLACES // interval), PLACES - 1)


def name(metric: str, period: int, interval: int, place: int) -> str:
    """Name under which the delay is kept that a look from a place teaches and needs."""
    return f"delay:{metric}:{period}:{interval}:{place}"


def absent(delays: Sequence[Delay | None], interval: int) -> list[float | None]:
    """Return by place up to which age a datapoint is surely absent; ``None``: that is not known.

    No place may believe more than the others saw: where looks were few, late datapoints may have been all of them.
    """
    known = [each.absent if each else None for each in delays]
    highest = min((each.floor + interval for each in delays if each), default=0.0)
    return [None if each is None else min(each, highest) for each in known]


def is_due(
    expected: int | None,
    asked: float | None,
    at: float,
    *,
    period: int,
    interval: int,
    absent: float | None,
    budget_decision: int = 1,
) -> bool:
    """Tell whether a metric is worth asking for: the expected datapoint may be there by now.

    ``asked`` is when it was last asked for, ``absent`` up to which age it is surely not there. Whatever was learnt, it
    is asked for once a period; ``stretch`` makes that so many periods. Before anything is learnt, and where a
    datapoint is overdue, each look asks.
    """
    if asked is None or asked > at:
        return True
    jitter = _jitter(interval)
    if budget_decision > 1:
        return at - asked >= budget_decision * max(period, interval) - jitter
    if expected is None or at - asked >= period:
        return True
    age = at - expected
    if age < -jitter:
        return False
    if absent is None or age > absent + jitter:
        return True
    return expected // period % PROBE == 0 and age + interval > absent + jitter


def sight(
    expected: int | None,
    asked: float | None,
    at: float,
    came: Sequence[models.Datapoint],
    *,
    period: int,
    interval: int,
    lateness: int,
) -> Arrival | None:
    """Return how the expected datapoint appeared in what came; ``None`` where it did not, or where it teaches nothing.

    A datapoint that waited for us, not we for it, teaches nothing, nor does one that is later than late.
    """
    if expected is None or asked is None or not asked < at or expected > at:
        return None
    if at - asked > period + 1.5 * interval or at - expected > period + _latest(lateness):
        return None
    if expected not in map(_AT, came):
        return None
    watched = at - asked <= 1.5 * interval
    return Arrival(expected, at - expected, (asked if watched else at - interval) - expected, watched)


def learn(before: Delay | None, sights: Sequence[Arrival], *, period: int, interval: int) -> Delay | None:
    """Return what is known after some datapoints of one metric appeared; ``before`` itself where that is no news.

    What came earlier than it was learnt to overturns all that was learnt.
    """
    if not sights:
        return before
    newest = max(each.expected for each in sights)
    earliest = min(each.age for each in sights)
    least = min(each.absent for each in sights)
    watched = any(each.watched for each in sights)
    if before is not None and before.absent is not None and earliest <= before.absent + _jitter(interval):
        before = None
    window = newest // (WINDOW * period)
    usual = statistics.median(each.age for each in sights)
    if before is None or not before.window <= window <= before.window + 1:
        return Delay(window, least, None, int(watched), newest, usual)
    same = window == before.window
    lowest = min(least, before.least) if same else least
    older = before.before if same else before.least
    fresh = newest > before.last
    if not fresh and lowest == before.least:
        return before
    # Rises fast and falls slowly: absence is judged by it, and one straggler says little.
    usual = before.usual + (usual - before.usual) * (0.25 if usual > before.usual else 1 / 16)
    return Delay(
        window,
        lowest,
        older,
        min(before.seen + int(fresh and watched), ENOUGH),
        max(newest, before.last),
        usual if fresh else before.usual,
    )


def _latest(lateness: int) -> int:
    """Return how late a datapoint may be that tells of delays: a short lateness is no reason to know less of them."""
    return max(lateness, models.LATENESS)


def patience(delay: Delay | None, *, period: int, interval: int, lateness: int) -> float:
    """Return how long after its period's end a datapoint is waited for before it counts as absent.

    That is the usual age and one more look: an absent one has been asked for in vain when it was usually there.
    """
    if delay is None or delay.seen < ENOUGH:
        return catalogue.DELAY
    return min(max(delay.usual - period, 0.0) + interval, _latest(lateness))


def since(
    latest: models.Datapoint | None,
    asked: float | None,
    added_at: float,
    at: float,
    *,
    period: int,
    retention: int,
    lateness: int,
) -> tuple[int, int]:
    """Return from when on to ask: first what is enough to see whether anything came, then all that may be missing.

    The second is the watermark (the newest datapoint; or before there is one, an hour before the metric was last
    asked for, or the worker added) less the lateness and a period, no older than the retention. The first is later
    only where the metric fell silent long before it was last asked for: a wide window of a silent metric, at each
    look, would fill whole calls with nothing. Both are multiples of the period.
    """
    reached = min(at if asked is None else asked, at)
    if latest is None:
        whole = min(added_at if asked is None else asked, at) - catalogue.BACKFILL
    else:
        whole = min(latest.at, reached) - lateness - period
    whole = max(whole, at - retention)
    recent = reached - catalogue.BACKFILL - lateness
    near = whole if latest is None or asked is None or latest.at >= recent else max(whole, recent)
    return int(near // period) * period, int(whole // period) * period


def expected(
    latest: models.Datapoint | None, came: Sequence[models.Datapoint], *, period: int, lateness: int
) -> int | None:
    """Return the timestamp of the datapoint to wait for after an answer, ``None`` before there is any.

    That is the one after the newest; or the earliest that the answer lacks between two others, no longer ago than
    datapoints may come late. Each look asks for such a one, and one that never comes would cost that for all of a
    long lateness; so it is waited for no longer than usual, and what comes after that is found by the next look that
    asks anyway.
    """
    if latest is None:
        return None
    newest = latest.at // period
    if came and came[-1].at == latest.at and came[-1].at - came[0].at == (len(came) - 1) * period:
        return latest.at + period  # none is missing: they are in order, one a slot
    have = {at // period for at, _ in came}
    begin = max(min(have, default=newest), (latest.at - min(lateness, models.LATENESS)) // period)
    missing = next((slot for slot in range(begin, newest) if slot not in have), newest + 1)
    return missing * period + latest.at % period
