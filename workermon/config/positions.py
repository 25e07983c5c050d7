"""The positions of keys and array elements in a TOML text: line and column, which ``tomllib`` does not provide.

The text has to be valid TOML for ``tomllib``. A path is a tuple of keys and indexes, as in
``("rules", 0, "above", "critical")``.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_SKIPPED = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
#: A value that is neither a text, an array nor an inline table; a date may contain a space.
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d[ tT]\d[^\s,\]}#]*|[^\s,\]}#]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    + r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    + r'|"(?:[^"\\\n]|\\.)*"'
    + r"|'[^'\n]*'",
    re.DOTALL,
)

_LONG = ('"""', "'''")
#: An escape for one character, and a line continuation, which stands for none.
_ESCAPE = re.compile(r"(?:\\[ \t]*\n\s*)*(?:\\U.{8}|\\u.{4}|\\[^uU]|[^\\])", re.DOTALL)
_FOLDED = re.compile(r"(?:\\[ \t]*\n\s*)+")


def find(text: str) -> dict[Path, int]:
    """Return the offset of each key, by its path, and of each element of an array.

    A table that is opened more than once has its first position; a table of an array that of its header.
    """
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.document()
    return scanner.offsets


def with_value(text: str, path: Path, value: str, before: str) -> str | None:
    """Return a text in which a key has another value, given as TOML; ``None`` if there is no place for it.

    A new key gets a line of its own above the one of ``before``, a key of the same table that is the first on its line.
    """
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.document()
    if path in scanner.spans:
        begin, end = scanner.spans[path]
        return text[:begin] + value + text[end:]
    offset = scanner.offsets.get((*path[:-1], before))
    if offset is None:
        return None
    line = text.rfind("\n", 0, offset) + 1
    if text[line:offset].strip():
        return None
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:offset]}{path[-1]} = {value}{end_of_line}{text[line:]}"


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return an offset as line and column, both from 1.

    >>> line_and_column("a = 1\\nbc = 2", 6)
    (2, 1)
    """
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def within(text: str, offset: int, place: int) -> int:
    r"""Return the offset of a character, from 0, in the text that is the value of the key at an offset.

    If the value is not a text, or too short, the key's offset is returned.

    >>> within('k = "a\\tb"', 0, 2)
    8
    """
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.at = offset
    try:
        scanner.value_of_key()
        begin = scanner.at
        written = scanner.string()
    except (ValueError, IndexError):
        return offset
    quote = written[:3] if written[:3] in _LONG else written[:1]
    at = len(quote) + (quote in _LONG and written[len(quote)] == "\n")
    for _ in range(place):
        escape = _ESCAPE.match(written, at) if quote[0] == '"' else None
        at = at + 1 if escape is None else escape.end()
    folded = _FOLDED.match(written, at) if quote == '"""' else None
    at = at if folded is None else folded.end()
    return begin + at if at <= len(written) - len(quote) else offset


class _Scanner:
    """Walks through a valid text once."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.offsets: dict[Path, int] = {}
        #: Start and end of a key's value.
        self.spans: dict[Path, tuple[int, int]] = {}
        self.lengths: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def value_of_key(self) -> None:
        """Go from a key to its value."""
        self._keys()
        self.at += 1  # the equals sign
        self._blank()

    def string(self) -> str:
        """Return the text at the present position as written, with its quotes."""
        begin = self.at
        self._match(_STRING)
        return self.text[begin : self.at]

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
            self.offsets.setdefault(path, offset)
            if place == len(keys) - 1 and double:
                number = self.lengths.get(path, 0)
                self.lengths[path] = number + 1
                path = (*path, number)
                self.offsets[path] = offset
            elif path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        self.at += 2 if double else 1
        return path

    def _keys(self) -> list[tuple[str, int]]:
        """Parse a dotted key, up to what follows it."""
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
            self.offsets.setdefault(path, offset)
        self.at += 1  # the equals sign
        self._blank()
        begin = self.at
        self._value(path)
        self.spans.setdefault(path, (begin, self.at))

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
                self.offsets[*path, number] = self.at
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
