"""Tables of the command line: what a narrow terminal leaves out, and what is never cut."""

from collections.abc import Sequence

from workermon.cli import tables

HEAD = (
    tables.Column("NAME", least=6),
    tables.Column("ID"),
    tables.Column("REGION", leaves=1),
    tables.Column("ALERTS", least=8),
)
ROW = ["render-with-a-long-name", "i-0abc0123456789def", "us-east-1", "cpu-high critical, disk-high warning"]


def lines(width: int, head: Sequence[tables.Column] = HEAD, row: Sequence[str] = ROW) -> list[str]:
    """Return the lines of a table with one row."""
    return [line for row_lines in tables.draw(head, [row], width) for line in row_lines]


def test_a_wide_terminal_shows_everything() -> None:
    """On a wide terminal nothing is cut or left out."""
    head, row = lines(200)
    assert head.split() == ["NAME", "ID", "REGION", "ALERTS"]
    assert all(cell in row for cell in ROW)


def test_an_id_is_whole_on_every_terminal() -> None:
    """Arguments of other commands are never cut, however narrow the terminal is. Other cells are."""
    for width in range(10, 130):
        drawn = lines(width)
        assert ROW[1] in drawn[1]
        if width >= len(ROW[1]) + 6 + 8 + 4:
            assert all(len(line) <= width for line in drawn), width


def test_a_column_that_may_leave_does_before_others_are_cut_too_far() -> None:
    """The region is left out first, then names and alerts are cut with an ellipsis."""
    head, row = lines(45)
    assert "REGION" not in head
    assert row.count("…") == 2


def test_a_long_last_cell_is_wrapped_below_itself() -> None:
    """A reason is complete: its lines are below each other."""
    head = (tables.Column("STATE"), tables.Column("PART"), tables.Column("WHY"))
    drawn = lines(40, head, ["DOWN", "listener", "last listened 400 s ago: start 'celery -A workermon worker'"])
    assert drawn == [
        "STATE  PART      WHY",
        "DOWN   listener  last listened 400 s ago:",
        "                 start 'celery -A",
        "                 workermon worker'",
    ]


def test_wide_letters_are_counted_as_a_terminal_shows_them() -> None:
    """Columns stay aligned with names in double-width characters."""
    head = (tables.Column("NAME"), tables.Column("ID"))
    [[_], [wide], [narrow]] = tables.draw(head, [["東京", "i-1"], ["abcd", "i-2"]], 80)
    assert wide == "東京  i-1"
    assert narrow == "abcd  i-2"
