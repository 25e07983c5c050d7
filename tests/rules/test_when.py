"""The kind ``when``: its expressions, its errors, and that it uses the times at which other rules changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.evaluating import CPU, ID, MINUTE, T0, Site, points
from tests.support.examples import examples
from workermon import config, errors, models, rules, testing, views
from workermon.config import export
from workermon.models import Count, Datapoint, Levels, Rule, RuleState
from workermon.rules import Facts, Horizon, no_data, state, threshold, when
from workermon.views import backtest, ledger_backtest, rule_cases

# --- the expression ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("a", "a"),
        (" cpu-high  and memory-high ", "cpu-high and memory-high"),
        ("a or b and c", "a or (b and c)"),
        ("(a or b) and not c", "(a or b) and not c"),
        ("not not a", "not not a"),
        ("not (a and b)", "not (a and b)"),
        ("a.b-c_d and\n  e", "a.b-c_d and e"),
        ("nothing or android", "nothing or android"),
    ],
)
def test_reads(text: str, canonical: str) -> None:
    """Hyphens belong to names, ``not`` binds most and ``and`` more than ``or``."""
    expression = rules.WhenExpression.parse(text)
    assert str(expression) == canonical
    assert str(rules.WhenExpression.parse(canonical)) == canonical


NAMES = ("a", "b-1", "c")
EXPRESSIONS = st.recursive(
    st.sampled_from(NAMES),
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} {parts[2]}"
        ),
    ),
    max_leaves=5,
)


def plain(text: str, states: dict[str, bool]) -> bool:
    """Evaluate an expression as Python has it."""
    return bool(eval(text.replace("b-1", "b_1"), {}, {name.replace("-", "_"): value for name, value in states.items()}))


@given(EXPRESSIONS, st.lists(st.sampled_from([True, False, None]), min_size=3, max_size=3))
def test_holds(text: str, values: list[bool | None]) -> None:
    """An expression is evaluated as in Python.

    With an unknown state it is known only if every state gives the same result.
    """
    unknown = [name for name, value in zip(NAMES, values, strict=True) if value is None]
    outcomes = set()
    for bits in range(2 ** len(unknown)):
        guessed = {name: bool(bits >> place & 1) for place, name in enumerate(unknown)}
        outcomes.add(plain(text, {**{n: bool(v) for n, v in zip(NAMES, values, strict=True)}, **guessed}))
    outcome = rules.WhenExpression.parse(text).is_true(dict(zip(NAMES, values, strict=True)))
    assert {outcome} == outcomes or (outcome is None and unknown)


# --- the config file ---------------------------------------------------------------------------------------------

HIGH = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }

[[rules]]
name = "memory-high"
metric = "memory_utilization"
above = { critical = 90 }
"""
BOTH = f"""{HIGH}
[[rules]]
name = "both"
when = "cpu-high and memory-high"
severity = "warning"
"""


def configuration(text: str = BOTH) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(testing.parser().parse(text, "f.toml"), config.DEFAULT)


def test_a_file_asks_for_it() -> None:
    """The key ``when`` selects the kind. It needs no metric, and its default severity is critical."""
    *_, combined = configuration().rules
    assert (combined.kind, combined.metric, combined.severity) == ("when", None, "warning")
    assert configuration(BOTH.replace('severity = "warning"', "")).rules[-1].severity == "critical"


