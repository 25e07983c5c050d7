"""When few collections are due: the time for work that can wait, such as a comparison of a large fleet with EC2.

The cohorts of a fleet are collected one after the other as soon as their datapoints can be available. Until the next
interval the nodes have little to do.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping

from workermon import ports
from workermon.collect import placement

#: Seconds. The search covers this much of the schedule, and work is put off by less than that.
PERIOD = 60.0
#: The share of the free time after which such work begins (the last collections may be late), and until which it may
#: begin: later, it might not end in time.
FROM, UNTIL = 0.25, 0.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """The stage that finds the time in which no collection is due."""

    cohorts: ports.Cohorts
    now: ports.Clock

    def wait(self) -> float:
        """Return the seconds to wait until then; 0 if it is now, or if no cohort has a place of its own yet."""
        return wait_for_gap(self.cohorts.phases(), self.now())


def wait_for_gap(phases: Mapping[str, float], now: float) -> float:
    """Return the seconds until the longest time without a due cohort; pure. ``phases`` are in seconds by cohort.

    >>> wait_for_gap({"default/us-east-1/60#0": 10.0, "default/us-east-1/60#1": 20.0}, 600.0)
    32.5
    """
    dues = sorted(due for cohort, phase in phases.items() for due in _dues(cohort, phase, now))
    if not dues:
        return 0.0
    gaps = [(after - due, due) for due, after in itertools.pairwise([*dues, dues[0] + PERIOD])]
    length, begin = max(gaps, key=lambda gap: gap[0])
    since = (now - begin) % PERIOD
    return 0.0 if FROM * length <= since <= UNTIL * length else (FROM * length - since) % PERIOD


def _dues(cohort: str, phase: float, now: float) -> list[float]:
    """Return when a cohort is due within the next ``PERIOD``."""
    interval = placement.interval_of(cohort.rpartition("#")[0])
    if not interval:
        return []
    first = now + (phase - now) % interval
    return [first + number * interval for number in range(math.ceil((now + PERIOD - first) / interval))]
