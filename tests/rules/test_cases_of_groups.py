"""Test cases of rules over several workers: over groups, and about outliers. Values are given by worker name."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from workermon import cli, config, errors, rules, testing
from workermon.views import rule_cases

THREE = """
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
breach = "2 of 2"
over = { by = "pool", count = "2 of 3" }

[[rules.cases]]
name = "two of three"
values = { a-1 = [95, 95, 95, 50, 50], a-2 = [50, 95, 95, 95, 95], a-3 = [1, 1, 1, nan, 1] }
turns = [{ at = 3, to = "critical" }, { at = 5, to = "ok" }]

[[rules.cases]]
name = "one is not enough"
values = { a-1 = [95, 95, 95], a-2 = [85, 50, 85], a-3 = [1, 1, 1] }

[[rules.cases]]
name = "a warning"
values = { a-1 = [95, 95, 95], a-2 = [85, 85, 85], a-3 = [1, 1, 1] }
turns = [{ at = 2, to = "warning" }]
"""

AGGREGATE = """
[[rules]]
name = "pool-full"
metric = "cpu_utilization"
above = { critical = 60 }
breach = "2 of 2"
over = { by = "pool", aggregate = "avg" }

[[rules.cases]]
name = "the average of those that have values"
values = { a-1 = [90, 90, nan, 10], a-2 = [10, 50, 70, 10] }
turns = [{ at = 3, to = "critical" }]
"""

WHEN = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "1 of 1"
recover = "1 of 1"

[[rules]]
name = "network-high"
metric = "(network_in + network_out) / period"
above = { critical = 1000 }
breach = "1 of 1"
recover = "1 of 1"

[[rules]]
name = "pool-in-trouble"
when = "cpu-high and network-high"
over = { by = "pool", share = 0.5 }

[[rules.cases]]
name = "both, on half of the pool"
values.a-1 = { cpu_utilization = [95, 95, 50], network_in = [1, 90000, 1], network_out = [1, 1, 1] }
values.a-2 = { cpu_utilization = [95, 95, 50], network_in = [1, 1, 1], network_out = [1, 1, 1] }
turns = [{ at = 2, to = "critical" }, { at = 3, to = "ok" }]
"""

OUTLIER = """
[[rules]]
name = "odd-one-out"
metric = "cpu_utilization"
outlier = { by = "pool", beyond = 4 }
breach = "2 of 2"
recover = "1 of 1"

[[rules.cases]]
name = "one leaves the others, and all move together"
values.a = [30, 90, 90, 91]
values.b = [31, 31, 31, 90]
values.c = [29, 29, 29, 90]
values.d = [30, 30, 30, 89]
values.e = [32, 32, 32, 92]
turns = [{ at = 3, to = "critical", worker = "a" }, { at = 4, to = "ok", worker = "a" }]

[[rules.cases]]
name = "four are no group"
values = { a = [30, 90, 90], b = [31, 31, 31], c = [29, 29, 29], d = [30, 30, 30] }
"""

BOTH = f"""
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = {{ critical = 80 }}
breach = "1 of 1"
{OUTLIER.partition("[[rules.cases]]")[0]}
[[rules]]
name = "odd-and-high"
when = "odd-one-out and cpu-high"

[[rules.cases]]
name = "odd before it is high"
values = {{ a = [1, 1, 70, 90], b = [1, 1, 1, 1], c = [1, 1, 1, 1], d = [1, 1, 1, 1], e = [1, 1, 1, 1] }}
turns = [{{ at = 4, to = "critical", worker = "a" }}]
"""

LABELS = """
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
above = { critical = "label:hot or 90" }
breach = "1 of 1"
over = { by = "pool", count = "1 of 2" }
warmup = "3m"

[[rules.cases]]
name = "started and labelled"
labels = { hot = "50" }
started = 1
values = { a = [60, 60, 60, 60, 60], b = [1, 1, 1, 1, 1] }
turns = [{ at = 4, to = "critical" }]
"""


def tried(text: str) -> rule_cases.CaseResults:
    """Return the results of the cases of a file."""
    file = testing.parse(text, "f.toml")
    return rule_cases.test(file, config.to_configuration(file, config.DEFAULT), rules.KINDS)


@pytest.mark.parametrize(
    "text",
    [THREE, AGGREGATE, WHEN, OUTLIER, BOTH, LABELS],
    ids=["count", "aggregate", "when", "outlier", "when over an outlier", "labels"],
)
def test_cases_by_worker_pass(text: str) -> None:
    """A rule of each kind over several workers changes its state at the values that a case names."""
    results = tried(text)
    assert [case for case in results.cases if not case.passed] == []
    assert results.passed
    assert results.cases


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (THREE, "{ at = 5, to", "{ at = 4, to"),
        (THREE, "a-1 = [95, 95, 95], a-2 = [85, 50", "a-1 = [95, 95, 95], a-2 = [95, 95"),
        (AGGREGATE, "{ at = 3, to", "{ at = 2, to"),
        (WHEN, "share = 0.5", "share = 0.6"),
        (OUTLIER, 'critical", worker = "a"', 'critical", worker = "b"'),
        (OUTLIER, "d = [30, 30, 30] }", "d = [30, 30, 30], e = [30, 30, 30] }"),
        (LABELS, 'hot = "50"', 'hot = "70"'),
    ],
)
def test_a_wrong_case_fails(text: str, old: str, new: str) -> None:
    """A case fails if the rule does not change its state as the case says."""
    assert old in text
    assert not tried(text.replace(old, new, 1)).passed