def test_it_is_exported() -> None:
    """A rule is the same after an export and another apply."""
    parsed = configuration()
    assert configuration(export.text(parsed, ())).rules == parsed.rules


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "column 9: rules[2].when: is empty"),
        ("cpu-high and", "column 21: rules[2].when: ends where the name of a rule should be"),
        ("cpu-high memory-high", "column 18: rules[2].when: 'memory-high' follows without a word between"),
        ("cpu-high && memory-high", "column 18: rules[2].when: '&' is not understood; write and"),
        ("cpu-high AND memory-high", "column 18: rules[2].when: 'AND' is in capitals; write and"),
        ("(cpu-high or memory-high", "column 9: rules[2].when: '(' is not closed"),
        ("(cpu-high memory-high)", "column 19: rules[2].when: 'memory-high' follows without a word between"),
        ("cpu-high)", "column 17: rules[2].when: ')' closes no parenthesis"),
        ("cpu-high and or memory-high", "column 22: rules[2].when: 'or' is where the name of a rule should be"),
        ("not", "column 12: rules[2].when: ends where the name of a rule should be"),
        ("()", "column 10: rules[2].when: ')' is where the name of a rule should be"),
        ("cpu-hig and memory-high", "column 9: rules[2].when: cpu-hig is not a known rule; did you mean cpu-high?"),
        ("cpu-high and memory", "column 22: rules[2].when: memory is not a known rule; did you mean memory-high?"),
        ("cpu-high > 3", "column 18: rules[2].when: '>' is not understood"),
        ("(" * 60 + "cpu-high" + ")" * 60, "is nested more than 50 deep"),
        ("cpu-high or both", "is part of a cycle: both -> both"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: str) -> None:
    """An error names line, column and the nearest rule. Each error in the list of all has its own position."""
    file_text = BOTH.replace("cpu-high and memory-high", text)
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(file_text)
    assert error in str(refused.value)
    assert "line 14, " in str(refused.value) or "circle" in error
    checks = [lambda file: config.to_configuration(file, config.DEFAULT)]
    [mistake] = testing.parser().mistakes(file_text, "f.toml", checks)
    assert str(mistake) == str(refused.value)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("'cpu-high and memories'", "line 14, column 22"),
        ('"""\ncpu-high and\n  memories"""', "line 16, column 3"),
        ('"""cpu-high \\\n   and memories"""', "line 15, column 8"),
        ('"cpu-high\\tand memories"', "line 14, column 23"),
    ],
)
def test_place_within_any_text(written: str, place: str) -> None:
    """The place is that in the file however the text is quoted, broken or escaped."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(BOTH.replace('"cpu-high and memory-high"', written))
    assert f"f.toml: {place}: rules[2].when: memories is not a known rule" in str(refused.value)


def test_circle_has_its_path() -> None:
    """Rules that depend on each other in a cycle are refused. The error shows the cycle."""
    text = HIGH + "".join(
        f'[[rules]]\nname = "{name}"\nwhen = "cpu-high or {of}"\n' for name, of in [("a", "b"), ("b", "c"), ("c", "a")]
    )
    with pytest.raises(errors.InvalidInput, match=r"rules\[2\].when: is part of a cycle: a -> b -> c -> a"):
        configuration(text)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('severity = "warning"', 'metric = "cpu_utilization"', "rules[2].metric: is not for a rule with when"),
        ('severity = "warning"', "above = { critical = 1 }", "rules[2].above: is not for a rule with when"),
        ("when =", "when_ =", "rules[2].when_: is not a known key; did you mean when?"),
        ('when = "cpu-high and memory-high"', "", "rules[2].severity: is only for"),
        ('metric = "cpu_utilization"\n', "", "rules[0].metric: is missing; write metric = "),
    ],
)
def test_keys(old: str, new: str, error: str) -> None:
    """Keys of other kinds are refused, and a rule over a metric still has to name it."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(BOTH.replace(old, new, 1))
    assert error in str(refused.value)


def test_order() -> None:
    """Rules are ordered after the rules that they depend on. Other rules keep their order."""
    names = {"x": ("y", "c"), "y": ("a",), "a": (), "b": (), "c": ()}
    given_rules = [Rule(name=name) for name in names]
    ordered = rules.in_order(given_rules, lambda rule: names[rule.name])
    assert [rule.name for rule in ordered] == ["a", "y", "c", "x", "b"]


# --- the fold ----------------------------------------------------------------------------------------------------


def high(name: str, metric: str) -> Rule:
    """Return a rule above 90, 2 of 3."""
    return threshold.KIND.rule(
        name=name, metric=metric, above=Levels(critical=90), breach=Count(m=2, n=3), recover=Count(m=2, n=2)
    )


PERIODS = {"a": 60, "b-1": 60, "c": 180}
RULES = {name: high(name, f"{name}_metric") for name in NAMES}
#: Seconds: within what a late datapoint may change.
SPAN = 840


