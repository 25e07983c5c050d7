"""The alert about a channel: it fires if the channel accepts nothing for too long, or if a notification is given up.

It resolves when the channel accepts one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from workermon import errors, failpoints, logs, models, ports
from workermon.alerts import channel_alert, silences, verdict
from workermon.notify import policy

log = logs.get(__name__)

#: Races that a change of the alert may lose. Each was won by another delivery that changed the same alert.
MAX_RACES = 5

Change = Callable[[verdict.VerdictBuilder, models.Configuration], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAlertChange:
    """Changes the alert about a channel, whoever else changes it meanwhile."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    silences: ports.Silences
    now: ports.Clock

    def change(self, channel: str, change: Change, *, opens: bool = False) -> bool:
        """Change the alert as it is now, if it fires or the change ``opens`` it; ``True`` if something was written."""
        for _ in range(MAX_RACES):
            basis = self.alerts.load_channel(channel)
            if not (opens or any(alert.open for alert in basis.alerts.values())):
                return False
            configuration, at = self.configurations.load(), self.now()
            active_silences = silences.in_force(self.silences.every(), configuration.silences, at)
            builder = verdict.VerdictBuilder(basis, at, active_silences)
            change(builder, configuration)
            if not builder.transitions:
                return False
            if basis.revision == configuration.revision and self.alerts.commit(builder.verdict()):
                return True
        log.warning("channel_alert.raced", channel=channel)
        return False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFailing:
    """Notes since when a channel accepts nothing."""

    failures: ports.ChannelFailures
    now: ports.Clock

    def note(self, channel: str, error: errors.WorkermonError, *, retried: bool) -> None:
        """Record that the channel did not accept something; ``retried``: it is tried again."""
        self.failures.note(
            channel, self.now(), errors.printable(str(error))[: channel_alert.MAX_CAUSE], retried=retried
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGivenUp:
    """Says on other channels that a notification was given up."""

    alert: ChannelAlertChange

    def fire(self, claimed: models.ClaimedNotification, error: errors.WorkermonError) -> None:
        """Fire, because a notification was given up; nothing changes if the alert fires already."""
        if models.is_delivery_alert(claimed.alert_id):
            return

        def fire(builder: verdict.VerdictBuilder, configuration: models.Configuration) -> None:
            channel_alert.gave_up(builder, configuration, claimed, error)

        if self.alert.change(claimed.channel, fire, opens=True):
            failpoints.reach("channel.fired")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRecovery:
    """Says that a channel accepts notifications again."""

    alert: ChannelAlertChange
    failures: ports.ChannelFailures

    def resolve(self, channel: str) -> None:
        """Resolve, because the channel accepted a notification."""
        # First, so that a review that fires meanwhile sees it.
        self.failures.clear(channel)
        _resolve(self.alert, channel)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReview:
    """Looks at the alert about a channel again."""

    alert: ChannelAlertChange
    configurations: ports.Configurations
    failures: ports.ChannelFailures
    now: ports.Clock

    def review(self, channel: str) -> None:
        """Fire or resolve the alert if that is due.

        The channel may have accepted nothing for too long, the alert's silence may have ended, or the channel may have
        been removed.
        """
        configured = self.configurations.load().channels.get(channel)
        if configured is None:
            self.failures.clear(channel)
        failing = self._dead(configured)

        def look(builder: verdict.VerdictBuilder, configuration: models.Configuration) -> None:
            channel_alert.review(builder, configuration, failing)

        if self.alert.change(channel, look, opens=failing is not None):
            failpoints.reach("channel.reviewed")
        if failing is not None and self._dead(configured) is None:
            # It accepted something while this fired.
            _resolve(self.alert, channel)

    def _dead(self, channel: models.Channel | None) -> ports.FailingChannel | None:
        """Return since when a channel accepts nothing, ``None`` if that is not too long."""
        failing = None if channel is None else self.failures.load().get(channel.name)
        return failing if failing and channel and policy.is_dead(channel, failing, self.now()) else None


def _resolve(alert: ChannelAlertChange, channel: str) -> None:
    if alert.change(channel, channel_alert.accepted):
        failpoints.reach("channel.resolved")
