"""Evaluate: identifiers in, judged alerts and their notifications out; all that is thought is in ``thresholds``.

Nothing is judged by the time of day but ``no-data`` and ``collector``: what woke this up, how often and how late
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workermon import (
    collector,
    failpoints,
    flapping,
    logs,
    metrics,
    models,
    notifications,
    ports,
    scheduled,
    states,
    thresholds,
)
from workermon import silences as silencing

log = logs.get(__name__)

#: Races that a judgement may lose against others of the same worker; after that the sweep finds its mark.
TRIES = 5

#: Seconds between two looks at the budget.
_REVIEWED = 60

#: A stopped instance is as it should be; ``stopping`` and ``shutting-down`` are on their way.
_ENDED: dict[models.Status, str] = {
    "stopping": "the instance is being stopped",
    "stopped": "the instance is stopped",
    "shutting-down": "the instance is being terminated",
    "terminated": "the instance is terminated",
}


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


class _Draft:
    """A verdict in the making."""

    def __init__(self, basis: ports.Basis, at: float, quiet: Sequence[models.Silence] = ()) -> None:
        self.basis, self.at, self._quiet = basis, at, quiet
        self.alerts: dict[str, models.Alert] = {}
        self.transitions: list[tuple[str, models.Transition, models.Notification | None]] = []
        self.channels: dict[str, tuple[str, ...]] = {}

    def muted(self, rule: str) -> models.Silence | None:
        """Return the silence that a rule's alert is under now."""
        if not self._quiet:
            return None
        worker = self.basis.record.worker
        return silencing.muted(self._quiet, worker.id, worker.labels, rule, self.at, name=worker.name)

    def verdict(self) -> ports.Verdict:
        return ports.Verdict(self.basis, self.alerts, tuple(self.transitions), self.channels, self.at)


def evaluate(
    worker_ids: Sequence[str],
    *,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations] = (),
    scopes: ports.Scopes | None = None,
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
    quiet = silences.every() if silences is not None else []
    stretch = costs.stretch() if costs is not None else None
    fares = _scopes(scopes, told, quiet, stretch, configurations, pulse, now, violations) if scopes is not None else {}
    left = list(dict.fromkeys(worker_ids))
    for _ in range(TRIES):
        if not left:
            break
        left = _round(left, told, fares, quiet, alerts, samples, configurations, pulse, now, violations)
    if left:
        log.info("evaluate.raced", worker_ids=left)
    return list(dict.fromkeys(told))


def _scopes(
    scopes: ports.Scopes,
    told: list[str],
    silences: Sequence[models.Silence],
    stretch: models.Stretch | None,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations],
) -> dict[str, ports.ScopeBasis]:
    """Judge every account and region; return how each fares. Who loses a race looks again."""
    bases: dict[str, ports.ScopeBasis] = {}
    for _ in range(TRIES):
        bases = scopes.load()
        if stretch is not None and stretch.factors and models.EVERYWHERE not in bases:
            scopes.note(models.EVERYWHERE, stretch.since, _REVIEWED, None)
            continue
        unwell = [one for one in bases.values() if _is_unwell(one, stretch)]
        if not unwell:
            return bases
        configuration, monitoring_since, raced = configurations.load(), pulse.monitoring_since(), False
        quiet = silencing.in_force(silences, configuration.silences, now())
        for basis in unwell:
            if stretch is not None and basis.state.key == models.EVERYWHERE:
                verdict = collector.budget(basis, stretch, configuration, now=now(), silences=quiet)
            else:
                verdict = collector.judge(
                    basis, configuration, monitoring_since=monitoring_since, now=now(), silences=quiet
                )
            if verdict is None:
                continue
            raced = True  # by us, where not by another: what is returned has to be what is written
            if scopes.commit(verdict):
                failpoints.reach("scope.committed")
                _announce(basis.state.key, verdict.transitions, told, violations)
        if not raced:
            break
    return bases