class Fold:
    """Three rules and an expression over them, fed by hand."""

    def __init__(self, text: str) -> None:
        self.rule = when.KIND.rule(name="together", when=text)
        self.points: dict[str, dict[int, float]] = {name: {} for name in NAMES}
        self.changed: dict[str, int] = {}
        self.requested = dict.fromkeys(NAMES, T0)
        self.states = dict.fromkeys((*NAMES, "together"), RuleState(start=T0))
        self.steps: dict[int, models.Severity | None] = {}

    def add_datapoint(self, name: str, slot: int, value: float) -> None:
        """Have a datapoint come, late or not."""
        at = T0 + slot * PERIODS[name] + 7
        self.points[name][at] = value
        self.changed[name] = min(at, self.changed.get(name, at))

    def wake(self) -> None:
        """Evaluate all rules, as an evaluation of their worker does."""
        condition, states = models.Condition(running_since=T0), {}
        for name in NAMES:
            used, period = RULES[name], PERIODS[name]
            series = models.Series(period, tuple(Datapoint(*point) for point in sorted(self.points[name].items())))
            facts = Facts(series={used.metric or "": series}, condition=condition, changed_from=self.changed.get(name))
            before = self.states[name]
            after, transitions = threshold.KIND.judge(used, before, facts, Horizon(period, 0, self.requested[name]))
            self.states[name] = after
            states[name] = threshold.KIND.operand_state(rules.Evaluated(before, after, transitions), facts)
        self.changed = {}
        facts = Facts(condition=condition, states=states)
        self.states["together"], transitions = when.KIND.judge(self.rule, self.states["together"], facts, None)
        for transition in transitions:
            if transition.withdrawn:
                assert self.steps.pop(transition.at) == transition.before
            else:
                self.steps[transition.at] = transition.after


def expected(fold: Fold, until: int) -> list[tuple[int, models.Severity | None]]:
    """Return the changes by a plain loop over seconds, from all datapoints at once."""
    changes: dict[str, list[tuple[int, bool]]] = {}
    for name in NAMES:
        period = PERIODS[name]
        series = models.Series(period, tuple(Datapoint(*point) for point in sorted(fold.points[name].items())))
        facts = Facts(series={f"{name}_metric": series}, condition=models.Condition(running_since=T0))
        horizon = Horizon(period, 0, fold.requested[name])
        _, transitions = threshold.KIND.judge(RULES[name], RuleState(start=T0), facts, horizon)
        changes[name] = [(transition.at, transition.after is not None) for transition in transitions]
    changes_of_state: list[tuple[int, models.Severity | None]] = []
    fires, text = False, when.KIND.options(fold.rule).when
    for at in range(T0, until + 1):
        states = {name: ([False] + [on for since, on in changes[name] if since <= at])[-1] for name in NAMES}
        if plain(text, states) != fires:
            fires = not fires
            changes_of_state.append((at, "critical" if fires else None))
    return changes_of_state


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(NAMES), st.integers(0, 12), st.sampled_from([50.0, 95.0])),
        st.tuples(st.just("ask"), st.sampled_from(NAMES), st.integers(1, 5)),
        st.tuples(st.just("wake")),
    ),
    max_size=60,
)


@examples(150)
@given(EXPRESSIONS, STEPS)
def test_however_it_is_fed_it_says_the_same(text: str, steps: list[tuple[Any, ...]]) -> None:
    """Any order, grouping, loss and lateness of wake-ups and datapoints leave the changes of a plain loop over time."""
    fold = Fold(text)
    for operation, *of in steps:
        if operation == "come":
            name, slot, value = of
            if slot * PERIODS[name] < SPAN:
                fold.add_datapoint(name, slot, value)
        elif operation == "ask":
            name, slots = of
            fold.requested[name] = min(fold.requested[name] + slots * PERIODS[name], T0 + SPAN + PERIODS[name])
        else:
            fold.wake()
    for name in NAMES:
        fold.requested[name] = T0 + SPAN + PERIODS[name]
    fold.wake()
    cursor = fold.states["together"].cursor
    assert cursor is not None
    assert cursor >= T0 + SPAN - 1
    assert sorted(fold.steps.items()) == expected(fold, cursor)


