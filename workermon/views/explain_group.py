"""Explain: why an alert about a group of workers fires, or does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import errors, models, ports, rules
from workermon.alerts import silences, subject
from workermon.rules import group_fold
from workermon.rules.group import Group
from workermon.views.document import Document
from workermon.views.explain import HISTORY, ExplainedRule, RuleExplanation, escalation_states
from workermon.views.transitions import active, recorded_transitions


class GroupName(Document):
    """A group of workers: those whose label ``by`` has a value."""

    by: str
    value: str


class GroupExplanation(Document):
    """The state of the rules over a group; ``workers`` is how many members the rules know."""

    group: GroupName
    workers: int
    rules: tuple[RuleExplanation, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainGroups:
    """Explains the rules over groups of workers."""

    alerts: ports.Alerts
    samples: ports.Samples
    configurations: ports.Configurations
    silences: ports.Silences
    kinds: rules.Kinds
    now: ports.Clock

    def explain(self, subject_id: str, name: str | None = None) -> GroupExplanation:
        """Return the state of one rule over a group (``group:BY=VALUE``), or of every rule over it.

        Raises ``errors.NotFound`` for a group without workers, and for a rule that is not over it.
        """
        basis = self.alerts.load_groups([subject_id]).get(subject_id)
        if basis is None:
            reason = "no worker that a rule is about belongs to it"
            todo = errors.nearest(subject_id, self.alerts.group_ids())
            raise errors.NotFound(f"group {errors.printable(subject_id.removeprefix('group:'))[:80]}", reason, todo)
        configuration = self.configurations.load()
        over = {rule.name: rule for rule in configuration.rules if self._is_over(rule, basis.record.by)}
        if name is not None and name not in over:
            raise errors.NotFound(f"rule {name}", f"is not a rule over {subject_id}", errors.nearest(name, over))
        chosen = [rule for rule in over.values() if name in (None, rule.name)]
        workers = {worker_id for rule_members in basis.record.members.values() for worker_id in rule_members}
        return GroupExplanation(
            group=GroupName(by=basis.record.by, value=basis.record.value),
            workers=len(workers),
            rules=tuple(self._rule(rule, basis, configuration) for rule in chosen),
        )

    def _is_over(self, rule: models.Rule, by: str) -> bool:
        kind = self.kinds[rule.kind]
        return isinstance(kind, Group) and kind.group_by(rule) == by

    def _rule(
        self, rule: models.Rule, basis: ports.Basis[ports.GroupRecord], configuration: models.Configuration
    ) -> RuleExplanation:
        kind, at = self.kinds[rule.kind], self.now()
        assert isinstance(kind, Group)
        alert = basis.alert(rule.name)
        members = basis.record.members.get(rule.name, {})
        group = group_fold.Group(
            members=members,
            lateness=configuration.lateness,
            at=at,
            series=self._series(rule, kind, alert.rule_state, members),
            unit_of=configuration.unit_of,
        )
        explanation = kind.explain_group(rule, alert.rule_state, group)
        about = subject.of_group(basis.record.by, basis.record.value)
        in_force = silences.in_force(self.silences.every(), configuration.silences, at)
        explained = ExplainedRule(
            rule=rule,
            conditions=kind.conditions(rule),
            described=kind.in_words(rule, kind.unit(rule, configuration)),
            alert=alert,
            rule_state=alert.rule_state,
            evaluated_until=alert.rule_state.cursor,
            explanation=explanation,
            silences=active(in_force, about, rule.name, at),
            history=recorded_transitions(self.alerts.history(about.alert_id(rule.name), HISTORY)),
            escalation=escalation_states(rule, alert, about.alert_id(rule.name), self.silences),
        )
        return explained.to_document()

    def _series(
        self, rule: models.Rule, kind: Group, rule_state: models.RuleState, members: Mapping[str, models.GroupMember]
    ) -> dict[str, models.Series]:
        """Return the members' deciding datapoints at the cursor, if the rule is over their values."""
        span = kind.explained_span(rule, rule_state) if kind.needs_members(rule) else None
        if span is None or rule.metric is None:
            return {}
        series_keys = [
            (worker_id, rule.metric, member.recorded) for worker_id, member in members.items() if member.recorded
        ]
        return {worker_id: recorded for (worker_id, _), recorded in self.samples.read(series_keys, *span).items()}
