"""Pure: evaluates a worker, rule by rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workermon import models, ports, rules
from workermon.alerts import escalation, lifecycle, membership, verdict
from workermon.evaluate import account, member
from workermon.evaluate.operands import Operands
from workermon.rules import state

#: Series by worker id and metric.
SeriesByMetric = Mapping[tuple[str, str], models.Series]

#: Groups that rules compare workers with, by the rule's name and the label's value.
Peers = Mapping[tuple[str, str], rules.PeerGroup]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What workers are evaluated with, beside their own records.

    ``accounts`` are the alerts of accounts and regions by key. ``monitoring_since`` is when the monitor itself began.
    ``groups`` are the firing alerts about groups that may inhibit those of their members. ``peers`` are the groups that
    rules compare workers with, by the rule's name and the label's value. ``rules`` are those of the configuration, each
    after the rules that it depends on, which are the ``operands``. ``over`` are the names of those over groups.
    """

    configuration: models.Configuration
    rules: Sequence[models.Rule]
    operands: frozenset[str]
    over: frozenset[str]
    active_silences: Sequence[models.Silence]
    accounts: Mapping[str, ports.Basis[models.AccountState]]
    monitoring_since: float | None
    groups: member.Groups
    peers: Peers
    escalations: escalation.Escalations


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A rule to be evaluated for a worker; times in seconds.

    ``alert`` is ``None`` if there was none before. ``horizon`` is up to when the rule's metrics can be evaluated, and
    ``needed`` from when on it needs their values. A rule without a metric has neither.
    """

    rule: models.Rule
    kind: rules.Kind[Any]
    alert: models.Alert | None
    unit: str
    horizon: rules.Horizon | None = None
    needed: int = 0

    @property
    def read_from(self) -> int:
        """Return from when on datapoints are read. The windows of an expression reach further back than its values."""
        return self.needed - (0 if self.horizon is None else self.horizon.reach_back)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One worker to be evaluated: its basis, and the rules that can be evaluated now."""

    basis: ports.Basis[ports.Record]
    plans: tuple[Plan, ...]

    @property
    def worker_id(self) -> str:
        """Return the worker's id."""
        return self.basis.record.worker.id


# --- what the evaluation starts from ---------------------------------------------------------------------------------


def clamped(
    basis: ports.Basis[ports.Record], configuration: models.Configuration, kinds: rules.Kinds, now: float
) -> ports.Basis[ports.Record]:
    """Return a basis without times from a clock that was ahead: they would hide everything until then."""
    record, present = basis.record.clamped(now), basis.record.present(now)
    kind_of = {rule.name: kinds[rule.kind] for rule in configuration.rules}
    alerts = {}
    for name, alert in basis.alerts.items():
        kind = kind_of.get(name)
        rule_state = alert.rule_state.clamped(present) if kind is None else kind.clamped(alert.rule_state, present)
        if rule_state is not alert.rule_state:
            alerts[name] = alert.model_copy(update={"rule_state": rule_state})
    if record is basis.record and not alerts:
        return basis
    return dataclasses.replace(basis, record=record, alerts={**basis.alerts, **alerts})


def usable(configuration: models.Configuration, kinds: rules.Kinds) -> models.Configuration:
    """Return the configuration without rules that this version cannot evaluate; the same object if there are none."""
    usable_rules = tuple(rule for rule in configuration.rules if _is_usable(rule, kinds))
    if len(usable_rules) == len(configuration.rules):
        return configuration
    return configuration.model_copy(update={"rules": usable_rules, "complete": False})


def _is_usable(rule: models.Rule, kinds: rules.Kinds) -> bool:
    try:
        kinds[rule.kind].options(rule)
    except (KeyError, ValueError):
        return False
    return True


# --- what is to be evaluated ----------------------------------------------------------------------------------------


class _Start(NamedTuple):
    """Where the evaluation of a worker starts: ``facts`` without datapoints; new rules begin at ``begin`` (seconds)."""

    basis: ports.Basis[ports.Record]
    configuration: models.Configuration
    facts: rules.Facts
    begin: int


def case(basis: ports.Basis[ports.Record], configuration: models.Configuration, kinds: rules.Kinds) -> Case:
    """Return which rules are to be evaluated for a worker. Only a running worker has its datapoints evaluated."""
    worker, condition = basis.record.worker, basis.record.condition
    if worker.monitoring == "paused":
        return Case(basis=basis, plans=())
    facts = rules.Facts.about(
        worker,
        condition,
        changed_from=basis.record.changed_from,
        lateness=rules.reach_back(configuration, worker.interval),
    )
    start = _Start(basis, configuration, facts, _begin(basis))
    plans: list[Plan] = []
    for configured in configuration.rules:
        kind = kinds[configured.kind]
        if condition.status in kind.ends_with or kind.not_applied(configured, worker, configuration) is not None:
            continue
        rule = kind.for_worker(configured, worker.labels)
        if not kind.metrics(rule):
            alert = basis.alerts.get(rule.name)
            if kind.operands(rule):
                alert = _with_begin(alert or models.Alert(rule=rule.name), start.begin)
            plans.append(Plan(rule=rule, kind=kind, alert=alert, unit=kind.unit(rule, configuration)))
        elif condition.status == "running" and not kind.waits(rule, condition):
            plans += _over_datapoints(rule, kind, start)
    return Case(basis=basis, plans=tuple(plans))