def test_it_waits_for_what_decides() -> None:
    """There is no result while a deciding rule is not evaluated. If the others decide alone, there is one at once."""
    waits, decided = Fold("a and c"), Fold("a or c")
    for fold in (waits, decided):
        for slot in range(3):
            fold.add_datapoint("a", slot, 95)
        fold.requested["a"] = T0 + 4 * MINUTE
        fold.wake()
        assert fold.steps == {}
    # As long as "a" does not fire, "a and c" does not hold whatever "c" is; "a or c" waits for "c".
    assert (waits.states["together"].cursor, decided.states["together"].cursor) == (T0 + 66, None)
    for fold in (waits, decided):
        fold.requested["c"] = T0 + 180
        fold.wake()
    assert (waits.states["together"].cursor, waits.steps) == (T0 + 179, {})
    assert (decided.states["together"].cursor, decided.steps) == (T0 + 239, {T0 + 67: "critical"})


# --- a worker ----------------------------------------------------------------------------------------------------

FAILED = threshold.KIND.rule(
    name="check",
    metric="status_check_failed",
    above=Levels(critical=0),
    breach=Count(m=1, n=1),
    recover=Count(m=1, n=1),
)
TOGETHER = when.KIND.rule(name="together", when="cpu-high and check", notify=("ops",))


def minutes(site: Site, values: Sequence[tuple[float, bool]], begin: int = 0) -> None:
    """Collect each minute and evaluate: values of the CPU, and whether the status check failed."""
    for slot, (value, failed) in enumerate(values, begin):
        at = T0 + MINUTE * slot
        site.collected(at + 3 * MINUTE, {at: value}, failed=failed)
        site.evaluate()


def notified(site: Site, rule: str = "together") -> list[tuple[str, str, int]]:
    """Return the notifications."""
    return site.notified(f"{ID}/{rule}")


def test_it_notifies_by_the_times_of_the_others() -> None:
    """It fires and resolves at the times at which its rules changed. The text names their states."""
    site = Site(TOGETHER, CPU, FAILED)  # it stands before those that it looks at
    minutes(site, [(95, True)] * 5 + [(10, True)] * 3)
    (_, _, fired), (_, _, resolved) = notified(site, "cpu-high")
    [(_, _, impaired)] = notified(site, "check")
    assert fired < impaired < resolved
    assert notified(site) == [("firing", "critical", impaired), ("resolved", "critical", resolved)]
    alert = site.alert("together").last
    assert alert is not None
    assert (alert.kind, alert.metric, alert.value) == ("when", None, None)
    assert alert.summary.startswith("render-07: cpu-high and check no longer holds: cpu-high ok since")


def test_a_silenced_rule_counts() -> None:
    """A silenced rule counts by its state."""
    site = Site(CPU, FAILED, TOGETHER)
    site.silences.add(
        models.Silence(id="s", rule="cpu-high", begins=T0, ends=T0 + 10_000, reason="known", by="somebody")
    )
    minutes(site, [(95, True)] * 5)
    assert [row[0] for row in notified(site)] == ["firing"]


def test_a_rule_that_does_not_apply_counts_as_not_firing() -> None:
    """A rule for other workers counts as not firing, and ``why`` says so."""
    labelled = threshold.KIND.rule(
        name="check", metric="status_check_failed", above=Levels(critical=0), labels={"team": "vfx"}
    )
    either = when.KIND.rule(name="together", when="cpu-high or check")
    site = Site(CPU, labelled, either)
    minutes(site, [(95, True)] * 5)
    assert [row[0] for row in notified(site)] == ["firing"]
    (record,) = site.workers.get([ID]).values()
    [explained] = site.get(views.Explanation).explain(record, "together").to_json()["rules"]
    assert (explained["kind"], explained["metric"], explained["when"], explained["holds"]) == (
        "when",
        None,
        "cpu-high or check",
        True,
    )
    high_one, check = explained["operands"]
    assert (high_one["rule"], high_one["state"], high_one["fires"]) == ("cpu-high", "critical", True)
    assert high_one["since"] == models.rfc3339(T0 + 2 * MINUTE)
    assert (check["state"], check["not_applied"]) == ("ok", "the rule applies only to workers with team=vfx")


