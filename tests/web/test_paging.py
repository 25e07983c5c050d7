"""Cursors of the API's lists."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workermon import errors, views
from workermon.web import paging

#: The rows of a list, by a name and a number.
ROWS = [("a", 1), ("a", 2), ("b", 1), ("c", 9), ("d", 0)]


def after(rows: list[tuple[str, int]], cursor: str | None, limit: int = 2) -> tuple[list[tuple[str, int]], str | None]:
    """Return a page as a route does: from a cursor to rows and the next cursor."""
    first_page = views.page(rows, lambda row: row, limit=limit, after=paging.decode("rows", cursor))
    return list(first_page.rows), paging.encode("rows", first_page.next)


def test_a_list_is_walked_by_its_cursors() -> None:
    """Each row is returned once, in order. The last page has no cursor, even if it is full."""
    first, cursor = after(ROWS, None)
    second, following = after(ROWS, cursor)
    third, last = after(ROWS, following)
    assert (first + second + third, last) == (ROWS, None)
    assert after(ROWS[:2], None) == (ROWS[:2], None)
    assert after([], None) == ([], None)


def test_a_cursor_survives_additions_and_removals() -> None:
    """Whatever came or went, the next page begins after the last row that was given, also if that row is gone."""
    _, cursor = after(ROWS, None)
    changed = [("a", 0), ("a", 1), ("aa", 5), ("c", 9), ("d", 0)]
    assert after(changed, cursor)[0] == [("aa", 5), ("c", 9)]


@given(st.text(max_size=200))
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    """A text that is not a cursor of the list is refused in three parts, without a traceback."""
    with pytest.raises(errors.InvalidInput, match="cursor: is not a cursor of this list"):
        paging.decode("rows", cursor)


@pytest.mark.parametrize("content", [b"[[1]]", b"[null]", b"{}", b'"a"', b"[" * 2900, b"[1", b"\xff", b""])
def test_a_forged_cursor_is_refused(content: bytes) -> None:
    """A forged cursor is refused if it contains anything but texts and numbers."""
    forged = base64.urlsafe_b64encode(paging._digest("rows", content) + content).decode()
    with pytest.raises(errors.InvalidInput):
        paging.decode("rows", forged)


def test_a_cursor_is_of_one_list() -> None:
    """A cursor of another list, a wrong position or an endless one is refused."""
    cursor = paging.encode("alerts", ("a", 1))
    with pytest.raises(errors.InvalidInput):
        paging.decode("rows", cursor)
    with pytest.raises(errors.InvalidInput, match="position: does not belong to this list"):
        after(ROWS, paging.encode("rows", (1, "a")))
    with pytest.raises(errors.InvalidInput):
        paging.decode("rows", "A" * 100_000)


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_position_comes_back(name: str, number: float) -> None:
    """Names with any characters are the same after a cursor."""
    assert paging.decode("rows", paging.encode("rows", (name, number))) == (name, number)
