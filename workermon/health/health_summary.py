"""Whether displayed data can be trusted: a few signs of life, cheap enough to read with every page."""

from __future__ import annotations

import dataclasses

from workermon import models, ports
from workermon.health import canary

#: Seconds. The listener leaves a mark every few seconds; another one takes over within 5.
MAX_LISTENER_AGE = 15


class HealthSummary(models.Frozen):
    """``at`` is the time now, ``alerts`` how many fire, ``fault`` what does not work; ``None`` if unknown."""

    at: float
    alerts: int
    fault: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthSummaryCheck:
    """Reads the signs of life that do not depend on how many workers there are."""

    alerts: ports.Alerts
    beat_status: ports.BeatStatus
    liveness: ports.Liveness
    canary_check: canary.CanaryCheck
    now: ports.Clock

    def summary(self) -> HealthSummary:
        """Return them. ``StatusCheck`` checks every part and every worker instead."""
        return HealthSummary(at=self.now(), alerts=len(self.alerts.open()), fault=self._fault())

    def _fault(self) -> str | None:
        at, tick, listener_at = self.now(), self.beat_status.last_tick(), self.liveness.beats().get("listener")
        if tick is None or at - tick > canary.MAX_BEAT_AGE:
            return "beat never ticked" if tick is None else f"beat last ticked {round(at - tick)} s ago"
        if listener_at is None or at - listener_at > MAX_LISTENER_AGE:
            return (
                "no listener runs"
                if listener_at is None
                else f"the listener was last seen {round(at - listener_at)} s ago"
            )
        check = self.canary_check.check()
        return None if check.ok else f"canary {check.reason}"
