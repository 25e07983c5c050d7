"""Pure: what becomes of a judgement: who is told what of it, and what is silenced, damped, held back or ended.

A judgement says how it stands with a rule; people were told how it stood. They hear of it where the two differ, where
more joins what they know of, where an alert begins to flap or has held still, and where a silence that kept it from
them is over. Everything else is recorded alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workermon import models, ports, rules
from workermon.alerts import message, silences
from workermon.rules import flapping, wording


class VerdictBuilder:
    """A verdict in the making: the judgements of one worker's rules, taken in one after the other.

    ``at`` is when it is made, in seconds; ``quiet`` are the silences in force.
    """

    def __init__(self, basis: ports.Basis, at: float, active_silences: Sequence[models.Silence] = ()) -> None:
        self.basis, self.at, self._quiet = basis, at, active_silences
        self.alerts: dict[str, models.Alert] = {}
        self.transitions: list[tuple[str, models.Transition, models.Notification | None]] = []
        self.channels: dict[str, tuple[str, ...]] = {}

    def muted(self, rule: str) -> models.Silence | None:
        """Return the silence that a rule's alert is under now."""
        if not self._quiet:
            return None
        return silences.muting(self._quiet, self.basis.record.worker, rule, self.at)

    def verdict(self) -> ports.Verdict:
        """Return what is to be written."""
        return ports.Verdict(self.basis, self.alerts, tuple(self.transitions), self.channels, self.at)


class _AlertContext(NamedTuple):
    """A judgement of which people are to hear.

    ``silence`` is the one that the alert is under, ``since`` when the episode began. ``begins`` and ``ends``: that it
    flaps was not told before, or is over.
    """

    rule: models.Rule
    alert: models.Alert
    rule_state: models.RuleState
    stand: flapping.Stand
    silence: models.Silence | None
    since: int | None
    begins: bool
    ends: bool


class _Announcement(NamedTuple):
    """What people hear: a transition in the place of one of the judgement's, or besides them where that is ``None``.

    ``channels`` are told now; ``heard`` are all that were told of what goes on. ``untold`` is the silence because of
    which nobody is.
    """

    instead_of: models.Transition | None
    transition: models.Transition
    notification: models.Notification
    channels: tuple[str, ...]
    heard: tuple[str, ...]
    untold: str | None = None


# --- one judgement -----------------------------------------------------------------------------------------------


def tell(
    draft: VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert,
    rule_state: models.RuleState,
    transitions: Sequence[models.Transition],
    *,
    unit: str,
    belated: str = "the rule was changed",
) -> None:
    """Take a judgement into the draft; people hear of it where the present is not what they were told last.

    ``unit`` is the metric's; ``belated`` is why it differs where nothing of the judgement turned.
    """
    silence = draft.muted(rule.name)
    freed = alert.silenced_by is not None and silence is None and rule_state.severity is not None
    stand = _stand(draft, rule, alert, rule_state)
    if stand.flaps and not freed and not flapping.is_told(alert, rule_state.severity):
        _damp(draft, alert, rule_state, transitions)
        return
    begins, ends = stand.flaps and not alert.flapping_told, alert.flapping and not stand.flaps
    late = freed and rule_state.severity == alert.notified_severity
    if (
        rule_state is alert.rule_state
        and rule_state.severity == alert.notified_severity
        and not (late or begins or ends)
    ):
        draft.alerts[rule.name] = alert
        return
    after, news = _followed(alert, rule_state, transitions, stand), None
    if begins or (ends and alert.flapping_told) or _differs(alert, rule_state, transitions):
        matter = _AlertContext(rule, alert, rule_state, stand, silence, after.since, begins, ends)
        news = _turned(draft, matter, transitions, unit, belated)
    elif late:
        news = _freed(draft, rule, alert)
    if news is None:
        _record(draft, after, transitions)
    else:
        _publish(draft, after, transitions, news)


def record_only(
    draft: VerdictBuilder,
    rule: models.Rule,
    alert: models.Alert,
    rule_state: models.RuleState,
    transitions: Sequence[models.Transition],
    why: str,
) -> None:
    """Take a judgement into the draft of which nobody hears for now."""
    since = _since(alert, rule_state, transitions)
    draft.alerts[rule.name] = alert.model_copy(update={"rule_state": rule_state, "since": since})
    said = [one.model_copy(update={"reason": f"{one.reason}; {why}"}) for one in transitions]
    draft.transitions += [(rule.name, one, None) for one in said]


def end(
    draft: VerdictBuilder,
    rule: models.Rule | None,
    alert: models.Alert | None,
    reason: str,
    at: float,
    *,
    forget: bool = False,
) -> None:
    """Resolve an alert with the reason and have its judgement begin anew; ``forget`` keeps nothing of it.

    ``rule`` is ``None`` where it is no more.
    """
    if alert is None:
        return
    after = alert if _is_ended(alert) else _close(draft, rule, alert, reason, at)
    if not forget:
        draft.alerts[alert.rule] = after