def _begin(basis: ports.Basis[ports.Record]) -> int:
    """Return where a rule begins that was never evaluated for this worker.

    That is an hour before the worker was added. If other rules are evaluated already, it is an hour before the newest
    slot that they evaluated: a new rule sees recent values without reading the whole ledger.
    """
    begin = math.floor(basis.record.worker.added_at) - rules.BACKFILL
    for alert in basis.alerts.values():
        if alert.rule_state.cursor is not None:
            begin = max(begin, alert.rule_state.cursor - rules.BACKFILL)
        if alert.rule_state.start is not None and alert.rule_state.cursor is None:
            begin = max(begin, alert.rule_state.start)
    return begin


def _with_begin(alert: models.Alert, begin: int) -> models.Alert:
    """Return an alert whose rule begins at a time if it was never evaluated.

    The state of another kind's rule with the same name is of no use to its fold.
    """
    if alert.rule_state.cursor is not None or alert.rule_state.start is not None:
        return alert
    return alert.model_copy(update={"rule_state": models.RuleState(start=begin)})


def _over_datapoints(rule: models.Rule, kind: rules.Kind[Any], start: _Start) -> list[Plan]:
    """Return the plan of a rule with the range in which it is evaluated; none if there is nothing to read."""
    record, configuration = start.basis.record, start.configuration
    horizon = kind.horizon(rule, record.worker, record.condition, configuration)
    if horizon is None or horizon.requested_at is None:
        return []
    alert = start.basis.alert(rule.name)
    if alert.rule_state.cursor is not None and horizon.requested_at < alert.rule_state.cursor:
        return []  # The clock was set back. Datapoints after that time are left out, which must not withdraw anything.
    alert = _with_begin(alert, start.begin)
    rule_state = alert.rule_state
    needed = kind.needed_from(rule, rule_state, horizon, start.facts)
    if needed is None:
        needed = rule_state.start if rule_state.cursor is None else rule_state.cursor
    oldest = math.floor(horizon.requested_at) - configuration.retention
    needed = max(needed or 0, oldest, 0)
    unit = kind.unit(rule, configuration)
    return [Plan(rule=rule, kind=kind, alert=alert, unit=unit, horizon=horizon, needed=needed)]


# --- the evaluation -----------------------------------------------------------------------------------------------


def judge(builder: verdict.VerdictBuilder, case: Case, series: SeriesByMetric, context: Context) -> None:
    """Evaluate every rule for a worker, and end the alerts of removed rules."""
    record = case.basis.record
    facts = rules.Facts.about(
        record.worker,
        record.condition,
        series=_until_horizon(case, series),
        changed_from=record.changed_from,
        lateness=rules.reach_back(context.configuration, record.worker.interval),
        at=builder.at,
        monitoring_since=context.monitoring_since,
        unit_of=context.configuration.unit_of,
        statistic_of=context.configuration.statistic_of,
    )
    held_back = account.held_back(context.accounts.get(record.worker.scope.key), record.worker.interval, builder.at)
    operands = Operands(
        builder=builder,
        worker=record.worker,
        facts=facts,
        configuration=context.configuration,
        names=context.operands,
    )
    plans = {plan.rule.name: plan for plan in case.plans}
    for rule in context.rules:
        plan = plans.get(rule.name)
        transitions: Sequence[models.Transition] = ()
        if rule.name in context.over or member.was_over_groups(case.basis.alerts.get(rule.name)):
            member.judge(builder, rule, _continuation(plan), operands.facts_for(rule), context.configuration)
        elif plan is not None:
            reason = held_back if plan.kind.about_collection else None
            own_facts = _with_peers(plan, record.worker, operands.facts_for(rule), context)
            transitions = _evaluate(builder, plan, own_facts, reason)
        else:
            _without_plan(builder, case, rule, context.configuration)
        operands.note(rule, transitions)
    names = {rule.name for rule in context.configuration.rules}
    for alert in lifecycle.forget_removed(builder, names, context.configuration):
        membership.forget(builder, alert)
    builder.is_steady = _is_steady(builder, record, plans)


