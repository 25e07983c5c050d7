"""Expressions as metrics: errors and their positions, units, and values."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.expression_model import TEXTS, plain
from workermon import config, errors, models
from workermon.config import export
from workermon.models import Datapoint
from workermon.notify import channels
from workermon.rules import expression, expression_values, section, units

PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)

#: The expression stands in the third line, its first character in the eleventh column.
FILE = """[[rules]]
name = "r"
metric = '{}'
above = {{ critical = 1 }}
[[metrics]]
name = "gpu-load"
namespace = "CWAgent"
metric_name = "gpu"
"""

#: An expression, the column from 1 within it of what is wrong, and words of why and what to do.
WRONG = [
    ("cpu_utilisation * 2", 1, "cpu_utilisation is not a known metric; did you mean cpu_utilization?"),
    ("100 - cpu_utilisation", 7, "did you mean cpu_utilization?"),
    ("network_in + netwrk_out", 14, "did you mean network_out?"),
    ("avg(cpu_utilisation, \"30m\")", 1, "did you mean cpu_utilization?"),
    ("gpu * 2", 1, "gpu is not a known metric; use one of: "),
    ("gpu - load", 1, "gpu is not a known metric"),
    ("ave(cpu_utilization, \"30m\")", 1, "ave is not a known function; did you mean avg?"),
    ("1 + mean(network_in, \"30m\")", 5, "mean is not a known function"),
    ("p99(network_in, \"30m\")", 1, "did you mean p95?"),
    ("sqrt(network_in)", 1, "use one of: abs, avg, delta, max, min, p95, rate, sum"),
    ("avg(network_in, \"30min\")", 17, "did you mean 30m?"),
    ("avg(network_in, \"1 hour\")", 17, "did you mean 1h?"),
    ("avg(network_in, \"soon\")", 17, "use one of: 1d, 1h, 30m, 5m"),
    ("avg(network_in, 30m)", 17, "write a window in quotes"),
    ("avg(network_in, 30)", 17, "is not a window"),
    ("delta(network_in, \"0s\")", 19, "is not a window"),
    ("delta(network_in, \"40d\")", 19, "is a window of more than 30d"),
    ("sum(network_in, \"2d\")", 1, "looks back 2d, but datapoints are kept for 1d and may come 15m late"),
    ("avg(network_in)", 1, "avg has 1 value in its parentheses, not 2; write avg(metric, \"30m\")"),
    ("rate()", 1, "rate has nothing in its parentheses"),
    ("min(network_in, 1, 2)", 20, "min has 3 values"),
    ("abs(network_in, 1)", 17, "abs has 2 values"),
    ("rate(network_in + network_out)", 6, "rate is over one metric"),
    ("avg(2 * network_in, \"30m\")", 5, "avg is over one metric"),
    ("max(network_in / 2, \"30m\")", 5, "max is over one metric"),
    ("avg(period, \"30m\")", 5, "period is no metric"),
    ("network_in +", 12, "ends with +, where a value is missing"),
    ("* network_in", 1, "a value is missing before *"),
    ("network_in + * 2", 14, "a value is missing before *"),
    ("(network_in", 1, "( is never closed"),
    ("network_in) * 2", 11, ") closes nothing"),
    ("network_in network_out", 12, "an operator is missing before network_out"),
    ("10 MB + network_in", 4, "an operator is missing before MB"),
    ("network_in ** 2", 12, "** is not an operator of an expression; use one of: + - * /"),
    ("network_in // 2", 12, "// is not an operator"),
    ("network_in > 80", 12, "a rule compares by above or below"),
    ("cpu_utilization and memory_utilization", 17, "and is about conditions"),
    ("network_in if 1 else 2", 12, "if is not part of an expression"),
    ("network_in # bytes", 12, "# is not part of an expression"),
    ("network_in[0]", 11, "[0] is not part of an expression"),
    ("network_in.real()", 1, "is not a function"),
    ("network_in + True", 14, "True is not part of an expression"),
    ("network_in / 0", 14, "divides by zero"),
    ("network_in * 1e999", 14, "is too large a number"),
    ("8 * period", 1, "names no metric"),
    ("network_in ", 1, "spaces at an end"),
    ("cpu_utilization + network_in", 17, "adds percent and bytes"),
    ("network_in - period", 12, "subtracts bytes and s"),
    ("max(cpu_utilization, network_in)", 1, "takes the greater of percent and bytes"),
    ("network_in / period + network_out", 21, "adds bytes/s and bytes"),
    ("-" * 70 + "network_in", 61, "is nested too deeply"),
    ("network_in" + " + 1" * 55, 10 + 4 * 45, "has more than 100 parts"),
    ("network_in + " + "1" * 400, 401, "is longer than 400 characters"),
]  # fmt: skip


def put_in_force(text: str) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT)


@pytest.mark.parametrize(("wrong", "column", "error"), WRONG, ids=[wrong[:30] for wrong, _, _ in WRONG])
def test_what_is_wrong_is_named_by_line_and_column(wrong: str, column: int, error: str) -> None:
    """Each error has the position within the text, and the nearest valid word."""
    text = FILE.format(wrong)
    with pytest.raises(errors.InvalidInput) as refused:
        put_in_force(text)
    assert f"line 3, column {10 + column}: rules[0].metric: " in str(refused.value)
    assert error in str(refused.value)
    [mistake] = PARSER.mistakes(text, "f.toml", [lambda file: config.to_configuration(file, config.DEFAULT)])
    assert str(mistake) == str(refused.value)


@pytest.mark.parametrize(
    ("written", "line", "column"),
    [
        ('"1 + nope"', 3, 15),
        ("'1 + nope'", 3, 15),
        ('"\\u0031 + nope"', 3, 20),
        ('"""1 + nope"""', 3, 17),
        ('"""\n1 + nope"""', 4, 5),
        ('"""1 + \\\n   nope"""', 4, 4),
        ("'''1 + nope'''", 3, 17),
    ],
)
def test_the_column_is_that_of_the_file(written: str, line: int, column: int) -> None:
    """The position is that in the file, however TOML writes the text."""
    with pytest.raises(errors.InvalidInput, match=f"line {line}, column {column}: "):
        put_in_force(FILE.replace("'{}'", written).format())


def test_a_name_with_a_minus_needs_quotes() -> None:
    """A metric name that looks like a difference needs quotes. Without them the error says so."""
    (rule,) = put_in_force(FILE.format('"gpu-load" * 2')).rules
    assert expression.operands(rule.metric) == ("gpu-load",)
    with pytest.raises(errors.InvalidInput, match="write 'gpu-load' in quotes"):
        put_in_force(FILE.format("2 * gpu-load"))
    with pytest.raises(errors.InvalidInput, match='for a difference write spaces: "network_in - network_out"'):
        put_in_force(FILE.format("network_in-network_out"))


def test_operands_are_collected_and_the_rule_is_exported() -> None:
    """Operands are collected without being listed. The exported file has the same expression."""
    text = FILE.format("disk_read_bytes / period").replace("above", 'unit = "B/s"\nabove')
    configuration = put_in_force(text)
    assert "disk_read_bytes" in configuration.collect
    assert configuration.rules[0].unit == "B/s"
    reparsed = config.to_configuration(PARSER.parse(export.text(configuration, ()), "again.toml"), config.DEFAULT)
    assert reparsed.rules == configuration.rules


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("network_in / period", "bytes/s"),
        ("rate(network_in)", "bytes/s"),
        ("(network_in + network_out) * 8 / period / 1e6", "count"),
        ("100 - cpu_utilization", "percent"),
        ('p95(cpu_utilization, "30m")', "percent"),
        ("network_in / (network_in + network_out)", "count"),
        ("max(-network_in, 5)", "bytes"),
        ("rate(disk_utilization)", "percent/s"),
        ("network_in * disk_utilization / 100 + network_out", "count"),
        ("cpu_utilization + 10 * status_check_failed", "count"),
        ('abs(delta(network_in, "1h"))', "bytes"),
    ],
)
def test_units_are_derived(text: str, unit: str) -> None:
    """A result has the unit that follows from its operands.

    After arithmetic with a number it needs one from the rule.
    """
    rule = models.Rule(name="r", metric=text)
    assert units.of_rule(rule, config.DEFAULT.unit_of) == unit
    assert units.of_rule(rule.model_copy(update={"unit": "Mbit/s"}), config.DEFAULT.unit_of) == "Mbit/s"


@pytest.mark.parametrize(
    ("text", "unit", "error"),
    [
        ("network_in / period", "percent", r"line 4, column 1: rules\[0\].unit: the expression is in bytes/s"),
        ("cpu_utilization", "percent", r"rules\[0\].unit: is for an expression"),
    ],
)
def test_a_unit_that_cannot_be_is_refused(text: str, unit: str, error: str) -> None:
    """A rule cannot give percent to bytes, nor a unit to a plain metric."""
    with pytest.raises(errors.InvalidInput, match=error):
        put_in_force(FILE.format(text).replace("above", f'unit = "{unit}"\nabove'))


# --- values ----------------------------------------------------------------------------------------------------------

Recorded = Mapping[str, expression_values.Operand]


def recorded(series: Sequence[float | None], period: int = 60, statistic: str = "Average") -> expression_values.Operand:
    """Return values, a slot each from 0 on, as an operand."""
    points = tuple(Datapoint(slot * period, value) for slot, value in enumerate(series) if value is not None)
    return expression_values.Operand(points, period, statistic)


def computed(text: str, period: int = 60, **operands: expression_values.Operand) -> list[float | None]:
    """Return the values of an expression by slot."""
    slot_values = {
        at // period: value for at, value in expression_values.series(expression.parse(text), operands, period)
    }
    return [slot_values.get(slot) for slot in range(max(slot_values, default=-1) + 1)]


def test_absent_where_an_operand_is() -> None:
    """A value needs all its operands, a divisor other than zero, and a finite result."""
    assert computed("a + b", a=recorded([1, None, 3, 4]), b=recorded([1, 1, 1, None])) == [2, None, 4]
    assert computed("a / b", a=recorded([1, 1, 1]), b=recorded([0, 2, 4])) == [None, 0.5, 0.25]
    assert computed("1 / (a * 1e308)", a=recorded([1e3, 1])) == [None, 1e-308]
    assert computed("min(a * 1e308, 5)", a=recorded([1e3, 1])) == [None, 5]
    assert computed("a * 2", a=recorded([math.nan, math.inf, 3])) == [None, None, 6]


def test_functions_over_time() -> None:
    """Rates, differences and windows use the datapoints up to the slot."""
    a = recorded([1, 3, 2, 8])
    assert computed("rate(a)", a=a) == [None, 2 / 60, -1 / 60, 6 / 60]
    assert computed("rate(a)", a=recorded([60, 120], statistic="Sum")) == [1, 2]
    assert computed('delta(a, "2m")', a=a) == [None, None, 1, 5]
    assert computed('avg(a, "2m")', a=a) == [1, 2, 2.5, 5]
    assert computed('sum(a, "2m")', a=a) == [None, 4, 5, 10]
    assert computed('max(a, "3m")', a=a) == [None, 3, 3, 8]
    assert computed('min(a, "1h")', a=recorded([5.0] * 29 + [3, 4])) == [None] * 29 + [3, 3]
    assert computed('p95(a, "100m")', a=recorded([float(n) for n in range(100)]))[-1] == 94
    assert computed('avg(a, "3m")', a=recorded([1, None, 3, None])) == [None, None, 2]


def test_operands_of_several_periods() -> None:
    """Shorter periods are aggregated within the slot by the metric's statistic, if the slot is complete."""
    five = recorded([10, 20], period=300)
    minutes = [1.0, 2, 3, 4, 5, 6, None, 8, 9, 10]
    assert computed("a + 0 * b", 300, a=recorded(minutes), b=five) == [3]
    assert computed("a + 0 * b", 300, a=recorded(minutes, statistic="Sum"), b=five) == [15]
    assert computed("a + 0 * b", 300, a=recorded(minutes, statistic="Maximum"), b=five) == [5]
    assert computed("a + 0 * b", 300, a=recorded(minutes, statistic="Minimum"), b=five) == [1]
    assert computed('max(a, "2m") + 0 * b', 300, a=recorded(minutes), b=five) == [5]


