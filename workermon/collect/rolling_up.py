"""Rolls up hours of the ledger that are over, and those into which a late datapoint came."""

from __future__ import annotations

import dataclasses
from typing import Final

from workermon import ports
from workermon.rules import rollup

#: Seconds for which a claimed hour is left alone by others.
LEASE: Final = 120.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RollingUp:
    """The stage that makes hourly roll-ups; each collection does some, so that their number follows the fleet."""

    rollups: ports.RollUps
    now: ports.Clock

    def roll_up(self, limit: int) -> int:
        """Roll up as many hours as are due, ``limit`` at most; return how many."""
        claimed = self.rollups.claim(self.now(), limit, LEASE)
        if claimed:
            rolled = [
                (hour, {metric: rollup.of_hour(hour.hour, [point.value for point in points])
                        for metric, points in hour.points.items()})
                for hour in claimed
            ]  # fmt: skip
            self.rollups.save(rolled, self.now())
        return len(claimed)
