"""The silences in force, and the maintenance windows of the config file."""

from __future__ import annotations

import dataclasses
from typing import Literal

from workermon import models, ports
from workermon.alerts import maintenance
from workermon.views.document import Document, Time


class Window(Document):
    """The span in which a maintenance window is open."""

    begins: Time
    ends: Time


class SilenceRow(Document):
    """A silence of alerts that match all of ``worker``, ``labels``, ``rule`` and ``alert`` (a ``dedup_key``).

    ``all``: it silences every alert. ``begins`` and ``ends`` are null for a window of the config file that is closed;
    ``next`` is when it opens next. ``schedule`` (cron), ``duration`` (seconds), ``until`` and ``timezone`` occur only
    with windows of the config file.
    """

    id: str
    worker: str | None
    labels: dict[str, str]
    rule: str | None
    alert: str | None
    all: bool
    begins: Time | None
    ends: Time | None
    reason: str
    by: str
    origin: Literal["command", "file"]
    open: bool
    next: Window | None


class MaintenanceRow(SilenceRow):
    """A maintenance window of the config file."""

    schedule: str | None
    duration: int | None
    until: str | None
    timezone: str | None


class SilenceList(Document):
    """The silences in force, the first to end first; then the closed windows, the first to open first."""

    silences: tuple[MaintenanceRow | SilenceRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SilenceView:
    """Reads silences made by commands and those of the config file."""

    silences: ports.Silences
    configurations: ports.Configurations
    now: ports.Clock

    def list(self) -> SilenceList:
        """Return the silences that have not ended."""
        now = self.now()
        rows = [silence_row(silence) for silence in self.silences.every() if silence.ends > now]
        windows = self.configurations.load().silences
        rows += [_window_row(window, now) for window in windows if not models.is_over(window, now)]
        return SilenceList(silences=tuple(sorted(rows, key=_order)))


def silence_row(silence: models.Silence) -> SilenceRow:
    """Return a silence made by a command."""
    return SilenceRow(
        id=silence.id,
        worker=silence.worker,
        labels=silence.labels,
        rule=silence.rule,
        alert=silence.alert,
        all=False,
        begins=silence.begins,
        ends=silence.ends,
        reason=silence.reason,
        by=silence.by,
        origin="command",
        open=True,
        next=None,
    )


def _window_row(window: models.Maintenance, now: float) -> MaintenanceRow:
    current, following = maintenance.current(window, now), maintenance.following(window, now)
    return MaintenanceRow(
        id=window.id,
        worker=window.worker,
        labels=window.labels,
        rule=window.rule,
        alert=None,
        all=window.all,
        begins=current.begins if current else None,
        ends=current.ends if current else None,
        reason=window.reason,
        by=maintenance.FILE,
        origin="file",
        open=current is not None,
        next=Window(begins=following.begins, ends=following.ends) if following else None,
        schedule=window.schedule,
        duration=window.duration,
        until=window.until,
        timezone=window.timezone if window.schedule else None,
    )


def _order(row: SilenceRow) -> tuple[bool, float]:
    return not row.open, row.ends or (row.next.begins if row.next else 0.0)
