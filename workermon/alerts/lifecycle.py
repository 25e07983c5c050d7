"""Pure: the life of an alert, whatever its subject: what an evaluation opens, changes, resolves, or only records.

An evaluation has the present state of a rule; people know the state that they were last notified of. They are notified
again if the two differ, if the alert covers more (such as another event), if it begins or stops flapping, and if a
silence or another rule no longer suppresses the notification. Everything else is only recorded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from workermon import models, ports
from workermon.alerts import audience, episode, membership, message
from workermon.alerts.verdict import VerdictBuilder
from workermon.rules import flapping, latches, wording


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """The result of evaluating one rule of a subject.

    ``alert`` is the alert before, ``rule_state`` the state now, ``transitions`` what led there. ``until`` is the time
    up to which the rule was evaluated (seconds; ``None``: the state's cursor). ``unit`` is the metric's, ``interval``
    (seconds) the worker's, ``last_error`` why its collections fail. ``late_reason`` is why people are notified although
    this evaluation changed nothing.
    """

    rule: models.Rule
    alert: models.Alert
    rule_state: models.RuleState
    transitions: Sequence[models.Transition] = ()
    until: int | None = None
    unit: str = "count"
    interval: int = 0
    last_error: models.CollectionError | None = None
    late_reason: str = "the rule was changed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _AlertContext:
    """An evaluation of which people are notified.

    ``mute`` is what suppresses the notification, ``after`` the alert as evaluated now. ``begins`` and ``ends``: people
    are notified that it flaps, or that it no longer does.
    """

    outcome: RuleOutcome
    status: flapping.FlapStatus
    mute: audience.Mute
    after: models.Alert
    begins: bool
    ends: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Announcement:
    """The transition that people are notified of: it replaces one of the evaluation's, or is added to them."""

    replaces: models.Transition | None
    transition: models.Transition
    notification: models.Notification
    audience: audience.Audience


# --- one evaluation -----------------------------------------------------------------------------------------------


def continue_at_rest(
    builder: VerdictBuilder, rule: models.Rule, alert: models.Alert, rule_state: models.RuleState
) -> bool:
    """Apply an evaluation without transitions of an alert at rest, as ``apply`` does, and return ``True``.

    ``False``: use ``apply``. Most evaluations are of this kind, and this takes a fraction of their time.
    """
    rests = alert.is_at_rest and alert.since is None and alert.condition_since is None
    if not rests or rule_state.severity is not None or rule.flapping is not None:
        return False
    continued = alert if rule_state is alert.rule_state else alert.model_copy(update={"rule_state": rule_state})
    builder.alerts[alert.rule] = continued
    return True


def apply(builder: VerdictBuilder, outcome: RuleOutcome) -> None:
    """Apply an evaluation. People are notified if the present differs from the last notification."""
    mute = builder.mute_of(outcome.rule)
    unmuted = outcome.alert.muted and mute == audience.OPEN and outcome.rule_state.severity is not None
    outcome = outcome if unmuted else _still_muted(outcome, mute)
    alert, rule_state = outcome.alert, outcome.rule_state
    status = _flap_status(outcome)
    if status.flaps and not unmuted and not flapping.notifies(alert, rule_state.severity):
        _record_flapping(builder, outcome)
        return
    begins, ends = status.flaps and not alert.flapping_notified, alert.flapping and not status.flaps
    late = unmuted and rule_state.severity == alert.notified_severity
    unchanged = rule_state is alert.rule_state and rule_state.severity == alert.notified_severity
    if unchanged and not (late or begins or ends):
        builder.alerts[alert.rule] = alert
        return
    after = _after(outcome, status)
    announcement = None
    if begins or (ends and alert.flapping_notified) or _differs(outcome):
        context = _AlertContext(outcome=outcome, status=status, mute=mute, after=after, begins=begins, ends=ends)
        announcement = _changed(builder, context)
    elif late:
        announcement = _unmuted(builder, outcome)
    if announcement is None:
        _record(builder, after, outcome.transitions)
    else:
        _publish(builder, after, outcome.transitions, announcement)


def _still_muted(outcome: RuleOutcome, mute: audience.Mute) -> RuleOutcome:
    """Return an evaluation whose alert records what suppresses it now, if something did before."""
    if not outcome.alert.muted or mute == audience.OPEN or mute == audience.of_alert(outcome.alert):
        return outcome
    return dataclasses.replace(outcome, alert=outcome.alert.model_copy(update=mute.fields))


def record_only(builder: VerdictBuilder, outcome: RuleOutcome, reason: str) -> None:
    """Apply an evaluation of which nobody is notified for now, with the reason."""
    alert, rule_state = outcome.alert, outcome.rule_state
    times = episode.times(alert, rule_state, outcome.transitions)
    builder.alerts[alert.rule] = alert.model_copy(update={"rule_state": rule_state, **times})
    for transition in outcome.transitions:
        recorded = transition.model_copy(update={"reason": f"{transition.reason}; {reason}"})
        builder.transitions.append(ports.RecordedTransition(alert.rule, recorded, None))


def resolve(builder: VerdictBuilder, alert: models.Alert, rule: models.Rule | None, reason: str, at: float) -> None:
    """Resolve an alert without a datapoint, with the reason. Its evaluation starts again at that time.

    ``rule`` is ``None`` if it was removed. Resolving an alert again changes nothing.
    """
    builder.alerts[alert.rule] = alert if _is_resolved(alert) else _close(builder, alert, rule, reason, at)


def forget(builder: VerdictBuilder, alert: models.Alert, rule: models.Rule | None, reason: str, at: float) -> None:
    """Resolve an alert as ``resolve`` does, and delete its state."""
    if not _is_resolved(alert):
        _close(builder, alert, rule, reason, at)


def forget_removed(
    builder: VerdictBuilder, names: Collection[str], configuration: models.Configuration
) -> list[models.Alert]:
    """End the alerts whose rules are not among ``names``, the present ones. Return them."""
    others = [alert for name, alert in builder.basis.alerts.items() if name not in names]
    if not configuration.complete:
        # Their rules cannot be read, which is no reason to resolve them.
        builder.alerts.update((alert.rule, alert) for alert in others)
        return []
    for alert in others:
        forget(builder, alert, None, f"the rule {alert.rule} was removed", builder.at)
    return others


def closing(basis: ports.Basis[Any], configuration: models.Configuration, reason: str, at: float) -> ports.Verdict:
    """Return the verdict that resolves every open alert of a subject with the reason, at that time."""
    by_name = {rule.name: rule for rule in configuration.rules}
    builder = VerdictBuilder(basis, at)
    for name, alert in basis.alerts.items():
        if alert.membership is not None:
            membership.forget(builder, alert)
            continue
        builder.alerts[name] = _close(builder, alert, by_name.get(name), reason, max(at, alert.since or 0))
    return builder.verdict()


def _is_resolved(alert: models.Alert) -> bool:
    """Return whether nobody was notified that it fires and its evaluation is about to start again."""
    rule_state = alert.rule_state
    return (
        alert.notified_severity is None
        and rule_state.severity is None
        and rule_state.cursor is None
        and rule_state.start is not None
    )


def _close(
    builder: VerdictBuilder, alert: models.Alert, rule: models.Rule | None, reason: str, at: float
) -> models.Alert:
    """Return an alert after its end. If it fired, record that, and notify everybody who was notified that it fired."""
    when = math.floor(at)
    after = models.Alert(
        rule=alert.rule,
        rule_state=models.RuleState(start=when, band=alert.rule_state.band),
        version=alert.version,
        last=alert.last,
    )
    before = alert.notified_severity or alert.rule_state.severity
    transition = models.Transition(at=when, before=before, after=None, reason=reason)
    if alert.notified_severity is None:
        if before is not None:
            builder.transitions.append(ports.RecordedTransition(alert.rule, transition, None))
        return after
    notified = audience.of(rule, alert, None)
    details = message.Details(
        version=builder.next_version(alert.rule),
        since=when if alert.since is None else alert.since,
        condition_since=alert.condition_since,
        created_at=builder.at,
    )
    notification = message.resolution(builder.subject, alert, transition, details)
    transition = transition.model_copy(update=notified.mute.fields)
    builder.transitions.append(ports.RecordedTransition(alert.rule, transition, notification))
    builder.channels[alert.rule] = notified.channels
    return after.model_copy(update={"version": notification.version, "last": notification})


def apply_present(
    builder: VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert,
    transition: models.Transition | None,
    lost_metrics: tuple[str, ...] = (),
) -> None:
    """Apply a rule that is evaluated by present knowledge and has no slots.

    Without a transition the rule's state is unchanged, but a silence that has ended is still noticed. With one, the
    state remembers ``lost_metrics``.
    """
    outcome = RuleOutcome(
        rule=rule,
        alert=alert,
        rule_state=alert.rule_state if transition is None else _state_after(transition, lost_metrics),
        transitions=() if transition is None else (transition,),
    )
    apply(builder, outcome)


def _state_after(transition: models.Transition, lost_metrics: tuple[str, ...]) -> models.RuleState:
    trail = (models.SeverityChange(transition.at, transition.after, latches.BITS[transition.after]),)
    return models.RuleState(trail=trail, lost_metrics=lost_metrics)


# --- the present state -----------------------------------------------------------------------------------------


def _flap_status(outcome: RuleOutcome) -> flapping.FlapStatus:
    if outcome.rule.flapping is None and not outcome.alert.flapping:
        return flapping.STABLE
    until = outcome.rule_state.cursor if outcome.until is None else outcome.until
    return flapping.status_at(outcome.rule, outcome.rule_state, until)


def _differs(outcome: RuleOutcome) -> bool:
    """Return whether the present differs from the last notification: another severity, or it covers more."""
    severity = outcome.rule_state.severity
    if severity != outcome.alert.notified_severity:
        return True
    return severity is not None and any(
        transition.before == transition.after == severity for transition in outcome.transitions
    )


def _after(outcome: RuleOutcome, status: flapping.FlapStatus) -> models.Alert:
    """Return the alert as evaluated now, whatever people were notified of."""
    alert, rule_state = outcome.alert, outcome.rule_state
    # While it flaps it is one episode, whatever its severity.
    continued = status.flaps and alert.flapping and alert.open
    changes: dict[str, object] = {"rule_state": rule_state}
    if not continued:
        changes |= episode.times(alert, rule_state, outcome.transitions)
    if status.flaps or alert.flapping:
        changes |= {"flapping": status.flaps, "flapping_notified": status.flaps}
    return alert.model_copy(update=changes)


# --- what people are notified of ---------------------------------------------------------------------------------


def _changed(builder: VerdictBuilder, context: _AlertContext) -> _Announcement:
    """Return what people are notified of if the present differs from the last notification."""
    outcome = context.outcome
    deciding = _deciding(context)
    transition = _without_transition(builder, context) if deciding is None else deciding
    notification = _notification(builder, context, transition)
    notified = audience.of(outcome.rule, outcome.alert, outcome.rule_state.severity, context.mute)
    if transition.flapping or notified.mute != audience.OPEN:
        transition = transition.model_copy(update={"flapping": False, **notified.mute.fields})
    return _Announcement(replaces=deciding, transition=transition, notification=notification, audience=notified)


def _deciding(context: _AlertContext) -> models.Transition | None:
    """Return the transition that led to the present; ``None`` if none did.

    It is the latest. If one was withdrawn and another took its place at the same time, it is the latter.
    """
    severity = context.outcome.rule_state.severity
    matching = [transition for transition in context.outcome.transitions if transition.after == severity]
    if context.ends:
        matching = [
            transition
            for transition in matching
            if transition.at >= (context.status.settled_at or 0) and not transition.flapping
        ]
    return max(
        matching,
        key=lambda transition: (transition.at, not transition.withdrawn, transition.count is not None),
        default=None,
    )


def _without_transition(builder: VerdictBuilder, context: _AlertContext) -> models.Transition:
    """Return a transition for a change that the evaluation itself does not have."""
    outcome = context.outcome
    trail = outcome.rule_state.trail
    transition = models.Transition(
        at=trail[-1].at if trail else math.floor(builder.at),
        before=outcome.alert.notified_severity,
        after=outcome.rule_state.severity,
        reason=outcome.late_reason,
    )
    return _of_flapping(context, transition) if context.begins or context.ends else transition


def _of_flapping(context: _AlertContext, transition: models.Transition) -> models.Transition:
    """Describe the reason without a datapoint: the alert flaps, or no longer does."""
    option, status, cursor = context.outcome.rule.flapping, context.status, context.outcome.rule_state.cursor
    if status.flaps:
        return transition.model_copy(update={"at": status.last, "reason": "it changes too often"})
    if option is not None and status.settled_at is not None:
        reason = f"it has not changed for {wording.duration(option.within)}"
        return transition.model_copy(update={"at": status.settled_at, "reason": reason})
    reason = "its rule no longer holds back flapping alerts" if option is None else "it is not flapping after all"
    return transition.model_copy(update={"at": transition.at if cursor is None else cursor, "reason": reason})


def _notification(
    builder: VerdictBuilder, context: _AlertContext, transition: models.Transition
) -> models.Notification:
    outcome = context.outcome
    rule, alert = outcome.rule, outcome.alert
    episode_alert = alert if context.after.since is None else context.after
    details = message.Details(
        kind=builder.kinds.get(rule.kind),
        version=builder.next_version(alert.rule),
        since=transition.at if episode_alert.since is None else episode_alert.since,
        condition_since=episode_alert.condition_since,
        created_at=builder.at,
        notified_severity=alert.notified_severity,
        unit=outcome.unit,
        interval=outcome.interval,
        last_error=outcome.last_error,
    )
    notification = message.notification(builder.subject, rule, transition, details)
    if context.begins:
        return message.flapping_began(notification, builder.subject, rule, transition, context.status)
    if context.status.flaps:
        return message.flapping_continues(notification)
    if context.ends:
        return message.flapping_ended(notification, builder.subject, rule, transition)
    return notification


def _unmuted(builder: VerdictBuilder, outcome: RuleOutcome) -> _Announcement | None:
    """Return a notification that a silence or another rule suppressed, now that it has ended."""
    alert = outcome.alert
    severity = alert.notified_severity
    if alert.last is None or severity is None:
        return None
    reason = message.unsilenced_reason(alert, _ended_at(builder, alert.inhibited_by))
    transition = models.Transition(at=math.floor(builder.at), before=severity, after=severity, reason=reason)
    details = message.Details(
        kind=builder.kinds.get(alert.last.kind),
        version=builder.next_version(alert.rule),
        since=transition.at,
        created_at=builder.at,
    )
    return _Announcement(
        replaces=None,
        transition=transition,
        notification=message.repeated(alert.last, reason, details),
        audience=audience.of(outcome.rule, alert, severity),
    )


def _ended_at(builder: VerdictBuilder, rule: str | None) -> float:
    """Return when a rule stopped inhibiting: when its alert resolved, or now if it no longer applies."""
    alert = None if rule is None else builder.inhibitor(rule)
    trail = () if alert is None else alert.rule_state.trail
    return trail[-1].at if trail and trail[-1].severity is None else builder.at


# --- what is written ---------------------------------------------------------------------------------------------


def _publish(
    builder: VerdictBuilder,
    alert: models.Alert,
    transitions: Sequence[models.Transition],
    announcement: _Announcement,
) -> None:
    """Write an alert and its transitions, one of which notifies people."""
    notified, severity = announcement.audience, announcement.transition.after
    changes = {
        "version": announcement.notification.version,
        "notified_severity": severity,
        "last": announcement.notification,
        "channels": notified.already_notified,
        **(audience.OPEN if severity is None else notified.mute).fields,
    }
    builder.channels[alert.rule] = notified.channels
    if announcement.replaces is None:
        transitions = [*transitions, announcement.transition]
    else:
        transitions = [
            announcement.transition if transition is announcement.replaces else transition for transition in transitions
        ]
    _record(builder, alert.model_copy(update=changes), transitions, announcement)


def _record_flapping(builder: VerdictBuilder, outcome: RuleOutcome) -> None:
    """Write an evaluation of an alert that flaps; nobody is notified."""
    alert, rule_state = outcome.alert, outcome.rule_state
    changes: dict[str, object] = {"rule_state": rule_state, "flapping": True}
    if not alert.open:
        changes |= episode.times(alert, rule_state, outcome.transitions)
    _record(builder, alert.model_copy(update=changes), outcome.transitions)


def _record(
    builder: VerdictBuilder,
    alert: models.Alert,
    transitions: Iterable[models.Transition],
    announcement: _Announcement | None = None,
) -> None:
    """Write an alert and its transitions; the announcement's one has the notification."""
    builder.alerts[alert.rule] = alert
    for transition in transitions:
        announced = announcement is not None and transition is announcement.transition
        notification = announcement.notification if announcement is not None and announced else None
        if transition.flapping:
            reason = f"{transition.reason}; not notified: the alert is flapping"
            recorded = transition.model_copy(update={"reason": reason})
        else:
            recorded = transition
        builder.transitions.append(ports.RecordedTransition(alert.rule, recorded, notification))
