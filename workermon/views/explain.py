"""Explain: why an alert of a worker fires, or does not.

What was decided is shown with the reason that was recorded then; only how it stands between two decisions is counted
here, by the code that judges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from workermon import config, errors, models, ports
from workermon.alerts import silences as silencing
from workermon.config import catalogue
from workermon.rules import event as scheduled
from workermon.rules import flapping, state, threshold

#: Entries of an alert's history that are shown.
HISTORY = 10

Document = dict[str, Any]


def why(
    record: ports.Record,
    metric: str,
    *,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    silences: ports.Silences,
    now: ports.Clock,
) -> Document:
    """Return how every rule over a metric stands for a worker, and what was decided last.

    ``no-data``, ``state`` and ``event`` are some too.

    Raises ``errors.NotFound`` for a metric that is not known.
    """
    configuration = configurations.load()
    known = (*configuration.metrics, models.STATUS_CHECK_FAILED, *config.KINDS)
    if metric not in known:
        raise errors.NotFound(f"metric {metric}", "is not known", errors.nearest(metric, known))
    worker = record.worker
    basis = alerts.load([worker.id]).get(worker.id)
    if basis is None:
        raise errors.UnknownWorker(f"worker {worker.name}", "not monitored", "see 'workermon list'")
    record = basis.record
    found, at = [], now()
    active_silences = silencing.in_force(silences.every(), configuration.silences, at)
    for rule in configuration.rules:
        if metric != (rule.metric if rule.kind == "threshold" else rule.kind):
            continue
        alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
        if rule.kind == "no-data":
            explain_state = _silence(rule, record, alert, pulse.monitoring_since(), at)
        elif rule.kind == "state":
            explain_state = _changes(rule, record, alert, configuration)
        elif rule.kind == "event":
            explain_state = _events(rule, record, configuration)
        else:
            explain_state = _threshold(rule, record, alert, configuration, samples)
        found.append(
            {
                **_rule(rule),
                **_state(alert),
                **explain_state,
                "flapping": _flapping(rule, alert, at),
                "silences": _silences(active_silences, worker, rule.name, at),
                "history": _history(alerts.history(f"{worker.id}/{rule.name}", HISTORY)),
            }
        )
    condition = record.condition
    return {
        "worker": {"id": worker.id, "name": worker.name},
        "metric": metric,
        "status": condition.status,
        "monitoring": worker.monitoring,
        "collected_at": _time(condition.collected_at),
        "succeeded_at": _time(condition.succeeded_at),
        "trouble": None
        if condition.last_error is None
        else {"kind": condition.last_error.kind, "message": errors.printable(condition.last_error.message)},
        "rules": found,
    }


def delivery(
    channel: str,
    *,
    alerts: ports.Alerts,
    outbox: ports.Outbox,
    configurations: ports.Configurations,
    now: ports.Clock,
) -> Document:
    """Return how the delivery to a channel stands: whether it takes something, what waits in vain, what was told of it.

    Raises ``errors.NotFound`` for a channel that is not in the configuration and that nothing was told of.
    """
    channels = configurations.load().channels
    told = outbox.last_error(channel)
    if channel not in channels and told is None:
        why = "it is not in the configuration"
        raise errors.NotFound(f"channel {errors.printable(channel)[:64]}", why, errors.nearest(channel, channels))
    fires = told is not None and told.status == "firing"
    return {
        "channel": channel,
        "type": channels[channel].type if channel in channels else None,
        "rule": models.DELIVERY,
        "state": told.severity if told is not None and fires else "ok",
        "since": told.since if told is not None and fires else None,
        "reason": told.reason if told is not None and fires else None,
        "waiting": [
            {"alert": one.alert_id, "attempts": one.attempts, "since": models.rfc3339(one.since), "error": one.error}
            for one in outbox.stuck(now())
            if one.channel == channel
        ],
        "history": _history(alerts.history(models.delivery_alert(channel), HISTORY)),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else models.rfc3339(at)


def _rule(rule: models.Rule) -> Document:
    levels = {"above": rule.above, "below": rule.below, "clear": rule.clear}
    shown: Document = {"rule": rule.name, "kind": rule.kind}
    if rule.kind == "no-data":
        shown |= {"intervals": rule.intervals, "severity": rule.severity}
    elif rule.kind == "state":
        shown |= {"states": list(rule.states), "expected": list(rule.expected), "severity": rule.severity}
    elif rule.kind == "event":
        severity = "by code" if rule.by_code else rule.severity
        shown |= {"codes": list(rule.codes or scheduled.CODES), "ahead": rule.ahead, "severity": severity}
    else:
        shown |= {key: it.model_dump(exclude_none=True) for key, it in levels.items() if it is not None}
        shown |= {"breach": str(rule.breach), "recover": str(rule.recover), "absent": rule.missing}
    if rule.routes is not None:
        shown["routes"] = {severity: list(names) for severity, names in rule.routes.items()}
    return {**shown, "labels": rule.labels, "notify": list(rule.notify)}


def _state(alert: models.Alert) -> Document:
    rule_state = alert.rule_state
    latched = rule_state.trail[-1].latched if rule_state.trail else 0
    return {
        "state": rule_state.severity or "ok",
        "latched": [severity for bit, severity in enumerate(models.SEVERITIES) if latched & (1 << bit)],
        "told": alert.notified_severity if alert.channels else None,
        "silenced_by": alert.silenced_by,
        "since": _time(alert.since),
        "cursor": _time(rule_state.cursor),
    }


def _flapping(rule: models.Rule, alert: models.Alert, now: float) -> Document | None:
    """Return whether an alert flaps, and until when it has to hold still; ``None`` where the rule damps nothing."""
    if rule.flapping is None:
        return None
    until = math.floor(now) if rule.kind == "no-data" else alert.rule_state.cursor
    stand = flapping.stand(rule, alert.rule_state, until)
    return {
        "turns": rule.flapping.turns,
        "within": rule.flapping.within,
        "flaps": stand.flaps,
        "counted": stand.turns,
        "until": models.rfc3339(stand.last + rule.flapping.within) if stand.flaps and stand.last is not None else None,
    }


def _why_not(rule: models.Rule, record: ports.Record, configuration: models.Configuration) -> str | None:
    """Return why nothing is judged at present, ``None`` where it is."""
    worker, condition = record.worker, record.condition
    if worker.monitoring == "paused":
        return "monitoring is paused"
    if not rule.applies_to(worker):
        wanted = ", ".join(f"{key}={value}" for key, value in rule.labels.items())
        return f"the rule is for workers with {wanted} only"
    if rule.kind == "event" and condition.status in models.GONE:
        return f"the instance is {condition.status}"
    if rule.kind != "threshold":
        return None
    if rule.metric != models.STATUS_CHECK_FAILED and rule.metric not in configuration.collect:
        return f"{rule.metric} is not collected"
    if condition.status != "running":
        return f"the instance is {condition.status}"
    return None


def _threshold(
    rule: models.Rule,
    record: ports.Record,
    alert: models.Alert,
    configuration: models.Configuration,
    samples: ports.Samples,
) -> Document:
    worker, condition, metric = record.worker, record.condition, rule.metric or ""
    asked = condition.asked.get(metric)
    if metric == models.STATUS_CHECK_FAILED:
        period, delay = worker.interval, 0
        asked = condition.collected_at if asked is None else asked
    else:
        entry = configuration.metrics[metric]
        period = condition.periods.get(metric, entry.period_for(detailed=worker.detailed))
        delay = math.ceil(condition.delays.get(metric, catalogue.DELAY))
    shown: Document = {
        "period": period,
        "delay": delay,
        "asked": _time(asked),
        "horizon": None if asked is None else _time(math.floor(asked) - period - delay),
        "points": [],
        "missing": [],
        "levels": [],
    }
    reason = _why_not(rule, record, configuration)
    rule_state = alert.rule_state
    if reason is None and (asked is None or rule_state.cursor is None):
        reason = "CloudWatch was never asked with success" if asked is None else "no slot was judged yet"
    if rule_state.cursor is None or rule_state.period != period or asked is None:
        return {**shown, "now": reason or f"the period became {period} s and no slot of it was judged yet"}
    since = rule_state.cursor - (threshold.lookback(rule) + 1) * period
    points = samples.read([(worker.id, metric, period)], since, rule_state.cursor + period - 1)[
        worker.id, metric
    ].points
    running = condition.running_since
    expected = math.ceil(asked if running is None else running)
    seen = threshold.look(rule, rule_state, points, period=period, expected_from=expected)
    if seen is None:
        return {**shown, "now": reason}
    side = "above" if rule.above else "below"
    shown["points"] = [{"at": models.rfc3339(at), "value": value} for at, value in seen.points]
    shown["missing"] = [models.rfc3339(at) for at in seen.absent]
    shown["levels"] = [
        {
            "severity": level.severity,
            "threshold": level.threshold,
            "clear": level.clear,
            "latched": level.latched,
            "breaching": level.breaching,
            "of": seen.counted,
            "clear_of": level.cleared,
            "recovering": seen.recovering,
        }
        for level in seen.levels
    ]
    said = [
        f"{level.cleared} of {seen.recovering} values not {side} {level.clear:.15g}, {rule.recover} end"
        f" {level.severity}"
        if level.latched
        else f"{level.breaching} of {seen.counted} values {side} {level.threshold:.15g}, {rule.breach} make it"
        f" {level.severity}"
        for level in seen.levels
    ]
    return {**shown, "now": reason or "; ".join(said)}


def _silence(
    rule: models.Rule, record: ports.Record, alert: models.Alert, monitoring_since: float | None, now: float
) -> Document:
    worker, succeeded = record.worker, record.condition.succeeded_at
    patience = rule.intervals * worker.interval
    start = alert.rule_state.start or 0
    begun = max(succeeded or worker.added_at, worker.added_at, monitoring_since or 0, start)
    reason = None
    if worker.monitoring == "paused":
        reason = "monitoring is paused"
    elif not rule.applies_to(worker):
        reason = "the rule is for workers with other labels"
    elif monitoring_since is None:
        reason = "the monitor itself has not run long enough to tell"
    active_silences = max(0, round(now - begun))
    return {
        "succeeded_at": _time(succeeded),
        "counts_from": _time(begun),
        "due": _time(begun + patience),
        "now": reason or f"silent for {active_silences} s, {patience} s make it {rule.severity}",
    }


def _changes(
    rule: models.Rule, record: ports.Record, alert: models.Alert, configuration: models.Configuration
) -> Document:
    changes = [
        {
            "at": models.rfc3339(change.at),
            "status": change.status,
            "seen_until": _time(change.seen),
            "reason": None
            if change.reason is None
            else {"code": change.reason.code, "message": errors.printable(change.reason.message)},
        }
        for change in record.condition.changes
    ]
    now = _why_not(rule, record, configuration) or state.explain_state(rule, alert.rule_state, record.condition)
    return {"changes": changes, "now": now}


def _events(rule: models.Rule, record: ports.Record, configuration: models.Configuration) -> Document:
    condition = record.condition
    at = condition.collected_at or 0.0
    events = [
        {**scheduled.document(event), "not_told": scheduled.why_not(rule, event, at)} for event in condition.events
    ]
    return {"events": events, "now": _why_not(rule, record, configuration) or scheduled.explain_state(rule, condition)}


def _silences(active_silences: Iterable[models.Silence], worker: models.Worker, rule: str, at: float) -> list[Document]:
    return [
        {"id": one.id, "ends": models.rfc3339(one.ends), "reason": one.reason, "by": one.by}
        for one in active_silences
        if silencing.muting([one], worker, rule, at)
    ]


def _history(entries: Iterable[models.HistoryEntry]) -> list[Document]:
    return [
        {
            "at": models.rfc3339(entry.transition.at),
            "before": entry.transition.before or "ok",
            "after": entry.transition.after or "ok",
            "reason": entry.transition.reason,
            "value": entry.transition.value,
            "threshold": entry.transition.threshold,
            "count": entry.transition.count,
            "points": [{"at": models.rfc3339(at), "value": value} for at, value in entry.transition.points],
            "correction": entry.transition.correction,
            "damped": entry.transition.damped,
            "told": entry.notification is not None and entry.transition.silenced_by is None,
            "silenced_by": entry.transition.silenced_by,
            "notification": None if entry.notification is None else entry.notification.id,
            # What is told when a silence ends has the id of the turn that it kept from people.
            "deliveries": [] if entry.transition.silenced_by is not None else deliveries(entry.attempts),
        }
        for entry in entries
    ]


def deliveries(attempts: Sequence[models.Attempt]) -> list[Document]:
    """Return each attempt to deliver; ``error`` is null where it was accepted."""
    return [
        {
            "channel": one.channel,
            "at": models.rfc3339(one.at),
            "error": None if one.error is None else errors.printable(one.error),
        }
        for one in attempts
    ]
