"""Explain: why an alert of a worker fires, or does not.

A decision is shown with the reason that was recorded then. The state between two decisions is computed here, by the
kind of the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workermon import errors, models, ports, rules
from workermon.alerts import silences as silencing
from workermon.rules import flapping

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

    The kinds of rules without a metric have a name in its place, such as ``no-data``.

    Raises ``errors.NotFound`` for a metric that is not known.
    """
    configuration = configurations.load()
    pseudo_metrics = [kind.pseudo_metric for kind in rules.KINDS.values() if kind.pseudo_metric is not None]
    known = (*configuration.metrics, models.STATUS_CHECK_FAILED, *pseudo_metrics)
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
        kind = rules.KINDS[rule.kind]
        if metric != kind.pseudo_metric and metric not in kind.metrics(rule):
            continue
        alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
        explanation = _explanation(rule, basis, configuration, samples, pulse, at)
        found.append(
            {
                **_rule(rule),
                **_state(alert),
                **models.to_json(explanation.details),
                "now": _not_evaluated(rule, record, configuration) or explanation.now,
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
    alert = alerts.load_channel(channel).alerts.get(models.DELIVERY)
    if channel not in channels and alert is None:
        why = "it is not in the configuration"
        raise errors.NotFound(f"channel {errors.printable(channel)[:64]}", why, errors.nearest(channel, channels))
    last = alert.last if alert is not None and alert.open else None
    return {
        "channel": channel,
        "type": channels[channel].type if channel in channels else None,
        "rule": models.DELIVERY,
        "state": "ok" if last is None else last.severity,
        "since": None if last is None else last.since,
        "reason": None if last is None else last.reason,
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
    shown: Document = {"rule": rule.name, "kind": rule.kind, **rules.KINDS[rule.kind].conditions(rule)}
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
    stand = flapping.stand(rule, alert.rule_state, rules.KINDS[rule.kind].evaluated_until(alert.rule_state, now))
    return {
        "turns": rule.flapping.turns,
        "within": rule.flapping.within,
        "flaps": stand.flaps,
        "counted": stand.turns,
        "until": models.rfc3339(stand.last + rule.flapping.within) if stand.flaps and stand.last is not None else None,
    }


def _not_evaluated(rule: models.Rule, record: ports.Record, configuration: models.Configuration) -> str | None:
    """Return why a rule is not evaluated at present, ``None`` if it is."""
    worker, status, kind = record.worker, record.condition.status, rules.KINDS[rule.kind]
    if worker.monitoring == "paused":
        return "monitoring is paused"
    if (reason := kind.not_applied(rule, worker, configuration)) is not None:
        return reason
    if status in kind.ends_with or (kind.metrics(rule) and status != "running"):
        return f"the instance is {status}"
    return None


def _explanation(
    rule: models.Rule,
    basis: ports.Basis[ports.Record],
    configuration: models.Configuration,
    samples: ports.Samples,
    pulse: ports.Pulse,
    now: float,
) -> rules.Explanation:
    """Have the kind of the rule explain its state, with the datapoints that it asks for."""
    kind, record = rules.KINDS[rule.kind], basis.record
    rule_state = (basis.alerts.get(rule.name) or models.Alert(rule=rule.name)).rule_state
    horizon = kind.horizon(rule, record.worker, record.condition, configuration)
    series: dict[str, models.Series] = {}
    span = kind.explained_over(rule, rule_state)
    if span is not None and horizon is not None:
        wanted = [(record.worker.id, metric, horizon.period) for metric in kind.metrics(rule)]
        series = {metric: found for (_, metric), found in samples.read(wanted, *span).items()}
    facts = rules.Facts.about(
        record.worker,
        record.condition,
        series=series,
        at=now,
        monitoring_since=pulse.monitoring_since() if kind.by_clock else None,
    )
    return kind.explain(rule, rule_state, facts, horizon)


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
