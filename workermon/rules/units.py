"""Units of the values that rules compare. Those of expressions are derived if known, and rejected if they conflict."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from workermon import models
from workermon.rules import expression, section

#: Units by CloudWatch's and people's names for them. "count" and "none" say nothing about a value.
_NAMES: Mapping[str, str | None] = {
    "count": None,
    "none": None,
    "": None,
    "%": "percent",
    "byte": "bytes",
    "second": "s",
    "seconds": "s",
    "sec": "s",
}
_DIVIDED = re.compile(r"\s*(?:/|\bper\b)\s*")

#: Units with only one meaning, so that another unit beside them is wrong.
_UNAMBIGUOUS = frozenset({"percent", "bytes", "s"})


class Unit(NamedTuple):
    """A unit as powers of its parts, such as ``bytes`` 1 and ``s`` -1, in order; none for a plain number.

    ``scaled``: it was multiplied by a number, so its unit is no longer known.
    """

    powers: tuple[tuple[str, int], ...] = ()
    scaled: bool = False

    def __str__(self) -> str:
        over = [name if power == 1 else f"{name}^{power}" for name, power in self.powers if power > 0]
        under = [name if power == -1 else f"{name}^{-power}" for name, power in self.powers if power < 0]
        return "/".join((" ".join(over) or "count", *under))


PLAIN = Unit()


def of_text(text: str) -> Unit:
    """Return a unit by its name.

    >>> str(of_text("Bytes/Second")), of_text("Count")
    ('bytes/s', Unit(powers=(), scaled=False))
    """
    powers: dict[str, int] = {}
    for place, part in enumerate(_DIVIDED.split(text.strip())):
        name = _NAMES.get(part.lower(), part.lower() if part.lower() in _UNAMBIGUOUS else part)
        if name is not None:
            powers[name] = powers.get(name, 0) + (-1 if place else 1)
    return _unit(powers, scaled=False)


def derive(of: expression.Expression, unit_of: Callable[[str], str]) -> Unit:
    """Return the unit of an expression; ``unit_of`` returns that of a metric.

    Raises ``section.Mistake`` if units are not compatible.
    """
    return _Deriving(unit_of).unit(of.root)


def of_term(term: expression.Term, unit_of: Callable[[str], str]) -> str:
    """Return the unit of a node that represents values of one metric."""
    return str(_Deriving(unit_of).unit(term))


def check_given(unit_name: str, derived: Unit) -> None:
    """Reject a rule's unit that its expression cannot have. Raises ``section.Mistake``."""
    parsed = of_text(unit_name)
    is_unambiguous = bool(parsed.powers) and all(name in _UNAMBIGUOUS for name, _ in parsed.powers)
    is_derived = bool(derived.powers) and not derived.scaled and all(name in _UNAMBIGUOUS for name, _ in derived.powers)
    if is_unambiguous and is_derived and parsed.powers != derived.powers:
        raise section.Mistake("unit", f"the expression is in {derived}, not in {unit_name}", "remove it, or correct it")


class _Deriving:
    def __init__(self, unit_of: Callable[[str], str]) -> None:
        self.unit_of = unit_of

    def unit(self, node: expression.Node) -> Unit:
        """Return the unit of a node."""
        match node:
            case expression.Number():
                return PLAIN
            case expression.Period():
                return Unit((("s", 1),))
            case expression.Rate():
                return _times(of_text(self.unit_of(node.name)), Unit((("s", 1),)), -1)
            case expression.Metric() | expression.Delta() | expression.Window():
                return of_text(self.unit_of(node.name))
            case expression.Negative() | expression.Absolute():
                return self.unit(node.of)
            case expression.Extreme():
                return self._alike(node, f"takes the {'lesser' if node.which == 'min' else 'greater'} of")
            case expression.Binary(sign="+"):
                return self._alike(node, "adds")
            case expression.Binary(sign="-"):
                return self._alike(node, "subtracts")
        return self._scaled(node)

    def _alike(self, node: expression.Binary | expression.Extreme, verb: str) -> Unit:
        """Return the unit of two values that must have the same one."""
        left, right = self.unit(node.left), self.unit(node.right)
        if not left.powers or not right.powers:
            # A number takes the unit of the value beside it. Its effect on a count is unknown.
            unit = right if not left.powers else left
            plain = node.left if not left.powers else node.right
            comparable = isinstance(plain, expression.Number) or not unit.powers
            return Unit(unit.powers, scaled=unit.scaled or not comparable)
        if left.powers != right.powers:
            raise section.Mistake(
                "metric", f"{verb} {left} and {right}", "bring both to one unit, for example as shares of 1", node.at
            )
        return Unit(left.powers, scaled=left.scaled or right.scaled)

    def _scaled(self, node: expression.Binary) -> Unit:
        """Return the unit of a product or a quotient."""
        left, right = self.unit(node.left), self.unit(node.right)
        product = _times(left, right, 1 if node.sign == "*" else -1)
        numbers = [operand.value for operand in (node.left, node.right) if isinstance(operand, expression.Number)]
        return product._replace(scaled=True) if any(abs(value) != 1 for value in numbers) else product


def _times(left: Unit, right: Unit, sign: int) -> Unit:
    percent = ("percent", 1)
    if left.powers != right.powers and percent in (*left.powers, *right.powers):
        # A percentage of something has that thing's unit, times a hundred. Only "percent/s" alone has a meaning.
        base_powers = right.powers if left.powers == (percent,) else left.powers
        if base_powers not in ((), (("s", 1),)):
            left = Unit(tuple(factor for factor in left.powers if factor[0] != "percent"), scaled=True)
            right = Unit(tuple(factor for factor in right.powers if factor[0] != "percent"), scaled=True)
    powers = dict(left.powers)
    for name, power in right.powers:
        powers[name] = powers.get(name, 0) + sign * power
    return _unit(powers, scaled=left.scaled or right.scaled)


def _unit(powers: Mapping[str, int], *, scaled: bool) -> Unit:
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), scaled)


def of_rule(rule: models.Rule, unit_of: Callable[[str], str]) -> str:
    """Return the unit of the values that a rule compares; ``unit_of`` returns that of a metric.

    For an expression it is the rule's own, otherwise the derived one, otherwise ``count``.
    """
    of = expression.of(rule.metric)
    if of is None:
        return "count" if rule.metric is None else unit_of(rule.metric)
    if rule.unit is not None:
        return rule.unit
    return _derived(of, tuple(unit_of(name) for name in of.operands))


@functools.lru_cache(maxsize=2000)
def _derived(of: expression.Expression, units: tuple[str, ...]) -> str:
    try:
        derived = derive(of, dict(zip(of.operands, units, strict=True)).__getitem__)
    except section.Mistake:  # the metrics have changed since the file was checked
        return "count"
    return "count" if derived.scaled else str(derived)
