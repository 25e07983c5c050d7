"""The channel ``log``: a line in the log of the worker process that delivers."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import logs, models
from workermon.config import channels
from workermon.notify.channel_type import ChannelType

log = logs.get(__name__)


class Options(channels.Options):
    """``[channels.NAME]`` of type ``log``."""

    repeat: channels.Repeat | None = None


class Log:
    """``ports.Notifier`` into the log: ``alert.firing`` (error if critical, else warning), ``alert.resolved``."""

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Write a line for each."""
        for notification in notifications:
            self._write(channel, notification)

    def _write(self, channel: models.Channel, notification: models.Notification) -> None:
        firing = notification.status == "firing"
        write = (log.error if notification.severity == "critical" else log.warning) if firing else log.info
        write(
            f"alert.{notification.status}",
            alert_id=notification.dedup_key,
            severity=notification.severity,
            rule=notification.rule,
            worker_id=notification.worker.id if notification.worker else None,
            worker_name=notification.worker.name if notification.worker else None,
            metric=notification.metric,
            value=notification.value,
            threshold=notification.threshold,
            since=notification.since,
            at=notification.at,
            summary=notification.summary,
            reason=notification.reason,
            version=notification.version,
            notification_id=notification.id,
            channel=channel.name,
            **models.annotations_of(notification),
        )


TYPE = ChannelType(options=Options, notifier=lambda _: Log())
