"""Pure: how long after its period's end a metric's datapoint is available, learned for each account and region.

Each request shows two things about the newest datapoint that nearly all workers have: it was available at its lag, and
one period earlier the next one was not. Requests at other places of the interval narrow that down, until a request
right after the lag is right after the datapoint's arrival. All durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

#: Share of the workers that must have a datapoint before it counts as available.
MOST = 0.9
#: Workers whose newest datapoint is older than so many periods are ignored. If datapoints are known to arrive more than
#: one period late, that lag replaces the first period.
ALIVE = 4
#: After so many requests without a datapoint, datapoints count as arriving later than before.
MISSES = 2
#: The lag is not narrowed down any further than this.
RESOLUTION = 1.0
#: Seconds. After so long datapoints may have begun to arrive earlier, so earlier requests are tried again. A cohort
#: whose request is too early is collected again (``again_in``).
RETRIED_EVERY = 12 * 3600
#: Seconds. The same after datapoints began to arrive later: perhaps CloudWatch was slow for a minute only.
RETRIED_AFTER_MISSES = 300
#: Seconds after which a request that found no new datapoint is sent again, at the earliest.
REPEATED_AFTER = 2.0


class Lag(NamedTuple):
    """The datapoint was available at a lag of ``present`` and not yet at ``absent``.

    After ``retry_at`` (seconds since 1970) earlier requests are tried again: datapoints may arrive earlier by then.
    ``misses`` is how many requests in a row found no datapoint although one was expected; ``missed`` is the lag of the
    last of them.
    """

    absent: float
    present: float
    misses: int
    missed: float
    retry_at: float

    @classmethod
    def of(cls, value: Any) -> Lag | None:
        """Read a stored lag; ``None`` for any other value."""
        try:
            absent, present, misses, missed, retry_at = value
            return cls(float(absent), float(present), int(misses), float(missed), float(retry_at))
        except (TypeError, ValueError):
            return None

    @property
    def probe(self) -> float | None:
        """Return the lag at which a request would narrow this down; ``None`` if it is narrow enough."""
        return (self.absent + self.present) / 2 if self.present - self.absent > RESOLUTION else None


def measure(newest: Sequence[int], period: int, at: float, known: Lag | None) -> float | None:
    """Return the lag of the newest datapoint that ``MOST`` workers have; ``None`` if no worker has recent ones.

    ``newest`` has the time of each worker's newest datapoint; ``known`` is what was learned before.
    """
    oldest = (ALIVE - 1) * period + max(period, known.present if known else 0.0)
    alive = sorted(when for when in newest if at - when <= oldest)
    if not alive:
        return None
    lag = at - period - alive[int(len(alive) * (1 - MOST))]
    return lag if lag >= 0 else None


def learn(before: Lag | None, lag: float, *, period: int, at: float) -> Lag:
    """Return the lag after a request at ``at`` that found a datapoint at a lag, but not the next datapoint yet."""
    absent, retry_at = max(0.0, lag - period), at + RETRIED_EVERY
    if before is None:
        return Lag(absent, lag, 0, 0.0, retry_at)
    if at > before.retry_at:
        before = before._replace(absent=0.0, retry_at=retry_at)
    if lag < before.absent:
        return Lag(absent, lag, 0, 0.0, retry_at)  # they arrive earlier than before
    if absent >= before.present:
        return _missed(before, absent, lag, at)
    if before.misses and lag <= before.missed:
        before = before._replace(misses=0, missed=0.0)
    return before._replace(absent=max(before.absent, absent), present=min(before.present, lag))


def again_in(before: Lag | None, after: Lag, lag: float, *, period: int, found_new: bool) -> float | None:
    """Return in how many seconds to request again, because a request came before its datapoints; ``None`` if not.

    ``before`` and ``after`` are what was known before and after that request. ``found_new``: most workers had a
    datapoint that was not known yet. A cohort that is due right before the lag finds the datapoint of the period
    before each time, so it is repeated only while the lag is narrowed down.
    """
    requested = lag - period
    if before is None or requested < 0 or (found_new and requested <= before.absent):
        return None
    if requested < before.present:
        return before.present - requested
    return None if found_new else max(REPEATED_AFTER, after.present - requested)


def _missed(before: Lag, absent: float, lag: float, at: float) -> Lag:
    """Return the lag after a request that found nothing. Requests move later in growing steps until one succeeds."""
    misses = before.misses + 1
    if misses < MISSES:
        return before._replace(misses=misses, missed=absent)
    present = min(absent + 2.0 ** (misses - 1), lag)
    return Lag(before.present, present, misses, absent, at + RETRIED_AFTER_MISSES)


def best(lags: Sequence[Lag], interval: int) -> Lag | None:
    """Return the lag after which to request datapoints, so that no metric waits longer than necessary."""
    return min(
        lags,
        key=lambda candidate: max((candidate.present - other_lag.present) % interval for other_lag in lags),
        default=None,
    )
