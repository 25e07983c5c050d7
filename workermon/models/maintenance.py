"""Maintenance windows of the config file: once, or at the times of a cron schedule on the clocks of a time zone.

If the clocks skip a time of a schedule, the window begins right after the gap. If a time comes twice, the first one
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

from workermon.models.base import DAY, Frozen, Text, rfc3339

#: Seconds. The longest silence. To mute something for good, change its rule.
MAX_SILENCE = 365 * DAY

#: Windows that may join before the schedule counts as one that never ends.
_MAX_JOINED = 10_000


class Span(NamedTuple):
    """From when until when, as times."""

    begins: float
    ends: float


class Maintenance(Frozen):
    """A silence of the config file: from ``begins`` until ``ends``, or ``duration`` seconds at each time of a schedule.

    ``worker`` is an instance id or a name; ``schedule`` are the five fields of cron, on the clocks of ``timezone``.
    ``id`` names what it says, all but the reason.
    """

    id: str
    worker: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    reason: Text
    begins: float | None = None
    ends: float | None = None
    schedule: str | None = None
    duration: int | None = None
    timezone: str = "UTC"


def maintenance_id(maintenance: Maintenance) -> str:
    """Return the id of a window, made of all its keys but the reason: equal windows have equal ids."""
    keys = maintenance.model_dump(mode="json", exclude={"id", "reason"})
    return "file-" + hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:8]


def describe_maintenance(maintenance: Maintenance) -> str:
    """Say in one line what a window mutes, and when.

    >>> describe_maintenance(Maintenance(id="", rule="cpu-high", reason="x", schedule="0 2 * * sun", duration=7200))
    'rule cpu-high, 0 2 * * sun UTC for 7200 s'
    """
    named = (("worker", maintenance.worker), ("rule", maintenance.rule))
    parts = [f"{what} {name}" for what, name in named if name is not None]
    parts += [f"{key}={value}" for key, value in maintenance.labels.items()]
    if maintenance.schedule is not None:
        when = f"{maintenance.schedule} {maintenance.timezone} for {maintenance.duration} s"
    else:
        when = f"until {rfc3339(maintenance.ends or 0)}"
        if maintenance.begins is not None:
            when = f"from {rfc3339(maintenance.begins)} {when}"
    return ", ".join([*parts, when])


def is_over(maintenance: Maintenance, now: float) -> bool:
    """Return whether it is over for good."""
    return maintenance.ends is not None and maintenance.ends <= now


def check_schedule(schedule: str, timezone: str, duration: int, since: float) -> None:
    """Raise ``ValueError`` for a schedule that is not valid, that never comes or whose windows join for a year.

    Its windows are checked from ``since`` on (a time).
    """
    if len(schedule.split()) != 5:
        raise ValueError('does not have the five fields of cron, such as "0 2 * * sun"')
    try:
        first = next(schedule_times(schedule, timezone, since), None)
    except cronsim.CronSimError as why:
        raise ValueError(f"is not a schedule of cron: {str(why).lower()}") from None
    if first is None:
        raise ValueError("never comes")
    joined_windows(schedule, timezone, duration, first)


def zone(name: str) -> tzinfo:
    """Return a time zone by its name; raises ``ValueError`` if it is not known."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("is not a time zone such as Europe/Berlin") from None


def schedule_times(schedule: str, timezone: str, after: float) -> Iterator[float]:
    """Return the times of a schedule after a time, in order."""
    for moment in cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(after), zone(timezone))):
        # Around the hour that comes twice, the library may begin with a time that has passed.
        if (at := moment.timestamp()) > after:
            yield at


def latest_time(schedule: str, timezone: str, now: float) -> float | None:
    """Return the last time of a schedule that is not after ``now``."""
    back = cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(now) + 1, zone(timezone)), reverse=True)
    latest = next((at for moment in back if (at := moment.timestamp()) <= now), None)
    if latest is None:
        return None
    # Around the hour that comes twice, the library's way back may leave out the last time.
    for later in schedule_times(schedule, timezone, latest):
        if later > now:
            break
        latest = later
    return latest


def joined_windows(schedule: str, timezone: str, duration: int, begin: float) -> Span:
    """Return the span of the windows that join from ``begin`` on; raises ``ValueError`` if they join for a year."""
    ends = begin + duration
    for _ in range(_MAX_JOINED):
        latest = latest_time(schedule, timezone, ends)
        if latest is None or latest + duration <= ends:
            return Span(begin, ends)
        ends = latest + duration
        if ends - begin > MAX_SILENCE:
            break
    raise ValueError("is open for ever: the next window begins before the last one ends")
