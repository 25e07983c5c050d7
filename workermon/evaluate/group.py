"""Pure: what is true of a group of workers, rule by rule."""

from __future__ import annotations

from workermon import models, ports
from workermon.alerts import lifecycle
from workermon.rules import group_fold
from workermon.rules.group import Group

#: Seconds for which a group remembers, beside the lateness, who left it.
SPARE = 3600


def judge(
    builder: lifecycle.VerdictBuilder, basis: ports.Basis[ports.GroupRecord], configuration: models.Configuration
) -> None:
    """Evaluate every rule over a group, and end the alerts of rules that are gone."""
    names = set()
    for rule in configuration.rules:
        kind = builder.kinds[rule.kind]
        if isinstance(kind, Group) and kind.group_by(rule) == basis.record.by:
            names.add(rule.name)
            _evaluate(builder, basis, rule, configuration)
    for name, alert in basis.alerts.items():
        if name not in names and not configuration.complete:
            builder.alerts[name] = alert  # its rule cannot be read, which is no reason to end it
        elif name not in names:
            lifecycle.forget(builder, alert, None, f"the rule {name} was removed", builder.at)


def _evaluate(
    builder: lifecycle.VerdictBuilder,
    basis: ports.Basis[ports.GroupRecord],
    rule: models.Rule,
    configuration: models.Configuration,
) -> None:
    kind, known = builder.kinds[rule.kind], basis.alerts.get(rule.name)
    assert isinstance(kind, Group)
    members = basis.record.members.get(rule.name, {})
    if not members:
        if known is not None:
            lifecycle.forget(builder, known, rule, "the group has no workers", builder.at)
        return
    alert = known or models.Alert(rule=rule.name)
    group = group_fold.Group(members=members, lateness=configuration.lateness, at=builder.at)
    rule_state, transitions = kind.judge_group(rule, alert.rule_state.as_of(builder.at), group)
    lifecycle.apply(
        builder,
        lifecycle.Judgement(
            rule=rule, alert=alert, rule_state=rule_state, transitions=transitions, late_reason=kind.late_reason
        ),
    )
    reach = (rule_state.cursor or 0) - configuration.lateness - SPARE
    builder.memberships += [
        ports.MembershipChange(basis.subject.id, rule.name, worker_id, None)
        for worker_id, member in members.items()
        if member.known is None and (not member.changes or member.changes[-1][0] < reach)
    ]
