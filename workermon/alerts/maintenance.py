"""Pure: when a maintenance window of the config file is open."""

from __future__ import annotations

import functools
import math

from workermon import models

#: Who made a silence of the config file.
FILE = "the config file"


def silence(maintenance: models.Maintenance, now: float) -> models.Silence | None:
    """Return the silence that a window puts in force at a time; ``None`` while it is closed."""
    span = current(maintenance, now)
    if span is None:
        return None
    return models.Silence(
        id=maintenance.id,
        worker=maintenance.worker,
        labels=maintenance.labels,
        rule=maintenance.rule,
        begins=span.begins,
        ends=span.ends,
        reason=maintenance.reason,
        by=FILE,
    )


def current(maintenance: models.Maintenance, now: float) -> models.Span | None:
    """Return the window that is open at a time; ``None`` if none is.

    Windows that overlap or touch become one, which ends with the last of them. Its beginning is that of the latest.
    """
    recurrence = maintenance.recurrence
    if recurrence is None:
        single = models.Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return single if single.begins <= now < single.ends else None
    # Times on whole minutes do not change within a minute.
    span = _last(recurrence, math.floor(now / 60) * 60)
    return span if span is not None and now < span.ends else None


def following(maintenance: models.Maintenance, now: float) -> models.Span | None:
    """Return the next window that begins after a time and after the one open then; ``None`` if there is none."""
    if maintenance.schedule is None:
        single = models.Span(maintenance.begins or 0.0, maintenance.ends or 0.0)
        return single if single.begins > now else None
    open_now = current(maintenance, now)
    after = now if open_now is None else open_now.ends
    begins = next(models.schedule_times(maintenance.schedule, maintenance.timezone, after), None)
    return None if begins is None else current(maintenance, begins)


@functools.lru_cache(maxsize=4096)
def _last(recurrence: models.Recurrence, minute: int) -> models.Span | None:
    """Return the last window that began by a minute, with those that join it."""
    begin = models.latest_time(recurrence.schedule, recurrence.timezone, minute)
    if begin is None:
        return None
    end = recurrence.end(begin)
    if end <= minute:
        return models.Span(begin, end)
    try:
        return models.joined_windows(recurrence, begin)
    except ValueError:
        return models.Span(begin, end)
