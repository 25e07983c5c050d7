"""``[[silences]]``: maintenance windows, once or at the times of a schedule."""

from __future__ import annotations

import zoneinfo

from workermon import errors, models
from workermon.config import grammar, problems

#: The beginning of 2026 in UTC. Schedules are checked from here on, so that checking one needs no clock.
_SINCE = 1_767_225_600


def read(place: int, section: grammar.SilenceSection) -> models.Maintenance:
    """Return the window that a section describes. Raises ``problems.Mistake`` if it cannot work."""
    path = f"silences[{place}]"
    names_something = section.worker is not None or section.rule is not None or bool(section.labels)
    if not names_something and not section.all:
        todo = "name a worker, labels or a rule, or write all = true"
        raise problems.Mistake(path, "would silence everything", todo)
    if names_something and section.all:
        raise problems.Mistake(f"{path}.all", "cannot be combined with worker, labels or rule", "keep one of the two")
    if section.schedule is None:
        _check_once(path, section)
    else:
        _check_schedule(path, section, section.schedule)
    fields = section.model_dump(exclude={"timezone"})
    maintenance = models.Maintenance(id="", **fields, timezone=section.timezone or "UTC")
    return maintenance.model_copy(update={"id": models.maintenance_id(maintenance)})


def _check_once(path: str, section: grammar.SilenceSection) -> None:
    for key in ("duration", "until", "timezone"):
        if key in section.model_fields_set:
            todo = 'add schedule = "0 2 * * sun", or remove it'
            raise problems.Mistake(f"{path}.{key}", "is only for a schedule", todo)
    if section.ends is None:
        raise problems.Mistake(path, "has no end", "add ends, or schedule with duration or until")
    if section.begins is not None and section.ends <= section.begins:
        raise problems.Mistake(f"{path}.ends", "does not come after begins", "swap them")
    if section.begins is not None and section.ends - section.begins > models.MAX_SILENCE:
        raise problems.Mistake(f"{path}.ends", "is more than 365 days after begins", "choose an earlier one")


def _check_schedule(path: str, section: grammar.SilenceSection, schedule: str) -> None:
    for key in ("begins", "ends"):
        if key in section.model_fields_set:
            raise problems.Mistake(f"{path}.{key}", "cannot be combined with a schedule", "keep one of the two")
    if section.duration is None and section.until is None:
        todo = 'write duration = "2h", or until = "04:00"'
        raise problems.Mistake(f"{path}.duration", "is missing beside schedule", todo)
    if section.duration is not None and section.until is not None:
        raise problems.Mistake(f"{path}.until", "cannot be combined with duration", "keep one of the two")
    timezone = section.timezone or "UTC"
    try:
        models.zone(timezone)
    except ValueError as error:
        suggestion = errors.did_you_mean(timezone, zoneinfo.available_timezones())
        todo = suggestion or "see the names of the tz database"
        raise problems.Mistake(f"{path}.timezone", f"{problems.excerpt(timezone)!r} {error}", todo) from None
    try:
        models.check_schedule(models.Recurrence(schedule, timezone, section.duration, section.until), _SINCE)
    except ValueError as error:
        todo = 'write minute, hour, day, month and day of the week, such as "0 2 * * sun"'
        if "for ever" in str(error):
            todo = "choose an earlier end, or change the rule"
        raise problems.Mistake(f"{path}.schedule", f"{problems.excerpt(schedule)!r} {error}", todo) from None
