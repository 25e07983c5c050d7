"""When in the interval each cohort is due: as soon as its data is available.

A group (account, region and interval) starts when its datapoints can be available. Its cohorts follow one another as
closely as AWS' limits and the nodes' measured pace allow. So a large fleet spreads over the interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import costs, logs, models, ports
from workermon.collect import lag

log = logs.get(__name__)

#: Seconds between two placements.
PLACED_EVERY = 60.0
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
#: Seconds. Smaller moves are not worth it.
LEAST_MOVE = 0.25
#: Cohorts moved by one placement: this many, or this share of all if that is more.
MOST_MOVES, MOST_MOVED = 20, 0.1


class Group(NamedTuple):
    """The cohorts of an account, region and interval (seconds), by number, and how late datapoints arrive there.

    ``calls_apart`` is how many seconds AWS' limits put between two cohorts.
    """

    name: str
    interval: int
    numbers: Sequence[int]
    arrives: lag.Lag | None
    calls_apart: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CohortPlacement:
    """The stage that decides when in the interval each cohort is due."""

    cohorts: ports.Cohorts
    configurations: ports.Configurations
    now: ports.Clock

    def place(self) -> int:
        """Move some cohorts closer to the arrival of their data; return how many moved."""
        learned, sizes = self.cohorts.all_learned(), self.cohorts.sizes()
        configuration, placed = self.configurations.load(), self.cohorts.phases()
        paces = self.cohorts.paces()
        groups = [
            group
            for name, values in learned.items()
            if (group := _group(name, values, sizes, configuration)) is not None
        ]
        counting = {node: pace for node, pace in paces.items() if abs(self.now() - pace.at) <= PACE_COUNTS}
        planned = places(groups, seconds_apart(counting.values()))
        moves = moved(placed, planned)
        self.cohorts.place(moves)
        names = {f"{group.name}#{number}" for group in groups for number in group.numbers}
        self.cohorts.forget(
            [name for name in learned if not sizes.get(name)],
            [cohort for cohort in placed if cohort not in names],
            [node for node in paces if node not in counting],
        )
        if moves:
            log.debug("cohorts.moved", number=len(moves))
        return len(moves)


def _group(
    name: str, learned: Mapping[str, object], sizes: Mapping[str, Sequence[int]], configuration: models.Configuration
) -> Group | None:
    interval = name.rpartition("/")[2]
    if not (interval.isdecimal() and int(interval)) or not sizes.get(name):
        return None
    lags = [known_lag for value in learned.values() if (known_lag := lag.Lag.of(value)) is not None]
    calls = math.ceil(COHORT_SIZE * max(1, len(configuration.collect)) / MAX_QUERIES)
    apart = max(
        1 / costs.limit_of("DescribeInstanceStatus", configuration).rate,
        calls / costs.limit_of("GetMetricData", configuration).rate,
    )
    return Group(name, int(interval), sizes[name], lag.best(lags, int(interval)), apart)


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
        interval = group.interval
        at = begin = _usable(max(arrives.present % interval + MARGIN, free), interval)
        step = min(max(apart, group.calls_apart), _usable_part(interval) / len(group.numbers))
        for number in group.numbers:
            phases[f"{group.name}#{number}"] = at % interval
            at = _usable(at + step, interval)
        # Groups share the nodes, but not AWS' limits. When a round is full, a new one begins.
        free = begin + len(group.numbers) * apart
        if free - arrives.present % interval >= interval:
            free = 0.0
        if arrives.probe is not None:
            tried = arrives.probe % interval
            phases[f"{group.name}#{group.numbers[0]}"] = min(tried, _usable_part(interval) - MARGIN)
    return phases


def _usable_part(interval: int) -> float:
    """Return the seconds of an interval over which cohorts spread."""
    return interval - min(FREE * interval, FREE_AT_MOST)


def _usable(at: float, interval: int) -> float:
    """Return the first time from ``at`` on that is outside the last part of an interval."""
    return at if at % interval < _usable_part(interval) else (at // interval + 1) * interval


def moved(placed: Mapping[str, float], planned: Mapping[str, float]) -> dict[str, float]:
    """Return the cohorts to move now: those furthest from their place first."""
    distances = {cohort: abs(phase - placed.get(cohort, math.inf)) for cohort, phase in planned.items()}
    far = [cohort for cohort, distance in distances.items() if distance >= LEAST_MOVE]
    far.sort(key=lambda cohort: (-distances[cohort], cohort))
    return {cohort: planned[cohort] for cohort in far[: max(MOST_MOVES, int(MOST_MOVED * len(planned)))]}
