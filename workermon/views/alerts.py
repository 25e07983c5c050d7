"""The alerts: those that fire, and past ones."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from workermon import errors, models, ports
from workermon.alerts.silences import in_force, muting
from workermon.views.document import Document, Time, absent
from workermon.views.paging import Page, Position, page


class DeliveryAttempt(Document):
    """One attempt to deliver a notification (its id); ``error`` is null if the channel accepted it.

    ``host`` is the machine that sent it.
    """

    channel: str
    at: Time
    error: str | None
    host: str | None
    notification: str


class AlertRow(models.Notification):
    """An alert: its newest notification, and further facts.

    ``open``: it fires. ``condition_since`` is when the condition began that made it fire, ``since`` when it fired,
    ``ended_at`` when it resolved. It has escalated to ``escalated_to``, and the next escalation is due at
    ``escalates_at``. ``channels`` are notified of it while it fires. ``deliveries`` are the attempts for all
    notifications of the episode, oldest first; only in answers that include past alerts.
    """

    open: bool
    condition_since: str
    ended_at: str | None
    acked_by: str | None
    silenced_by: str | None
    inhibited_by: str | None
    flapping: bool
    channels: tuple[str, ...]
    escalated_to: tuple[str, ...]
    escalates_at: str | None
    deliveries: tuple[DeliveryAttempt, ...] | None = Field(default=None, exclude_if=absent)

    @classmethod
    def over(cls, last: models.Notification) -> AlertRow:
        """Return the row of a past alert, from its last notification."""
        return _row(last)


class AcknowledgedBy(Document):
    """Who acknowledged an alert, and when."""

    acked_by: str
    at: Time


class AcknowledgementRow(AcknowledgedBy):
    """An alert (its ``dedup_key``) that somebody acknowledged; ``previous`` is the acknowledgement before it."""

    alert: str
    previous: AcknowledgedBy | None


class AlertList(Document):
    """Firing alerts, oldest first; then past ones, newest first, one row for each episode."""

    alerts: tuple[AlertRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts to return.

    ``state`` is ``open`` (those that fire) or ``all``. ``since`` leaves out those that resolved before that time, in
    seconds. ``worker`` is an instance id or a name, ``rule`` a rule's name.
    """

    state: Literal["open", "all"] = "open"
    since: float | None = None
    worker: str | None = None
    rule: str | None = None

    def matches(self, row: AlertRow) -> bool:
        """Return whether an alert matches, apart from its ``state``."""
        if self.rule not in (None, row.rule):
            return False
        if self.worker is not None and (row.worker is None or self.worker not in (row.worker.id, row.worker.name)):
            return False
        return self.since is None or row.open or models.moment(row.ended_at or row.at) >= self.since


#: The firing alerts.
OPEN = AlertFilter()


@dataclasses.dataclass(slots=True)
class _Episode:
    """An alert from its first notification to its end: its row, and the attempts to deliver, oldest first.

    ``number`` is that of the newest entry of its history, ``None`` if it fires. ``complete``: its beginning has been
    read.
    """

    row: AlertRow
    number: int | None = None
    attempts: list[DeliveryAttempt] = dataclasses.field(default_factory=list)
    complete: bool = False

    def owns(self, notification: models.Notification) -> bool:
        """Return whether the next older notification of its alert belongs to this episode."""
        return notification.status == "firing" or notification.id == self.row.id

    def take(self, entry: models.HistoryEntry, notification: models.Notification) -> None:
        """Add the next older notification of this episode."""
        if not self.complete:
            self.attempts[:0] = _attempts(entry, notification)
            is_firing = notification.status == "firing"
            self.complete = is_firing and models.moment(notification.at) <= models.moment(self.row.since)


