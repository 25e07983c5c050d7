"""Prints JSON documents and warnings, and formats values, ages and times."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from workermon import errors, models

if TYPE_CHECKING:
    import pydantic

    from workermon import fleet


def document(result: pydantic.BaseModel | Mapping[str, Any]) -> None:
    """Print one JSON document."""
    if isinstance(result, Mapping):
        click.echo(json.dumps(result, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
    else:
        # Directly, in a quarter of the time.
        click.echo(result.model_dump_json(indent=2 if sys.stdout.isatty() else None, by_alias=True))


def warn(text: str) -> None:
    """Print a warning on standard error, in one line."""
    click.echo(f"warning: {errors.printable(text)}", err=True)


def unreadable(reasons: Mapping[str, str]) -> None:
    """Warn of the records that cannot be read, and so are missing in the output."""
    for name, problem in reasons.items():
        warn(f"{name} cannot be read and is left out: {problem}")


def rule_coverage(rule: fleet.RuleCoverage) -> str:
    """Return how many workers a rule applies to, in words, and how many groups."""
    groups = "" if rule.groups is None else f" in {models.plural(rule.groups, 'group')}"
    return f"rule {rule.name} applies to {models.plural(rule.workers, 'worker')}{groups}"


def reading(value_read: models.Reading | None) -> str:
    """Return a metric's newest value with its unit, marked if it is old; ``-`` if there is none."""
    return (
        "-"
        if value_read is None
        else f"{quantity(value_read.value, value_read.unit)}{' (old)' if value_read.old else ''}"
    )


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit.

    >>> quantity(97.46, "percent"), quantity(1_500_000, "bytes"), quantity(0.0, "count"), quantity(12.5, "credits")
    ('97.5 %', '1.5 MB', '0', '12.5 credits')
    """
    from workermon import views

    if (text := views.one_decimal(value, unit)) is not None:
        return text
    if unit == "bytes":
        return f"{value:.0f} B"
    return f"{value:g}" if unit == "count" else f"{value:g} {unit}"


def wrapped(line: str) -> list[str]:
    """Wrap a line for a terminal: its continuation is aligned with its text. A pipe gets it unchanged."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= width:
        return [line]
    label = re.match(r"  [a-z]+ +(?=\S)", line) if line.startswith("  ") and not line.startswith("   ") else None
    indent = len(label[0]) if label else len(line) - len(line.lstrip()) + 2
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def subject(notification: models.Notification) -> str:
    """Return an alert's subject for use in commands: a worker's name, otherwise an account, channel or group."""
    return notification.worker.name if notification.worker else notification.subject_id


def reason(notification: models.Notification) -> str:
    """Return a notification's text, without the worker's name."""
    text = notification.summary
    if notification.worker is not None:
        text = text.removeprefix(f"{notification.worker.name}: ")
    reason_text = notification.reason
    if not reason_text or reason_text in text:
        return text
    _, _, last_part = text.rpartition(": ")
    # The summary of an account's alert ends with the kind of error with which the reason begins.
    goes_on = reason_text.startswith(f"{last_part}: ")
    return f"{text}{reason_text.removeprefix(last_part)}" if goes_on else f"{text} ({reason_text})"


def ago(age: float) -> str:
    """Return how long ago something was, to one unit.

    >>> ago(5), ago(300), ago(90_000)
    ('5 s ago', '5 min ago', '25 h ago')
    """
    if age < 0:
        return f"in {span(-age)}"
    return f"{span(age)} ago"


def time(text: str, now: float) -> str:
    """Return a time in RFC 3339, shortened for a table on a terminal. A pipe gets it complete.

    >>> time("2026-11-27T03:17:22Z", models.moment("2026-11-27T09:00:00Z"))
    '2026-11-27T03:17:22Z'
    """
    if not sys.stdout.isatty():
        return text
    day, _, clock = text.partition("T")
    if day == models.rfc3339(now)[:10]:
        return f"{clock[:8]}Z"
    return f"{day[5:] if day[:4] == models.rfc3339(now)[:4] else day} {clock[:5]}Z"


def span(seconds: float) -> str:
    """Return a duration to one unit."""
    for limit, factor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
