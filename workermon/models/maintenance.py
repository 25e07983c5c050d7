"""Maintenance windows of the config file: once, or by a cron schedule in a time zone.

If the clocks skip a time of a schedule, the window begins right after the gap. If a time occurs twice, the first one
counts. A schedule whose minute or hour begins with ``*`` follows each hour that the clocks show.
"""

from __future__ import annotations

import hashlib
import json
import math
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

import cronsim

from workermon.models.base import DAY, Frozen, Moment, Text, rfc3339

#: Seconds. The longest silence. To mute something for good, change its rule.
MAX_SILENCE = 365 * DAY

#: If so many consecutive windows join, the schedule counts as never ending.
_MAX_JOINED = 10_000


class Span(NamedTuple):
    """Start and end, as times."""

    begins: float
    ends: float


class Recurrence(NamedTuple):
    """The windows of a schedule. Each lasts ``duration`` seconds, or ``until`` a time of day (``HH:MM``)."""

    schedule: str
    timezone: str
    duration: int | None = None
    until: str | None = None

    def end(self, begin: float) -> float:
        """Return the end of the window that begins at a time.

        If the clocks skip the time of day, it ends right after the gap. If that time occurs twice, the first one
        counts.
        """
        if self.until is None:
            return begin + (self.duration or 0)
        hour, _, minute = self.until.partition(":")
        return next(schedule_times(f"{int(minute)} {int(hour)} * * *", self.timezone, begin))

    def __str__(self) -> str:
        """Describe in words when it is.

        >>> str(Recurrence("0 2 * * sun", "UTC", until="04:00"))
        '0 2 * * sun UTC until 04:00'
        """
        lasting = f"for {self.duration} s" if self.until is None else f"until {self.until}"
        return f"{self.schedule} {self.timezone} {lasting}"


class Maintenance(Frozen):
    """A silence of the config file: from ``begins`` until ``ends``, or from each time of a schedule on.

    A recurring one lasts ``duration`` seconds, or ``until`` a time of day (``HH:MM``). ``schedule`` are the five fields
    of cron; both use the clocks of ``timezone``. ``worker`` is an instance id or a name. ``all``: it has no criteria
    and matches every alert. ``id`` is derived from everything except the reason.
    """

    id: str
    worker: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    all: bool = False
    reason: Text
    begins: Moment | None = None
    ends: Moment | None = None
    schedule: str | None = None
    duration: int | None = None
    until: str | None = None
    timezone: str = "UTC"

    @property
    def recurrence(self) -> Recurrence | None:
        """Return when it recurs, ``None`` if it occurs only once."""
        if self.schedule is None:
            return None
        return Recurrence(self.schedule, self.timezone, self.duration, self.until)


def maintenance_id(maintenance: Maintenance) -> str:
    """Return the id of a window, made of all its keys except the reason: equal windows have equal ids."""
    keys = maintenance.model_dump(mode="json", exclude={"id", "reason"})
    return "file-" + hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:8]


def describe_maintenance(maintenance: Maintenance) -> str:
    """Describe in one line what a window mutes, and when.

    >>> describe_maintenance(Maintenance(id="", rule="cpu-high", reason="x", schedule="0 2 * * sun", duration=7200))
    'rule cpu-high, 0 2 * * sun UTC for 7200 s'
    """
    conditions = (("worker", maintenance.worker), ("rule", maintenance.rule))
    parts = [f"{kind} {name}" for kind, name in conditions if name is not None]
    parts += [f"{key}={value}" for key, value in maintenance.labels.items()]
    if maintenance.all:
        parts.append("everything")
    if maintenance.recurrence is not None:
        when = str(maintenance.recurrence)
    else:
        when = f"until {rfc3339(maintenance.ends or 0)}"
        if maintenance.begins is not None:
            when = f"from {rfc3339(maintenance.begins)} {when}"
    return ", ".join([*parts, when])


def is_over(maintenance: Maintenance, now: float) -> bool:
    """Return whether it is over for good."""
    return maintenance.ends is not None and maintenance.ends <= now


def check_schedule(recurrence: Recurrence, since: float) -> None:
    """Raise ``ValueError`` if a schedule is not valid, never occurs, or has windows that join for a year.

    Its windows are checked from ``since`` on (a time).
    """
    if len(recurrence.schedule.split()) != 5:
        raise ValueError('does not have the five fields of cron, such as "0 2 * * sun"')
    try:
        first = next(schedule_times(recurrence.schedule, recurrence.timezone, since), None)
    except cronsim.CronSimError as error:
        raise ValueError(f"is not a schedule of cron: {str(error).lower()}") from None
    if first is None:
        raise ValueError("never comes")
    joined_windows(recurrence, first)


def zone(name: str) -> tzinfo:
    """Return a time zone by its name. Raises ``ValueError`` if it is not known."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("is not a time zone such as Europe/Berlin") from None


def schedule_times(schedule: str, timezone: str, after: float) -> Iterator[float]:
    """Return the times of a schedule after a time, in order."""
    for moment in cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(after), zone(timezone))):
        # Around the hour that occurs twice, the library may begin with a time that has passed.
        if (at := moment.timestamp()) > after:
            yield at


def latest_time(schedule: str, timezone: str, now: float) -> float | None:
    """Return the last time of a schedule that is not after ``now``."""
    back = cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(now) + 1, zone(timezone)), reverse=True)
    latest = next((at for moment in back if (at := moment.timestamp()) <= now), None)
    if latest is None:
        return None
    # Around the hour that occurs twice, the library may skip the last time when going back.
    for later in schedule_times(schedule, timezone, latest):
        if later > now:
            break
        latest = later
    return latest


def joined_windows(recurrence: Recurrence, begin: float) -> Span:
    """Return the span of the windows that join from ``begin`` on. Raises ``ValueError`` if they join for a year."""
    ends = recurrence.end(begin)
    for _ in range(_MAX_JOINED):
        latest = latest_time(recurrence.schedule, recurrence.timezone, ends)
        if latest is None or recurrence.end(latest) <= ends:
            return Span(begin, ends)
        ends = recurrence.end(latest)
        if ends - begin > MAX_SILENCE:
            break
    raise ValueError("is open for ever: the next window begins before the last one ends")
