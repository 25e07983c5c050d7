"""Evaluate: identifiers in, judged alerts and their notifications out.

What is to be judged is loaded here, what was judged is committed and announced. How it stands is thought out in
``thresholds``, ``states`` and ``scheduled``, what becomes of that in ``verdicts``. Nothing is judged by the time of day
but ``no-data`` and ``collector``: what woke this up, how often and how late changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workermon import failpoints, logs, models, ports
from workermon.alerts import lifecycle, message
from workermon.alerts import silences as silencing
from workermon.config import catalogue
from workermon.evaluate import account
from workermon.rules import event, state, threshold

log = logs.get(__name__)

#: Races that a judgement may lose against others of the same worker; after that the sweep finds its mark.
TRIES = 5

#: Seconds between two looks at the budget.
_REVIEWED = 60


class _Plan(NamedTuple):
    """A rule to be judged for a worker over a metric's datapoints; times and period in seconds."""

    rule: models.Rule
    alert: models.Alert
    period: int
    asked: float
    horizon: int
    needed: int


class _Case(NamedTuple):
    """One worker's judgement: what it is based on, and the rules to be judged over datapoints."""

    basis: ports.Basis
    plans: tuple[_Plan, ...]


def evaluate(
    worker_ids: Sequence[str],
    *,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations] = (),
    accounts: ports.Accounts | None = None,
    silences: ports.Silences | None = None,
    costs: ports.Costs | None = None,
) -> list[str]:
    """Judge these workers; return the ids of the alerts that have something new to be delivered.

    Before them every account and region in ``scopes`` is judged, for that holds back what is said of its workers, and
    with them what the budget in ``costs`` does.
    Alerts under one of ``silences`` or in a maintenance window are judged and recorded as ever, but nobody is told
    before it is over.
    Unknown workers are passed over. What loses every race against another evaluation keeps its mark for the sweep.
    """
    told: list[str] = []
    active_silences = silences.every() if silences is not None else []
    budget_decision = costs.budget_decision() if costs is not None else None
    account_states = (
        _scopes(accounts, told, active_silences, budget_decision, configurations, pulse, now, violations)
        if accounts is not None
        else {}
    )
    left = list(dict.fromkeys(worker_ids))
    for _ in range(TRIES):
        if not left:
            break
        left = _round(
            left, told, account_states, active_silences, alerts, samples, configurations, pulse, now, violations
        )
    if left:
        log.info("evaluate.raced", worker_ids=left)
    return list(dict.fromkeys(told))


def _scopes(
    accounts: ports.Accounts,
    told: list[str],
    silences: Sequence[models.Silence],
    budget_decision: models.BudgetDecision | None,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations],
) -> dict[str, ports.AccountBasis]:
    """Judge every account and region; return how each fares. Who loses a race looks again."""
    bases: dict[str, ports.AccountBasis] = {}
    for _ in range(TRIES):
        bases = accounts.load()
        if budget_decision is not None and budget_decision.period_multipliers and models.EVERYWHERE not in bases:
            accounts.note(models.EVERYWHERE, budget_decision.since, _REVIEWED, None)
            continue
        unwell = [one for one in bases.values() if _is_unwell(one, budget_decision)]
        if not unwell:
            return bases
        configuration, monitoring_since, raced = configurations.load(), pulse.monitoring_since(), False
        active_silences = silencing.in_force(silences, configuration.silences, now())
        for basis in unwell:
            if budget_decision is not None and basis.state.key == models.EVERYWHERE:
                verdict = account.budget(basis, budget_decision, configuration, now=now(), silences=active_silences)
            else:
                verdict = account.judge(
                    basis, configuration, monitoring_since=monitoring_since, now=now(), silences=active_silences
                )
            if verdict is None:
                continue
            raced = True  # by us, where not by another: what is returned has to be what is written
            if accounts.commit(verdict):
                failpoints.reach("scope.committed")
                _announce(basis.state.key, verdict.transitions, told, violations)
        if not raced:
            break
    return bases


