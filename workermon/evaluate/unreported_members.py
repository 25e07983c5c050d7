"""Members that have not yet reported to a new rule over groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from workermon import models, ports, rules
from workermon.evaluate import peers
from workermon.rules.group import Group


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnreportedMembers:
    """Finds, at a time ``at`` (seconds), rules over groups that have not begun and know only a part of a group."""

    workers: ports.Workers
    fleet: peers.Fleet
    configuration: models.Configuration
    kinds: rules.Kinds
    at: float

    def incomplete(self, bases: Iterable[ports.Basis[ports.GroupRecord]]) -> frozenset[tuple[str, str]]:
        """Return the subject's id and the rule of each that has to wait. Reads nothing if all rules have begun."""
        return frozenset((basis.subject.id, rule.name) for basis in bases for rule in self._not_evaluated(basis))

    def _not_evaluated(self, basis: ports.Basis[ports.GroupRecord]) -> Iterator[models.Rule]:
        by, value = basis.record.by, basis.record.value
        for rule in self.configuration.rules:
            kind, alert = self.kinds[rule.kind], basis.alerts.get(rule.name)
            has_begun = alert is not None and alert.rule_state.cursor is not None
            members = basis.record.members.get(rule.name, {})
            if not isinstance(kind, Group) or kind.group_by(rule) != by or has_begun or not members:
                continue
            if not kind.needs_everybody(rule):
                continue
            evaluated = [worker_id for worker_id, member in members.items() if member.known_until is not None]
            belong = self.fleet.members(by, value, self.workers, evaluated, self.at)
            if any(worker_id not in members and rule.has_labels(labels) for worker_id, labels in belong.items()):
                yield rule
