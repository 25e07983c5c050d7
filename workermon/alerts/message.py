"""Pure: the contents of notifications."""

from __future__ import annotations

import dataclasses
from typing import Any

from workermon import models, rules
from workermon.alerts import notification_id
from workermon.alerts.subject import Subject
from workermon.rules import flapping, wording


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """The contents of a notification beside its transition; times in seconds.

    ``since`` is when the episode began, ``condition_since`` when the condition began that made it fire (``None``: at
    the same time). ``kind`` is the kind of a rule about workers; ``None`` for other rules, whose transitions have the
    whole text. ``notified_severity`` is the severity of the last notification, which a resolved alert repeats. ``unit``
    is the metric's, ``interval`` the worker's, ``last_error`` why its collections fail.
    """

    version: int
    since: float
    created_at: float
    condition_since: float | None = None
    kind: rules.Kind[Any] | None = None
    notified_severity: models.Severity | None = None
    unit: str = "count"
    interval: int = 0
    last_error: models.CollectionError | None = None


def notification(
    subject: Subject, rule: models.Rule, transition: models.Transition, details: Details
) -> models.Notification:
    """Return the notification of a transition."""
    severity = transition.after or details.notified_severity or transition.before or rule.severity
    text, reason = transition.reason, transition.cause
    if details.kind is not None:
        text = details.kind.summary(rule, transition, details.unit, details.interval)
        reason = details.kind.reason(transition, details.last_error)
    # A transition with a key of its own may occur again at the same time, as another version.
    transition_id = transition.at if transition.key is None else f"{transition.key} {details.version}"
    return models.Notification(
        id=notification_id.of_transition(subject.key, rule.name, transition.after, transition_id),
        version=details.version,
        dedup_key=subject.alert_id(rule.name),
        kind=rule.kind,
        status="firing" if transition.after else "resolved",
        severity=severity,
        rule=rule.name,
        metric=rule.metric,
        value=transition.value,
        threshold=transition.threshold,
        unit=None if rule.metric is None else details.unit,
        since=models.rfc3339(details.since),
        condition_since=_condition_since(details),
        at=models.rfc3339(transition.at),
        created_at=models.rfc3339(details.created_at),
        worker=subject.worker,
        scope=None if subject.scope is None else dict(subject.scope),
        group=None if subject.group is None else dict(subject.group),
        members=transition.members if subject.group else None,
        summary=f"{subject.title or rule.name}: {text}",
        reason=reason,
        points=transition.points,
        **models.annotations_of(rule),
    )


def flapping_began(
    notified: models.Notification,
    subject: Subject,
    rule: models.Rule,
    transition: models.Transition,
    flap_status: flapping.FlapStatus,
) -> models.Notification:
    """Change a notification to announce that the alert flaps from now on.

    Its id differs from that of the transition alone, which may have been notified before.
    """
    assert rule.flapping is not None
    window = wording.duration(rule.flapping.within)
    often = f"{flap_status.transitions} transitions within {window}"
    text = f"{rule.name} is flapping: {often}; notifies again when it has not changed for {window}"
    return notified.model_copy(
        update={
            "id": notification_id.of_transition(
                subject.key, rule.name, f"{transition.after or 'ok'} flapping on", transition.at
            ),
            "summary": f"{subject.title}: {text}",
            "reason": notified.summary.removeprefix(f"{subject.title}: "),
        }
    )


def flapping_continues(notified: models.Notification) -> models.Notification:
    """Change a notification to announce that the alert still flaps."""
    return notified.model_copy(update={"summary": f"{notified.summary} (it is flapping)"})


def flapping_ended(
    notified: models.Notification, subject: Subject, rule: models.Rule, transition: models.Transition
) -> models.Notification:
    """Change a notification to give the reason why the alert no longer flaps, unless a datapoint decided that."""
    if transition.count is not None or transition.value is not None:
        return notified
    return notified.model_copy(
        update={
            "id": notification_id.of_transition(
                subject.key, rule.name, f"{transition.after or 'ok'} flapping off", transition.at
            ),
            "summary": f"{subject.title}: {rule.name} {transition.after or 'resolved'}: {transition.reason}",
        }
    )


def resolution(
    subject: Subject, alert: models.Alert, transition: models.Transition, details: Details
) -> models.Notification:
    """Return the notification that an open alert resolved without a datapoint; ``transition`` has the reason."""
    last = alert.last
    return models.Notification(
        id=notification_id.of_transition(subject.key, alert.rule, None, transition.at),
        version=details.version,
        dedup_key=subject.alert_id(alert.rule),
        kind=last.kind if last else "threshold",
        status="resolved",
        severity=alert.notified_severity or "critical",
        rule=alert.rule,
        metric=last.metric if last else None,
        value=None,
        threshold=last.threshold if last else None,
        unit=last.unit if last else None,
        since=models.rfc3339(details.since),
        condition_since=_condition_since(details),
        at=models.rfc3339(transition.at),
        created_at=models.rfc3339(details.created_at),
        worker=subject.worker,
        scope=None if subject.scope is None else dict(subject.scope),
        group=None if subject.group is None else dict(subject.group),
        members=None if subject.group is None else (),
        summary=f"{subject.title or alert.rule}: {(last.metric if last else None) or alert.rule} resolved:"
        f" {transition.reason}",
        reason=transition.reason,
        **({} if last is None else models.annotations_of(last)),
    )


def repeated(last: models.Notification, reason: str, details: Details) -> models.Notification:
    """Return a suppressed notification, with the reason for its delay. Its id stays that of the transition.

    The time left until an event is removed, because the notification is read later than it was written.
    """
    last = without_escalation(last)
    return last.model_copy(
        update={
            "version": details.version,
            "created_at": models.rfc3339(details.created_at),
            "reason": f"{last.reason}; {reason}" if last.reason else reason,
            "summary": last.summary if details.kind is None else details.kind.later(last.summary),
        }
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EscalationDetails:
    """What an escalation adds to the firing notification; ``created_at`` in seconds."""

    escalation: models.Escalation
    version: int
    created_at: float


def escalated(subject: Subject, alert: models.Alert, details: EscalationDetails) -> models.Notification:
    """Return the notification that an alert still fires and that nobody has acknowledged it."""
    last = without_escalation(alert.last) if alert.last is not None else None
    assert last is not None
    step = details.escalation.step
    return last.model_copy(
        update={
            "id": notification_id.of_escalation(subject.key, alert.rule, step, alert.since, details.version),
            "version": details.version,
            "created_at": models.rfc3339(details.created_at),
            "summary": f"{last.summary}; {unacknowledged(details.escalation)}",
            "escalation": details.escalation,
        }
    )


def without_escalation(last: models.Notification) -> models.Notification:
    """Return a notification as it was before its alert escalated."""
    if last.escalation is None:
        return last
    summary = last.summary.removesuffix(f"; {unacknowledged(last.escalation)}")
    return last.model_copy(update={"summary": summary, "escalation": None})


def unacknowledged(escalation: models.Escalation) -> str:
    """Describe for how long nobody has acknowledged an alert."""
    return f"not acknowledged for {wording.duration(escalation.after)}"


def _condition_since(details: Details) -> str:
    return models.rfc3339(details.since if details.condition_since is None else details.condition_since)


def unsilenced_reason(alert: models.Alert, until: float) -> str:
    """Describe why a muted alert notifies only now; ``until`` is when the rule that inhibited it ended."""
    if alert.inhibited_by is not None:
        return f"it was inhibited by {alert.inhibited_by} until {models.rfc3339(until)}, and it still fires"
    return f"the silence {alert.silenced_by} is over, and it still fires"
