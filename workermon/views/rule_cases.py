"""The cases that a config file gives for its own rules, tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from workermon import config, models, rules
from workermon.views.document import Document


class Turned(Document):
    """A transition of a case: at which of its values, from 1 on, and to which state."""

    at: int
    to: str


class CaseResult(Document):
    """A case of a rule: what should have turned and what did."""

    rule: str
    case: str
    passed: bool
    expected: tuple[Turned, ...]
    got: tuple[Turned, ...]


class CaseResults(Document):
    """Every case of a file, and whether all of them passed."""

    passed: bool
    cases: tuple[CaseResult, ...]


def test(file: config.File, configuration: models.Configuration) -> CaseResults:
    """Evaluate every case of a file by its rule."""
    cases: Mapping[str, Sequence[config.Case]] = file.cases
    results = tuple(
        _result(rule, case, configuration) for rule in configuration.rules for case in cases.get(rule.name, ())
    )
    return CaseResults(passed=all(result.passed for result in results), cases=results)


def _result(rule: models.Rule, case: config.Case, configuration: models.Configuration) -> CaseResult:
    series = {
        metric: models.Series(
            case.period,
            tuple(
                models.Datapoint(place * case.period, value)
                for place, value in enumerate(values, start=1)
                if value is not None
            ),
        )
        for metric, values in case.values.items()
    }
    length = max(len(values) for values in case.values.values())
    horizon = rules.Horizon.until(length * case.period, case.period)
    facts = rules.Facts(
        series=series,
        condition=models.Condition(status="running", running_since=(case.started or 1) * case.period),
        unit_of=configuration.unit_of,
        statistic_of=configuration.statistic_of,
    )
    of_worker = [rules.KINDS[each.kind].for_worker(each, case.labels) for each in configuration.rules]
    used = of_worker if case.started is not None else [each.without_warmup() for each in of_worker]
    by_name = {each.name: each for each in used}
    _, transitions = _judged(by_name[rule.name], by_name, facts, horizon)
    expected = tuple(Turned(at=at, to=to) for at, to in case.turns)
    got = tuple(Turned(at=each.at // case.period, to=each.after or "ok") for each in transitions)
    return CaseResult(rule=rule.name, case=case.name, passed=expected == got, expected=expected, got=got)


def _judged(
    rule: models.Rule, by_name: Mapping[str, models.Rule], facts: rules.Facts, horizon: rules.Horizon
) -> rules.Judgement:
    """Evaluate a rule, and before it those that it looks at; one without the values of a case does not fire."""
    kind, states = rules.KINDS[rule.kind], dict[str, rules.OperandState]()
    for name in kind.operands(rule):
        other = by_name[name]
        if not rules.needed_metrics(other, tuple(by_name.values())):
            states[name] = rules.OperandState(not_applied="a case has no values for it")
            continue
        after, transitions = _judged(other, by_name, facts, horizon)
        evaluated = rules.Evaluated(models.RuleState(), after, transitions)
        states[name] = rules.KINDS[other.kind].operand_state(evaluated, facts)
    known = rules.with_values(rule, dataclasses.replace(facts, states=states), horizon)
    return kind.judge(rule, models.RuleState(), known, horizon)
