"""Evaluates the cases that a config file gives for its own rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pydantic import Field

from workermon import config, models, rules
from workermon.rules import group_replay
from workermon.views.document import Document, absent


class CaseTransition(Document):
    """A transition of a case: the number of its value, from 1 on, and the new state.

    ``worker`` is the alert's worker, for a rule that compares workers.
    """

    at: int
    to: str
    worker: str | None = Field(default=None, exclude_if=absent)


class CaseResult(Document):
    """A case of a rule: the expected and the actual transitions."""

    rule: str
    case: str
    passed: bool
    expected: tuple[CaseTransition, ...]
    got: tuple[CaseTransition, ...]


class CaseResults(Document):
    """Every case of a file, and whether all of them passed."""

    passed: bool
    cases: tuple[CaseResult, ...]


def test(file: config.File, configuration: models.Configuration, kinds: rules.Kinds) -> CaseResults:
    """Evaluate every case of a file with its rule."""
    cases: Mapping[str, Sequence[config.Case]] = file.cases
    results = tuple(
        _result(rule, _Trial.of(case, configuration, kinds))
        for rule in configuration.rules
        for case in cases.get(rule.name, ())
    )
    return CaseResults(passed=all(result.passed for result in results), cases=results)


def _result(rule: models.Rule, trial: _Trial) -> CaseResult:
    case = trial.case
    expected = tuple(CaseTransition(at=change.at, to=change.to, worker=change.worker) for change in case.expected)
    actual = trial.transitions(rule.name)
    passed = sorted(expected, key=_place) == sorted(actual, key=_place)
    return CaseResult(rule=rule.name, case=case.name, passed=passed, expected=expected, got=actual)


def _place(change: CaseTransition) -> tuple[int, str]:
    return change.at, change.worker or ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A case with the rules by name: ``own_rules`` for its workers, ``common`` without their labels."""

    case: config.Case
    common: Mapping[str, models.Rule]
    own_rules: Mapping[str, models.Rule]
    configuration: models.Configuration
    kinds: rules.Kinds
    _peers: dict[str, rules.PeerGroup] = dataclasses.field(default_factory=dict, init=False)

    @classmethod
    def of(cls, case: config.Case, configuration: models.Configuration, kinds: rules.Kinds) -> _Trial:
        """Return a case ready for evaluation. Workers without a known start have no warm-up."""
        worker_rules = (kinds[rule.kind].for_worker(rule, case.labels) for rule in configuration.rules)
        used = worker_rules if case.started is not None else (rule.without_warmup() for rule in worker_rules)
        return cls(
            case=case,
            common={rule.name: rule for rule in configuration.rules},
            own_rules={rule.name: rule for rule in used},
            configuration=configuration,
            kinds=kinds,
        )

    @property
    def begin(self) -> int:
        """Return the time of the first slot in which the workers run."""
        return (self.case.started or 1) * self.case.period

    @property
    def end(self) -> int:
        """Return the last second of the last slot."""
        return (self.case.length + 1) * self.case.period - 1

    def transitions(self, name: str) -> tuple[CaseTransition, ...]:
        """Return a rule's transitions, in order of time."""
        rule = self.own_rules[name]
        if self.kinds[rule.kind].group_by(rule) is not None:
            return tuple(map(self._change, self._evaluated_group(rule)))
        transitions = (
            self._change(transition, worker or None)
            for worker in self.case.values
            for transition in self._evaluated(rule, worker)[1]
        )
        return tuple(sorted(transitions, key=lambda change: change.at))

    def _change(self, transition: models.Transition, worker: str | None = None) -> CaseTransition:
        return CaseTransition(at=transition.at // self.case.period, to=transition.after or "ok", worker=worker)

    def _evaluated_group(self, rule: models.Rule) -> tuple[models.Transition, ...]:
        """Evaluate a rule over groups for each worker, and then for their group."""
        members = {
            worker: group_replay.tried(
                worker, (self.begin, self.end), self.case.period, self._evaluated(rule, worker)[1]
            )
            for worker in self.case.values
        }
        of_worker = {worker: self._series(worker).get(rule.metric or "") for worker in members}
        series = {
            worker: series_of_worker for worker, series_of_worker in of_worker.items() if series_of_worker is not None
        }
        return group_replay.judge(self.common[rule.name], members, series)

    def _evaluated(self, rule: models.Rule, worker: str) -> rules.Judgement:
        """Evaluate a rule after those that it depends on. A rule without values in the case does not fire."""
        kind, states = self.kinds[rule.kind], dict[str, rules.OperandState]()
        facts = self._facts(rule, worker)
        for name in kind.operands(rule):
            operand_rule = self.own_rules[name]
            if not rules.needed_metrics(operand_rule, tuple(self.own_rules.values()), self.kinds):
                states[name] = rules.OperandState(not_applied="a case has no values for it")
                continue
            after, transitions = self._evaluated(operand_rule, worker)
            evaluated = rules.Evaluated(models.RuleState(), after, transitions)
            states[name] = self.kinds[operand_rule.kind].operand_state(evaluated, facts)
        horizon = rules.Horizon.until(self.case.length * self.case.period, self.case.period)
        with_values = rules.with_values(rule, dataclasses.replace(facts, states=states), horizon)
        return kind.judge(rule, models.RuleState(), with_values, horizon)

    def _facts(self, rule: models.Rule, worker: str) -> rules.Facts:
        return rules.Facts(
            series=self._series(worker),
            condition=models.Condition(status="running", running_since=self.begin),
            unit_of=self.configuration.unit_of,
            statistic_of=self.configuration.statistic_of,
            peers=self._compared(rule),
        )

    def _series(self, worker: str) -> dict[str, models.Series]:
        period = self.case.period
        return {
            metric: models.Series(
                period,
                tuple(
                    models.Datapoint(place * period, value)
                    for place, value in enumerate(values, start=1)
                    if value is not None
                ),
            )
            for metric, values in self.case.values[worker].items()
        }

    def _compared(self, rule: models.Rule) -> rules.PeerGroup:
        """Return the workers that a rule compares: those of the case, or none if it compares none."""
        by, period = self.kinds[rule.kind].compares_by(rule), self.case.period
        if by is None:
            return rules.PeerGroup()
        if rule.name not in self._peers:
            points_by_worker = {worker: self._series(worker)[rule.metric or ""].points for worker in self.case.values}
            peers = {
                worker: rules.Peer(self.end, period, period, 0, points) for worker, points in points_by_worker.items()
            }
            self._peers[rule.name] = rules.PeerGroup(by, self.case.labels.get(by, ""), peers)
        return self._peers[rule.name]
