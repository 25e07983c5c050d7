"""Expressions over other rules: names with and, or, not and parentheses, such as ``cpu-high and not down``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from workermon import errors
from workermon.models import fields
from workermon.rules import section

#: Characters of an expression, and how deep its parentheses may be nested.
MAX_LENGTH, MAX_DEPTH = 4000, 50

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z0-9][A-Za-z0-9_.-]*)|(?P<mark>[()])|(?P<other>\S))")
_WORDS = ("and", "or", "not")
#: Common spellings of our words elsewhere.
_MEANT_WORDS = {"&": "and", "|": "or", "!": "not", "~": "not", "+": "or", "*": "and"}


class Name(NamedTuple):
    """A rule by its name."""

    name: str

    def is_true(self, states: Mapping[str, bool | None]) -> bool | None:
        """Return whether the rule fires."""
        return states.get(self.name)

    def __str__(self) -> str:
        return self.name


class Not(NamedTuple):
    """The negation of a part."""

    of: Node

    def is_true(self, states: Mapping[str, bool | None]) -> bool | None:
        """Return whether the negated part is false."""
        value = self.of.is_true(states)
        return None if value is None else not value

    def __str__(self) -> str:
        return f"not ({self.of})" if isinstance(self.of, Joined) else f"not {self.of}"


class Joined(NamedTuple):
    """Parts that are all true (``and``), or of which at least one is true (``or``)."""

    word: Literal["and", "or"]
    parts: tuple[Node, ...]

    def is_true(self, states: Mapping[str, bool | None]) -> bool | None:
        """Return the combined result of the parts. One part may decide although another is unknown."""
        deciding = self.word == "or"
        values = [part.is_true(states) for part in self.parts]
        if deciding in values:
            return deciding
        return None if None in values else not deciding

    def __str__(self) -> str:
        written = (f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts)
        return f" {self.word} ".join(written)


Node = Name | Not | Joined


@dataclasses.dataclass(frozen=True, slots=True)
class WhenExpression:
    """Names of rules with and, or, not and parentheses; ``not`` binds most, then ``and``.

    ``offsets`` has the names, each with its first position in the text.
    """

    root: Node
    offsets: Mapping[str, int]

    @classmethod
    def parse(cls, text: str) -> WhenExpression:
        """Parse an expression.

        Raises ``section.Mistake`` about the key ``when``, with the position in the text.

        >>> str(WhenExpression.parse("not a and (b or c)"))
        'not a and (b or c)'
        """
        return _Parser(text).parse()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its rules, in the order of the text."""
        return tuple(self.offsets)

    def is_true(self, states: Mapping[str, bool | None]) -> bool | None:
        """Return whether it holds if these rules fire or not; ``None`` while the deciding ones are unknown.

        >>> WhenExpression.parse("a or b").is_true({"a": True, "b": None})
        True
        """
        return self.root.is_true(states)

    def __str__(self) -> str:
        return str(self.root)


class _Token(NamedTuple):
    """A word, a parenthesis, or (empty) the end of the text; ``offset`` is its position."""

    text: str
    offset: int


class _Parser:
    """Parses an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = self._depth = 0
        self._offsets: dict[str, int] = {}

    def parse(self) -> WhenExpression:
        if len(self._tokens) == 1:
            raise section.Mistake("when", "is empty", 'write names of rules, such as "cpu-high and memory-high"', 0)
        root = self._joined("or")
        token = self._tokens[self._place]
        if token.text == ")":
            raise _mistake(token, "closes no parenthesis", "remove it, or open one before it")
        if token.text:
            raise _mistake(token, "follows without a word between", "write and, or, or and not before it")
        return WhenExpression(root, self._offsets)

    def _joined(self, word: Literal["and", "or"]) -> Node:
        parts = [self._part(word)]
        while self._tokens[self._place].text == word:
            self._place += 1
            parts.append(self._part(word))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _part(self, word: Literal["and", "or"]) -> Node:
        return self._joined("and") if word == "or" else self._single()

    def _single(self) -> Node:
        token = self._tokens[self._place]
        if token.text not in ("not", "("):
            return self._name(token)
        self._place += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _mistake(token, f"is nested more than {MAX_DEPTH} deep", "write it flat")
        if token.text == "not":
            node: Node = Not(self._single())
        else:
            node = self._joined("or")
            if self._tokens[self._place].text != ")":
                if self._tokens[self._place].text:
                    raise _mistake(self._tokens[self._place], "follows without a word between", "write and or or")
                raise _mistake(token, "is not closed", "add ) where it ends")
            self._place += 1
        self._depth -= 1
        return node

    def _name(self, token: _Token) -> Name:
        todo = "write the name of a rule there"
        if not token.text:
            raise section.Mistake("when", "ends where the name of a rule should be", todo, token.offset)
        if token.text in (*_WORDS, ")"):
            raise _mistake(token, "is where the name of a rule should be", todo)
        if not fields.is_name(token.text):
            raise _mistake(token, "is longer than a rule's name may be", todo)
        self._place += 1
        self._offsets.setdefault(token.text, token.offset)
        return Name(token.text)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        token, offset, at = match[0].strip(), match.end() - len(match[0].strip()), match.end()
        if match["other"] is not None:
            suggestion = _MEANT_WORDS.get(token)
            todo = f"write {suggestion}" if suggestion else "use names of rules, and, or, not, ( and )"
            raise _mistake(_Token(token, offset), "is not understood", todo)
        if token.lower() in _WORDS and token not in _WORDS:
            raise _mistake(_Token(token, offset), "is in capitals", f"write {token.lower()}")
        yield _Token(token, offset)
    yield _Token("", len(text.rstrip()))


def _mistake(token: _Token, reason: str, todo: str) -> section.Mistake:
    return section.Mistake("when", f"{errors.printable(token.text)[:64]!r} {reason}", todo, token.offset)
