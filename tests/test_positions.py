"""Lines and columns of a config file's keys, compared with what tomllib reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from workermon.config import positions

#: The keys and places in lists that lead to a value.
Path = tuple[str | int, ...]

TRICKY = '''
# [comment] = "no key"
title = "a # [no] = comment"
long = """
[[rules]]
name = "not here" \\" """
raw = \'\'\'it''s [raw]\'\'\'
when = 2026-11-23 16:00:00Z
"quoted.key" = 1
a.b . "c d" = { x = 1, "y z" = [1, 2, { k = "}" }], t.u = 5 }

[[rules]]
name = "one" # trailing
above = { warning = 80, critical = nan }
notify = [
  "ops", # why
  'log',
]

  [[rules.cases]]
  values = [1, -2.5e3, inf]

  [[rules.cases]]
  name = ""

[[ rules ]]
name = 'two'
[rules.labels]
team = "vfx"
[channels."my ops"]
url = "https://example.com/#x"
'''


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Return every path of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


@pytest.mark.parametrize("text", [TRICKY, TRICKY.replace("\n", "\r\n")])
def test_every_path_has_a_place(text: str) -> None:
    """Texts, comments, arrays, inline and dotted tables and arrays of tables all give the paths that tomllib has."""
    places = positions.find(text)
    assert set(places) == set(paths(tomllib.loads(text)))
    for path, offset in places.items():
        if isinstance(path[-1], str):
            assert text[offset:].lstrip("\"'").startswith(path[-1]), path


def test_places_are_lines_and_columns() -> None:
    """A key is reported by its own line and column, a table of an array by its header's."""
    places = positions.find(TRICKY)

    def place(*path: str | int) -> tuple[int, int]:
        return positions.line_and_column(TRICKY, places[path])

    assert place("rules", 0, "above", "critical") == (14, 25)
    assert place("rules", 0, "notify", 1) == (17, 3)
    assert place("rules", 1) == (26, 4)
    assert place("rules", 1, "labels", "team") == (29, 1)
    assert place("a", "b", "c d", "y z", 2, "k") == (10, 41)


def written(value: object) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n # ]\n".join(written(inner) for inner in value) + "]"
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    """Write a text as TOML."""
    return '"' + "".join(c if c.isalnum() or c in " #=[]{}',." else f"\\U{ord(c):08X}" for c in text) + '"'


TEXTS = st.text("ab[]{}#=\"'\\,. \n", max_size=6)
VALUES = st.recursive(
    st.integers(-5, 5) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@examples(450)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_document_has_the_paths_that_tomllib_reads(document: dict[str, object]) -> None:
    """Whatever the keys and values, no path is missed or made up."""
    # An inline table is one line, so arrays of several lines stand outside of them only.
    text = "".join(f"{quoted(key)} = {written(value)}\n" for key, value in document.items())
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        text = text.replace(",\n # ]\n", ", ")
        read = tomllib.loads(text)
    assert read == document
    assert set(positions.find(text)) == set(paths(read))
