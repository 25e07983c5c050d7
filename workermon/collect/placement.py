"""When in the interval each cohort is due: as soon as its data is available.

A group (account, region and interval) starts when its datapoints can be available. Its cohorts follow one another as
closely as AWS' limits and the nodes' measured pace allow. So a large fleet spreads over the interval.

Any number of cohorts may move at once. Each moves with its next run, so every interval still has one run of each, and
no second has more than it has at the old places and at the new ones together. If CloudWatch was slow for a minute only,
the runs before the move notice that. The first cohort moves to a later place before its next run, so that it tries no
place twice.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import costs, logs, models, ports
from workermon.collect import lag, listing_plan

log = logs.get(__name__)

#: Seconds between two placements. A new fleet waits this long, and then for its next run.
PLACED_EVERY = 15.0
#: Share of the interval, or seconds if that is less, left free at its end: a late run stays in its slot.
FREE, FREE_AT_MOST = 0.1, 3.0
#: Seconds after the lag at which a group starts. Clocks differ, and so do single datapoints.
MARGIN = 0.3
#: Maximum workers in a cohort, and queries in a call of GetMetricData.
COHORT_SIZE, MAX_QUERIES = 100, 500
#: CPU seconds of a cohort before any node's pace was measured, and how long (seconds) a pace is valid.
PACE, PACE_COUNTS = 0.25, 300.0
#: Usable share of the nodes' pace, because evaluation, delivery and Redis share the machine.
USED = 2 / 3
#: Share of a full bucket of AWS' limits used at once. The rest is left to other programs of the same account.
USED_OF_BUCKET = 0.75
#: Intervals. A group without a complete listing for so long asks for the ids of its workers again.
LISTED_WITHIN = 2.5
#: Seconds. Smaller moves are not worth it.
LEAST_MOVE = 0.25


class Allowance(NamedTuple):
    """How many cohorts AWS' limit of an API allows at once, and a second after that."""

    at_once: float
    rate: float

    def wait(self, place: int) -> float:
        """Return the seconds after which the limit allows a cohort, counted from 0."""
        return max(0.0, (place + 1 - max(1.0, self.at_once)) / self.rate)


class Group(NamedTuple):
    """The cohorts of an account, region and interval (seconds), by number, and how late datapoints arrive there."""

    name: str
    interval: int
    numbers: Sequence[int]
    arrives: lag.Lag | None
    allowances: Sequence[Allowance]

    def cohort(self, number: int) -> str:
        """Return the name of a cohort."""
        return f"{self.name}#{number}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CohortPlacement:
    """The stage that decides when in the interval each cohort is due."""

    cohorts: ports.Cohorts
    listings: ports.StatusListings
    configurations: ports.Configurations
    now: ports.Clock

    def place(self) -> int:
        """Move some cohorts closer to the arrival of their data; return how many moved."""
        learned = self.cohorts.all_learned()
        if not learned:
            return 0
        sizes = self.cohorts.sizes()
        configuration, placed = self.configurations.load(), self.cohorts.phases()
        paces = self.cohorts.paces()
        at = self.now()
        listed = {
            name
            for name, numbers in sizes.items()
            if len(numbers) >= listing_plan.MIN_COHORTS
            and is_listed(name, len(numbers), self.listings.last(_scope(name)), at)
        }
        groups = groups_of(learned, sizes, configuration, listed)
        counting = {node: pace for node, pace in paces.items() if abs(at - pace.at) <= PACE_COUNTS}
        moves = moved(placed, places(groups, seconds_apart(counting.values())))
        self.cohorts.place(moves)
        names = {group.cohort(number) for group in groups for number in group.numbers}
        self.cohorts.forget(
            [name for name in learned if not sizes.get(name)],
            [cohort for cohort in placed if cohort not in names],
            [node for node in paces if node not in counting],
        )
        if moves:
            log.debug("cohorts.moved", number=len(moves))
        return len(moves)


def groups_of(
    learned: Mapping[str, Mapping[str, object]],
    sizes: Mapping[str, Sequence[int]],
    configuration: models.Configuration,
    listed: Collection[str] = (),
) -> list[Group]:
    """Return the groups that have cohorts. ``learned`` and ``sizes`` (numbers of cohorts) are by the group's name.

    ``listed`` are groups whose statuses are listed before they are collected.
    """
    intervals = {name: interval for name in learned if sizes.get(name) and (interval := interval_of(name))}
    # Groups of one account and region use the same buckets.
    of_scope: Counter[str] = Counter()
    for name in intervals:
        of_scope[_scope(name)] += len(sizes[name])
    groups = []
    for name, interval in intervals.items():
        lags = [known_lag for value in learned[name].values() if (known_lag := lag.Lag.of(value)) is not None]
        share = len(sizes[name]) / of_scope[_scope(name)]
        allowances = _allowances(configuration, share, listed=name in listed)
        groups.append(Group(name, interval, sizes[name], lag.best(lags, interval), allowances))
    return groups


def _scope(name: str) -> str:
    return name.rpartition("/")[0]


