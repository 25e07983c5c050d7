"""Pure: evaluates the rules over one group of workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from workermon import models, ports, rules
from workermon.alerts import lifecycle, verdict
from workermon.rules import group_fold
from workermon.rules.group import Group

#: Seconds, on top of the lateness, for which a group remembers a worker that left it.
REMEMBERED_FOR = 3600


#: Datapoints of each worker, by its id and the metric.
SeriesByMetric = Mapping[tuple[str, str], models.Series]


class Inputs(NamedTuple):
    """Data beside the groups' own: ``series`` of their members, and which rules know only a part of a group.

    ``incomplete`` has the subject's id and the rule's name of each.
    """

    series: SeriesByMetric
    incomplete: Collection[tuple[str, str]] = ()


class NeededSeries(NamedTuple):
    """A series that a group needs: worker, metric and period, between two times (seconds)."""

    worker_id: str
    metric: str
    period: int
    since: int
    until: int


def needed_series(
    basis: ports.Basis[ports.GroupRecord], configuration: models.Configuration, kinds: rules.Kinds
) -> list[NeededSeries]:
    """Return the members' series that the rules over a group need. Rules that count members need none."""
    series = []
    for rule in configuration.rules:
        kind, members = kinds[rule.kind], basis.record.members.get(rule.name, {})
        if not isinstance(kind, Group) or not kind.needs_members(rule) or not members:
            continue
        alert = basis.alert(rule.name)
        since = kind.group_needs(rule, alert.rule_state, of_rule(basis.record, rule, configuration))
        for worker_id, member in members.items():
            if since is not None and member.recorded is not None:
                until = member.known_until if member.known_until is not None else since + models.DAY
                series.append(NeededSeries(worker_id, rule.metric or "", member.recorded, since, until))
    return series


def of_rule(record: ports.GroupRecord, rule: models.Rule, configuration: models.Configuration) -> group_fold.Group:
    """Return the members of a group for a rule, without datapoints."""
    return group_fold.Group(
        members=record.members.get(rule.name, {}),
        lateness=configuration.lateness,
        changed_from=record.changed_from,
        unit_of=configuration.unit_of,
    )


def judge(
    builder: verdict.VerdictBuilder,
    basis: ports.Basis[ports.GroupRecord],
    configuration: models.Configuration,
    inputs: Inputs,
) -> None:
    """Evaluate every rule over a group, and end the alerts of removed rules."""
    names = set()
    for rule in configuration.rules:
        kind = builder.kinds[rule.kind]
        if isinstance(kind, Group) and kind.group_by(rule) == basis.record.by:
            names.add(rule.name)
            _evaluate(builder, basis, rule, configuration, inputs)
    lifecycle.forget_removed(builder, names, configuration)


def _evaluate(
    builder: verdict.VerdictBuilder,
    basis: ports.Basis[ports.GroupRecord],
    rule: models.Rule,
    configuration: models.Configuration,
    inputs: Inputs,
) -> None:
    kind, before = builder.kinds[rule.kind], basis.alerts.get(rule.name)
    assert isinstance(kind, Group)
    members = basis.record.members.get(rule.name, {})
    if not members:
        if before is not None:
            lifecycle.forget(builder, before, rule, "the group has no workers", builder.at)
        return
    alert = before or models.Alert(rule=rule.name)
    member_series = {
        worker_id: series for worker_id in members if (series := inputs.series.get((worker_id, rule.metric or "")))
    }
    group = dataclasses.replace(of_rule(basis.record, rule, configuration), at=builder.at, series=member_series)
    rule_state = alert.rule_state.clamped(builder.at)
    if rule_state.cursor is None:
        if (basis.subject.id, rule.name) in inputs.incomplete and (waits := group_fold.waiting(rule_state, group)):
            builder.alerts[rule.name] = alert.model_copy(update={"rule_state": waits})
            return
        rule_state = rule_state.model_copy(update={"start": None})
    rule_state, transitions = kind.judge_group(rule, rule_state, group)
    lifecycle.apply(
        builder,
        lifecycle.RuleOutcome(
            rule=rule,
            alert=alert,
            rule_state=rule_state,
            transitions=transitions,
            unit=kind.group_unit(rule, configuration),
            late_reason=kind.late_reason,
        ),
    )
    reach = (rule_state.cursor or 0) - configuration.lateness - REMEMBERED_FOR
    builder.memberships += [
        ports.MembershipChange(basis.subject.id, rule.name, worker_id, None)
        for worker_id, member in members.items()
        if member.known_until is None and (not member.changes or member.changes[-1][0] < reach)
    ]