def closing(basis: ports.Basis, configuration: models.Configuration, reason: str, at: float) -> ports.Verdict:
    """Return the verdict that resolves every open alert of a worker with the reason, at that time."""
    rules = {rule.name: rule for rule in configuration.rules}
    draft = VerdictBuilder(basis, at)
    for name, alert in basis.alerts.items():
        draft.alerts[name] = _close(draft, rules.get(name), alert, reason, at)
    return draft.verdict()


def _is_ended(alert: models.Alert) -> bool:
    """Tell whether nobody was told of it and its judgement is about to begin anew."""
    rule_state = alert.rule_state
    return (
        alert.notified_severity is None
        and rule_state.severity is None
        and rule_state.cursor is None
        and rule_state.start is not None
    )


def _close(
    draft: VerdictBuilder, rule: models.Rule | None, alert: models.Alert, reason: str, at: float
) -> models.Alert:
    """Return an alert after its end; take that into the draft where it fired."""
    version = message.next_version(draft.basis, alert.rule)
    worker = draft.basis.record.worker
    after, transition, told = message.closed(worker, alert, reason, at, version=version, created_at=draft.at)
    if transition.before is not None:
        draft.transitions.append((alert.rule, transition, told))
        draft.channels[alert.rule] = message.channels_for_end(alert, rule)
    return after


# --- how it stands -----------------------------------------------------------------------------------------------


def _stand(
    draft: VerdictBuilder, rule: models.Rule, alert: models.Alert, rule_state: models.RuleState
) -> flapping.Stand:
    if rule.flapping is None and not alert.flapping:
        return flapping.CALM
    return flapping.stand(rule, rule_state, rules.KINDS[rule.kind].evaluated_until(rule_state, draft.at))


def _differs(alert: models.Alert, rule_state: models.RuleState, transitions: Iterable[models.Transition]) -> bool:
    """Tell whether the present is not what people were told last: in its severity, or in that more joined it."""
    if rule_state.severity != alert.notified_severity:
        return True
    return rule_state.severity is not None and any(
        one.before == one.after == rule_state.severity for one in transitions
    )


def _followed(
    alert: models.Alert, rule_state: models.RuleState, transitions: Sequence[models.Transition], stand: flapping.Stand
) -> models.Alert:
    """Return an alert that stands as it was judged, whatever people were told."""
    # While it flaps it is one episode, whatever becomes of it.
    goes_on = stand.flaps and alert.flapping and alert.open
    since = alert.since if goes_on else _since(alert, rule_state, transitions)
    changes: dict[str, object] = {"rule_state": rule_state, "since": since}
    if stand.flaps or alert.flapping:
        changes |= {"flapping": stand.flaps, "flapping_told": stand.flaps}
    return alert.model_copy(update=changes)


def _since(alert: models.Alert, rule_state: models.RuleState, transitions: Sequence[models.Transition]) -> int | None:
    """Return when the present episode began, ``None`` where there is none."""
    if rule_state.severity is None:
        return None
    for place in range(len(rule_state.trail) - 1, -1, -1):
        if rule_state.trail[place].severity is None:
            return rule_state.trail[place + 1].at
    began = [one.at for one in transitions if one.before is None and one.after is not None]
    if began:
        return max(began)
    return rule_state.trail[0].at if alert.since is None else alert.since


# --- what is said, and to whom -----------------------------------------------------------------------------------


def _turned(
    draft: VerdictBuilder, matter: _AlertContext, transitions: Sequence[models.Transition], unit: str, belated: str
) -> _Announcement:
    """Return what people hear of a present that is not what they were told last."""
    found = _deciding(matter, transitions)
    said = _unseen(draft, matter, belated) if found is None else found
    notification = _worded(draft, matter, said, unit)
    channels, heard, untold = _audience(matter)
    if said.damped or untold is not None:
        said = said.model_copy(update={"damped": False, "silenced_by": untold})
    return _Announcement(found, said, notification, channels, heard, untold)


def _deciding(matter: _AlertContext, transitions: Sequence[models.Transition]) -> models.Transition | None:
    """Return the turn that led to the present, ``None`` where none did.

    It is the latest; of a turn that was withdrawn and one that took its place at the same time, the latter.
    """
    matching = [one for one in transitions if one.after == matter.rule_state.severity]
    if matter.ends:
        matching = [one for one in matching if one.at >= (matter.stand.still or 0) and not one.damped]
    return max(matching, key=lambda one: (one.at, one.count is not None), default=None)


def _unseen(draft: VerdictBuilder, matter: _AlertContext, belated: str) -> models.Transition:
    """Return a transition for what changed without a turn."""
    trail = matter.rule_state.trail
    at = trail[-1].at if trail else math.floor(draft.at)
    made = models.Transition(
        at=at, before=matter.alert.notified_severity, after=matter.rule_state.severity, reason=belated
    )
    return _of_flapping(matter, made) if matter.begins or matter.ends else made


