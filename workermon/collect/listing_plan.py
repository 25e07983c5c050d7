"""When the statuses of a large fleet are listed: right before its cohorts are due.

DescribeInstanceStatus answers for a hundred ids, or for a page of a thousand instances of the region. AWS allows 20
requests a second, so asking for the ids of 50,000 workers takes 21 s in which their datapoints wait. Listing takes a
tenth of the requests, and is done before the datapoints arrive.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Sequence

from workermon import errors, logs, models, ports
from workermon.collect import status_listing

log = logs.get(__name__)

#: Cohorts of a group from which on its statuses are listed.
MIN_COHORTS = 10
#: Seconds. With a shorter interval, listed statuses would be old. With a longer one there is time to ask for ids, and
#: a node would have to keep the message for too long.
MIN_INTERVAL, MAX_INTERVAL = 30, 120
#: Seconds before the first cohort is due, besides the expected duration of the listing.
MARGIN = 2.0
#: A listing may take so many times longer than the last one.
RESERVE = 1.5
#: Seconds before the first cohort is due, if no listing was measured yet.
FIRST_LEAD = 10.0
#: Seconds. Earlier listings would be too old for the last cohorts.
MAX_LEAD = 30.0
#: A listing may take this share of the requests that asking for ids takes. The region may have many other instances.
MAX_SHARE = 0.5
#: Seconds after which a group that is not listed is checked again.
CHECK_EVERY = 60.0
#: Seconds from a listing that failed to the next one. Two pages without an answer suspend DescribeInstanceStatus, and
#: the same cohorts would fail in each interval.
FAILURE_PAUSE = 300.0
#: Workers named in a message, in case some are removed meanwhile.
NAMED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class _Group:
    """Whether a group's statuses are listed, and from when on that is decided again."""

    is_listed: bool
    until: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListingPlan:
    """Plans the next listing of each group that this process, named ``node``, collects. Its threads share it."""

    cohorts: ports.Cohorts
    listings: ports.StatusListings
    leases: ports.Leases
    dispatcher: ports.Dispatcher
    now: ports.Clock
    node: str
    _groups: dict[str, _Group] = dataclasses.field(default_factory=dict)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def plan(self, scope: models.AccountRegion, interval: int, worker_ids: Sequence[str]) -> bool:
        """Enqueue the next listing, if that is not done yet. Return whether the statuses of this group are listed.

        ``worker_ids`` are some workers of the group.
        """
        group, at = scope.group(interval), self.now()
        with self._lock:
            known = self._groups.get(group, _Group(False, at))
            if at < known.until <= at + MAX_INTERVAL:
                return known.is_listed
            # The other threads need not decide it as well.
            self._groups[group] = _Group(known.is_listed, at + CHECK_EVERY)
        self._groups[group] = decided = self._decided(scope, interval, worker_ids, at)
        return decided.is_listed

    def _decided(self, scope: models.AccountRegion, interval: int, worker_ids: Sequence[str], at: float) -> _Group:
        group, undecided = scope.group(interval), _Group(False, at + CHECK_EVERY)
        if not _fits(interval):
            return undecided
        numbers = self.cohorts.sizes().get(group, ())
        last = self.listings.last(scope.key)
        if not is_worth_listing(len(numbers), interval, last):
            return undecided
        if last is not None and not last.complete and 0 <= at - last.at < FAILURE_PAUSE:
            return undecided
        phases = self.cohorts.phases()
        # The first cohort may be due earlier, to find out whether datapoints arrive earlier.
        placed = [phases[f"{group}#{number}"] for number in numbers[1:] if f"{group}#{number}" in phases]
        if not placed:
            return undecided
        wait = next_round(placed, interval, at) - lead(last, interval) - at
        wait = wait if wait > 0 else wait + interval
        try:
            # Until it begins, no other process plans one.
            if self.leases.hold(f"status-listing:{group}", self.node, wait):
                self.dispatcher.list_statuses(worker_ids[:NAMED], after=wait)
        except errors.RedisUnavailable as error:
            log.warning("listing.not_planned", scope=scope.key, reason=str(error))
        return _Group(True, at + wait)


def is_worth_listing(cohorts: int, interval: int, last: ports.Listing | None) -> bool:
    """Return whether listing a region costs less than asking for the ids of so many cohorts of a group.

    ``last`` is how the last listing went, if that is known.
    """
    if cohorts < MIN_COHORTS or not _fits(interval):
        return False
    if last is None:
        return True
    if last.pages > MAX_SHARE * cohorts:
        return False
    # A failure does not tell how long a listing takes.
    return not last.complete or _expected_seconds(last) * RESERVE + MARGIN <= MAX_LEAD


def _fits(interval: int) -> bool:
    return MIN_INTERVAL <= interval <= MAX_INTERVAL


def lead(last: ports.Listing | None, interval: int) -> float:
    """Return how many seconds before the first cohort is due a listing begins.

    >>> lead(None, 60), lead(ports.Listing(0.0, 4.0, 5, True, (), 0.0), 60)
    (10.0, 8.0)
    """
    expected = FIRST_LEAD if last is None or not last.complete else _expected_seconds(last) * RESERVE + MARGIN
    return min(expected, MAX_LEAD, interval / 2)


def _expected_seconds(last: ports.Listing) -> float:
    """Return how long the next listing takes: less than the last one, if that was the first to find the zones."""
    zones = status_listing.zones_to_list(last, last.at) if last.zones_at == last.at else ()
    return last.seconds / min(max(1, len(zones)), status_listing.MAX_AT_ONCE)


def next_round(phases: Sequence[float], interval: int, now: float) -> float:
    """Return when the first of a group's cohorts is due next: the one after the longest time without any.

    ``phases`` are in seconds into the interval.

    >>> next_round([50.0, 5.0, 58.0], 60, 600.0)
    650.0
    """
    dues = sorted(phase % interval for phase in phases)
    gaps = itertools.pairwise([dues[-1] - interval, *dues])
    begin = max(gaps, key=lambda gap: gap[1] - gap[0])[1]
    return now + (begin - now) % interval
