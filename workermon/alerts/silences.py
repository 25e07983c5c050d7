"""Pure: is an alert muted now, and by what; what may be asked for as a silence; when a maintenance window is open.

A time of a schedule that the clocks skip is moved behind the gap, one that comes twice counts the first time; where
minute or hour begin with ``*`` it goes by each hour that the clocks show.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

import cronsim

from workermon import errors, models

#: Seconds. The longest silence: what is to be quiet for good is a rule to be changed.
LONGEST = 365 * models.DAY

#: Who made a silence of the config file.
FILE = "the config file"

#: Windows that may join before they count as one without an end.
_JOINED = 10_000


class Span(NamedTuple):
    """From when until when, as times."""

    begins: float
    ends: float


# --- what is muted -----------------------------------------------------------------------------------------------


def muted(
    silences: Iterable[models.Silence],
    worker_id: str | None,
    labels: Mapping[str, str],
    rule: str,
    now: float,
    *,
    name: str | None = None,
) -> models.Silence | None:
    """Return the silence that mutes a rule's alert of a worker at a time, ``None`` where none does.

    Of several it is the one that ends last. A silence mutes what all that it names is true of; an alert of an account
    or of a channel, which has no worker, only one that names its rule and nothing else. ``name`` is the worker's.
    """
    found = [one for one in silences if one.begins <= now < one.ends and _covers(one, worker_id, labels, rule, name)]
    return max(found, key=lambda one: (one.ends, one.id), default=None)


def muting(
    silences: Iterable[models.Silence], subject: models.Worker | models.Subject | None, rule: str, now: float
) -> models.Silence | None:
    """Return the same for a worker however it is given; ``None`` is an account or a channel."""
    if subject is None:
        return muted(silences, None, {}, rule, now)
    return muted(silences, subject.id, subject.labels, rule, now, name=subject.name)


def _covers(
    silence: models.Silence, worker_id: str | None, labels: Mapping[str, str], rule: str, name: str | None
) -> bool:
    return (
        (silence.worker_id is None or silence.worker_id in (worker_id, name))
        and silence.rule in (None, rule)
        and all(labels.get(key) == value for key, value in silence.labels.items())
    )


def in_force(
    silences: Iterable[models.Silence], maintenance: Sequence[models.Maintenance], now: float
) -> list[models.Silence]:
    """Return the silences that commands made (over or not), and those of the config file that are open now."""
    return [*silences, *(found for one in maintenance if (found := opened(one, now)) is not None)]


def made(
    silence_id: str,
    *,
    worker_id: str | None,
    labels: Mapping[str, str],
    rule: str | None,
    ends: float | None,
    reason: str,
    by: str,
    now: float,
) -> models.Silence:
    """Return a silence from now on.

    Raises ``errors.InvalidInput`` for one that mutes everything, is over already, has no end or ends too late.
    """
    if worker_id is None and rule is None and not labels:
        raise errors.InvalidInput("silence", "would mute everything", "name a worker, a label or a rule")
    if ends is None:
        raise errors.InvalidInput("silence", "has no end", "add --for 2h, or --until a time")
    if ends <= now:
        raise errors.InvalidInput("silence", f"would have ended at {models.rfc3339(ends)}", "give a time to come")
    if ends - now > LONGEST:
        raise errors.InvalidInput("silence", "is longer than 365 days", "choose a shorter one, or change the rule")
    return models.Silence(
        id=silence_id,
        worker_id=worker_id,
        labels=dict(labels),
        rule=rule,
        begins=now,
        ends=ends,
        reason=reason,
        by=by,
    )


# --- maintenance windows -----------------------------------------------------------------------------------------


def identity(maintenance: models.Maintenance) -> str:
    """Name a silence of the file by what it says, but for the reason: the same in every file that says the same."""
    said = maintenance.model_dump(mode="json", exclude={"id", "reason"})
    return "file-" + hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


def described(maintenance: models.Maintenance) -> str:
    """Say what it mutes and when, in a line.

    >>> described(models.Maintenance(id="", rule="cpu-high", reason="x", schedule="0 2 * * sun", duration=7200))
    'rule cpu-high, 0 2 * * sun UTC for 7200 s'
    """
    named = (("worker", maintenance.worker), ("rule", maintenance.rule))
    parts = [f"{what} {name}" for what, name in named if name is not None]
    parts += [f"{key}={value}" for key, value in maintenance.labels.items()]
    if maintenance.schedule is not None:
        when = f"{maintenance.schedule} {maintenance.timezone} for {maintenance.duration} s"
    else:
        when = f"until {models.rfc3339(maintenance.ends or 0)}"
        if maintenance.begins is not None:
            when = f"from {models.rfc3339(maintenance.begins)} {when}"
    return ", ".join([*parts, when])


def opened(maintenance: models.Maintenance, now: float) -> models.Silence | None:
    """Return the silence that is in force at a time because of a window, ``None`` while it is shut."""
    span = current(maintenance, now)
    if span is None:
        return None
    return models.Silence(
        id=maintenance.id,
        worker_id=maintenance.worker,
        labels=maintenance.labels,
        rule=maintenance.rule,
        begins=span.begins,
        ends=span.ends,
        reason=maintenance.reason,
        by=FILE,
    )


def current(maintenance: models.Maintenance, now: float) -> Span | None:
    """Return from when until when the window is that is open at a time, ``None`` where none is.

    Windows that overlap or meet are one, which ends with the last of them; it is said to begin with the latest.
    """
    if maintenance.schedule is None:
        once = Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return once if once.begins <= now < once.ends else None
    # What stands on whole minutes is the same all through one.
    span = _last(maintenance.schedule, maintenance.timezone, maintenance.duration or 0, math.floor(now / 60) * 60)
    return span if span is not None and now < span.ends else None


def following(maintenance: models.Maintenance, now: float) -> Span | None:
    """Return the next window that begins after a time and after the one open then; ``None`` where there is none."""
    if maintenance.schedule is None:
        once = Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return once if once.begins > now else None
    open_now = current(maintenance, now)
    after = now if open_now is None else open_now.ends
    begins = next(_times(maintenance.schedule, maintenance.timezone, after), None)
    return None if begins is None else current(maintenance, begins)


def over(maintenance: models.Maintenance, now: float) -> bool:
    """Tell whether no window of it is open or comes any more."""
    return maintenance.ends is not None and maintenance.ends <= now


def check_schedule(schedule: str, timezone: str, duration: int, since: float) -> None:
    """Raise ``ValueError``, saying why, for a schedule that never comes or whose windows join for a year.

    ``since`` is a time from which its first windows are looked at.
    """
    if len(schedule.split()) != 5:
        raise ValueError('has not the five fields of cron, such as "0 2 * * sun"')
    try:
        first = next(_times(schedule, timezone, since), None)
    except cronsim.CronSimError as why:
        raise ValueError(f"is no schedule of cron: {str(why).lower()}") from None
    if first is None:
        raise ValueError("never comes")
    _joined(schedule, timezone, duration, first)


def zone(name: str) -> tzinfo:
    """Return a time zone by its name; raises ``ValueError`` for one that is not known."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("is no time zone such as Europe/Berlin") from None


