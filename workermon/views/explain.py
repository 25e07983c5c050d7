"""Explain: why an alert of a worker fires, or does not.

A decision is shown with the reason that was recorded then. The state between two decisions is computed here, by the
kind of the rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from workermon import errors, models, ports, rules
from workermon.alerts import silences
from workermon.rules import flapping

#: Entries of an alert's history that are shown.
HISTORY = 10

Document = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Explains the rules of a worker, and the delivery to a channel."""

    alerts: ports.Alerts
    samples: ports.Samples
    configurations: ports.Configurations
    outbox: ports.Outbox
    pulse: ports.Pulse
    silences: ports.Silences
    kinds: rules.Kinds
    now: ports.Clock

    def why(self, record: ports.Record, metric: str) -> Document:
        """Return the state of every rule over a metric for a worker, and the last decisions.

        The kinds of rules without a metric have a name in its place, such as ``no-data``. Raises ``errors.NotFound``
        for a metric that is not known.
        """
        configuration = self.configurations.load()
        pseudo_metrics = [kind.pseudo_metric for kind in self.kinds.values() if kind.pseudo_metric is not None]
        known = (*configuration.metrics, models.STATUS_CHECK_FAILED, *pseudo_metrics)
        if metric not in known:
            raise errors.NotFound(f"metric {metric}", "is not known", errors.nearest(metric, known))
        worker = record.worker
        basis = self.alerts.load([worker.id]).get(worker.id)
        if basis is None:
            raise errors.UnknownWorker(f"worker {worker.name}", "not monitored", "see 'workermon list'")
        condition = basis.record.condition
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
            "rules": [
                self._rule(rule, basis, configuration)
                for rule in configuration.rules
                if metric == self.kinds[rule.kind].pseudo_metric or metric in self.kinds[rule.kind].metrics(rule)
            ],
        }

    def delivery(self, channel: str) -> Document:
        """Return whether a channel takes notifications, what waits for it in vain, and its alert.

        Raises ``errors.NotFound`` for a channel that is not in the configuration and has no alert.
        """
        channels = self.configurations.load().channels
        alert = self.alerts.load_channel(channel).alerts.get(models.DELIVERY)
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
                {
                    "alert": stuck.alert_id,
                    "attempts": stuck.attempts,
                    "since": models.rfc3339(stuck.since),
                    "error": stuck.error,
                }
                for stuck in self.outbox.stuck(self.now())
                if stuck.channel == channel
            ],
            "history": _history(self.alerts.history(models.delivery_alert(channel), HISTORY)),
        }

    def _rule(
        self, rule: models.Rule, basis: ports.Basis[ports.Record], configuration: models.Configuration
    ) -> Document:
        """Return the state of a rule, explained by its kind, and the last decisions."""
        kind, record, at = self.kinds[rule.kind], basis.record, self.now()
        alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
        explanation = self._explanation(rule, alert.rule_state, record, configuration)
        until = kind.evaluated_until(alert.rule_state, at)
        active_silences = silences.in_force(self.silences.every(), configuration.silences, at)
        return {
            "rule": rule.name,
            "kind": rule.kind,
            **kind.conditions(rule),
            **_notified(rule),
            **_state(alert),
            **models.to_json(explanation.details),
            "now": _not_evaluated(kind, rule, record, configuration) or explanation.now,
            "flapping": _flapping(rule, alert, until),
            "silences": _silences(active_silences, record.worker, rule.name, at),
            "history": _history(self.alerts.history(f"{record.worker.id}/{rule.name}", HISTORY)),
        }

    def _explanation(
        self,
        rule: models.Rule,
        rule_state: models.RuleState,
        record: ports.Record,
        configuration: models.Configuration,
    ) -> rules.Explanation:
        """Have the kind of the rule explain its state, with the datapoints that it asks for."""
        kind = self.kinds[rule.kind]
        horizon = kind.horizon(rule, record.worker, record.condition, configuration)
        series: dict[str, models.Series] = {}
        span = kind.explained_over(rule, rule_state)
        if span is not None and horizon is not None:
            wanted = [(record.worker.id, metric, horizon.period) for metric in kind.metrics(rule)]
            series = {metric: found for (_, metric), found in self.samples.read(wanted, *span).items()}
        facts = rules.Facts.about(
            record.worker,
            record.condition,
            series=series,
            at=self.now(),
            monitoring_since=self.pulse.monitoring_since() if kind.by_clock else None,
        )
        return kind.explain(rule, rule_state, facts, horizon)


def _time(at: float | None) -> str | None:
    return None if at is None else models.rfc3339(at)


def _notified(rule: models.Rule) -> Document:
    shown: Document = {"labels": rule.labels, "notify": list(rule.notify)}
    if rule.routes is not None:
        shown["routes"] = {severity: list(names) for severity, names in rule.routes.items()}
    return shown


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


def _flapping(rule: models.Rule, alert: models.Alert, until: int | None) -> Document | None:
    """Return whether an alert flaps, and until when it has to be still; ``None`` if the rule has no ``flapping``."""
    if rule.flapping is None:
        return None
    stand = flapping.stand(rule, alert.rule_state, until)
    return {
        "turns": rule.flapping.turns,
        "within": rule.flapping.within,
        "flaps": stand.flaps,
        "counted": stand.turns,
        "until": models.rfc3339(stand.last + rule.flapping.within) if stand.flaps and stand.last is not None else None,
    }


def _not_evaluated(
    kind: rules.Kind[Any], rule: models.Rule, record: ports.Record, configuration: models.Configuration
) -> str | None:
    """Return why a rule is not evaluated at present, ``None`` if it is."""
    worker, status = record.worker, record.condition.status
    if worker.monitoring == "paused":
        return "monitoring is paused"
    if (reason := kind.not_applied(rule, worker, configuration)) is not None:
        return reason
    if status in kind.ends_with or (kind.metrics(rule) and status != "running"):
        return f"the instance is {status}"
    return None


def _silences(active_silences: Iterable[models.Silence], worker: models.Worker, rule: str, at: float) -> list[Document]:
    return [
        {"id": one.id, "ends": models.rfc3339(one.ends), "reason": one.reason, "by": one.by}
        for one in active_silences
        if silences.muting([one], worker, rule, at)
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
