"""Where in a TOML text each key and each element of an array stands: line and column, which ``tomllib`` does not tell.

The text has to be valid TOML, as ``tomllib`` evaluates it. A path is a tuple of keys and places, as in
``("rules", 0, "above", "critical")``.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_SKIPPED = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
#: A value that is neither a text, an array nor an inline table; a date may have a space in it.
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d[ tT]\d[^\s,\]}#]*|[^\s,\]}#]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    + r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    + r'|"(?:[^"\\\n]|\\.)*"'
    + r"|'[^'\n]*'",
    re.DOTALL,
)


def find(text: str) -> dict[Path, int]:
    """Return the offset of each key, by its path, and of each element of an array.

    A table that is opened more than once has its first place; a table of an array that of its header.
    """
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.document()
    return scanner.found


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return an offset as line and column, both from 1.

    >>> line_and_column("a = 1\\nbc = 2", 6)
    (2, 1)
    """
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


class _Scanner:
    """Walks a valid text once."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.found: dict[Path, int] = {}
        self.lengths: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self) -> bool:
        match = _SKIPPED.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at < len(self.text)

    def _blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _header(self) -> Path:
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        path: Path = ()
        keys = self._keys()
        for place, (key, offset) in enumerate(keys):
            path = (*path, key)
            self.found.setdefault(path, offset)
            if place == len(keys) - 1 and double:
                number = self.lengths.get(path, 0)
                self.lengths[path] = number + 1
                path = (*path, number)
                self.found[path] = offset
            elif path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        self.at += 2 if double else 1
        return path

    def _keys(self) -> list[tuple[str, int]]:
        """Read a dotted key, up to what follows it."""
        keys = []
        while True:
            self._blank()
            offset = self.at
            keys.append((self._key(), offset))
            self._blank()
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _key(self) -> str:
        if self.text[self.at] in "\"'":
            return str(tomllib.loads(f"k = {self._match(_STRING)}")["k"])
        return self._match(_BARE)

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"no TOML at offset {self.at}")
        self.at = match.end()
        return match[0]

    def _pair(self, table: Path) -> None:
        path = table
        for key, offset in self._keys():
            path = (*path, key)
            self.found.setdefault(path, offset)
        self.at += 1  # the equals sign
        self._blank()
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self.text[self.at]
        if first in "\"'":
            self._match(_STRING)
        elif first == "[":
            self.at += 1
            number = 0
            while self._skip() and self.text[self.at] != "]":
                if self.text[self.at] == ",":
                    self.at += 1
                    continue
                self.found[*path, number] = self.at
                self._value((*path, number))
                number += 1
            self.at += 1
        elif first == "{":
            self.at += 1
            while self._skip() and self.text[self.at] != "}":
                if self.text[self.at] == ",":
                    self.at += 1
                    continue
                self._pair(path)
            self.at += 1
        else:
            self._match(_PLAIN)