def _is_unwell(basis: ports.ScopeBasis, stretch: models.Stretch | None) -> bool:
    """Tell whether something may have turned there."""
    if basis.state.key == models.EVERYWHERE and (stretch is None or stretch.factors):
        return stretch is not None
    return basis.state.failing_since is not None or any(alert.open for alert in basis.alerts.values())


def _round(
    worker_ids: Sequence[str],
    told: list[str],
    fares: Mapping[str, ports.ScopeBasis],
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
    quiet = silencing.in_force(silences, configuration.silences, now())
    lost = [one for one, basis in bases.items() if basis.revision != configuration.revision]
    cases = [_case(basis, configuration) for one, basis in bases.items() if basis.revision == configuration.revision]
    series = _read(cases, samples)
    silence = any(rule.kind == "no-data" for rule in configuration.rules)
    monitoring_since = pulse.monitoring_since() if silence and cases else None
    drafts: list[_Draft] = []
    for case in cases:
        worker = case.basis.record.worker
        try:
            fare = fares.get(worker.scope.key)
            drafts.append(_judge(case, series, configuration, monitoring_since, fare, quiet, now()))
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
    begin = math.floor(basis.record.worker.added_at) - metrics.BACKFILL
    for alert in basis.alerts.values():
        if alert.judged.cursor is not None:
            begin = max(begin, alert.judged.cursor - metrics.BACKFILL)
        if alert.judged.start is not None and alert.judged.cursor is None:
            begin = max(begin, alert.judged.start)
    return begin


def _why_not(rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
    """Return why a rule does not apply to a worker, ``None`` where it does."""
    if not rule.applies_to(worker):
        return f"the rule {rule.name} no longer applies to this worker"
    if rule.kind != "threshold" or rule.metric == metrics.STATUS_CHECK_FAILED:
        return None
    if rule.metric not in configuration.collect or rule.metric not in configuration.metrics:
        return f"{rule.metric} is no longer collected"
    return None


def _plan(rule: models.Rule, basis: ports.Basis, configuration: models.Configuration, begin: int) -> _Plan | None:
    worker, condition = basis.record.worker, basis.record.condition
    metric = rule.metric or ""
    asked = condition.asked.get(metric)
    if metric == metrics.STATUS_CHECK_FAILED:
        period, delay = worker.interval, 0
        asked = condition.collected_at if asked is None else asked
    else:
        known = metrics.period_of(configuration.metrics[metric], detailed=worker.detailed)
        period, delay = condition.periods.get(metric, known), math.ceil(condition.delays.get(metric, metrics.DELAY))
    if asked is None:
        return None
    alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
    judged = alert.judged
    if judged.cursor is None and judged.start is None:
        # A state that another kind of rule of this name left has no place in this fold.
        judged = models.Judged(start=begin)
        alert = alert.model_copy(update={"judged": judged})
    needed = thresholds.reread_from(
        judged, rule, basis.record.changed_from, period=period, lateness=configuration.lateness
    )
    if needed is None:
        needed = judged.start if judged.cursor is None else judged.cursor
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
    fares: ports.ScopeBasis | None,
    quiet: Sequence[models.Silence],
    at: float,
) -> _Draft:
    basis = case.basis
    worker, condition = basis.record.worker, basis.record.condition
    draft = _Draft(basis, at, quiet)
    planned = {plan.rule.name: plan for plan in case.plans}
    rules = {rule.name: rule for rule in configuration.rules}
    seen_at = at if condition.collected_at is None else condition.collected_at
    for rule in configuration.rules:
        alert = basis.alerts.get(rule.name)
        if worker.monitoring == "paused":
            _end(draft, rule, alert or models.Alert(rule=rule.name), "monitoring is paused", at)
            if rule.kind == states.KIND:
                paused = draft.alerts[rule.name].model_copy(update={"judged": states.anew(condition)})
                draft.alerts[rule.name] = paused
        elif rule.kind == states.KIND and rule.applies_to(worker):
            _remembered(draft, rule, alert, states.judge)
        elif condition.status in models.GONE:
            _end(draft, rule, alert, _ENDED[condition.status], seen_at)
        elif reason := _why_not(rule, worker, configuration):
            _end(draft, rule, alert, reason, at, forget=True)
        elif rule.kind == "no-data":
            held = collector.held(fares, worker.interval, at)
            _silence(draft, rule, alert or models.Alert(rule=rule.name), monitoring_since, held)
        elif rule.kind == scheduled.KIND:
            _remembered(draft, rule, alert, scheduled.judge)
        elif condition.status in _ENDED:
            _end(draft, rule, alert, _ENDED[condition.status], seen_at)
        elif plan := planned.get(rule.name):
            _threshold(draft, plan, series, configuration)
        elif alert is not None:
            draft.alerts[rule.name] = alert
    for name, alert in basis.alerts.items():
        if name not in rules:
            _end(draft, None, alert, f"the rule {name} was removed", at, forget=True)
    return draft


def _end(
    draft: _Draft,
    rule: models.Rule | None,
    alert: models.Alert | None,
    reason: str,
    at: float,
    *,
    forget: bool = False,
) -> None:
    """Resolve an alert with the reason and have its judgement begin anew; ``forget`` keeps nothing of it."""
    if alert is None:
        return
    judged = alert.judged
    if alert.told is None and judged.severity is None and judged.cursor is None and judged.start is not None:
        after = alert
    else:
        version = notifications.next_version(draft.basis, alert.rule)
        worker = draft.basis.record.worker
        after, transition, told = notifications.closed(worker, alert, reason, at, version=version, created_at=draft.at)
        if transition.before is not None:
            draft.transitions.append((alert.rule, transition, told))
            draft.channels[alert.rule] = notifications.hears_the_end(alert, rule)
    if not forget:
        draft.alerts[alert.rule] = after


def _threshold(
    draft: _Draft,
    plan: _Plan,
    series: dict[tuple[str, str], models.Series],
    configuration: models.Configuration,
) -> None:
    record = draft.basis.record
    rule, metric = plan.rule, plan.rule.metric or ""
    found = series.get((record.worker.id, metric))
    # A datapoint from the future would carry the cursor beyond those that are still to come.
    points: Sequence[models.Datapoint] = found.points if found else ()
    if points and points[-1].at > plan.asked:
        points = [point for point in points if point.at <= plan.asked]
    running = record.condition.running_since
    judged, transitions = thresholds.judge(
        rule,
        plan.alert.judged,
        points,
        plan.horizon,
        period=plan.period,
        expected_from=math.ceil(plan.asked if running is None else running),
        changed_from=record.changed_from,
        lateness=configuration.lateness,
    )
    unit = metrics.unit_of(metric, configuration.metrics)
    _tell(draft, rule, plan.alert, judged, transitions, unit)


def _silence(
    draft: _Draft, rule: models.Rule, alert: models.Alert, monitoring_since: float | None, held: str | None
) -> None:
    record = draft.basis.record
    # What a threshold rule of this name left has no place here.
    judged = alert.judged if alert.judged.metric is None else models.Judged()
    if judged.start is not None and judged.cursor is None:
        # After a pause silence counts from the first look at the worker that is active again.
        judged = judged.model_copy(update={"start": math.floor(draft.at), "cursor": math.floor(draft.at)})
    judged, transitions = thresholds.no_data(
        rule,
        judged,
        succeeded_at=record.condition.succeeded_at,
        added_at=record.worker.added_at,
        monitoring_since=monitoring_since,
        interval=record.worker.interval,
        now=draft.at,
    )
    if held is not None and judged.severity is not None and not alert.open:
        since = _since(alert, judged, transitions)
        draft.alerts[rule.name] = alert.model_copy(update={"judged": judged, "since": since})
        said = [one.model_copy(update={"reason": f"{one.reason}; {held}"}) for one in transitions]
        draft.transitions += [(rule.name, one, None) for one in said]
        return
    _tell(draft, rule, alert, judged, transitions, "count", belated="it was held back until now")


def _remembered(
    draft: _Draft,
    rule: models.Rule,
    alert: models.Alert | None,
    judge: Callable[
        [models.Rule, models.Judged, models.Condition], tuple[models.Judged, tuple[models.Transition, ...]]
    ],
) -> None:
    """Judge what the worker's condition remembers, without a datapoint; nothing is kept where there is nothing."""
    had = alert or models.Alert(rule=rule.name)
    judged, transitions = judge(rule, had.judged, draft.basis.record.condition)
    if alert is not None or judged is not had.judged:
        _tell(draft, rule, had, judged, transitions, "count")


def _tell(
    draft: _Draft,
    rule: models.Rule,
    alert: models.Alert,
    judged: models.Judged,
    transitions: Sequence[models.Transition],
    unit: str,
    belated: str = "the rule was changed",
) -> None:
    """Take a judgement into the draft; people hear of it where the present is not what they were told last."""
    severity = judged.severity
    silence = draft.muted(rule.name)
    unheard = alert.silenced_by is not None and silence is None and severity is not None
    over = unheard and severity == alert.told
    stand = _stand(draft, rule, alert, judged)
    if stand.flaps and not unheard and not flapping.is_told(alert, severity):
        _damp(draft, rule, alert, judged, transitions)
        return
    begins = stand.flaps and not alert.flapping_told
    ends = alert.flapping and not stand.flaps
    if judged is alert.judged and severity == alert.told and not (over or begins or ends):
        draft.alerts[rule.name] = alert
        return
    # While it flaps it is one episode, whatever becomes of it.
    since = alert.since if stand.flaps and alert.flapping and alert.open else _since(alert, judged, transitions)
    changes: dict[str, object] = {"judged": judged, "since": since}
    if stand.flaps or alert.flapping:
        changes |= {"flapping": stand.flaps, "flapping_told": stand.flaps}
    deciding, notification = None, None
    joined = severity is not None and any(one.before == one.after == severity for one in transitions)
    if severity != alert.told or joined or begins or (ends and alert.flapping_told):
        # The latest; of a turn that was withdrawn and one that took its place at the same time, the latter.
        matching = [one for one in transitions if one.after == severity]
        if ends:
            matching = [one for one in matching if one.at >= (stand.still or 0) and not one.damped]
        deciding = max(matching, key=lambda one: (one.at, one.count is not None), default=None)
        if deciding is None:
            at = judged.trail[-1].at if judged.trail else math.floor(draft.at)
            deciding = models.Transition(at=at, before=alert.told, after=severity, reason=belated)
            if begins or ends:
                deciding = _of_flapping(rule, judged, stand, deciding)
            transitions = [*transitions, deciding]
        elif deciding.damped:
            heard_of = deciding.model_copy(update={"damped": False})
            transitions = [heard_of if one is deciding else one for one in transitions]
            deciding = heard_of
        version = notifications.next_version(draft.basis, rule.name)
        began = since if since is not None else alert.since
        notification = notifications.notification(
            draft.basis.record.worker,
            rule,
            deciding,
            version=version,
            since=deciding.at if began is None else began,
            created_at=draft.at,
            unit=unit,
            told=alert.told,
            trouble=draft.basis.record.condition.trouble,
        )
        if stand.flaps or ends:
            notification = notifications.of_flapping(
                notification, draft.basis.record.worker, rule, deciding, stand, begins=begins
            )
        # Whoever heard that it fires hears that it is over, whatever the rule says by then.
        if severity is None:
            heard = draft.channels[rule.name] = notifications.hears_the_end(alert, rule)
            untold = None if heard else alert.silenced_by
        elif silence is None:
            draft.channels[rule.name], untold = notifications.hears(alert, rule, severity), None
            heard = tuple(dict.fromkeys((*alert.channels, *draft.channels[rule.name])))
        else:
            heard, draft.channels[rule.name], untold = alert.channels, (), silence.id
        if untold is not None:
            muted = deciding.model_copy(update={"silenced_by": untold})
            transitions = [muted if one is deciding else one for one in transitions]
            deciding = muted
        changes |= {
            "version": version,
            "told": severity,
            "last": notification,
            "channels": heard if severity else (),
            "silenced_by": silence.id if silence is not None and severity else None,
        }
    elif over and alert.last is not None:
        reason = f"the silence {alert.silenced_by} is over, and it still fires"
        deciding = models.Transition(at=math.floor(draft.at), before=severity, after=severity, reason=reason)
        transitions = [*transitions, deciding]
        version = notifications.next_version(draft.basis, rule.name)
        summary = scheduled.later(alert.last.summary) if rule.kind == scheduled.KIND else alert.last.summary
        # Its id names the turn, which nobody has heard of.
        notification = alert.last.model_copy(
            update={"version": version, "created_at": models.rfc3339(draft.at), "reason": reason, "summary": summary}
        )
        assert severity is not None
        draft.channels[rule.name] = notifications.hears(alert, rule, severity)
        heard = tuple(dict.fromkeys((*alert.channels, *draft.channels[rule.name])))
        changes |= {"version": version, "last": notification, "channels": heard, "silenced_by": None}
    draft.alerts[rule.name] = alert.model_copy(update=changes)
    draft.transitions += [(rule.name, _said(one), notification if one is deciding else None) for one in transitions]


def _stand(draft: _Draft, rule: models.Rule, alert: models.Alert, judged: models.Judged) -> flapping.Stand:
    if rule.flapping is None and not alert.flapping:
        return flapping.CALM
    return flapping.stand(rule, judged, math.floor(draft.at) if rule.kind == "no-data" else judged.cursor)


def _damp(
    draft: _Draft,
    rule: models.Rule,
    alert: models.Alert,
    judged: models.Judged,
    transitions: Sequence[models.Transition],
) -> None:
    """Take a judgement of an alert that flaps into the draft; nobody is told."""
    since = alert.since if alert.open else _since(alert, judged, transitions)
    draft.alerts[rule.name] = alert.model_copy(update={"judged": judged, "since": since, "flapping": True})
    draft.transitions += [(rule.name, _said(one), None) for one in transitions]


def _said(transition: models.Transition) -> models.Transition:
    if not transition.damped:
        return transition
    return transition.model_copy(update={"reason": f"{transition.reason}; damped: the alert is flapping"})


def _of_flapping(
    rule: models.Rule,
    judged: models.Judged,
    stand: flapping.Stand,
    deciding: models.Transition,
) -> models.Transition:
    """Say what decided where no turn did: that it flaps, or flaps no longer."""
    if stand.flaps:
        return deciding.model_copy(update={"at": stand.last, "reason": "it turns too often"})
    if rule.flapping is not None and stand.still is not None:
        reason = f"it has held still for {flapping.lasting(rule.flapping.within)}"
        return deciding.model_copy(update={"at": stand.still, "reason": reason})
    at = deciding.at if judged.cursor is None else judged.cursor
    reason = "its turns are no longer damped" if rule.flapping is None else "it does not flap after all"
    return deciding.model_copy(update={"at": at, "reason": reason})


def _since(alert: models.Alert, judged: models.Judged, transitions: Sequence[models.Transition]) -> int | None:
    """Return when the present episode began, ``None`` where there is none."""
    if judged.severity is None:
        return None
    for place in range(len(judged.trail) - 1, -1, -1):
        if judged.trail[place].severity is None:
            return judged.trail[place + 1].at
    began = [one.at for one in transitions if one.before is None and one.after is not None]
    if began:
        return max(began)
    return judged.trail[0].at if alert.since is None else alert.since


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
        alert_id=notifications.dedup_key(subject, rule),
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
