"""``[[rules.cases]]``: values to test a rule with, of one worker or several, and the expected transitions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from workermon import errors, models, rules
from workermon.config import problems
from workermon.rules import section

#: The worker's name in a case of a rule that one worker decides.
ONLY = ""

#: Values in slots, ``None`` if absent.
Values = tuple[float | None, ...]


class ExpectedTransition(NamedTuple):
    """The expectation of a case: from value number ``at`` on (the first is 1) the state is ``to``.

    ``worker`` is the state's worker, for a rule that compares workers; otherwise ``None``.
    """

    at: int
    to: str
    worker: str | None = None


class Case(models.Frozen):
    """A case of a rule: values by worker's name and metric in slots of ``period`` seconds, and expected transitions.

    If one worker decides the rule, that is the worker ``ONLY``. ``labels`` are those of every worker. ``started`` is
    the number of the value in whose slot they started running; ``None`` if unknown.
    """

    name: str
    values: Mapping[str, Mapping[str, Values]]
    period: int
    expected: tuple[ExpectedTransition, ...]
    started: int | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)

    @property
    def length(self) -> int:
        """Return the number of slots."""
        return max(len(values) for of_worker in self.values.values() for values in of_worker.values())


class _CaseInputs(NamedTuple):
    """What a rule's cases have to contain: values of ``metrics``, of ``several`` workers or of one.

    ``per_worker``: its alerts are about single workers, so a turn has to name one.
    """

    metrics: Sequence[str]
    several: bool
    per_worker: bool


def read(
    path: str,
    sections: Sequence[section.CaseSection],
    rule: models.Rule,
    other_rules: Sequence[models.Rule],
    kinds: rules.Kinds,
) -> tuple[Case, ...]:
    """Return the cases of the rule at a path; ``other_rules`` are all rules of the file.

    Raises ``problems.Mistake`` for a case that cannot be evaluated.
    """
    over_group = kinds[rule.kind].group_by(rule) is not None
    several = over_group or rules.compares_workers(rule, other_rules, kinds)
    tried = _CaseInputs(rules.needed_metrics(rule, other_rules, kinds), several, several and not over_group)
    return tuple(_case(f"{path}.cases[{place}]", case_section, tried) for place, case_section in enumerate(sections))


def _case(path: str, case_section: section.CaseSection, tried: _CaseInputs) -> Case:
    case = Case(
        name=case_section.name,
        values=_by_worker(f"{path}.values", case_section.values, tried),
        period=case_section.period,
        expected=tuple(
            ExpectedTransition(expected.at, expected.to, expected.worker) for expected in case_section.turns
        ),
        started=case_section.started,
        labels=case_section.labels,
    )
    few = f"there are {case.length} values only", "number them from 1"
    last: dict[str | None, int] = {}
    for number, expected in enumerate(case.expected):
        place = f"{path}.turns[{number}]"
        _check_worker(place, expected, case, tried)
        if expected.at > case.length:
            raise problems.Mistake(f"{place}.at", *few)
        if expected.at <= last.get(expected.worker, 0):
            raise problems.Mistake(f"{place}.at", "comes before the turn above it", "list the turns in order of time")
        last[expected.worker] = expected.at
    if case.started is not None and case.started > case.length:
        raise problems.Mistake(f"{path}.started", *few)
    return case


def _check_worker(path: str, expected: ExpectedTransition, case: Case, tried: _CaseInputs) -> None:
    """Reject a turn without a worker if the rule compares workers, and one with a worker otherwise."""
    if not tried.per_worker and expected.worker is not None:
        raise problems.Mistake(f"{path}.worker", "is for rules that compare workers", "remove it")
    if tried.per_worker and expected.worker is None:
        raise problems.Mistake(path, "does not say of which worker", f'add worker = "{next(iter(case.values))}"')
    if expected.worker is not None and expected.worker not in case.values:
        todo = errors.nearest(expected.worker, case.values)
        raise problems.Mistake(f"{path}.worker", "is not a worker of the case", todo)


def _by_worker(path: str, raw_values: Any, tried: _CaseInputs) -> dict[str, dict[str, Values]]:
    """Return the values of a case by worker and metric."""
    tables = isinstance(raw_values, dict) and any(isinstance(values, dict) for values in raw_values.values())
    if not tried.several:
        if tables:
            todo = "write a list for each metric"
            raise problems.Mistake(path, "is by worker, and the rule is about one worker", todo)
        return {ONLY: _by_metric(path, raw_values, tried.metrics, "values")}
    if not isinstance(raw_values, dict):
        todo = f"write values = {{ {_workers('[…]')} }}, a list for each worker"
        raise problems.Mistake(path, "is one list, and several workers decide the rule", todo)
    if all(name in tried.metrics for name in raw_values):
        todo = f"write values = {{ {_workers(f'{{ {_lists(tried.metrics)} }}')} }}"
        raise problems.Mistake(path, "is by metric, and several workers decide the rule", todo)
    return {
        worker: _by_metric(f"{path}.{problems.excerpt(worker)}", values, tried.metrics, problems.excerpt(worker))
        for worker, values in raw_values.items()
    }


def _by_metric(path: str, raw_values: Any, metrics: Sequence[str], key: str) -> dict[str, Values]:
    """Return the values of one worker by metric. A list has those of the only metric. ``key`` is the list's."""
    if not isinstance(raw_values, dict):
        if len(metrics) != 1:
            reason = f"is one list, and the rule is over {' and '.join(metrics) or 'no metric'}"
            raise problems.Mistake(path, reason, f"write {key} = {{ {_lists(metrics)} }}")
        raw_values = {metrics[0]: raw_values}
    _check_metrics(path, raw_values, metrics)
    return {name: tuple(_present(values)) for name, values in raw_values.items()}


def _present(values: Sequence[float]) -> Iterator[float | None]:
    return (value if math.isfinite(value) else None for value in values)


def _lists(metrics: Sequence[str]) -> str:
    return ", ".join(f"{metric} = […]" for metric in metrics)


def _workers(values: str) -> str:
    return ", ".join(f"{worker} = {values}" for worker in ("a-1", "a-2"))


def _check_metrics(path: str, metric_names: Collection[str], metrics: Sequence[str]) -> None:
    """Reject values of another metric, and missing values of a metric."""
    for name in metric_names:
        if name not in metrics:
            raise problems.Mistake(
                f"{path}.{problems.excerpt(name)}", "is not a metric of the rule", errors.nearest(name, metrics)
            )
    for metric in metrics:
        if metric not in metric_names:
            raise problems.Mistake(path, f"has no values of {metric}", f"add {metric} = […]")
