"""The alert about a channel: it fires when a notification is given up, and resolves when the channel accepts one."""

from __future__ import annotations

import dataclasses

from workermon import errors, failpoints, models, ports
from workermon.alerts import silences
from workermon.notify import channel_alert


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHealth:
    """Says on other channels that a channel accepts nothing, and that it accepts notifications again."""

    outbox: ports.Outbox
    configurations: ports.Configurations
    silences: ports.Silences
    now: ports.Clock

    def gave_up(self, claimed: models.ClaimedNotification, why: errors.WorkermonError) -> None:
        """Fire, because a notification was given up; nothing changes if the alert fires already."""
        if claimed.notification.rule == models.DELIVERY and claimed.notification.worker is None:
            return
        before, at = self.outbox.last_error(claimed.channel), self.now()
        if before is not None and before.status == "firing":
            self._notify_after_silence(claimed.channel)
            return
        notification = channel_alert.failing(claimed, why, before, at)
        silence = self._silence(at)
        to = self._others(claimed.channel)
        if silence is not None:
            notification, to = channel_alert.unheard(notification, silence), []
        self.outbox.tell(claimed.channel, notification, before.id if before else None, to, at)
        failpoints.reach("trouble.told")

    def accepted(self, channel: str) -> None:
        """Resolve, because the channel accepted a notification."""
        before, at = self.outbox.last_error(channel), self.now()
        if before is None or before.status != "firing":
            return
        notification, to = channel_alert.well(channel, before, at), self._others(channel)
        if isinstance(before, models.SilencedNotification):
            # Who was not notified of the trouble is not notified of its end.
            reason = f"nobody was told: silence {before.silenced_by}"
            notification, to = notification.model_copy(update={"reason": reason}), []
        self.outbox.tell(channel, notification, before.id, to, at)
        failpoints.reach("trouble.over")

    def review(self, channel: str) -> None:
        """Look at the alert again: its silence may be over, and the channel may have been removed."""
        before = self.outbox.last_error(channel)
        if channel in self.configurations.load().channels or before is None or before.status != "firing":
            self._notify_after_silence(channel)
            return
        at, to = self.now(), [] if isinstance(before, models.SilencedNotification) else self._others(channel)
        self.outbox.tell(channel, channel_alert.abandoned(channel, before, at), before.id, to, at)
        failpoints.reach("trouble.abandoned")

    def _notify_after_silence(self, channel: str) -> None:
        """Notify of an alert that was silenced, if the silence is over and the alert still fires."""
        before, at = self.outbox.last_error(channel), self.now()
        if not isinstance(before, models.SilencedNotification) or before.status != "firing":
            return
        if self._silence(at) is None:
            self.outbox.tell(channel, channel_alert.belated(channel, before, at), before.id, self._others(channel), at)

    def _silence(self, at: float) -> models.Silence | None:
        """Return the silence that mutes the alert now."""
        active_silences = silences.in_force(self.silences.every(), self.configurations.load().silences, at)
        return silences.muting(active_silences, None, models.DELIVERY, at)

    def _others(self, channel: str) -> list[str]:
        """Return the channels that rules use beside this one, else the log."""
        configuration = self.configurations.load()
        used = dict.fromkeys(name for rule in configuration.rules for name in rule.notify)
        return [name for name in used if name != channel and name in configuration.channels] or ["log"]
