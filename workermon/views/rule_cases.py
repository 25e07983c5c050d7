"""The cases that a config file gives for its own rules, tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
    unit_of = configuration.unit_of
    results = tuple(_result(rule, case, unit_of) for rule in configuration.rules for case in cases.get(rule.name, ()))
    return CaseResults(passed=all(result.passed for result in results), cases=results)


def _result(rule: models.Rule, case: config.Case, unit_of: Callable[[str], str]) -> CaseResult:
    values = enumerate(case.values, start=1)
    points = [models.Datapoint(place * case.period, value) for place, value in values if value is not None]
    horizon = rules.Horizon.until(len(case.values) * case.period, case.period)
    series = models.Series(case.period, tuple(points))
    facts = rules.Facts.recorded(rule.metric or "", series, case.period, unit_of)
    _, transitions = rules.KINDS[rule.kind].judge(rule, models.RuleState(), facts, horizon)
    expected = tuple(Turned(at=at, to=to) for at, to in case.turns)
    got = tuple(Turned(at=each.at // case.period, to=each.after or "ok") for each in transitions)
    return CaseResult(rule=rule.name, case=case.name, passed=expected == got, expected=expected, got=got)
