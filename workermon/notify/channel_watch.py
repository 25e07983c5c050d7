"""Finds the channels that accept nothing. Their alert fires by time alone, whether or not anything is sent."""

from __future__ import annotations

import dataclasses

from workermon import models, ports
from workermon.notify import policy


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWatch:
    """Checks the channels whose last attempt failed. If there are none, that takes one read."""

    failures: ports.ChannelFailures
    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def overdue(self) -> list[str]:
        """Return the ids of alerts about channels that a delivery has to review.

        They belong to channels that have accepted nothing for too long and whose alert does not fire yet, and to
        removed ones.
        """
        failing = self.failures.load()
        if not failing:
            return []
        at, channels = self.now(), self.configurations.load().channels
        dead = [
            name for name, state in failing.items() if name not in channels or policy.is_dead(channels[name], state, at)
        ]
        return [models.delivery_alert(name) for name in dead if name not in channels or not self._fires(name)]

    def _fires(self, channel: str) -> bool:
        alert = self.alerts.load_channel(channel).alerts.get(models.DELIVERY)
        return alert is not None and alert.rule_state.severity is not None
