"""Rolls up past hours of the ledger, and those that received a late datapoint."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from workermon import ports
from workermon.rules import rollup

#: Seconds for which other processes leave a claimed hour alone.
LEASE: Final = 120.0
#: An hour of all workers is due at the same moment, and takes as much CPU as their collection. A call does this share
#: of its limit, so that alerts do not wait for it. At an interval of a minute that takes eight minutes.
SHARE: Final = 1 / 8
#: Seconds. Hours that are overdue for longer are done up to the limit. The ledger still has an hour 600 s after it is
#: due.
OVERDUE: Final = 480.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RollingUp:
    """The stage that makes hourly roll-ups. Each collection does some, so that their number follows the fleet."""

    rollups: ports.RollUps
    now: ports.Clock

    def roll_up(self, limit: int) -> int:
        """Roll up the hours that are due, at most ``limit``. Return how many."""
        now, share = self.now(), math.ceil(SHARE * limit)
        claimed = self.rollups.claim(now, share, LEASE)
        if len(claimed) == share < limit:
            claimed += self.rollups.claim(now - OVERDUE, limit - share, LEASE + OVERDUE)
        if claimed:
            rolled = [
                (hour, {metric: rollup.of_hour(hour.hour, [point.value for point in points])
                        for metric, points in hour.points.items()})
                for hour in claimed
            ]  # fmt: skip
            self.rollups.save(rolled, self.now())
        return len(claimed)
