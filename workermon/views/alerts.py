"""The alerts: those that fire, and those that are over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from workermon import models, ports
from workermon.alerts import silences as silencing
from workermon.views.document import Document, Time, absent

#: Entries of the alert history that ``alerts --all`` looks at.
HISTORY = 1000


class DeliveryAttempt(Document):
    """One attempt to deliver a notification (its id); ``error`` is null if the channel accepted it."""

    channel: str
    at: Time
    error: str | None
    notification: str


class AlertRow(models.Notification):
    """An alert: its newest notification, and what is known beside it.

    ``open`` says whether it fires. ``deliveries`` are the attempts for all notifications of the episode, the oldest
    first; only those who ask for alerts that are over get them.
    """

    open: bool
    acked_by: str | None
    silenced_by: str | None
    flapping: bool
    deliveries: tuple[DeliveryAttempt, ...] | None = Field(default=None, exclude_if=absent)


class AcknowledgedBy(Document):
    """Who acknowledged an alert, and when."""

    acked_by: str
    at: Time


class AcknowledgementRow(AcknowledgedBy):
    """An alert (its ``dedup_key``) that somebody acknowledged; ``previous`` is who had done so before."""

    alert: str
    previous: AcknowledgedBy | None


class AlertList(Document):
    """Alerts that fire, the oldest first; then those that are over, the newest first, one row for each episode."""

    alerts: tuple[AlertRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """Reads alerts, and who acknowledged or silenced them."""

    alerts: ports.Alerts
    silences: ports.Silences
    configurations: ports.Configurations
    now: ports.Clock

    def list(self, *, every: bool = False) -> AlertList:
        """Return the alerts that fire; ``every`` adds those that are over, and each attempt to deliver them."""
        firing = self._firing()
        if not every:
            return AlertList(alerts=tuple(firing))
        rows = {(row.dedup_key, row.since): row for row in firing}
        attempts: dict[tuple[str, str], list[DeliveryAttempt]] = {episode: [] for episode in rows}
        for entry in self.alerts.history(limit=HISTORY):
            notification = entry.notification
            if notification is None:
                continue
            episode = notification.dedup_key, notification.since
            rows.setdefault(episode, _row(notification))
            attempts.setdefault(episode, [])[:0] = [
                DeliveryAttempt(
                    channel=attempt.channel, at=attempt.at, error=attempt.error, notification=notification.id
                )
                for attempt in entry.attempts
            ]
        return AlertList(
            alerts=tuple(
                row.model_copy(update={"deliveries": tuple(attempts[episode])}) for episode, row in rows.items()
            )
        )

    def _firing(self) -> Sequence[AlertRow]:
        alerts = [(alert, alert.last) for alert in self.alerts.open() if alert.last is not None]
        acknowledged = self.silences.acknowledged([last.dedup_key for _, last in alerts])
        at = self.now()
        silences = silencing.in_force(self.silences.every(), self.configurations.load().silences, at)
        rows = []
        for alert, last in alerts:
            seen = acknowledged.get(last.dedup_key)
            rows.append(
                _row(
                    last,
                    open=True,
                    flapping=alert.flapping,
                    acked_by=seen.by if seen is not None and seen.since == alert.since else None,
                    silenced_by=_silenced_by(alert, last, silences, at),
                )
            )
        return rows


def acknowledgement_row(
    acknowledgement: models.Acknowledgement, previous: models.Acknowledgement | None
) -> AcknowledgementRow:
    """Return an acknowledgement that was just made, and the one that it replaces if there is one."""
    return AcknowledgementRow(
        alert=acknowledgement.alert_id,
        acked_by=acknowledgement.by,
        at=acknowledgement.at,
        previous=AcknowledgedBy(acked_by=previous.by, at=previous.at) if previous else None,
    )


def _silenced_by(
    alert: models.Alert, last: models.Notification, silences: Sequence[models.Silence], at: float
) -> str | None:
    silence = silencing.muting(silences, last.worker, alert.rule, at)
    return silence.id if silence else alert.silenced_by


def _row(notification: models.Notification, **fields: Any) -> AlertRow:
    about = {"open": False, "acked_by": None, "silenced_by": None, "flapping": False} | fields
    return AlertRow.model_construct(**{**dict(notification), **about})
