"""Pure: evaluates a rule over groups for one worker, and reports to its group. Nobody is notified about the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from workermon import models, ports, rules
from workermon.alerts import lifecycle, membership, verdict

#: The firing alerts about groups, by the subject's id and the rule.
Groups = Mapping[tuple[str, str], models.Alert]


class Continuation(NamedTuple):
    """The alert from which a rule over groups continues for a worker, and how far it can be evaluated.

    ``needed`` is the time from which values are needed (seconds).
    """

    alert: models.Alert
    horizon: rules.Horizon | None
    needed: int


def over_groups(configuration: models.Configuration, kinds: rules.Kinds) -> frozenset[str]:
    """Return the names of the rules over groups."""
    return frozenset(rule.name for rule in configuration.rules if kinds[rule.kind].group_by(rule) is not None)


def was_over_groups(alert: models.Alert | None) -> bool:
    """Return whether the rule of a worker's alert was about groups when the worker was last evaluated."""
    return alert is not None and alert.membership is not None


def group_of(rule: models.Rule, worker: models.Worker, kinds: rules.Kinds) -> str | None:
    """Return the subject's id of a worker's group for a rule; ``None`` if the rule is not about groups."""
    by = kinds[rule.kind].group_by(rule)
    return None if by is None else models.group_subject(by, worker.labels.get(by, "")).id


def inhibitors(
    configuration: models.Configuration, worker: models.Worker, firing: Groups, kinds: rules.Kinds
) -> dict[str, models.Alert]:
    """Return the firing alerts about a worker's groups that may inhibit its own alerts, by rule."""
    if not firing:
        return {}
    groups = ((rule.name, group_of(rule, worker, kinds)) for rule in configuration.rules)
    return {name: firing[group, name] for name, group in groups if group is not None and (group, name) in firing}


def judge(
    builder: verdict.VerdictBuilder,
    rule: models.Rule,
    continuation: Continuation | None,
    facts: rules.Facts,
    configuration: models.Configuration,
) -> None:
    """Evaluate a rule over groups for one of its workers, which may have stopped, left or be paused.

    ``continuation`` is the alert to continue with, and how far it can be evaluated; ``None`` if there is nothing to
    evaluate. If the rule is no longer over groups, it begins again with the next evaluation.
    """
    basis: ports.Basis[ports.Record] = builder.basis
    worker, condition = basis.record.worker, basis.record.condition
    alert, kind = basis.alerts.get(rule.name), builder.kinds[rule.kind]
    if alert is not None and alert.open:
        lifecycle.resolve(builder, alert, rule, "the rule is over groups now", builder.at)
        return
    if worker.monitoring == "paused" and kind.group_by(rule) is not None:
        membership.leave(builder, alert or models.Alert(rule=rule.name), builder.at)
    elif alert is not None and (begin := _stopped_at(kind, condition, builder.at)) is not None:
        membership.leave(builder, alert, begin)
    elif kind.group_by(rule) is None or kind.not_applied(rule, worker, configuration) is not None:
        membership.forget(builder, alert)
    elif continuation is not None:
        _evaluate(builder, rule, continuation, facts)
    elif alert is not None:
        builder.alerts[rule.name] = alert


def _stopped_at(kind: rules.Kind[Any], condition: models.Condition, at: float) -> float | None:
    """Return when a worker was seen to have stopped; ``None`` if it may be running."""
    if condition.status not in kind.ends_with:
        return None
    return at if condition.collected_at is None else condition.collected_at


def _evaluate(
    builder: verdict.VerdictBuilder,
    rule: models.Rule,
    continuation: Continuation,
    facts: rules.Facts,
) -> None:
    alert, kind = continuation.alert, builder.kinds[rule.kind]
    group = group_of(rule, builder.basis.record.worker, builder.kinds)
    assert group is not None
    rule = kind.for_worker(rule, builder.basis.record.worker.labels)
    facts = rules.with_values(rule, facts, continuation.horizon, continuation.needed)
    rule_state, _ = kind.judge(rule, alert.rule_state, facts, continuation.horizon)
    if rule.name in builder.basis.alerts or rule_state is not alert.rule_state:
        recorded = (
            continuation.horizon.kept_at if continuation.horizon is not None and kind.needs_members(rule) else None
        )
        changed_from = None if recorded is None else facts.changed_from
        membership.record_report(builder, alert, rule_state, membership.MemberReport(group, changed_from, recorded))