def _is_unwell(basis: ports.AccountBasis, budget_decision: models.BudgetDecision | None) -> bool:
    """Tell whether something may have turned there."""
    if basis.state.key == models.EVERYWHERE and (budget_decision is None or budget_decision.period_multipliers):
        return budget_decision is not None
    return basis.state.failing_since is not None or any(alert.open for alert in basis.alerts.values())


def _round(
    worker_ids: Sequence[str],
    told: list[str],
    account_states: Mapping[str, ports.AccountBasis],
    silences: Sequence[models.Silence],
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations],
) -> list[str]:
    """Judge each once, add to ``told`` whose notifications were written, return who lost a race."""
    bases = alerts.load(worker_ids)
    configuration = configurations.load()
    active_silences = silencing.in_force(silences, configuration.silences, now())
    lost = [one for one, basis in bases.items() if basis.revision != configuration.revision]
    cases = [_case(basis, configuration) for one, basis in bases.items() if basis.revision == configuration.revision]
    series = _read(cases, samples)
    by_time = any(rule.kind == "no-data" for rule in configuration.rules)
    monitoring_since = pulse.monitoring_since() if by_time and cases else None
    drafts: list[lifecycle.VerdictBuilder] = []
    for case in cases:
        worker = case.basis.record.worker
        try:
            fare = account_states.get(worker.scope.key)
            drafts.append(_judge(case, series, configuration, monitoring_since, fare, active_silences, now()))
        except Exception:
            # One worker with a state that nobody foresaw must not keep the others from being judged.
            log.exception("evaluate.failed", worker_id=worker.id)
            pulse.count("evaluate.failed")
    failpoints.reach("evaluate.judged")
    outcomes = alerts.commit_many([draft.verdict() for draft in drafts])
    failpoints.reach("evaluate.committed")
    for draft, written in zip(drafts, outcomes, strict=True):
        worker = draft.basis.record.worker
        if not written:
            lost.append(worker.id)
            continue
        _announce(worker.id, draft.transitions, told, violations)
    return lost


# --- what is to be judged ----------------------------------------------------------------------------------------


def _case(basis: ports.Basis, configuration: models.Configuration) -> _Case:
    """Return what is to be judged for a worker; over datapoints that is nothing where it is paused or does not run."""
    worker, condition = basis.record.worker, basis.record.condition
    plans = []
    if worker.monitoring == "active" and condition.status == "running":
        begin = _begin(basis)
        for rule in configuration.rules:
            if rule.kind == "threshold" and _why_not(rule, worker, configuration) is None:
                plans.append(_plan(rule, basis, configuration, begin))
    return _Case(basis, tuple(plan for plan in plans if plan is not None))


def _begin(basis: ports.Basis) -> int:
    """Return where a rule begins that was never judged for this worker.

    That is an hour before the worker was added, or, where other rules are judged already, an hour before where they
    are: a new rule finds what goes on without digging through the whole ledger.
    """
    begin = math.floor(basis.record.worker.added_at) - catalogue.BACKFILL
    for alert in basis.alerts.values():
        if alert.rule_state.cursor is not None:
            begin = max(begin, alert.rule_state.cursor - catalogue.BACKFILL)
        if alert.rule_state.start is not None and alert.rule_state.cursor is None:
            begin = max(begin, alert.rule_state.start)
    return begin


