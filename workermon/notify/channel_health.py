"""The alert about a channel: it fires when a notification is given up, and resolves when the channel accepts one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from workermon import errors, failpoints, logs, models, ports
from workermon.alerts import channel_alert, lifecycle, silences

log = logs.get(__name__)

#: Races that a change of the alert may lose; each was won by another delivery, which changed the same alert.
TRIES = 5

Change = Callable[[lifecycle.VerdictBuilder, models.Configuration], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHealth:
    """Says on other channels that a channel accepts nothing, and that it accepts notifications again."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    silences: ports.Silences
    now: ports.Clock

    def gave_up(self, claimed: models.ClaimedNotification, why: errors.WorkermonError) -> None:
        """Fire, because a notification was given up; nothing changes if the alert fires already."""
        if models.is_delivery_alert(claimed.alert_id):
            return

        def fire(builder: lifecycle.VerdictBuilder, configuration: models.Configuration) -> None:
            channel_alert.gave_up(builder, configuration, claimed, why)

        if self._change(claimed.channel, fire, opens=True):
            failpoints.reach("channel.fired")

    def accepted(self, channel: str) -> None:
        """Resolve, because the channel accepted a notification."""
        if self._change(channel, channel_alert.accepted):
            failpoints.reach("channel.resolved")

    def review(self, channel: str) -> None:
        """Look at the alert again: its silence may be over, and the channel may have been removed."""
        if self._change(channel, channel_alert.review):
            failpoints.reach("channel.reviewed")

    def _change(self, channel: str, change: Change, *, opens: bool = False) -> bool:
        """Change the alert as it is now, if it fires or the change ``opens`` it; ``True`` if something was written."""
        for _ in range(TRIES):
            basis = self.alerts.load_channel(channel)
            if not (opens or any(alert.open for alert in basis.alerts.values())):
                return False
            configuration, at = self.configurations.load(), self.now()
            active_silences = silences.in_force(self.silences.every(), configuration.silences, at)
            builder = lifecycle.VerdictBuilder(basis, at, active_silences)
            change(builder, configuration)
            if not builder.transitions:
                return False
            if basis.revision == configuration.revision and self.alerts.commit(builder.verdict()):
                return True
        log.warning("channel_alert.raced", channel=channel)
        return False
