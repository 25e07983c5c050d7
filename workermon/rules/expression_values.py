"""The values of an expression, slot by slot: plain numbers, because this runs for each worker each time.

A slot is as long as the longest period of the operands. If an operand has several datapoints in a slot, its statistic
combines them; it is absent unless all of them exist. ``nan`` means absent here.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from workermon.models import Datapoint
from workermon.rules import expression

#: Statistics whose value over a slot is the sum of its parts' values.
SUMMED = frozenset({"Sum", "SampleCount"})

_Column: TypeAlias = list[float]
_Compute: TypeAlias = "Callable[[Frame], _Column]"


class Operand(NamedTuple):
    """The datapoints of a metric in order of time, its period in seconds, and its statistic."""

    points: Sequence[Datapoint]
    period: int
    statistic: str = "Average"


def series(
    of: expression.Expression,
    operands: Mapping[str, Operand],
    period: int,
    since: int | None = None,
    seconds: int | None = None,
) -> tuple[Datapoint, ...]:
    """Return the values of an expression in slots of ``period`` seconds, each at the start of its slot.

    A slot is absent if an operand is. ``since`` is the time from which values are needed. ``seconds`` is the length
    that a slot's sum covers, if it differs from the slot's.
    """
    frame = Frame(operands, period, seconds)
    first, *other_slots = frame.slots_of.values()
    common = set(first).intersection(*other_slots)
    least = -math.inf if since is None else since // period
    frame.slots = sorted(slot for slot in common if slot >= least)
    values = _compiled(of)(frame)
    return tuple(
        Datapoint(slot * period, value)
        for slot, value in zip(frame.slots, values, strict=True)
        if value - value == 0.0  # finite
    )


def terms(
    of: expression.Expression, operands: Mapping[str, Operand], period: int, times: Sequence[int]
) -> dict[expression.Term, tuple[float | None, ...]]:
    """Return each term of an expression in the slots of these times; ``None`` if absent."""
    frame = Frame(operands, period)
    frame.slots = [at // period for at in times]
    return {term: tuple(value if math.isfinite(value) else None for value in _term(term)(frame)) for term in of.terms}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the least value that so many percent of the values do not exceed (nearest rank).

    >>> percentile([3.0, 1.0, 2.0], 95)
    3.0
    """
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def combined(values: Sequence[float], statistic: str) -> float:
    """Combine the values of a slot's parts into the value of the slot.

    Percentiles cannot be combined, so the greatest is used.
    """
    if statistic in SUMMED:
        return sum(values)
    if statistic == "Minimum":
        return min(values)
    if statistic == "Maximum" or statistic.startswith("p"):
        return max(values)
    return sum(values) / len(values)


class Frame:
    """The slots to compute, and the operands by slot."""

    __slots__ = ("operands", "parts", "period", "seconds", "slots", "slots_of")

    def __init__(self, operands: Mapping[str, Operand], period: int, seconds: int | None = None) -> None:
        self.period, self.seconds, self.operands = period, seconds or period, operands
        self.slots: list[int] = []
        #: By metric: its values by slot.
        self.slots_of = {name: _by_slot(operand, period) for name, operand in operands.items()}
        #: By metric: the numbers of its own slots in order, and their values.
        self.parts: dict[str, tuple[list[int], list[float]]] = {}

    def own_slots(self, name: str) -> tuple[list[int], list[float]]:
        """Return the slots of a metric at its own period, and their values."""
        cached = self.parts.get(name)
        if cached is None:
            operand = self.operands[name]
            own_slots = self.slots_of[name] if operand.period >= self.period else _by_slot(operand, operand.period)
            slots = sorted(own_slots)
            cached = self.parts[name] = slots, [own_slots[slot] for slot in slots]
        return cached


