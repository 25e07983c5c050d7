"""Names, times and durations that all models use."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from workermon import errors

INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")

#: Seconds. The longest interval and period: a day.
DAY = 86_400

#: Seconds by which two clocks may differ and still count as correct: half of the shortest period of EC2's metrics,
#: because the time at which a datapoint was due decides whether it is absent. Beyond that a process uses Redis' clock.
CLOCK_SKEW = 30
#: Seconds by which a stored time may lead the present: the clock may have been ahead when it was written, and another
#: one behind when it is read. A time further ahead was written by a wrong clock and is ignored.
MAX_LEAD = 2 * CLOCK_SKEW


def leads(at: float | None, now: float) -> bool:
    """Return whether a stored time is so far in the future that a wrong clock must have written it.

    >>> leads(1_000.0, 950.0), leads(1_000.0, 900.0), leads(None, 900.0)
    (False, True, False)
    """
    return at is not None and at - now > MAX_LEAD


#: The dimensions of a series in CloudWatch: their names and values, in CloudWatch's order.
Dimensions = tuple[tuple[str, str], ...]

Severity = Literal["warning", "critical"]
#: From least to worst; ``None`` (resolved) comes before them.
SEVERITIES: tuple[Severity, ...] = ("warning", "critical")


@functools.lru_cache(maxsize=4096)
def rfc3339(at: float) -> str:
    """Format a time for people and JSON: UTC, milliseconds only if there are any.

    >>> rfc3339(1_700_000_000)
    '2023-11-14T22:13:20Z'
    """
    moment = datetime.fromtimestamp(at, UTC)
    digits = "milliseconds" if round(at * 1000) % 1000 else "seconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")


def moment(text: str) -> float:
    """Parse the output of ``rfc3339``. Raises ``ValueError`` for anything else.

    >>> moment("2023-11-14T22:13:20.500Z")
    1700000000.5
    """
    return datetime.fromisoformat(text).timestamp()


def moment_or_utc(text: str) -> float:
    """Parse a time that a user wrote; without an offset it is in UTC. Raises ``ValueError`` for anything else.

    >>> moment_or_utc("2023-11-14T22:13:20"), moment_or_utc("2023-11-14T17:13:20-05:00")
    (1700000000.0, 1700000000.0)
    """
    try:
        parsed = datetime.fromisoformat(text)
        return in_calendar(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    except ValueError:
        raise ValueError("is not a time such as 2026-11-23T16:00:00Z") from None


def in_calendar(parsed: datetime) -> float:
    """Return a time in seconds. Raises ``ValueError`` if it is outside the years 1 to 9999 in UTC: ``rfc3339`` would.

    >>> in_calendar(datetime.fromisoformat("9999-12-31T23:59:59-14:00"))
    Traceback (most recent call last):
    ValueError: is outside the calendar
    """
    return _in_calendar(parsed.timestamp())


def _in_calendar(at: float) -> float:
    try:
        datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError):
        raise ValueError("is outside the calendar") from None
    return at


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw]?)", re.ASCII)


def seconds(text: str | int | float) -> int:
    """Parse a duration such as ``60s``, ``1.5m``, ``24h`` or plain seconds; whole seconds only.

    Raises ``ValueError`` for anything else (``nan``, negative, empty, fractions of a second).
    """
    match = _DURATION.fullmatch(str(text).strip().lower())
    if not match:
        raise ValueError(f"{_excerpt(text)!r} is not a duration such as 30s, 5m or 24h")
    value = float(match[1]) * _UNITS[match[2]]
    if value != int(value):
        raise ValueError(f"{_excerpt(text)!r} is not a whole number of seconds")
    return int(value)


def _excerpt(text: object) -> str:
    return errors.printable(str(text))[:64]


def allowed_interval(interval: int, least: int, subject: str) -> int:
    """Return an interval in seconds. Raises ``errors.InvalidInput`` about ``subject`` if it is not allowed."""
    if interval < least:
        reason = f"{interval} s is below the shortest allowed, {least} s"
        raise errors.InvalidInput(subject, reason, "choose a longer one, or set WORKERMON_MIN_INTERVAL")
    if interval > DAY:
        raise errors.InvalidInput(subject, f"{interval} s is above the longest allowed, 24 h", "choose a shorter one")
    return interval


def pairs(texts: Iterable[str], subject: str) -> dict[str, str]:
    """Parse texts ``key=value`` into a mapping.

    Raises ``errors.InvalidInput`` about ``subject`` if a key has two values.

    >>> pairs(["team=vfx", "tier = 1"], "--label")
    {'team': 'vfx', 'tier': '1'}
    """
    labels: dict[str, str] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if labels.setdefault(key, value) != value:
            raise errors.InvalidInput(subject, f"{key} is given twice", "give each key once")
    return labels


def plural(number: int, singular: str, many: str | None = None) -> str:
    """Return a number with its noun; ``many`` is the plural if that is not the singular and an s.

    >>> plural(1, "worker"), plural(0, "worker"), plural(2, "entry", "entries")
    ('1 worker', '0 workers', '2 entries')
    """
    return f"{number} {singular if number == 1 else many or f'{singular}s'}"


def first_of(names: Sequence[str]) -> str:
    """Return the first of some names, and how many others there are.

    >>> first_of(["web-1"]), first_of(["web-1", "web-2", "web-3"])
    ('web-1', 'web-1 and 2 others')
    """
    return f"{names[0]} and {plural(len(names) - 1, 'other')}" if len(names) > 1 else names[0]


def one_line(text: str) -> str:
    """Check a user's text. Raises ``ValueError`` for control characters, and for spaces at either end."""
    if errors.printable(text) != text:
        raise ValueError("has a control character, such as a newline or an escape sequence")
    if not text.strip() or text != text.strip():
        raise ValueError("is empty or has spaces at an end")
    return text


def _instance_id(text: str) -> str:
    if not INSTANCE_ID.fullmatch(text):
        raise ValueError("is not an instance id: 'i-' and 8 or 17 hexadecimal digits, such as i-0abc123def4567890")
    return text


InstanceId = Annotated[str, AfterValidator(_instance_id)]
#: A user's short text: one line, no control characters.
Text = Annotated[str, Field(max_length=256), AfterValidator(one_line)]
#: A time in seconds that ``rfc3339`` can write.
Moment = Annotated[float, AfterValidator(_in_calendar)]


class Frozen(BaseModel):
    """The base of all models: immutable, unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid")


def to_json(model: BaseModel) -> dict[str, Any]:
    """Return the plain JSON object of a model, with the contract's names."""
    return model.model_dump(mode="json", by_alias=True)