def _is_steady(builder: verdict.VerdictBuilder, record: ports.Record, plans: Mapping[str, Plan]) -> bool:
    """Return whether only EC2's changes and datapoints beyond a threshold can change anything about a worker."""
    if record.worker.monitoring == "paused" or record.condition.status != "running":
        return False
    for name, alert in builder.alerts.items():
        plan = plans.get(name)
        if plan is None or not plan.kind.is_steady(plan.rule, alert.rule_state) or not alert.is_at_rest:
            return False
    return True


def _continuation(plan: Plan | None) -> member.Continuation | None:
    """Return what a rule over groups continues with; ``None`` if there is nothing to evaluate."""
    if plan is None:
        return None
    return member.Continuation(plan.alert or models.Alert(rule=plan.rule.name), plan.horizon, plan.needed)


def _pause(builder: verdict.VerdictBuilder, case: Case, rule: models.Rule) -> None:
    """End an alert, and keep the state from which its rule begins after the pause."""
    alert = case.basis.alert(rule.name)
    lifecycle.resolve(builder, alert, rule, "monitoring is paused", builder.at)
    paused = builder.alerts[rule.name]
    rule_state = builder.kinds[rule.kind].paused(paused.rule_state, case.basis.record.condition)
    builder.alerts[rule.name] = paused.model_copy(update={"rule_state": rule_state})


def _without_plan(
    builder: verdict.VerdictBuilder, case: Case, rule: models.Rule, configuration: models.Configuration
) -> None:
    """Continue the alert of a rule that is not evaluated now, or end it if the rule no longer can be."""
    worker, condition = case.basis.record.worker, case.basis.record.condition
    kind, alert = builder.kinds[rule.kind], case.basis.alerts.get(rule.name)
    if worker.monitoring == "paused":
        _pause(builder, case, rule)
        return
    if alert is None:
        return
    has_ended = condition.status in kind.ends_with
    is_gone = has_ended and condition.status in models.GONE
    not_applied = None if is_gone else kind.not_applied(rule, worker, configuration)
    if not_applied is not None:
        lifecycle.forget(builder, alert, rule, not_applied, builder.at)
    elif has_ended:
        seen_at = builder.at if condition.collected_at is None else condition.collected_at
        lifecycle.resolve(builder, alert, rule, state.STATUS_TEXT[condition.status], seen_at)
    else:
        builder.alerts[rule.name] = alert


def _until_horizon(case: Case, series: SeriesByMetric) -> dict[str, models.Series]:
    """Return the worker's series by metric, without datapoints from the future.

    They would move a cursor past datapoints that are still to arrive.
    """
    requested: dict[str, float] = {}
    for plan in case.plans:
        if plan.horizon is None or plan.horizon.requested_at is None:
            continue
        for metric in plan.kind.metrics(plan.rule):
            until = plan.horizon.operands.get(metric, plan.horizon).requested_at
            requested[metric] = max(until or 0.0, requested.get(metric, 0.0))
    series_found = {metric: series.get((case.worker_id, metric)) for metric in requested}
    return {
        metric: metric_series.until(requested[metric])
        for metric, metric_series in series_found.items()
        if metric_series is not None
    }


def _with_peers(plan: Plan, worker: models.Worker, facts: rules.Facts, context: Context) -> rules.Facts:
    """Return facts with the workers that a rule compares this one with; the same object if it compares none."""
    if not context.peers:
        return facts
    by = plan.kind.compares_by(plan.rule)
    group = None if by is None else context.peers.get((plan.rule.name, worker.labels[by]))
    return facts if group is None else dataclasses.replace(facts, peers=group)


def _evaluate(
    builder: verdict.VerdictBuilder, plan: Plan, facts: rules.Facts, held_back: str | None
) -> Sequence[models.Transition]:
    """Evaluate a rule, and return its transitions; ``held_back`` is why nobody is to be notified now.

    If nothing changed, nothing is stored.
    """
    rule, kind = plan.rule, plan.kind
    alert = plan.alert or models.Alert(rule=rule.name)
    facts = rules.with_values(rule, facts, plan.horizon, plan.needed)
    rule_state, transitions = kind.judge(rule, alert.rule_state, facts, plan.horizon)
    if plan.alert is None and rule_state is alert.rule_state:
        return ()
    if not transitions and lifecycle.continue_at_rest(builder, rule, alert, rule_state):
        return ()
    outcome = lifecycle.RuleOutcome(
        rule=rule,
        alert=alert,
        rule_state=rule_state,
        transitions=transitions,
        until=kind.evaluated_until(rule_state, builder.at),
        unit=plan.unit,
        interval=facts.interval,
        last_error=facts.condition.last_error,
        late_reason=kind.late_reason,
    )
    if held_back is not None and rule_state.severity is not None and not alert.open:
        lifecycle.record_only(builder, outcome, held_back)
    else:
        lifecycle.apply(builder, outcome)
    return transitions
