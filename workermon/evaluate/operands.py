"""The results of a worker's rules for one another while they are evaluated in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import models, rules
from workermon.alerts import verdict


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """The rules of one worker that others depend on, by their ``names``; ``states`` are their states so far."""

    builder: verdict.VerdictBuilder
    worker: models.Worker
    facts: rules.Facts
    configuration: models.Configuration
    names: frozenset[str]
    states: dict[str, rules.OperandState] = dataclasses.field(default_factory=dict)

    def facts_for(self, rule: models.Rule) -> rules.Facts:
        """Return the facts for a rule, with the states of the rules that it depends on."""
        looks = self.builder.kinds[rule.kind].operands(rule)
        return dataclasses.replace(self.facts, states=self.states) if looks else self.facts

    def note(self, rule: models.Rule, transitions: Sequence[models.Transition]) -> None:
        """Record the state of a rule that was evaluated, or was skipped because of the worker's status."""
        if rule.name not in self.names:
            return
        kind = self.builder.kinds[rule.kind]
        not_applied = kind.not_applied(rule, self.worker, self.configuration)
        if not_applied is not None:
            self.states[rule.name] = rules.OperandState(not_applied=not_applied)
            return
        before, after = (
            alerts[rule.name].rule_state if rule.name in alerts else models.RuleState()
            for alerts in (self.builder.basis.alerts, self.builder.alerts)
        )
        self.states[rule.name] = kind.operand_state(rules.Evaluated(before, after, transitions), self.facts)