def interval_of(name: str) -> int:
    """Return the interval in a group's name, 0 if there is none."""
    interval = name.rpartition("/")[2]
    return int(interval) if interval.isdecimal() else 0


def is_listed(name: str, cohorts: int, last: ports.Listing | None, at: float) -> bool:
    """Return whether the statuses of a group are listed before it is collected, as they were a moment ago."""
    interval = interval_of(name)
    if last is None or not last.complete or not listing_plan.is_worth_listing(cohorts, interval, last):
        return False
    return at - last.at <= LISTED_WITHIN * interval


def _allowances(configuration: models.Configuration, share: float, *, listed: bool) -> list[Allowance]:
    """Return what AWS' limits allow the cohorts of a group with this share of its account and region."""
    calls_by_api = {} if listed else {"DescribeInstanceStatus": 1}
    calls_by_api["GetMetricData"] = math.ceil(COHORT_SIZE * max(1, len(configuration.collect)) / MAX_QUERIES)
    allowances = []
    for api, calls in calls_by_api.items():
        limit = costs.limit_of(api, configuration)
        allowances.append(Allowance(USED_OF_BUCKET * limit.bucket * share / calls, limit.rate / calls))
    return allowances


def seconds_apart(paces: Iterable[ports.Pace]) -> float:
    """Return the seconds between two cohorts if all nodes collect one after the other.

    The result is rounded up in steps of a quarter, so that cohorts do not move with each measurement.
    """
    rate = sum(1 / pace.seconds for pace in paces if pace.seconds > 0)
    seconds = (1 / rate if rate else PACE) / USED
    return float(1.25 ** math.ceil(math.log(seconds, 1.25)))


def places(groups: Sequence[Group], apart: float) -> dict[str, float]:
    """Return how many seconds into the interval each cohort is due, by its name.

    ``apart`` are the seconds between two cohorts for the nodes. Groups without a learned lag are left out, but still
    take their share of the nodes.
    """
    rates: dict[int, float] = {}
    for group in groups:
        rates[group.interval] = rates.get(group.interval, 0.0) + len(group.numbers) / group.interval
    phases: dict[str, float] = {}
    for interval, rate in rates.items():
        share = rate / sum(rates.values())
        of_interval = [group for group in groups if group.interval == interval]
        number = sum(len(group.numbers) for group in of_interval)
        phases |= _of_interval(of_interval, min(apart / share, _usable_part(interval) / number))
    return phases


def _of_interval(groups: Sequence[Group], apart: float) -> dict[str, float]:
    """Place the groups of one interval one after the other, in the order in which their datapoints arrive."""
    phases: dict[str, float] = {}
    free = 0.0
    learned = [(group, group.arrives) for group in groups if group.arrives is not None]
    for group, arrives in sorted(learned, key=lambda pair: (pair[1].present % pair[0].interval, pair[0].name)):
        interval, number = group.interval, len(group.numbers)
        begin = _usable(max(arrives.present % interval + MARGIN, free), interval)
        for place in range(number):
            wait = max(place * apart, *(allowance.wait(place) for allowance in group.allowances))
            at = _skipping(begin, min(wait, place * _usable_part(interval) / number), interval)
            phases[group.cohort(group.numbers[place])] = at % interval
        # Groups share the nodes, but not AWS' limits. When a round is full, a new one begins.
        free = begin + len(group.numbers) * apart
        if free - arrives.present % interval >= interval:
            free = 0.0
        tried = _tried(arrives, interval)
        if tried is not None:
            phases[group.cohort(group.numbers[0])] = tried % interval
    return phases


def _tried(arrives: lag.Lag, interval: int) -> float | None:
    """Return the lag at which the first cohort tries an earlier request; ``None`` if that would show nothing new.

    The last part of an interval is not used. Instead of a lag there, it tries the one before or after that part.
    """
    if arrives.probe is None:
        return None
    start = arrives.probe // interval * interval
    end = start + _usable_part(interval) - MARGIN
    lags = [arrives.probe] if arrives.probe <= end else [end, start + interval]
    least, greatest = arrives.absent + LEAST_MOVE, arrives.present - LEAST_MOVE
    return next((tried for tried in lags if least <= tried <= greatest), None)


def _usable_part(interval: int) -> float:
    """Return the seconds of an interval over which cohorts spread."""
    return interval - min(FREE * interval, FREE_AT_MOST)


def _usable(at: float, interval: int) -> float:
    """Return the first time from ``at`` on that is outside the last part of an interval."""
    return at if at % interval < _usable_part(interval) else (at // interval + 1) * interval


def _skipping(begin: float, wait: float, interval: int) -> float:
    """Return the time ``wait`` seconds after ``begin``, without counting the last part of an interval."""
    end = begin // interval * interval + _usable_part(interval)
    return begin + wait + (interval - _usable_part(interval) if begin + wait >= end else 0.0)


def moved(placed: Mapping[str, float], planned: Mapping[str, float]) -> dict[str, float]:
    """Return the cohorts to move, and where to."""
    return {
        cohort: phase for cohort, phase in planned.items() if abs(phase - placed.get(cohort, math.inf)) >= LEAST_MOVE
    }