def _why_not(rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
    """Return why a rule does not apply to a worker, ``None`` where it does."""
    if not rule.applies_to(worker):
        return f"the rule {rule.name} no longer applies to this worker"
    if rule.kind != "threshold" or rule.metric == models.STATUS_CHECK_FAILED:
        return None
    if rule.metric not in configuration.collect or rule.metric not in configuration.metrics:
        return f"{rule.metric} is no longer collected"
    return None


def _plan(rule: models.Rule, basis: ports.Basis, configuration: models.Configuration, begin: int) -> _Plan | None:
    """Return from where up to where a rule is to be judged, ``None`` while its metric was never asked."""
    worker, condition = basis.record.worker, basis.record.condition
    metric = rule.metric or ""
    asked = condition.asked.get(metric)
    if metric == models.STATUS_CHECK_FAILED:
        period, delay = worker.interval, 0
        asked = condition.collected_at if asked is None else asked
    else:
        known = configuration.metrics[metric].period_for(detailed=worker.detailed)
        period, delay = condition.periods.get(metric, known), math.ceil(condition.delays.get(metric, catalogue.DELAY))
    if asked is None:
        return None
    alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
    rule_state = alert.rule_state
    if rule_state.cursor is None and rule_state.start is None:
        # A state that another kind of rule of this name left has no place in this fold.
        rule_state = models.RuleState(start=begin)
        alert = alert.model_copy(update={"rule_state": rule_state})
    needed = threshold.reread_from(
        rule_state, rule, basis.record.changed_from, period=period, lateness=configuration.lateness
    )
    if needed is None:
        needed = rule_state.start if rule_state.cursor is None else rule_state.cursor
    oldest = math.floor(asked) - configuration.retention
    return _Plan(rule, alert, period, asked, math.floor(asked) - period - delay, max(needed or 0, oldest, 0))


def _read(cases: Sequence[_Case], samples: ports.Samples) -> dict[tuple[str, str], models.Series]:
    """Read every series that the cases need, all at once."""
    wanted = {
        (case.basis.record.worker.id, plan.rule.metric or "", plan.period): plan
        for case in cases
        for plan in case.plans
    }
    if not wanted:
        return {}
    since = min(plan.needed for case in cases for plan in case.plans)
    until = max(plan.asked for case in cases for plan in case.plans)
    return samples.read(list(wanted), since, until)


# --- one worker --------------------------------------------------------------------------------------------------


def _judge(
    case: _Case,
    series: dict[tuple[str, str], models.Series],
    configuration: models.Configuration,
    monitoring_since: float | None,
    account_states: ports.AccountBasis | None,
    active_silences: Sequence[models.Silence],
    at: float,
) -> lifecycle.VerdictBuilder:
    """Judge every rule for a worker, and end what no rule stands behind any more."""
    basis = case.basis
    worker, condition = basis.record.worker, basis.record.condition
    draft = lifecycle.VerdictBuilder(basis, at, active_silences)
    planned = {plan.rule.name: plan for plan in case.plans}
    rules = {rule.name: rule for rule in configuration.rules}
    seen_at = at if condition.collected_at is None else condition.collected_at
    for rule in configuration.rules:
        alert = basis.alerts.get(rule.name)
        if worker.monitoring == "paused":
            lifecycle.end(draft, rule, alert or models.Alert(rule=rule.name), "monitoring is paused", at)
            if rule.kind == state.KIND:
                paused = draft.alerts[rule.name].model_copy(update={"rule_state": state.anew(condition)})
                draft.alerts[rule.name] = paused
        elif rule.kind == state.KIND and rule.applies_to(worker):
            _remembered(draft, rule, alert, state.judge)
        elif condition.status in models.GONE:
            lifecycle.end(draft, rule, alert, state.SAID[condition.status], seen_at)
        elif reason := _why_not(rule, worker, configuration):
            lifecycle.end(draft, rule, alert, reason, at, forget=True)
        elif rule.kind == "no-data":
            held = account.held(account_states, worker.interval, at)
            _no_data(draft, rule, alert or models.Alert(rule=rule.name), monitoring_since, held)
        elif rule.kind == event.KIND:
            _remembered(draft, rule, alert, event.judge)
        elif condition.status in state.DOWN:
            lifecycle.end(draft, rule, alert, state.SAID[condition.status], seen_at)
        elif plan := planned.get(rule.name):
            _threshold(draft, plan, series, configuration)
        elif alert is not None:
            draft.alerts[rule.name] = alert
    for name, alert in basis.alerts.items():
        if name not in rules:
            lifecycle.end(draft, None, alert, f"the rule {name} was removed", at, forget=True)
    return draft


def _threshold(
    draft: lifecycle.VerdictBuilder,
    plan: _Plan,
    series: dict[tuple[str, str], models.Series],
    configuration: models.Configuration,
) -> None:
    """Judge a rule over a metric's datapoints."""
    record = draft.basis.record
    rule, metric = plan.rule, plan.rule.metric or ""
    found = series.get((record.worker.id, metric))
    # A datapoint from the future would carry the cursor beyond those that are still to come.
    points: Sequence[models.Datapoint] = found.points if found else ()
    if points and points[-1].at > plan.asked:
        points = [point for point in points if point.at <= plan.asked]
    running = record.condition.running_since
    rule_state, transitions = threshold.judge(
        rule,
        plan.alert.rule_state,
        points,
        plan.horizon,
        period=plan.period,
        expected_from=math.ceil(plan.asked if running is None else running),
        changed_from=record.changed_from,
        lateness=configuration.lateness,
    )
    unit = configuration.unit_of(metric)
    lifecycle.tell(draft, rule, plan.alert, rule_state, transitions, unit=unit)


def _no_data(
    draft: lifecycle.VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert,
    monitoring_since: float | None,
    held: str | None,
) -> None:
    """Judge that no collection succeeds; ``held`` is why nobody is to be told of that now."""
    record = draft.basis.record
    # What a threshold rule of this name left has no place here.
    rule_state = alert.rule_state if alert.rule_state.metric is None else models.RuleState()
    if rule_state.start is not None and rule_state.cursor is None:
        # After a pause silence counts from the first look at the worker that is active again.
        rule_state = rule_state.model_copy(update={"start": math.floor(draft.at), "cursor": math.floor(draft.at)})
    rule_state, transitions = threshold.no_data(
        rule,
        rule_state,
        succeeded_at=record.condition.succeeded_at,
        added_at=record.worker.added_at,
        monitoring_since=monitoring_since,
        interval=record.worker.interval,
        now=draft.at,
    )
    if held is not None and rule_state.severity is not None and not alert.open:
        lifecycle.record_only(draft, rule, alert, rule_state, transitions, held)
        return
    lifecycle.tell(draft, rule, alert, rule_state, transitions, unit="count", belated="it was held back until now")


def _remembered(
    draft: lifecycle.VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert | None,
    judge: Callable[
        [models.Rule, models.RuleState, models.Condition], tuple[models.RuleState, tuple[models.Transition, ...]]
    ],
) -> None:
    """Judge what the worker's condition remembers, without a datapoint; nothing is kept where there is nothing."""
    had = alert or models.Alert(rule=rule.name)
    rule_state, transitions = judge(rule, had.rule_state, draft.basis.record.condition)
    if alert is not None or rule_state is not had.rule_state:
        lifecycle.tell(draft, rule, had, rule_state, transitions, unit="count")


# --- what is said of it ------------------------------------------------------------------------------------------


def _announce(
    subject: str,
    transitions: Sequence[tuple[str, models.Transition, models.Notification | None]],
    told: list[str],
    violations: Sequence[ports.Violations],
) -> None:
    """Log what was written of a worker, or of an account and region; call the hooks, and add to ``told``."""
    for rule, transition, notification in transitions:
        _log(subject, rule, transition, notification)
        if notification is not None:
            told.append(notification.dedup_key)
            _call(violations, notification)


def _log(subject: str, rule: str, transition: models.Transition, notification: models.Notification | None) -> None:
    log.info(
        "alert.turned",
        alert_id=message.dedup_key(subject, rule),
        rule=rule,
        before=transition.before,
        after=transition.after,
        at=models.rfc3339(transition.at),
        value=transition.value,
        reason=transition.reason,
        correction=transition.correction,
        told=notification is not None,
    )


def _call(violations: Sequence[ports.Violations], notification: models.Notification) -> None:
    for hook in violations:
        try:
            hook.violated(notification)
        except Exception:
            # A user's own code must not stop the alerts of others.
            log.exception("violations.failed", hook=type(hook).__name__, alert_id=notification.dedup_key)
