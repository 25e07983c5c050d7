"""Alertmanager's matchers: parsing them, and which labels they match.

Every reader may send a regular expression, so only those are accepted that cannot take long: Python's matcher tries all
ways, and for some expressions there are too many.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from workermon import errors

#: Characters of an expression.
MAX_LENGTH = 256
#: Limits of an expression: unbounded repetitions, and groups of alternatives.
MAX_REPEATS, MAX_GROUPS = 3, 2

_MATCHER = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"]*?))\s*', re.DOTALL)
_PART = re.compile(
    r"\\[^A-Za-z0-9]|\\[dDwWsS]|\[\^?[^\[\]\\]+\]|(?P<group>\((?:\?:)?)|(?P<repeat>[*+?])|[^\\\[\]{}]", re.DOTALL
)
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


class Matcher(NamedTuple):
    """A condition on one label; an absent label is an empty one."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels match. Raises ``errors.InvalidInput`` for an expression that is not accepted."""
        value = labels.get(self.name, "")
        is_match = compiled(self.value)(value) if self.is_regex else value == self.value
        return is_match is self.is_equal

    def __str__(self) -> str:
        operator = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
        return f'{self.name}{operator[self.is_regex, self.is_equal]}"{self.value}"'


def parse(text: str) -> Matcher:
    """Parse a matcher such as ``alertname=~"cpu-.*"``. Raises ``errors.InvalidInput``."""
    match = _MATCHER.fullmatch(text)
    if match is None:
        printable = errors.printable(text)[:64]
        raise errors.InvalidInput(
            f"matcher {printable}", "is not label, operator and value", 'write alertname="cpu-high"'
        )
    name, operator, quoted, plain = match.groups()
    value = plain if quoted is None else re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), quoted)
    matcher = Matcher(name, value, operator.endswith("~"), operator.startswith("="))
    if matcher.is_regex:
        compiled(value)  # a wrong expression is refused also if there is nothing to match
    return matcher


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Return whether labels match every matcher."""
    return all(matcher.matches(labels) for matcher in matchers)


@functools.lru_cache(maxsize=256)
def compiled(expression: str) -> Callable[[str], bool]:
    """Return a test for whole texts. Raises ``errors.InvalidInput`` for an expression that is not accepted."""
    try:
        if _may_take_long(expression):
            raise _refused(expression, "is more than this takes: few of * + ?, none after a group, no {n}")
        pattern = re.compile(f"(?:{expression})", re.DOTALL)
    except re.error:
        raise _refused(expression, "is not a regular expression") from None
    return lambda text: pattern.fullmatch(text[:MAX_LENGTH]) is not None


def _may_take_long(expression: str) -> bool:
    repeats = groups = place = 0
    before = "("
    while place < len(expression):
        part = _PART.match(expression, place)
        if part is None or len(expression) > MAX_LENGTH:
            return True
        if part["repeat"]:
            # Neither a group nor a repetition is repeated.
            if before in ("(", "|", ")", "*", "+", "?"):
                return True
            repeats += part[0] != "?"
        groups += bool(part["group"])
        before = "(" if part["group"] else part[0]
        place = part.end()
    return repeats > MAX_REPEATS or groups > MAX_GROUPS


def _refused(expression: str, reason: str) -> errors.InvalidInput:
    printable = errors.printable(expression)[:64]
    return errors.InvalidInput(f"expression {printable}", reason, "write a plain one such as cpu-.* or a|b")
