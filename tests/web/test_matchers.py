"""Alertmanager's matchers."""

from __future__ import annotations

import pytest

from workermon import errors
from workermon.web import matchers

LABELS = {"alertname": "cpu-high", "worker": 'render "07"', "severity": "critical"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('alertname="cpu-high"', True),
        ("alertname=cpu-high", True),
        (' alertname = "cpu-high" ', True),
        ('alertname="cpu"', False),
        ('alertname!="cpu"', True),
        ('alertname=~"cpu.*"', True),
        ('alertname=~"cpu"', False),
        ('alertname=~"mem-high|cpu-high"', True),
        ('alertname=~"(mem|cpu)-h[a-z]+"', True),
        ('alertname!~"cpu.*"', False),
        (r'worker="render \"07\""', True),
        (r'worker=~"render \"\d\d\""', True),
        ('pool=""', True),
        ('pool=~".+"', False),
        ('severity=~".+"', True),
    ],
)
def test_a_matcher_matches_as_alertmanagers_does(text: str, expected: bool) -> None:
    """Expressions match the whole value, an absent label is empty, quotes may be left out."""
    assert matchers.parse(text).matches(LABELS) is expected


@pytest.mark.parametrize("text", ["", "alertname", "=x", "alert name=x", 'a="x" b="y"', '{a="b"}', 'a="x'])
def test_what_is_no_matcher_is_refused(text: str) -> None:
    """The error shows how to write one."""
    with pytest.raises(errors.InvalidInput, match="is not label, operator and value"):
        matchers.parse(text)


@pytest.mark.parametrize(
    "expression",
    ["(a+)+", "(a|a)*", "(a|aa)+$", "a**", "a{1000}", ".*.*.*.*x", "(a|a)(a|a)(a|a)", "a*b*c*d*e*", "(?i)a", "a" * 257],
)
def test_an_expression_that_may_take_long_is_refused(expression: str) -> None:
    """A query with a slow expression is refused, because it would block a thread."""
    with pytest.raises(errors.InvalidInput, match="is more than this takes"):
        matchers.compiled(expression)


@pytest.mark.parametrize("expression", ["(", "[", "a)", "*", "|*", "\\"])
def test_a_broken_expression_is_refused(expression: str) -> None:
    """An invalid expression is the client's error."""
    with pytest.raises(errors.InvalidInput):
        matchers.compiled(expression)


def test_the_worst_that_is_taken_ends() -> None:
    """The slowest allowed expression over the longest value ends. Without a limit it would take years."""
    assert not matchers.compiled(".*.*.*x")("a" * 10_000)
