"""Finds the channels that accept nothing: time alone makes their alert fire, whether anything is sent or not."""

from __future__ import annotations

import dataclasses

from workermon import models, ports
from workermon.notify import policy


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWatch:
    """Looks through the channels whose last attempt failed; if there is none, that is one reading."""

    failures: ports.ChannelFailures
    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def overdue(self) -> list[str]:
        """Return the ids of alerts about channels that a delivery has to look at again.

        They are of channels that accept nothing for too long and whose alert does not fire yet, and of removed ones.
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
