"""Pages of a list. A page begins after a position, so rows added or removed meanwhile shift nothing."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from workermon import errors

Row = TypeVar("Row")

#: A row's sort key, most significant part first.
Position = tuple[str | float, ...]


class Page(NamedTuple, Generic[Row]):
    """The rows of a page, and the position after which the next one begins; ``None`` if it is the last."""

    rows: tuple[Row, ...]
    next: Position | None


def page(rows: Sequence[Row], order: Callable[[Row], Position], *, limit: int, after: Position | None) -> Page[Row]:
    """Return up to ``limit`` rows after a position, from the first on for ``None``.

    ``order`` gives each row's position, by which ``rows`` are sorted. Raises ``errors.InvalidInput`` for a position
    that no row of this list can have.
    """
    try:
        begin = 0 if after is None else bisect.bisect_right(rows, after, key=order)
    except TypeError:
        raise errors.InvalidInput("position", "does not belong to this list", "begin with the first page") from None
    chosen = tuple(rows[begin : begin + limit])
    more = bool(chosen) and begin + limit < len(rows)
    return Page(chosen, order(chosen[-1]) if more else None)
