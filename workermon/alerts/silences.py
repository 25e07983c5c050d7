"""Pure: is an alert muted now, and by what; what may be asked for as a silence; when a maintenance window is open.

A time of a schedule that the clocks skip is moved behind the gap, one that comes twice counts the first time; where
minute or hour begin with ``*`` it goes by each hour that the clocks show.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

from workermon import errors, models

#: Who made a silence of the config file.
FILE = "the config file"

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
    if ends - now > models.MAX_SILENCE:
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


def current(maintenance: models.Maintenance, now: float) -> models.Span | None:
    """Return from when until when the window is that is open at a time, ``None`` where none is.

    Windows that overlap or meet are one, which ends with the last of them; it is said to begin with the latest.
    """
    if maintenance.schedule is None:
        once = models.Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return once if once.begins <= now < once.ends else None
    # What stands on whole minutes is the same all through one.
    span = _last(maintenance.schedule, maintenance.timezone, maintenance.duration or 0, math.floor(now / 60) * 60)
    return span if span is not None and now < span.ends else None


def following(maintenance: models.Maintenance, now: float) -> models.Span | None:
    """Return the next window that begins after a time and after the one open then; ``None`` where there is none."""
    if maintenance.schedule is None:
        once = models.Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return once if once.begins > now else None
    open_now = current(maintenance, now)
    after = now if open_now is None else open_now.ends
    begins = next(models.schedule_times(maintenance.schedule, maintenance.timezone, after), None)
    return None if begins is None else current(maintenance, begins)


@functools.lru_cache(maxsize=4096)
def _last(schedule: str, timezone: str, duration: int, minute: int) -> models.Span | None:
    """Return the window that began last by a minute, with those that join it."""
    begin = models.latest_time(schedule, timezone, minute)
    if begin is None:
        return None
    if begin + duration <= minute:
        return models.Span(begin, begin + duration)
    try:
        return models.joined_windows(schedule, timezone, duration, begin)
    except ValueError:
        return models.Span(begin, begin + duration)