class _Walk:
    """Finds the matching episodes while it walks through the history from new to old.

    ``newest`` returns the id of an alert's newest notification; ``None`` if the walk begins with the newest entry.
    """

    def __init__(
        self, alert_filter: AlertFilter, firing: Sequence[AlertRow], newest: Callable[[str], str | None] | None
    ) -> None:
        self._filter, self._newest = alert_filter, newest
        episodes = [_Episode(row) for row in firing]
        self.episodes = [episode for episode in episodes if alert_filter.matches(episode.row)]
        #: The episode of an alert's next older notification, ``None`` if that is on another page.
        self._current: dict[str, _Episode | None] = {episode.row.dedup_key: episode for episode in episodes}

    def take(self, number: int, entry: models.HistoryEntry) -> _Episode | None:
        """Add the next older entry. Return the episode that it ends, if that matches."""
        last = entry.notification
        if last is None:
            return None
        has_current = last.dedup_key in self._current
        episode = self._current.get(last.dedup_key)
        if episode is not None and episode.owns(last):
            episode.take(entry, last)
            return None
        if last.status == "firing" and (has_current or (self._newest and self._newest(last.dedup_key) != last.id)):
            self._current[last.dedup_key] = None
            return None
        if episode is not None:
            episode.complete = True
        ended_episode = _Episode(_row(last, ended_at=last.at if last.status == "resolved" else None), number)
        ended_episode.take(entry, last)
        self._current[last.dedup_key] = ended_episode
        if not self._filter.matches(ended_episode.row):
            return None
        self.episodes.append(ended_episode)
        return ended_episode


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertPages:
    """Reads alerts page by page, and who acknowledged or silenced them."""

    alerts: ports.Alerts
    silences: ports.Silences
    configurations: ports.Configurations
    now: ports.Clock

    def page(self, alert_filter: AlertFilter, *, limit: int, after: Position | None) -> Page[AlertRow]:
        """Return up to ``limit`` alerts after a position, from the first on for ``None``.

        Reads only as much of the history as the page needs. Raises ``errors.InvalidInput`` for a position that no alert
        can have.
        """
        firing = self._firing()
        if alert_filter.state == "open":
            chosen = sorted((row for row in firing if alert_filter.matches(row)), key=alert_position)
            return page(chosen, alert_position, limit=limit, after=after)
        episodes = self._episodes(alert_filter, firing, limit, after)
        result = page(
            sorted(episodes, key=lambda episode: alert_position(episode.row)),
            lambda episode: alert_position(episode.row),
            limit=limit,
            after=after,
        )
        return Page(tuple(self._completed(episode) for episode in result.rows), result.next)

    def _episodes(
        self, alert_filter: AlertFilter, firing: Sequence[AlertRow], limit: int, after: Position | None
    ) -> Sequence[_Episode]:
        """Return the matching episodes, as many as the page after a position needs."""
        until = _end_of_page(after)
        walk = _Walk(alert_filter, firing, None if until == math.inf else self._newest_id)

        def comes(row: AlertRow) -> bool:
            return after is None or alert_position(row) > after

        remaining, last = limit + 1 - sum(comes(episode.row) for episode in walk.episodes), -math.inf
        for number, entry in self.alerts.timeline(
            -math.inf if alert_filter.since is None else alert_filter.since, until
        ):
            if entry.at < last:
                break
            ended_episode = walk.take(number, entry)
            remaining -= ended_episode is not None and comes(ended_episode.row)
            # All of those with the same time are needed, because the page sorts them.
            if remaining <= 0 and last == -math.inf:
                last = entry.at
        return walk.episodes

    def _newest_id(self, alert_id: str) -> str | None:
        """Return the id of an alert's newest notification."""
        recorded = (record.entry.notification for record in self.alerts.recorded(alert_id))
        return next((notification.id for notification in recorded if notification is not None), None)

    def _completed(self, episode: _Episode) -> AlertRow:
        """Return the row of an episode with the attempts to deliver each of its notifications."""
        if not episode.complete:
            episode.attempts.clear()
            for _, entry in self.alerts.recorded(episode.row.dedup_key, episode.number):
                if episode.complete or (entry.notification is not None and not episode.owns(entry.notification)):
                    break
                if entry.notification is not None:
                    episode.take(entry, entry.notification)
        return episode.row.model_copy(update={"deliveries": tuple(episode.attempts)})

    def _firing(self) -> Sequence[AlertRow]:
        alerts = [(alert, alert.last) for alert in self.alerts.open() if alert.last is not None]
        acknowledged = self.silences.acknowledged([last.dedup_key for _, last in alerts])
        at = self.now()
        silences = in_force(self.silences.every(), self.configurations.load().silences, at)
        rows = []
        for alert, last in alerts:
            acknowledgement = acknowledged.get(last.dedup_key)
            rows.append(
                _row(
                    last,
                    open=True,
                    flapping=alert.flapping,
                    channels=alert.channels,
                    escalated_to=alert.escalated_to,
                    escalates_at=_escalates_at(alert, acknowledgement),
                    acked_by=acknowledgement.by
                    if acknowledgement is not None and acknowledgement.applies_to(alert.since)
                    else None,
                    silenced_by=_silenced_by(alert, last, silences, at),
                    inhibited_by=alert.inhibited_by,
                )
            )
        return rows


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """Reads all alerts at once."""

    pages: AlertPages
    now: ports.Clock

    def list(self, alert_filter: AlertFilter = OPEN, limit: int | None = None) -> AlertList:
        """Return the matching alerts, at most ``limit``.

        With ``state="all"`` each has the attempts to deliver.
        """
        return AlertList(alerts=self.pages.page(alert_filter, limit=limit or sys.maxsize, after=None).rows)


def acknowledgement_row(
    acknowledgement: models.Acknowledgement, previous: models.Acknowledgement | None
) -> AcknowledgementRow:
    """Return an acknowledgement just made, and the one that it replaces if there is one."""
    return AcknowledgementRow(
        alert=acknowledgement.alert_id,
        acked_by=acknowledgement.by,
        at=acknowledgement.at,
        previous=AcknowledgedBy(acked_by=previous.by, at=previous.at) if previous else None,
    )


def _end_of_page(after: Position | None) -> float:
    """Return the time at which the history after a position of ``alert_position`` begins."""
    if after is None or after[0] != 1:
        return math.inf
    if len(after) < 2 or not isinstance(after[1], int | float):
        raise errors.InvalidInput("position", "does not belong to this list", "begin with the first page")
    return -float(after[1])


def _attempts(entry: models.HistoryEntry, notification: models.Notification) -> list[DeliveryAttempt]:
    return [
        DeliveryAttempt(
            channel=attempt.channel, at=attempt.at, error=attempt.error, host=attempt.host, notification=notification.id
        )
        for attempt in entry.attempts
    ]


def alert_position(row: AlertRow) -> Position:
    """Return the sort key of alerts: firing ones, oldest first; then past ones, newest first.

    The position does not change while the alert fires, nor after it resolved.
    """
    at = models.moment(row.since) if row.open else -models.moment(row.at)
    return 1 - row.open, at, row.dedup_key, row.since


def _escalates_at(alert: models.Alert, acknowledgement: models.Acknowledgement | None) -> str | None:
    """Return when an alert escalates next; ``None`` if somebody has acknowledged it."""
    if alert.escalates_at is None or (acknowledgement is not None and acknowledgement.applies_to(alert.since)):
        return None
    return models.rfc3339(alert.escalates_at)


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
        "escalated_to": (),
        "escalates_at": None,
        "silenced_by": None,
        "inhibited_by": None,
        "flapping": False,
    }
    return AlertRow.model_construct(**{**dict(notification), **about, **fields})
