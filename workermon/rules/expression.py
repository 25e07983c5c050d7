"""An expression over metrics in place of a metric: what it may contain. It is parsed once, never executed as Python.

Python's own parser reads it, and only the few nodes below are accepted. Every error has its position in the text.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import keyword
import math
import re
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from workermon import errors, models
from workermon.models import fields
from workermon.rules import section

#: Characters. A longer text is a program, not a rule.
MAX_LENGTH = 400
#: Nesting depth, and number of all operations.
MAX_DEPTH, MAX_NODES = 60, 100
#: Seconds. The longest window: the longest retention that the ledger allows.
MAX_WINDOW = 30 * models.DAY

#: The word for the seconds of a slot.
PERIOD = "period"

Aggregate = Literal["avg", "min", "max", "sum", "p95"]
Sign = Literal["+", "-", "*", "/"]

#: The syntax of each function.
FUNCTIONS = {
    "rate": "rate(metric)",
    "delta": 'delta(metric, "1h")',
    "avg": 'avg(metric, "30m")',
    "min": 'min(metric, "30m") or min(x, y)',
    "max": 'max(metric, "30m") or max(x, y)',
    "sum": 'sum(metric, "30m")',
    "p95": 'p95(metric, "30m")',
    "abs": "abs(x)",
}
_AGGREGATES: dict[str, Aggregate] = {"avg": "avg", "min": "min", "max": "max", "sum": "sum", "p95": "p95"}
_SIGNS: dict[type[ast.operator], Sign] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMMON_WINDOWS = ("5m", "30m", "1h", "1d")
_LENGTH = re.compile(r"\s*(\d{1,9})\s*([smhdSMHD])", re.ASCII)
_UNQUOTED = re.compile(r"\d+(?:s|m|h|d|w|sec|min|hours?|days?)\b", re.ASCII)
_PARTS = "metrics, numbers and functions with + - * / ( )"
_WORD = re.compile(
    r"[ \t]+"
    r"|(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"|(?P<text>\"[^\"\\]*\"|'[^'\\]*')"
    r"|(?P<sign>\*\*|//|[-+*/])|(?P<open>\()|(?P<close>\))|(?P<comma>,)",
    re.ASCII,
)


class Number(NamedTuple):
    """A number of the text."""

    at: int
    value: float


class Period(NamedTuple):
    """The seconds of a slot."""

    at: int


class Metric(NamedTuple):
    """The value of a metric in the slot."""

    at: int
    name: str

    def __str__(self) -> str:
        return self.name


class Rate(NamedTuple):
    """The amount of a metric per second."""

    at: int
    name: str

    def __str__(self) -> str:
        return f"rate({self.name})"


class Delta(NamedTuple):
    """The difference between a metric and its value ``window`` seconds ago."""

    at: int
    name: str
    window: int

    def __str__(self) -> str:
        return f'delta({self.name}, "{fields.written(self.window)}")'


class Window(NamedTuple):
    """An aggregate of a metric over the last ``window`` seconds."""

    at: int
    aggregate: Aggregate
    name: str
    window: int

    def __str__(self) -> str:
        return f'{self.aggregate}({self.name}, "{fields.written(self.window)}")'


class Negative(NamedTuple):
    """Unary minus."""

    at: int
    of: Node


class Absolute(NamedTuple):
    """A value without its sign."""

    at: int
    of: Node


class Binary(NamedTuple):
    """Two values and the operator between them."""

    at: int
    sign: Sign
    left: Node
    right: Node


class Extreme(NamedTuple):
    """The lesser or the greater of two values."""

    at: int
    which: Literal["min", "max"]
    left: Node
    right: Node


#: Nodes that represent the values of one metric.
Term: TypeAlias = Metric | Rate | Delta | Window
Node: TypeAlias = Number | Period | Term | Negative | Absolute | Binary | Extreme


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A parsed text: ``operands`` are its distinct metrics, in the order of the text."""

    text: str
    root: Node
    terms: tuple[Term, ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """Return the distinct metrics."""
        return tuple(dict.fromkeys(term.name for term in self.terms))

    @property
    def windows(self) -> tuple[Delta | Window, ...]:
        """Return the terms that look back."""
        return tuple(term for term in self.terms if isinstance(term, Delta | Window))

    @property
    def longest_window(self) -> int:
        """Return over how many seconds it looks back at most: 1 for the slot before, 0 if only at the slot itself."""
        windows = (
            term.window if isinstance(term, Delta | Window) else int(isinstance(term, Rate)) for term in self.terms
        )
        return max(windows, default=0)

    def place(self, metric: str) -> int:
        """Return the first position of a metric in the text."""
        return next((term.at for term in self.terms if term.name == metric), 0)


@functools.lru_cache(maxsize=2000)
def of(metric: str | None) -> Expression | None:
    """Return the expression in place of a rule's metric; ``None`` for a plain metric, or without a metric.

    Raises ``section.Mistake`` if it is not a valid expression.
    """
    return None if metric is None or fields.is_name(metric) else parse(metric)


def operands(metric: str | None) -> tuple[str, ...]:
    """Return the metrics whose datapoints a rule needs.

    >>> operands("(network_in + network_out) / period")
    ('network_in', 'network_out')
    """
    expression = of(metric)
    if expression is not None:
        return expression.operands
    return () if metric is None else (metric,)


def parse(text: str) -> Expression:
    """Parse an expression. Raises ``section.Mistake`` with the position of the first mistake."""
    if len(text) > MAX_LENGTH:
        _refuse(MAX_LENGTH, f"is longer than {MAX_LENGTH} characters", "split it into two rules")
    if not text or text != text.strip():
        _refuse(0, "is empty or has spaces at an end", "remove them")
    reader = _Reader(text)
    root = reader.node(_tree(text), 1)
    if isinstance(root, Number) or not reader.terms:
        _refuse(0, "names no metric, so it is the same at all times", "write a metric such as cpu_utilization")
    return Expression(text, root, tuple(sorted(reader.terms, key=lambda term: term.at)))


def _refuse(at: int, reason: str, todo: str) -> NoReturn:
    raise section.Mistake("metric", reason, todo, at)


def _tree(text: str) -> ast.expr:
    """Parse a text with Python's parser, after its words were checked."""
    _check_words(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except SyntaxError as wrong:
        at = min(max((wrong.offset or 1) - 1, 0), len(text) - 1)
        _refuse(at, "cannot be read", f"write {_PARTS} between them")
    except (RecursionError, MemoryError, ValueError):
        _refuse(0, "is nested too deeply", f"{MAX_DEPTH} operations within one another at most")


def _check_words(text: str) -> None:
    """Reject unknown words, and words that cannot follow one another, with their position."""
    at, before, opened = 0, "sign", list[int]()
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            _refuse_sign(text, at)
        kind, written = word.lastgroup or "space", word[0]
        if kind == "name" and keyword.iskeyword(written):
            _refuse_keyword(at, written)
        if kind == "open":
            opened.append(at)
        elif kind == "close":
            if not opened:
                _refuse(at, ") closes nothing", "remove it")
            opened.pop()
        if kind != "space":
            _check_order(at, before, kind, written)
            before = kind
        at = word.end()
    if before in ("sign", "comma"):
        _refuse(len(text) - 1, f"ends with {text[-1]}, where a value is missing", "add it, or remove the sign")
    if opened:
        _refuse(opened[-1], "( is never closed", "close it")


def _check_order(at: int, before: str, kind: str, written: str) -> None:
    is_after_value = before in ("number", "name", "text", "close")
    if kind in ("number", "name", "text") or (kind == "open" and before != "name"):
        if is_after_value:
            _refuse(at, f"an operator is missing before {errors.printable(written)[:32]}", "write one of + - * /")
    elif kind == "sign" and not is_after_value and written != "-":
        _refuse(at, f"a value is missing before {written}", "add it, or remove the sign")
    elif (kind == "comma" and not is_after_value) or (kind == "close" and before in ("sign", "comma")):
        _refuse(at, f"a value is missing before {written}", "add it")


def _refuse_sign(text: str, at: int) -> NoReturn:
    window = _UNQUOTED.match(text, at)
    if window is not None:
        _refuse(at, f"{window[0]} is not a number", f'write a window in quotes: "{window[0]}"')
    if text[at] in "<>=!":
        _refuse(at, "compares, and a rule compares by above or below", "write the value only")
    if text[at] in "\"'":
        _refuse(at, "is a quote that is never closed", "close it")
    excerpt = errors.printable(text[at:].split()[0])[:32] if text[at:].split() else errors.printable(text[at])
    _refuse(at, f"{excerpt} is not part of an expression", f"write {_PARTS}")


def _refuse_keyword(at: int, word: str) -> NoReturn:
    if word in ("and", "or", "not"):
        _refuse(at, f"{word} is about conditions, and an expression is one value", "write a rule for each")
    _refuse(at, f"{word} is not part of an expression", f"write {_PARTS}")


class _Reader:
    """Translates Python's nodes into ours, and counts them."""

    def __init__(self, text: str) -> None:
        self.text, self.count, self.terms = text, 0, list[Term]()

    def node(self, tree: ast.expr, depth: int) -> Node:
        """Return one of our nodes. Raises ``section.Mistake`` for any other node."""
        self.count += 1
        if depth > MAX_DEPTH:
            _refuse(self.at(tree), "is nested too deeply", f"{MAX_DEPTH} operations within one another at most")
        if self.count > MAX_NODES:
            _refuse(self.at(tree), f"has more than {MAX_NODES} parts", "split it into two rules")
        reads: dict[type[ast.expr], Callable[[_Reader, ast.expr, int], Node]] = {
            ast.Constant: _Reader._constant,
            ast.Name: _Reader._name,
            ast.Attribute: _Reader._name,
            ast.UnaryOp: _Reader._unary,
            ast.BinOp: _Reader._binary,
            ast.Call: _Reader._call,
        }
        read = reads.get(type(tree))
        if read is None:
            _refuse(self.at(tree), "is not part of an expression", f"write {_PARTS}")
        return read(self, tree, depth)

    def at(self, tree: ast.expr) -> int:
        """Return the position of a node, in characters."""
        return len(self.text.encode()[: tree.col_offset].decode(errors="replace"))

    def _constant(self, tree: ast.expr, depth: int) -> Node:
        assert isinstance(tree, ast.Constant)
        at, value = self.at(tree), tree.value
        if isinstance(value, str):
            return self._term(Metric(at, self._metric_name(tree)))
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(at, f"{errors.printable(str(value))[:32]} is not a number", "write one such as 8 or 0.5")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            _refuse(at, "is too large a number", "write a smaller one")
        return Number(at, number)

    def _name(self, tree: ast.expr, depth: int) -> Node:
        if isinstance(tree, ast.Name) and tree.id == PERIOD:
            return Period(self.at(tree))
        return self._term(Metric(self.at(tree), self._metric_name(tree)))

    def _unary(self, tree: ast.expr, depth: int) -> Node:
        assert isinstance(tree, ast.UnaryOp)  # the words allow only minus
        return Negative(self.at(tree), self.node(tree.operand, depth + 1))

    def _binary(self, tree: ast.expr, depth: int) -> Node:
        assert isinstance(tree, ast.BinOp)
        left = self.node(tree.left, depth + 1)
        sign, at = _SIGNS.get(type(tree.op)), self._between(tree)
        if sign is None:
            written = self.text[at : self.at(tree.right)].strip(" (")
            _refuse(at, f"{written} is not an operator of an expression", "use one of: + - * /")
        right = self.node(tree.right, depth + 1)
        if sign == "/" and isinstance(right, Number) and not right.value:
            _refuse(right.at, "divides by zero, so there would never be a value", "divide by something else")
        return Binary(at, sign, left, right)

    def _between(self, tree: ast.BinOp) -> int:
        """Return the position of the operator between two values."""
        end = tree.left.end_col_offset or 0
        at = len(self.text.encode()[:end].decode(errors="replace"))
        while self.text[at] in " \t)":
            at += 1
        return at

    def _call(self, tree: ast.expr, depth: int) -> Node:
        assert isinstance(tree, ast.Call)
        at = self.at(tree)
        if not isinstance(tree.func, ast.Name):
            _refuse(at, "is not a function", f"use one of: {', '.join(FUNCTIONS)}")
        name = tree.func.id
        if name not in FUNCTIONS:
            _refuse(at, f"{name} is not a known function", errors.nearest(name, FUNCTIONS))
        if tree.keywords or any(isinstance(argument, ast.Starred) for argument in tree.args):
            _refuse(at, f"{name} takes values only", f"write {FUNCTIONS[name]}")
        if name == "abs":
            self._take(tree, name, 1)
            return Absolute(at, self.node(tree.args[0], depth + 1))
        if name == "rate":
            self._take(tree, name, 1)
            return self._term(Rate(at, self._metric(tree.args[0], name)))
        self._take(tree, name, 2)
        if name in ("min", "max") and not _is_text(tree.args[1]):
            left, right = (self.node(argument, depth + 1) for argument in tree.args)
            return Extreme(at, "min" if name == "min" else "max", left, right)
        metric, window = self._metric(tree.args[0], name), self._window(tree.args[1])
        if name == "delta":
            return self._term(Delta(at, metric, window))
        return self._term(Window(at, _AGGREGATES[name], metric, window))

    def _take(self, tree: ast.Call, name: str, number: int) -> None:
        if len(tree.args) == number:
            return
        given_arguments = "nothing" if not tree.args else models.plural(len(tree.args), "value")
        at = self.at(tree.args[number]) if len(tree.args) > number else self.at(tree)
        _refuse(at, f"{name} has {given_arguments} in its parentheses, not {number}", f"write {FUNCTIONS[name]}")

    def _metric(self, tree: ast.expr, function: str) -> str:
        """Return the metric in a function's argument."""
        if isinstance(tree, ast.Name | ast.Attribute) or _is_text(tree):
            if isinstance(tree, ast.Name) and tree.id == PERIOD:
                _refuse(self.at(tree), "period is no metric", f"write {FUNCTIONS[function]}")
            return self._metric_name(tree)
        _refuse(self.at(tree), f"{function} is over one metric, not over a value", f"write {FUNCTIONS[function]}")

    def _metric_name(self, tree: ast.expr) -> str:
        """Return a name: ``disk_utilization``, ``disk.used``, or in quotes if it has other characters."""
        parts: list[str] = []
        node = tree
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            parts.insert(0, node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not parts:
            parts = [node.value]
        else:
            _refuse(self.at(tree), "is not the name of a metric", "write one such as cpu_utilization")
        name = ".".join(parts)
        if not fields.is_name(name):
            printable_name = errors.printable(name)[:32]
            _refuse(
                self.at(tree), f"{printable_name!r} is not the name of a metric", "write one such as cpu_utilization"
            )
        return name

    def _window(self, tree: ast.expr) -> int:
        at = self.at(tree)
        if not (isinstance(tree, ast.Constant) and isinstance(tree.value, str)):
            _refuse(at, "is not a window", f"write one in quotes: {', '.join(_COMMON_WINDOWS)}")
        try:
            window = fields.duration(tree.value)
        except ValueError:
            _refuse(at, f"{errors.printable(tree.value)[:32]!r} is not a window", _nearest_window(tree.value))
        if window > MAX_WINDOW:
            _refuse(at, f"is a window of more than {fields.written(MAX_WINDOW)}", "write a shorter one")
        return window

    def _term(self, term: Term) -> Term:
        self.terms.append(term)
        return term


def _nearest_window(text: str) -> str:
    length = _LENGTH.match(text)
    if length is not None and int(length[1]):
        return f"did you mean {int(length[1])}{length[2].lower()}?"
    return errors.nearest(text, _COMMON_WINDOWS)


def _is_text(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and isinstance(tree.value, str)
