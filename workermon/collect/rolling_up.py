"""Rolls up past hours of the ledger, and those that received a late datapoint."""

from __future__ import annotations

import dataclasses
from typing import Final

from workermon import ports
from workermon.rules import rollup

#: Seconds for which other processes leave a claimed hour alone.
LEASE: Final = 120.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RollingUp:
    """The stage that makes hourly roll-ups. Each collection does some, so that their number follows the fleet."""

    rollups: ports.RollUps
    now: ports.Clock

    def roll_up(self, limit: int) -> int:
        """Roll up the hours that are due, at most ``limit``. Return how many."""
        claimed = self.rollups.claim(self.now(), limit, LEASE)
        if claimed:
            rolled = [
                (hour, {metric: rollup.of_hour(hour.hour, [point.value for point in points])
                        for metric, points in hour.points.items()})
                for hour in claimed
            ]  # fmt: skip
            self.rollups.save(rolled, self.now())
        return len(claimed)