def _by_slot(operand: Operand, period: int) -> dict[int, float]:
    own_period = operand.period
    if own_period >= period:
        return {at // period: value for at, value in operand.points if value - value == 0.0}
    together: dict[int, list[float]] = {}
    for place, value in sorted(_by_slot(operand, own_period).items()):
        together.setdefault(place * own_period // period, []).append(value)
    full_count, statistic = period // own_period, operand.statistic
    return {slot: combined(values, statistic) for slot, values in together.items() if len(values) >= full_count}


# --- from nodes to functions -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2000)
def _compiled(of: expression.Expression) -> _Compute:
    return _function(of.root)


def _function(node: expression.Node) -> _Compute:
    """Return the function that computes a node."""
    match node:
        case expression.Number(value=value):
            return lambda frame: [value] * len(frame.slots)
        case expression.Period():
            return lambda frame: [float(frame.seconds)] * len(frame.slots)
        case expression.Negative():
            negated = _function(node.of)
            return lambda frame: [-x for x in negated(frame)]
        case expression.Absolute():
            signed = _function(node.of)
            return lambda frame: [abs(x) for x in signed(frame)]
        case expression.Extreme():
            return _extreme(node)
        case expression.Binary():
            return _binary(node)
    return _term(node)


def _binary(node: expression.Binary) -> _Compute:
    left, right = _function(node.left), _function(node.right)
    match node.sign:
        case "+":
            return lambda frame: [x + y for x, y in zip(left(frame), right(frame), strict=True)]
        case "-":
            return lambda frame: [x - y for x, y in zip(left(frame), right(frame), strict=True)]
        case "*":
            return lambda frame: [x * y for x, y in zip(left(frame), right(frame), strict=True)]
    return lambda frame: [
        # A division by too large a number would give 0.
        x / y if y and y - y == 0.0 else math.nan
        for x, y in zip(left(frame), right(frame), strict=True)
    ]


def _extreme(node: expression.Extreme) -> _Compute:
    left, right, choose = _function(node.left), _function(node.right), min if node.which == "min" else max
    return lambda frame: [
        choose(x, y) if (x - x) + (y - y) == 0.0 else math.nan for x, y in zip(left(frame), right(frame), strict=True)
    ]


def _term(node: expression.Term) -> _Compute:
    name = node.name
    match node:
        case expression.Metric():

            def plain(frame: Frame) -> _Column:
                get = frame.slots_of[name].get
                return [get(slot, math.nan) for slot in frame.slots]

            return plain
        case expression.Rate():
            return lambda frame: _rate(frame, name)
        case expression.Delta():
            return lambda frame: _delta(frame, name, node.window)
    return lambda frame: _window(frame, node)


def _rate(frame: Frame, name: str) -> _Column:
    """Return a metric per second: the slot's amount if it is a sum, otherwise the change since the slot before."""
    if frame.operands[name].statistic in SUMMED:
        get = frame.slots_of[name].get
        return [get(slot, math.nan) / frame.seconds for slot in frame.slots]
    return [change / frame.period for change in _delta(frame, name, frame.period)]


def _delta(frame: Frame, name: str, window: int) -> _Column:
    get, back = frame.slots_of[name].get, -(-window // frame.period)
    return [get(slot, math.nan) - get(slot - back, math.nan) for slot in frame.slots]


def _window(frame: Frame, node: expression.Window) -> _Column:
    """Return an aggregate over the last datapoints of a metric up to each slot.

    Half of them must exist, and for a sum all of them, because a partial sum is misleading.
    """
    name, period = node.name, frame.period
    present = frame.slots_of[name]
    slots, values = frame.own_slots(name)
    step = min(frame.operands[name].period, period)
    size = -(-node.window // step)
    least = size if node.aggregate == "sum" else -(-size // 2)
    aggregate, column = _AGGREGATES[node.aggregate], list[float]()
    for slot in frame.slots:
        # The last of its own slots that begins within this one.
        last = ((slot + 1) * period - 1) // step
        end = bisect.bisect_right(slots, last)
        begin = bisect.bisect_left(slots, last - size + 1, 0, end)
        counted = slot in present and end - begin >= least
        column.append(aggregate(values[begin:end]) if counted else math.nan)
    return column


_AGGREGATES: Mapping[expression.Aggregate, Callable[[Sequence[float]], float]] = {
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "sum": sum,
    "p95": lambda values: percentile(values, 95),
}
