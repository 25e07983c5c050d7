"""Formats values, durations and errors for notifications and explanations."""

from __future__ import annotations

from workermon import errors, models

#: Characters of an AWS error that a notification repeats.
_MAX_ERROR_LENGTH = 300

#: Why an explanation has no result yet.
NEVER_REQUESTED = "no request to CloudWatch has succeeded yet"
NEVER_EVALUATED = "no slot was evaluated yet"

#: Percent an hour. Slower rates are written per day.
_SLOW = 0.1


def quantity(value: float, unit: str) -> str:
    """Write a value with its unit.

    >>> quantity(97.5, "percent"), quantity(1_530_000.0, "bytes"), quantity(3, "count"), quantity(2e3, "bytes/s")
    ('97.5 %', '1.53 MB', '3', '2 kB/s')
    """
    if unit == "percent":
        return f"{_number(value)} %"
    if unit == "count":
        return _number(value)
    if unit in ("bytes", "bytes/s"):
        per = unit.removeprefix("bytes")
        for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{_number(value / factor)} {prefix}B{per}"
        return f"{_number(value)} B{per}"
    return f"{_number(value)} {unit}"


def one_decimal(value: float, unit: str) -> str | None:
    """Write percents and large numbers of bytes with one decimal, for tables; ``None`` for all others.

    >>> one_decimal(97.25, "percent"), one_decimal(1_530_000.0, "bytes"), one_decimal(3, "bytes")
    ('97.2 %', '1.5 MB', None)
    """
    if unit == "percent":
        return f"{value:.1f} %"
    if unit == "bytes":
        for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.1f} {prefix}B"
    return None


def quantity_beside(value: float, limit: float, unit: str) -> str:
    """Write a value that must not look equal to the limit that it exceeds.

    >>> quantity_beside(90.001, 90.0, "percent")
    '90.001 %'
    """
    text = quantity(value, unit)
    if value != limit and text == quantity(limit, unit):
        return f"{value!r} %" if unit == "percent" else f"{value!r}{'' if unit == 'count' else f' {unit}'}"
    return text


def _number(value: float) -> str:
    """Two decimals where they matter; more if two would turn a value into 0."""
    if value == round(value, 2):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"


def duration(seconds: int) -> str:
    """Write a duration.

    >>> duration(3600), duration(5400), duration(90)
    ('1 h', '90 min', '90 s')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def about(seconds: float) -> str:
    """Write an estimated duration: to the minute, above an hour to ten minutes, above two days to the hour.

    >>> about(0), about(1500), about(20_500), about(3600), about(200_000)
    ('0 min', '25 min', '5 h 40 min', '1 h', '2 d 8 h')
    """
    minutes = round(seconds / 60)
    if minutes >= 60:
        minutes = round(minutes / 10) * 10
    if minutes >= 2 * 1440:
        minutes = round(minutes / 60) * 60
        parts = ((minutes // 1440, "d"), (minutes % 1440 // 60, "h"))
    else:
        parts = ((minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 min"


def rate(per_second: float, unit: str) -> str:
    """Write how fast a value moves: per hour, or per day if that is slow.

    >>> rate(1.2 / 3600, "percent"), rate(0.5 / 86400, "percent")
    ('1.2 % an hour', '0.5 % a day')
    """
    if abs(per_second) * 3600 < _SLOW and unit == "percent":
        return f"{quantity(per_second * models.DAY, unit)} a day"
    return f"{quantity(per_second * 3600, unit)} an hour"


def levels(thresholds: models.Levels, unit: str) -> str:
    """Write thresholds.

    >>> levels(models.Levels(warning=80, critical=90), "percent")
    'warning 80 % critical 90 %'
    """
    levels_given = ((severity, thresholds.of(severity)) for severity in models.SEVERITIES)
    return " ".join(f"{severity} {quantity(value, unit)}" for severity, value in levels_given if value is not None)


def lasting(seconds: int, period: int) -> str:
    """Write a duration, and its number of slots.

    >>> lasting(600, 60)
    'for 10 min: 10 of 10 slots of 60 s'
    """
    number = -(-seconds // period)
    return f"for {duration(seconds)}: {number} of {number} slots of {period} s"


def by_reason(subject: str, transition: models.Transition) -> str:
    """Write a transition's text about a subject, if its reason contains the value."""
    if transition.value is None:
        return f"{subject} {transition.after or 'resolved'}: {transition.reason}"
    count = for_count(transition, "datapoints") if transition.after is not None else ""
    return f"{subject} {transition.reason}{count}"


def fires_at(severity: models.Severity, needed: object, lasts: int | None = None, period: int = 0) -> str:
    """Write the condition for a severity to fire; ``lasts`` and ``period`` in seconds, for a rule with ``for``.

    >>> fires_at("critical", "3 of 3"), fires_at("warning", "10 of 10", 600, 60)
    ('critical fires at 3 of 3', 'warning fires after all slots of 10 min: 10 of 10 slots of 60 s')
    """
    if lasts is None:
        return f"{severity} fires at {needed}"
    return f"{severity} fires after all slots of {lasting(lasts, period).removeprefix('for ')}"


def for_count(transition: models.Transition, unit: str) -> str:
    """Write how many of the values decided a transition, such as ``for 3 of 3 datapoints``."""
    return f" for {transition.count} {unit}" if transition.count else ""


def collection_error(last_error: models.CollectionError) -> str:
    """Write why collections fail, in AWS's words."""
    return errors.printable(f"{last_error.kind}: {last_error.message}")[:_MAX_ERROR_LENGTH]


def time_of_day(at: float) -> str:
    """Write the time of day.

    >>> time_of_day(1_700_000_000)
    '22:13:20Z'
    """
    return models.rfc3339(at)[11:]


def time(at: float | None) -> str | None:
    """Write a time for JSON, ``None`` if there is none."""
    return None if at is None else models.rfc3339(at)
