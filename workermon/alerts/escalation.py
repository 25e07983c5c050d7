"""Pure: which further channels an alert notifies while it keeps firing and nobody acknowledges it.

A step is due a certain time of day after the alert first notified. Its time is stored with the alert and in the outbox,
where a sweep finds it. Both are written in one step with the transition that begins, ends or changes it. While the
alert is silenced or inhibited it does not escalate; the time starts again when that ends.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from workermon import models, ports
from workermon.alerts import audience, message, verdict

#: The fields of an alert that does not escalate.
_NONE: dict[str, object] = {"escalation_since": None, "escalates_at": None, "escalated": 0, "escalated_to": ()}


@dataclasses.dataclass(frozen=True, slots=True)
class Escalations:
    """The rules that escalate, by name, and who acknowledged the ``due`` alerts, by the alert's id."""

    rules: Mapping[str, models.Rule]
    acknowledged: Mapping[str, models.Acknowledgement]


def due(bases: Iterable[ports.Basis[Any]], now: float) -> list[str]:
    """Return the ids of the alerts of these subjects that escalate now, unless somebody has acknowledged them."""
    return [
        models.alert_id(basis.subject.id, name)
        for basis in bases
        for name, alert in basis.alerts.items()
        if alert.escalates_at is not None and alert.escalates_at <= now
    ]


def apply(builder: verdict.VerdictBuilder, escalations: Escalations) -> None:
    """Take the due steps of a verdict in which every rule is evaluated, and store when the next ones are due.

    An alert that notifies in this verdict escalates in a later one, so that each notification has a version of its own.
    """
    for name, alert in builder.alerts.items():
        rule = escalations.rules.get(name)
        if alert.escalation_since is None and alert.escalated == 0 and (rule is None or not rule.escalate):
            continue
        if rule is None or not rule.escalate or not alert.open:
            changed = alert.model_copy(update=_NONE)
        elif builder.mute_of(rule) != audience.OPEN:
            changed = alert.model_copy(update={"escalation_since": None, "escalates_at": None})
        else:
            changed = _escalated(builder, rule, alert, escalations.acknowledged)
        if changed != alert:
            builder.alerts[name] = changed


def _escalated(
    builder: verdict.VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert,
    acknowledged: Mapping[str, models.Acknowledgement],
) -> models.Alert:
    """Return a firing, not muted alert after taking its due step, if any."""
    since = alert.escalation_since
    if since is None or models.leads(since, builder.at):
        since = builder.at
    if alert.escalated >= len(rule.escalate):
        return alert.model_copy(update={"escalation_since": since, "escalates_at": None})
    step = rule.escalate[alert.escalated]
    at = since + step.after
    alert = alert.model_copy(update={"escalation_since": since, "escalates_at": at})
    if at > builder.at or alert.rule in builder.channels:
        return alert
    acknowledgement = acknowledged.get(builder.subject.alert_id(alert.rule))
    if acknowledgement is not None and acknowledgement.applies_to(alert.since):
        return alert.model_copy(update={"escalates_at": None})
    return _escalate(builder, rule, alert, step)


def _escalate(
    builder: verdict.VerdictBuilder, rule: models.Rule, alert: models.Alert, step: models.EscalationStep
) -> models.Alert:
    """Notify the channels of a step, and return the alert after it."""
    escalation = models.Escalation(step=alert.escalated + 1, after=step.after)
    version = builder.next_version(alert.rule)
    details = message.EscalationDetails(escalation=escalation, version=version, created_at=builder.at)
    notification = message.escalated(builder.subject, alert, details)
    severity = alert.notified_severity
    reason = f"{message.unacknowledged(escalation)}: escalated to {', '.join(step.notify)}"
    transition = models.Transition(at=math.floor(builder.at), before=severity, after=severity, reason=reason)
    builder.transitions.append(ports.RecordedTransition(alert.rule, transition, notification))
    builder.channels[alert.rule] = step.notify
    following = rule.escalate[escalation.step :]
    return alert.model_copy(
        update={
            "version": version,
            "last": notification,
            "channels": tuple(dict.fromkeys((*alert.channels, *step.notify))),
            "escalated": escalation.step,
            "escalated_to": tuple(dict.fromkeys((*alert.escalated_to, *step.notify))),
            "escalates_at": (alert.escalation_since or builder.at) + following[0].after if following else None,
        }
    )
