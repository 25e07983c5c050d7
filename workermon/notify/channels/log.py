"""The channel ``log``: a line in the log of the worker process that delivers."""

from __future__ import annotations

from workermon import logs, models
from workermon.config import channels
from workermon.notify import channel_type

log = logs.get(__name__)


class Options(channels.Options):
    """``[channels.NAME]`` of type ``log``."""

    repeat: channels.Repeat | None = None


class Log:
    """``ports.Notifier`` into the log: ``alert.firing`` (error where critical, else warning), ``alert.resolved``."""

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Write it."""
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
        )


TYPE = channel_type.ChannelType(options=Options, notifier=lambda _: Log())