@pytest.mark.parametrize("aggregate", ["avg", "sum"])
def test_what_is_too_large_to_add_is_absent(aggregate: str) -> None:
    """A sum beyond the range of numbers makes an absent slot, as in an expression."""
    text = AGGREGATE.replace('"avg"', f'"{aggregate}"').replace("[90, 90, nan, 10]", "[1e308, 1e308, 1e308, 1e308]")
    results = tried(text.replace("[10, 50, 70, 10]", "[1e308, 1e308, 1e308, 1e308]"))
    assert results.cases[0].got == ()


def test_the_result_names_the_worker() -> None:
    """A transition of a rule about single workers names its worker. One about a group has none."""
    first = tried(OUTLIER).cases[0]
    assert [(change.at, change.to, change.worker) for change in first.got] == [(3, "critical", "a"), (4, "ok", "a")]
    assert [change.worker for change in tried(THREE).cases[0].got] == [None, None]


def test_a_case_that_fails_names_the_worker(tmp_path: Path) -> None:
    """Actual and expected transitions are printed with their worker."""
    path = tmp_path / "f.toml"
    path.write_text(OUTLIER.replace('critical", worker = "a"', 'critical", worker = "b"'))
    result = CliRunner().invoke(cli.cli, ["rules", "test", str(path)])
    assert result.exit_code == 1
    assert "expected critical at value 3 (worker b), ok at value 4 (worker a);" in result.stdout
    assert "got critical at value 3 (worker a), ok at value 4 (worker a)" in result.stdout


@pytest.mark.parametrize(
    ("text", "old", "new", "error"),
    [
        (THREE, "values = { a-1 = [95, 95, 95], a-2 = [85, 50, 85], a-3 = [1, 1, 1] }", "values = [95, 95]",
         "line 15, column 1: rules[0].cases[1].values: is one list, and several workers decide the rule; write values"
         " = { a-1 = […], a-2 = […] }, a list for each worker"),
        (THREE, "{ a-1 = [95, 95, 95], a-2 = [85, 50, 85], a-3 = [1, 1, 1] }", "{ cpu_utilization = [95, 95] }",
         "line 15, column 1: rules[0].cases[1].values: is by metric, and several workers decide the rule; write values"
         " = { a-1 = { cpu_utilization = […] }, a-2 = { cpu_utilization = […] } }"),
        (THREE, "a-2 = [85, 50, 85]", "a-2 = [85]",
         "line 15, column 1: rules[0].cases[1].values: gives lists of different lengths"),
        (THREE, "a-2 = [85, 50, 85]", "a-2 = { cpu_utilization = [85, 50, 85] }",
         "line 15, column 1: rules[0].cases[1].values: mixes lists and tables"),
        (THREE, '{ at = 3, to = "critical" }', '{ at = 3, to = "critical", worker = "a-1" }',
         "line 11, column 37: rules[0].cases[0].turns[0].worker: is for rules that compare workers; remove it"),
        (THREE, '{ at = 3, to = "critical" }', '{ at = 9, to = "critical" }',
         "rules[0].cases[0].turns[0].at: there are 5 values only"),
        (WHEN, "network_in = [1, 1, 1], network_out = [1, 1, 1] }", "network_in = [1, 1, 1] }",
         "line 23, column 8: rules[2].cases[0].values.a-2: has no values of network_out; add network_out = […]"),
        (WHEN, "network_in = [1, 1, 1], network_out = [1, 1, 1] }", "network_ni = [1, 1, 1], network_out = [1, 1, 1] }",
         "line 23, column 48: rules[2].cases[0].values.a-2.network_ni: is not a metric of the rule"),
        (WHEN, "values.a-2 = { cpu_utilization = [95, 95, 50], network_in = [1, 1, 1], network_out = [1, 1, 1] }\n",
         "", ""),
        (OUTLIER, 'critical", worker = "a"', 'critical"',
         "line 15, column 10: rules[0].cases[0].turns[0]: does not say of which worker; add worker = \"a\""),
        (OUTLIER, 'ok", worker = "a"', 'ok", worker = "f"',
         "line 15, column 74: rules[0].cases[0].turns[1].worker: is not a worker of the case; "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(text: str, old: str, new: str, error: str) -> None:
    """An invalid case is refused with line, column and what to write."""
    assert old in text
    changed = text.replace(old, new, 1).lstrip("\n")
    if not error:
        assert testing.parse(changed, "f.toml").cases
        return
    with pytest.raises(errors.InvalidInput) as refused:
        testing.parse(changed, "f.toml")
    assert error in str(refused.value)


@pytest.mark.parametrize("values", ["{ a = { cpu_utilization = [95] } }"])
def test_a_rule_over_single_workers_takes_no_workers(values: str) -> None:
    """Values by worker are refused for a rule over one worker."""
    text = f"""[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = {{ critical = 90 }}
cases = [{{ name = "x", values = {values} }}]
"""
    error = r"line 5, column 24: rules\[0\].cases\[0\].values: is by worker, and the rule is about one worker"
    with pytest.raises(errors.InvalidInput, match=error):
        testing.parse(text, "f.toml")
