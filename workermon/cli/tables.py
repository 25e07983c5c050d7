"""Tables: complete and plain in a pipe; fitted to the width of a terminal, so that each row stays readable."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import click

from workermon import errors

#: Characters between two columns, and of a last column that is wrapped, at least.
_GAP, _WRAPPED = 2, 24


class Column(NamedTuple):
    """A column, and how it shrinks on a terminal that is too narrow for the whole table.

    ``least`` is to how many characters its cells may be cut; 0: never. ``leaves``: the columns with the highest number
    are left out first; 0: never. A column that is not cut and is the last one is wrapped.
    """

    title: str
    least: int = 0
    leaves: int = 0


def show(
    head: Sequence[str | Column], rows: Sequence[Sequence[str]], styles: Sequence[str | None] | None = None
) -> None:
    """Print rows under a head; ``styles`` are the colours of the rows, which only a terminal shows."""
    columns = [column if isinstance(column, Column) else Column(column) for column in head]
    cells = [[errors.printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join(plain([column.title for column in columns], cells)))
        return
    table_lines = draw(columns, cells, shutil.get_terminal_size().columns)
    colourful = "NO_COLOR" not in os.environ
    for place, lines in enumerate(table_lines):
        style = {"bold": True} if not place else {"fg": styles[place - 1] if styles else None}
        for line in lines:
            click.echo(click.style(line, **style) if colourful else line)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with nothing cut or left out."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    gap = " " * _GAP
    return [
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return the lines of the head and of each row, for a terminal of that many characters.

    >>> draw([Column("ID"), Column("WHY", least=4)], [["i-1", "a long reason"]], 12)
    [['ID   WHY'], ['i-1  a long…']]
    """
    table = [[column.title for column in columns], *rows]
    visible = list(range(len(columns)))
    while True:
        natural = [max(_length(row[place]) for row in table) for place in visible]
        least = [_least_width(columns, visible, place, natural[number]) for number, place in enumerate(visible)]
        if sum(least) + _GAP * (len(visible) - 1) <= width:
            break
        leaving = max(visible, key=lambda place: columns[place].leaves)
        if not columns[leaving].leaves:
            break
        visible.remove(leaving)
    widths = _fitted_widths(natural, least, width - _GAP * (len(visible) - 1))
    wraps = not columns[visible[-1]].least
    return [_lines([row[place] for place in visible], widths, wraps=wraps) for row in table]


def _least_width(columns: Sequence[Column], visible: Sequence[int], place: int, natural: int) -> int:
    """Return the width that a column needs."""
    if columns[place].least:
        return min(natural, columns[place].least)
    return min(natural, _WRAPPED) if place == visible[-1] else natural


def _fitted_widths(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return the width of each column. The one with the most spare width shrinks first."""
    widths = list(natural)
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda number: widths[number] - least[number])
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int], *, wraps: bool) -> list[str]:
    gap = " " * _GAP
    first = [_padded(_cut(cell, width), width) for cell, width in zip(cells[:-1], widths[:-1], strict=True)]
    last = textwrap.wrap(cells[-1], widths[-1]) if wraps else [_cut(cells[-1], widths[-1])]
    indent = [_padded("", width) for width in widths[:-1]]
    return [gap.join([*first, *last[:1]]).rstrip(), *(gap.join([*indent, line]) for line in last[1:])]


def _cut(text: str, width: int) -> str:
    if _length(text) <= width:
        return text
    while text and _length(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _length(text))


def _length(text: str) -> int:
    """Return how many columns of a terminal a text takes: some scripts are twice as wide."""
    from rich import cells

    return cells.cell_len(text)