def test_labels_that_change_end_it() -> None:
    """If a rule no longer applies, an alert that fired because of it resolves. The past stays."""
    labelled = threshold.KIND.rule(
        name="check", metric="status_check_failed", above=Levels(critical=0), labels={"team": "vfx"},
        breach=Count(m=1, n=1),
    )  # fmt: skip
    either = when.KIND.rule(name="together", when="cpu-high or check")
    site = Site(CPU, labelled, either)
    site.worker = site.worker.model_copy(update={"labels": {"team": "vfx"}})
    site.workers.update(site.worker)
    minutes(site, [(10, True)] * 5)
    assert [row[0] for row in notified(site)] == ["firing"]
    site.worker = site.worker.model_copy(update={"labels": {}})
    site.workers.update(site.worker)
    minutes(site, [(10, True)] * 5, 5)
    assert [row[0] for row in notified(site)] == ["firing", "resolved"]
    assert all(not correction for _, _, correction, _ in site.recorded(f"{ID}/together"))


def test_a_worker_that_stops() -> None:
    """Rules that end with the instance then count as not firing. Other rules and the expression continue."""
    down = state.KIND.rule(name="down")
    without = when.KIND.rule(name="together", when="cpu-high and not down")
    stopped = when.KIND.rule(name="gone", when="down")
    site = Site(CPU, down, without, stopped)
    minutes(site, [(95, False)] * 5)
    assert [row[0] for row in notified(site)] == ["firing"]
    at = T0 + 8 * MINUTE
    site.collected(at, status="stopped")
    site.condition = site.condition.model_copy(
        update={"changes": (models.StatusChange(at=T0, status="running", seen_until=at - MINUTE),
                            models.StatusChange(at=at, status="stopped"))}
    )  # fmt: skip
    site.samples.write(
        models.Sample(worker=site.worker, collected_at=at, status="stopped", checks=None, series={}, requested_at={}),
        site.condition, "{}", force=True,
    )  # fmt: skip
    site.evaluate()
    assert [row[0] for row in notified(site)] == ["firing", "resolved"]
    assert notified(site, "gone") == [("firing", "critical", 8)]


def test_no_data_decides_while_nothing_comes() -> None:
    """While no collection succeeds, the other rule is unknown, but ``no-data`` decides alone."""
    silent = no_data.KIND.rule(name="silent")
    either = when.KIND.rule(name="together", when="cpu-high or silent")
    site = Site(CPU, silent, either)
    minutes(site, [(10, False)] * 5)
    site.clock.now = T0 + 3600
    site.evaluate()
    assert [row[0] for row in notified(site)] == ["firing"]


def test_a_late_datapoint_corrects_it() -> None:
    """If a late datapoint corrects one of its rules, it is corrected at the same time. The present notifies."""
    site = Site(CPU, FAILED, TOGETHER)
    minutes(site, [(95, True)] * 5)
    assert [row[0] for row in notified(site)] == ["firing"]
    site.collected(T0 + 8 * MINUTE, points([10, 10, 10, 10, 10]), failed=True)
    site.evaluate()
    assert [row[0] for row in notified(site)] == ["firing", "resolved"]
    assert [correction for _, _, correction, _ in site.recorded(f"{ID}/together")] == [False, True]


def test_another_expression_begins_anew() -> None:
    """A changed expression is evaluated from the present on. The past stays."""
    site = Site(CPU, FAILED, TOGETHER)
    minutes(site, [(95, True)] * 5)
    site.change(rules=(CPU, FAILED, when.KIND.rule(name="together", when="cpu-high and not check", notify=("ops",))))
    minutes(site, [(95, True)], 5)
    assert [row[0] for row in notified(site)] == ["firing", "resolved"]
    assert all(not correction for _, _, correction, _ in site.recorded(f"{ID}/together"))


# --- tried and replayed ------------------------------------------------------------------------------------------