def _times(schedule: str, timezone: str, after: float) -> Iterator[float]:
    """Return the times of a schedule after a time, in order."""
    for found in cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(after), zone(timezone))):
        # About the hour that comes twice the library may begin with one that is past.
        if (at := found.timestamp()) > after:
            yield at


def _latest(schedule: str, timezone: str, now: float) -> float | None:
    """Return the last time of a schedule that is not after ``now``."""
    back = cronsim.CronSim(schedule, datetime.fromtimestamp(math.floor(now) + 1, zone(timezone)), reverse=True)
    found = next((at for each in back if (at := each.timestamp()) <= now), None)
    if found is None:
        return None
    # About the hour that comes twice the library's way back may leave out the last.
    for later in _times(schedule, timezone, found):
        if later > now:
            break
        found = later
    return found


def _joined(schedule: str, timezone: str, duration: int, begin: float) -> Span:
    """Return from a beginning until when windows join; raises ``ValueError`` where that takes a year."""
    ends = begin + duration
    for _ in range(_JOINED):
        latest = _latest(schedule, timezone, ends)
        if latest is None or latest + duration <= ends:
            return Span(begin, ends)
        ends = latest + duration
        if ends - begin > LONGEST:
            break
    raise ValueError("is open for ever: the next window begins before the last one ends")


@functools.lru_cache(maxsize=4096)
def _last(schedule: str, timezone: str, duration: int, minute: int) -> Span | None:
    """Return the window that began last by a minute, with those that join it."""
    begin = _latest(schedule, timezone, minute)
    if begin is None:
        return None
    if begin + duration <= minute:
        return Span(begin, begin + duration)
    try:
        return _joined(schedule, timezone, duration, begin)
    except ValueError:
        return Span(begin, begin + duration)