# --- an independent model --------------------------------------------------------------------------------------------

VALUES = st.lists(st.one_of(st.none(), st.sampled_from([-3.0, 0.0, 0.5, 4.0, 60.0, 95.0])), min_size=1, max_size=30)


@given(st.sampled_from(TEXTS), VALUES, VALUES, st.sampled_from([10, 60, 300]), st.integers(0, 10))
@examples(300)
def test_equals_a_plain_model(
    text: str, first: list[float | None], second: list[float | None], period: int, since: int
) -> None:
    """Every slot has the value that a plain computation gives, from any time on."""
    written = text
    for size in (2, 3, 4, 12):
        written = written.replace(f"{{{size}}}", f"{size * period}s")
    operands = {"a": recorded(first, period), "b": recorded(second, period)}
    of = expression.parse(written)
    by_place = [dict(enumerate(pair)) for pair in (first, second)]
    a, b = ({slot: value for slot, value in slot_values.items() if value is not None} for slot_values in by_place)
    expected = {slot * period: plain(text, slot, a, b, period) for slot in range(since, 31)}
    computed_values = dict(expression_values.series(of, operands, period, since * period))
    assert computed_values == {at: value for at, value in expected.items() if value is not None}


def test_nothing_is_executed() -> None:
    """Any text is parsed or refused with a position. It neither crashes nor runs code."""
    pieces = (
        *("a", "b.c", "(", ")", "+", "-", "*", "/", "1", '"', "'", ",", " ", "é", "\\", "\n", "\x00", "min(", "\t"),
        *("avg(", '"5m"', "lambda", "import os", "__class__", "0x1", "1_0", "..", "[", "]", "{", "%", "if", ";"),
    )
    chance = random.Random(12)
    refused = list[tuple[str, int | None]]()
    for _ in range(5000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        try:
            expression.parse(text)
        except section.Mistake as wrong:
            refused.append((text, wrong.place))
    assert len(refused) > 1000
    assert all(place is not None and 0 <= place <= len(text) for text, place in refused)
