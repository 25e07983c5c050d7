"""The alerts: those that fire, and those that are over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from workermon import models, ports
from workermon.alerts.silences import in_force, muting
from workermon.views.document import Document, Time, absent
from workermon.views.paging import Position

#: Entries of the alert history that are looked at for alerts that are over; more if a time or a name is asked for.
HISTORY = 1000
LONG_HISTORY = 20_000


class DeliveryAttempt(Document):
    """One attempt to deliver a notification (its id); ``error`` is null if the channel accepted it.

    ``host`` is the machine that tried.
    """

    channel: str
    at: Time
    error: str | None
    host: str | None
    notification: str


class AlertRow(models.Notification):
    """An alert: its newest notification, and what is known beside it.

    ``open`` says whether it fires. ``condition_since`` is when the condition began that made it fire, ``since`` when it
    fired, ``ended_at`` when it was over. ``channels`` are notified of it while it fires. ``deliveries`` are the
    attempts for all notifications of the episode, the oldest first; only those who ask for alerts that are over get
    them.
    """

    open: bool
    condition_since: str
    ended_at: str | None
    acked_by: str | None
    silenced_by: str | None
    flapping: bool
    channels: tuple[str, ...]
    deliveries: tuple[DeliveryAttempt, ...] | None = Field(default=None, exclude_if=absent)

    @classmethod
    def over(cls, last: models.Notification) -> AlertRow:
        """Return the row of an alert that is over, by its last notification."""
        return _row(last)


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
class AlertFilter:
    """Which alerts are meant.

    ``state`` is ``open`` (those that fire) or ``all``. ``since`` leaves out those that were over before that time, in
    seconds. ``worker`` is an instance id or a name, ``rule`` a rule's name.
    """

    state: Literal["open", "all"] = "open"
    since: float | None = None
    worker: str | None = None
    rule: str | None = None

    def matches(self, row: AlertRow) -> bool:
        """Tell whether an alert is meant; its ``state`` aside."""
        if self.rule not in (None, row.rule):
            return False
        if self.worker is not None and (row.worker is None or self.worker not in (row.worker.id, row.worker.name)):
            return False
        return self.since is None or row.open or models.moment(row.ended_at or row.at) >= self.since


#: The alerts that fire.
OPEN = AlertFilter()


@dataclasses.dataclass(slots=True)
class _Episode:
    """An alert from its first notification to its end: its row, and the attempts to deliver, the oldest first."""

    row: AlertRow
    attempts: list[DeliveryAttempt] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """Reads alerts, and who acknowledged or silenced them."""

    alerts: ports.Alerts
    silences: ports.Silences
    configurations: ports.Configurations
    now: ports.Clock

    def list(self, wanted: AlertFilter = OPEN) -> AlertList:
        """Return the alerts that are meant; with those that are over comes each attempt to deliver them."""
        firing = self._firing()
        if wanted.state == "open":
            return _sorted(row for row in firing if wanted.matches(row))
        rows = (
            episode.row.model_copy(update={"deliveries": tuple(episode.attempts)})
            for episode in self._episodes(firing, wanted)
            if wanted.matches(episode.row)
        )
        return _sorted(rows)

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels that may be notified."""
        return tuple(self.configurations.load().channels)

    def _episodes(self, firing: Sequence[AlertRow], wanted: AlertFilter) -> Iterator[_Episode]:
        """Yield the episodes that fire, then those that are over, the newest first."""
        episodes = [_Episode(row) for row in firing]
        # The episode to which the next older notification of an alert belongs.
        current: dict[str, _Episode] = {episode.row.dedup_key: episode for episode in episodes}
        everything = wanted.since is None and wanted.worker is None and wanted.rule is None
        for entry in self.alerts.history(limit=HISTORY if everything else LONG_HISTORY):
            last = entry.notification
            if last is None:
                continue
            episode = current.get(last.dedup_key)
            if episode is None or (last.status == "resolved" and episode.row.id != last.id):
                episode = _Episode(_row(last, ended_at=last.at if last.status == "resolved" else None))
                current[last.dedup_key] = episode
                episodes.append(episode)
            episode.attempts[:0] = _attempts(entry, last)
        yield from episodes

    def _firing(self) -> Sequence[AlertRow]:
        alerts = [(alert, alert.last) for alert in self.alerts.open() if alert.last is not None]
        acknowledged = self.silences.acknowledged([last.dedup_key for _, last in alerts])
        at = self.now()
        silences = in_force(self.silences.every(), self.configurations.load().silences, at)
        rows = []
        for alert, last in alerts:
            seen = acknowledged.get(last.dedup_key)
            rows.append(
                _row(
                    last,
                    open=True,
                    flapping=alert.flapping,
                    channels=alert.channels,
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


def _attempts(entry: models.HistoryEntry, notification: models.Notification) -> list[DeliveryAttempt]:
    return [
        DeliveryAttempt(
            channel=attempt.channel, at=attempt.at, error=attempt.error, host=attempt.host, notification=notification.id
        )
        for attempt in entry.attempts
    ]


def _sorted(rows: Iterable[AlertRow]) -> AlertList:
    return AlertList(alerts=tuple(sorted(rows, key=alert_position)))


def alert_position(row: AlertRow) -> Position:
    """Return what alerts are sorted by: those that fire, the oldest first; then those that are over, the newest first.

    The position stays while the alert fires, and after it is over.
    """
    at = models.moment(row.since) if row.open else -models.moment(row.at)
    return 1 - row.open, at, row.dedup_key, row.since


def _silenced_by(
    alert: models.Alert, last: models.Notification, silences: Sequence[models.Silence], at: float
) -> str | None:
    silence = muting(silences, last.dedup_key, last.worker, at)
    return silence.id if silence else alert.silenced_by


def _row(notification: models.Notification, **fields: Any) -> AlertRow:
    about: Mapping[str, Any] = {
        "open": False,
        "condition_since": notification.condition_since or notification.since,
        "ended_at": None,
        "acked_by": None,
        "channels": (),
        "silenced_by": None,
        "flapping": False,
    }
    return AlertRow.model_construct(**{**dict(notification), **about, **fields})