CASE = f"""{BOTH}
[[rules.cases]]
name = "both for three minutes"
values = {{ cpu_utilization = [95, 95, 95, 95, 95, 95, 50, 50], memory_utilization = [50, 95, 95, 95, 95, 95, 95, 95] }}
turns = [{{ at = 4, to = "warning" }}, {{ at = 8, to = "ok" }}]
"""


def test_a_case_gives_values_for_each_metric() -> None:
    """A case has values for each metric of the rules, and is evaluated through those rules."""
    file = testing.parser().parse(CASE, "f.toml")
    results = rule_cases.test(file, config.to_configuration(file, config.DEFAULT), rules.KINDS)
    assert results.passed, results


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("memory_utilization = [50", "memory = [50", "rules[2].cases[0].values.memory: is not a metric of the rule"),
        ("{ cpu_utilization = [95, 95, 95, 95, 95, 95, 50, 50], memory_utilization = ", "{ memory_utilization = ",
         "rules[2].cases[0].values: has no values of cpu_utilization"),
    ],
)  # fmt: skip
def test_cases_without_a_metric(old: str, new: str, error: str) -> None:
    """A case is refused if it has values of another metric, or lacks those of one."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(CASE.replace(old, new, 1))
    assert error in str(refused.value)


def test_a_list_of_values() -> None:
    """A single list of values is refused, because it does not name its metric."""
    with pytest.raises(
        errors.InvalidInput, match="is one list, and the rule is over cpu_utilization and memory_utilization"
    ):
        configuration(BOTH + '[[rules.cases]]\nname = "x"\nvalues = [1, 2]\n')


@examples(40)
@given(EXPRESSIONS, st.lists(st.tuples(*[st.sampled_from([50.0, 95.0])] * 3), min_size=1, max_size=25))
def test_backtest_equals_a_plain_loop(text: str, values: list[tuple[float, ...]]) -> None:
    """A backtest over the replays of the other rules equals a loop over all seconds."""
    used = when.KIND.rule(name="together", when=text)
    configuration_of_all = config.DEFAULT.model_copy(
        update={
            "rules": (*RULES.values(), used),
            "metrics": {f"{name}_metric": config.DEFAULT.metrics["cpu_utilization"] for name in NAMES},
        }
    )
    series = {
        name: models.Series(MINUTE, tuple(Datapoint(T0 + MINUTE * slot, row[n]) for slot, row in enumerate(values)))
        for n, name in enumerate(NAMES)
    }
    replayed = backtest.replay_over_others(
        used,
        configuration_of_all,
        rules.KINDS,
        lambda operand: backtest.replay(operand, [series[operand.name]], configuration_of_all, rules.KINDS),
    )
    spans = {
        name: backtest.replay(RULES[name], [series[name]], configuration_of_all, rules.KINDS).episodes for name in NAMES
    }
    expected_changes, fires = list[tuple[int, bool]](), False
    for at in range(T0, T0 + MINUTE * len(values)):
        states = {
            name: any(span.begin <= at and (span.end is None or at < span.end) for span in spans[name])
            for name in NAMES
        }
        if plain(text, states) != fires:
            fires = not fires
            expected_changes.append((at, fires))
    changes = [
        (int(at), on) for episode in replayed.episodes for at, on in ((episode.begin, True), (episode.end, False)) if at
    ]
    assert changes == expected_changes


def test_ledger() -> None:
    """A backtest of the ledger gives the notified episodes. A rule without recorded data counts as not firing."""
    down = state.KIND.rule(name="down")
    rule = when.KIND.rule(name="together", when="cpu-high and check and not down", notify=("ops",))
    site = Site(CPU, FAILED, down, rule)
    minutes(site, [(95, True)] * 5 + [(10, True)] * 5)
    [replayed] = site.get(ledger_backtest.LedgerBacktest).replay(
        list(site.workers.every()), rule, site.configurations.load()
    )
    [episode] = replayed.episodes
    assert episode.end is not None
    assert [int(at - T0) // MINUTE for at in (episode.begin, episode.end)] == [row[2] for row in notified(site)]
