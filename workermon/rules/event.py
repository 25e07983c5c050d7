"""Pure: what EC2 has scheduled for an instance, and when that is told.

EC2 lists such events days ahead, and the completed ones for up to a week after. What was listed is remembered in the
worker's condition; the time by which one is ahead or over is that of the collection that brought it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from workermon import errors
from workermon.models import (
    DAY,
    SEVERITIES,
    Condition,
    Rule,
    RuleState,
    ScheduledEvent,
    Severity,
    SeverityChange,
    Transition,
    rfc3339,
)

#: The name by which a rule asks for this kind, and ``why`` for its explanation.
KIND: Literal["event"] = "event"

#: Every code that EC2 documents (InstanceStatusEvent of the API reference, 2016-11-15), and how bad it is: what ends
#: the instance, or only takes it away for a while.
CODES: dict[str, Severity] = {
    "instance-reboot": "warning",
    "instance-retirement": "critical",
    "instance-stop": "critical",
    "system-maintenance": "warning",
    "system-reboot": "warning",
}

#: How the description of an event begins that is over: the first is documented, the others are what EC2 writes.
_MARKS = {"[completed]": "completed", "[canceled]": "cancelled", "[cancelled]": "cancelled"}

#: Characters of EC2's words that are repeated, and of all of them together.
_LONGEST = 160
_LONGEST_CAUSE = 300


# --- what is remembered ------------------------------------------------------------------------------------------


def listed(
    before: Condition, events: Sequence[ScheduledEvent] | None, at: float
) -> tuple[tuple[ScheduledEvent, ...], float | None]:
    """Return a condition's events after a collection at a time was told these, and when they last changed.

    ``None`` is that nobody was told: nothing changes.
    """
    if events is None or (not events and not before.events):
        return before.events, before.events_at
    known = {key(event): event.seen_at for event in before.events}
    found = [event.model_copy(update={"seen_at": known.get(key(event), at)}) for event in events]
    after = tuple(sorted({key(event): event for event in found}.values(), key=_order))
    return after, before.events_at if after == before.events else at


def key(event: ScheduledEvent) -> str:
    """Name an event with its time: put off, it is another one.

    >>> key(ScheduledEvent(id="instance-event-1", code="system-reboot", not_before=1_700_000_000))
    'instance-event-1@1700000000'
    """
    return f"{event.id}@{'' if event.not_before is None else event.not_before}"


def _order(event: ScheduledEvent) -> tuple[float, str]:
    return math.inf if event.not_before is None else event.not_before, event.id


def mark(event: ScheduledEvent) -> str | None:
    """Return what EC2 says became of an event: ``completed`` or ``cancelled``, ``None`` where it is to come."""
    begin, end, _ = event.description.lstrip().partition("]")
    return _MARKS.get((begin + end).lower())


# --- judgement ---------------------------------------------------------------------------------------------------


def severity(rule: Rule, event: ScheduledEvent) -> Severity:
    """Return how bad an event is: as the rule says, else as its code does."""
    return CODES.get(event.code, "warning") if rule.by_code else rule.severity


def ahead(rule: Rule, condition: Condition) -> tuple[ScheduledEvent, ...]:
    """Return what is to be told of at the newest collection: what comes or goes on, the earliest first."""
    at = condition.collected_at
    if at is None:
        return ()
    return tuple(event for event in condition.events if why_not(rule, event, at) is None)


def why_not(rule: Rule, event: ScheduledEvent, at: float) -> str | None:
    """Return why a rule does not tell of an event at a time, ``None`` where it does."""
    if rule.codes and event.code not in rule.codes:
        return f"the rule is not about {event.code}"
    if (over := mark(event)) is not None:
        return f"EC2 says it is {over}"
    if event.not_after is not None and event.not_after <= at:
        return f"its end, {rfc3339(event.not_after)}, is past"
    if rule.ahead is not None and event.not_before is not None and event.not_before - rule.ahead > at:
        return f"it is told from {rfc3339(event.not_before - rule.ahead)} on"
    return None


def judge(rule: Rule, rule_state: RuleState, condition: Condition) -> tuple[RuleState, tuple[Transition, ...]]:
    """Judge what a condition remembers; return the new state, and what turned.

    It is told again, at the same severity, where another event joins or one has another time. ``judged`` itself comes
    back where nothing is new.
    """
    if rule_state.metric != KIND and (rule_state.metric is not None or rule_state.severity is not None):
        rule_state = RuleState()  # what another kind of rule of this name left
    due = ahead(rule, condition)
    keys = tuple(key(event) for event in due)
    worst = max((severity(rule, event) for event in due), key=SEVERITIES.index, default=None)
    if (keys, worst) == (rule_state.events, rule_state.severity):
        return rule_state, ()
    last = rule_state.trail[-1].at if rule_state.trail else 0
    fresh = [event for event in due if key(event) not in rule_state.events]
    if worst == rule_state.severity and not fresh:
        return rule_state.model_copy(update={"events": keys}), ()
    at = max(_appeared(rule, fresh) if fresh else _ended(rule_state, condition), last)
    if worst is None:
        reason, cause = _over(rule, rule_state, condition), None
    else:
        reason, cause = said(due, condition.collected_at or 0.0), _words(due)
    named = ",".join(keys or rule_state.events)
    turned = Transition(at=at, before=rule_state.severity, after=worst, reason=reason, cause=cause, key=named)
    turn = SeverityChange(at, worst, 0 if worst is None else 1 << SEVERITIES.index(worst))
    return RuleState(metric=KIND, trail=(turn,), events=keys), (turned,)


def _appeared(rule: Rule, events: Sequence[ScheduledEvent]) -> int:
    """Return when the last of these was there to be told."""
    return max(
        math.floor(max(event.seen_at or 0.0, (event.not_before or 0) - rule.ahead if rule.ahead is not None else 0))
        for event in events
    )


def _ended(rule_state: RuleState, condition: Condition) -> int:
    """Return when the last of what was told ended: its end where that is what ended it, else when EC2 said so."""
    there = {key(event): event for event in condition.events}
    seen = condition.collected_at or 0.0
    times = [0.0]
    for each in rule_state.events:
        event = there.get(each)
        if event is not None and mark(event) is None:
            if event.not_after is not None and event.not_after <= seen:
                times.append(event.not_after)
        else:
            times.append(condition.events_at or 0.0)
    return math.floor(max(times))


def _over(rule: Rule, rule_state: RuleState, condition: Condition) -> str:
    """Say what became of the events that were told."""
    there = {key(event): event for event in condition.events}
    moved = {event.id for event in condition.events}
    fates = []
    for each in rule_state.events:
        event = there.get(each)
        if event is None:
            other = each.rpartition("@")[0] in moved
            fates.append("it was put off" if other else "EC2 no longer lists it")
        else:
            why = why_not(rule, event, condition.collected_at or 0.0)
            fates.append(f"{event.code}: {why}" if why is not None else "")
    return f"no event is ahead any more: {'; '.join(dict.fromkeys(one for one in fates if one))}"[:_LONGEST_CAUSE]


# --- words -------------------------------------------------------------------------------------------------------


def said(events: Sequence[ScheduledEvent], at: float) -> str:
    """Say what is ahead at a time: the earliest of the events in full, the others by code and time."""
    first, *others = events
    text = one(first, at)
    if others:
        more = ", ".join(f"{event.code} {_when(event)}" for event in others[:3])
        text += f"; and {len(others)} more: {more}{' …' if len(others) > 3 else ''}"
    return text


def one(event: ScheduledEvent, at: float) -> str:
    """Say what an event is, when, and until when it may be put off.

    >>> one(ScheduledEvent(id="1", code="system-reboot", not_before=1_700_086_400), 1_700_000_000)
    'system-reboot scheduled for 2023-11-15T22:13:20Z (in 24 hours)'
    """
    text = f"{event.code} scheduled for {_when(event)}"
    if event.not_before is not None:
        begun = event.not_before <= at
        text = f"{event.code} due since {_when(event)}" if begun else f"{text} (in {_span(event.not_before - at)})"
    words = errors.printable(event.description.strip())[:_LONGEST]
    text += f": {words}" if words else ""
    if event.deadline is not None and event.deadline > at:
        text += f" (it can be put off until {rfc3339(event.deadline)})"
    return text


def _when(event: ScheduledEvent) -> str:
    return "a time that EC2 does not tell" if event.not_before is None else rfc3339(event.not_before)


def _span(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return "a minute"


def later(text: str) -> str:
    """Leave out of what was said how long it was until then: for those who read it later than it was written.

    >>> later("a: system-reboot scheduled for 2026-12-01T06:00:00Z (in 7 days): words (in 2 days)")
    'a: system-reboot scheduled for 2026-12-01T06:00:00Z: words (in 2 days)'
    """
    return _UNTIL.sub("", text, count=1)


#: What ``one`` puts behind a time.
_UNTIL = re.compile(r"(?<=\dZ) \(in (?:\d+ (?:days|hours|minutes)|a minute)\)")


def _words(events: Sequence[ScheduledEvent]) -> str:
    """Return EC2's own words for events, each with its id and code."""
    words = "; ".join(f"{event.id} {event.code} {event.description.strip()}".strip() for event in events)
    return errors.printable(words)[:_LONGEST_CAUSE]


def explain_state(rule: Rule, condition: Condition) -> str:
    """Say how a rule stands by what a condition remembers."""
    due = ahead(rule, condition)
    if due:
        return said(due, condition.collected_at or 0.0)
    if not condition.events:
        return "EC2 has scheduled nothing" if condition.collected_at is not None else "EC2 was not asked yet"
    first = condition.events[0]
    return f"nothing to tell of: {first.code} {_when(first)}: {why_not(rule, first, condition.collected_at or 0.0)}"


def document(event: ScheduledEvent) -> dict[str, str | None]:
    """Return an event as JSON documents have it: times in RFC 3339, ``state`` is ``ahead`` or what became of it."""
    times = {"not_before": event.not_before, "not_after": event.not_after, "deadline": event.deadline}
    return {
        "id": errors.printable(event.id),
        "code": errors.printable(event.code),
        "description": errors.printable(event.description.strip()),
        **{name: None if at is None else rfc3339(at) for name, at in times.items()},
        "state": mark(event) or "ahead",
    }