def _of_flapping(matter: _AlertContext, made: models.Transition) -> models.Transition:
    """Say what decided where no turn did: that it flaps, or flaps no longer."""
    option, stand, cursor = matter.rule.flapping, matter.stand, matter.rule_state.cursor
    if stand.flaps:
        return made.model_copy(update={"at": stand.last, "reason": "it turns too often"})
    if option is not None and stand.still is not None:
        reason = f"it has held still for {wording.duration(option.within)}"
        return made.model_copy(update={"at": stand.still, "reason": reason})
    reason = "its turns are no longer damped" if option is None else "it does not flap after all"
    return made.model_copy(update={"at": made.at if cursor is None else cursor, "reason": reason})


def _worded(draft: VerdictBuilder, matter: _AlertContext, said: models.Transition, unit: str) -> models.Notification:
    rule, alert, record = matter.rule, matter.alert, draft.basis.record
    began = alert.since if matter.since is None else matter.since
    notification = message.notification(
        record.worker,
        rule,
        said,
        version=message.next_version(draft.basis, rule.name),
        since=said.at if began is None else began,
        created_at=draft.at,
        unit=unit,
        told=alert.notified_severity,
        last_error=record.condition.last_error,
    )
    if not (matter.stand.flaps or matter.ends):
        return notification
    return message.of_flapping(notification, record.worker, rule, said, matter.stand, begins=matter.begins)


def _audience(matter: _AlertContext) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Return who is told, who has heard of the episode by then, and the silence because of which nobody is told."""
    rule, alert, severity, silence = matter.rule, matter.alert, matter.rule_state.severity, matter.silence
    if severity is None:
        # Whoever heard that it fires hears that it is over, whatever the rule says by then.
        channels = message.channels_for_end(alert, rule)
        return channels, (), None if channels else alert.silenced_by
    if silence is not None:
        return (), alert.channels, silence.id
    channels = message.channels_for(alert, rule, severity)
    return channels, _heard(alert, channels), None


def _heard(alert: models.Alert, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return who was told of an episode, once these are told too."""
    return tuple(dict.fromkeys((*alert.channels, *channels)))


def _freed(draft: VerdictBuilder, rule: models.Rule, alert: models.Alert) -> _Announcement | None:
    """Return what nobody heard of under a silence that is over; its id names the turn, so it is the same one."""
    if alert.last is None or alert.notified_severity is None:
        return None
    reason = message.unsilenced(alert)
    said = models.Transition(
        at=math.floor(draft.at), before=alert.notified_severity, after=alert.notified_severity, reason=reason
    )
    changes = {
        "version": message.next_version(draft.basis, rule.name),
        "created_at": models.rfc3339(draft.at),
        "reason": reason,
        "summary": rules.KINDS[rule.kind].later(alert.last.summary),
    }
    channels = message.channels_for(alert, rule, alert.notified_severity)
    return _Announcement(None, said, alert.last.model_copy(update=changes), channels, _heard(alert, channels))


# --- what is taken into the draft --------------------------------------------------------------------------------


def _publish(
    draft: VerdictBuilder, alert: models.Alert, transitions: Sequence[models.Transition], news: _Announcement
) -> None:
    """Take a judgement into the draft with what people hear of it."""
    severity = news.transition.after
    changes = {
        "version": news.notification.version,
        "notified_severity": severity,
        "last": news.notification,
        "channels": news.heard,
        "silenced_by": None if severity is None else news.untold,
    }
    draft.channels[alert.rule] = news.channels
    if news.instead_of is None:
        transitions = [*transitions, news.transition]
    else:
        transitions = [news.transition if one is news.instead_of else one for one in transitions]
    _record(draft, alert.model_copy(update=changes), transitions, news)


def _damp(
    draft: VerdictBuilder, alert: models.Alert, rule_state: models.RuleState, transitions: Sequence[models.Transition]
) -> None:
    """Take a judgement of an alert that flaps into the draft; nobody is told."""
    since = alert.since if alert.open else _since(alert, rule_state, transitions)
    _record(draft, alert.model_copy(update={"rule_state": rule_state, "since": since, "flapping": True}), transitions)


def _record(
    draft: VerdictBuilder,
    alert: models.Alert,
    transitions: Sequence[models.Transition],
    news: _Announcement | None = None,
) -> None:
    """Take an alert and its transitions into the draft; ``news`` tells one of them."""
    draft.alerts[alert.rule] = alert
    for one in transitions:
        told = news.notification if news is not None and one is news.transition else None
        draft.transitions.append((alert.rule, _said(one), told))


def _said(transition: models.Transition) -> models.Transition:
    if not transition.damped:
        return transition
    return transition.model_copy(update={"reason": f"{transition.reason}; damped: the alert is flapping"})
