"""When the active listener enqueues a reconciliation: every few minutes, at a time when few collections are due."""

from __future__ import annotations

import math
from typing import Final

from workermon import collect, fleet, ports

#: Seconds between two reconciliations of the fleet. The first one is that long after becoming active, because ``up``
#: reconciles at its start.
RECONCILIATION: Final = fleet.RECONCILED_EVERY


class Reconciling:
    """Enqueues reconciliations. Those of a large fleet take seconds of CPU, which collections would wait for."""

    def __init__(self, dispatcher: ports.Dispatcher, quiet_time: collect.QuietTime, began: float) -> None:
        """``began``: when the listener became active, on a monotonic clock."""
        self._dispatcher, self._quiet_time = dispatcher, quiet_time
        self._planned_at, self._begins_at = began + RECONCILIATION, math.inf

    def check(self, at: float) -> None:
        """Enqueue one if it is time, on the same clock."""
        if at >= self._planned_at:
            self._begins_at = at + self._quiet_time.wait()
            # From one to the next it is never less: an alert about [discover] waits for two refusals.
            self._planned_at = self._begins_at + RECONCILIATION
        if at >= self._begins_at:
            self._begins_at = math.inf
            self._dispatcher.reconcile()
