"""Printing: tables on a terminal, plain columns in a pipe, JSON if asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from workermon import errors, models

if TYPE_CHECKING:
    from workermon import views


def document(found: views.Document | Mapping[str, Any]) -> None:
    """Print one JSON document."""
    content = found if isinstance(found, Mapping) else found.to_json()
    click.echo(json.dumps(content, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def warn(text: str) -> None:
    """Print a warning on standard error, in one line."""
    click.echo(f"warning: {errors.printable(text)}", err=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] | None = None) -> None:
    """Print rows under a head: with borders on a terminal, else plain columns; ``styles`` are rich's, one a row."""
    cells = [[errors.printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box, console, text
        from rich import table as rich_table

        shown = rich_table.Table(*head, box=box.SIMPLE_HEAD)
        for place, row in enumerate(cells):
            shown.add_row(*(text.Text(cell) for cell in row), style=styles[place] if styles else None)
        console.Console().print(shown)
        return
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    for row in [list(head), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def reading(shown: models.Reading | None) -> str:
    """Return a metric's newest value with its unit, ``-`` if there is none."""
    return "-" if shown is None else quantity(shown.value, shown.unit)


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit.

    >>> quantity(97.46, "percent"), quantity(1_500_000, "bytes"), quantity(0.0, "count"), quantity(12.5, "credits")
    ('97.5 %', '1.5 MB', '0', '12.5 credits')
    """
    if unit == "percent":
        return f"{value:.1f} %"
    if unit == "bytes":
        for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.1f} {prefix}B"
        return f"{value:.0f} B"
    return f"{value:g}" if unit == "count" else f"{value:g} {unit}"


def ago(age: float) -> str:
    """Return how long ago something was, to one unit.

    >>> ago(5), ago(300), ago(90_000)
    ('5 s ago', '5 min ago', '25 h ago')
    """
    if age < 0:
        return f"in {span(-age)}"
    return f"{span(age)} ago"


def span(seconds: float) -> str:
    """Return a duration to one unit."""
    for limit, factor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
