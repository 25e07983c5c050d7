"""The kind ``event``: EC2 has scheduled an event for an instance, such as a reboot or its retirement.

EC2 lists such events days ahead, and completed ones for up to a week. It does not list Spot interruptions and rebalance
recommendations: the event queue delivers them. The worker's condition remembers what was listed. Whether an event is
ahead or over depends on the time of the collection that fetched it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated

from workermon import errors
from workermon.models import (
    DAY,
    GONE,
    SEVERITIES,
    Condition,
    Frozen,
    Rule,
    RuleState,
    ScheduledEvent,
    Severity,
    SeverityChange,
    Text,
    Transition,
    fields,
    rfc3339,
)
from workermon.rules import kind, latches, section, wording
from workermon.rules.horizon import Horizon

#: Every code that EC2 documents (InstanceStatusEvent of the API reference, 2016-11-15), and its severity: whether it
#: ends the instance, or only makes it unavailable for a while.
CODES: dict[str, Severity] = {
    "instance-reboot": "warning",
    "instance-retirement": "critical",
    "instance-stop": "critical",
    "system-maintenance": "warning",
    "system-reboot": "warning",
    # From the event queue, not from DescribeInstanceStatus.
    "rebalance-recommendation": "warning",
    "spot-interruption": "critical",
}

#: The start of an event's description once the event is over. The first is documented; EC2 also writes the others.
_END_MARKS = {"[completed]": "completed", "[canceled]": "cancelled", "[cancelled]": "cancelled"}

#: Characters of EC2's text that are repeated, for one event and for all of them together.
_MAX_WORDS = 160
_MAX_CAUSE = 300


class EventSection(section.RuleSection):
    """The keys of an ``event`` rule."""

    codes: tuple[Text, ...] = ()
    ahead: Annotated[fields.Seconds, fields.between(60, 365 * DAY)] | None = None
    severity: Severity = "critical"


class Options(Frozen):
    """The ``codes`` that it covers (empty: all), and from how many seconds ``ahead`` on (``None``: at once).

    ``by_code``: each event has the severity of its code, not of the rule.
    """

    codes: tuple[str, ...] = ()
    ahead: int | None = None
    by_code: bool = False


class EventDetails(Frozen):
    """An event in JSON: times are RFC 3339, ``state`` is ``ahead`` or how the event ended.

    ``not_notified`` is why the rule does not notify of it now.
    """

    id: str
    code: str
    description: str
    not_before: str | None
    not_after: str | None
    deadline: str | None
    state: str
    not_notified: str | None = None


class Details(Frozen):
    """The events that the worker's condition remembers."""

    events: tuple[EventDetails, ...]


class Event(kind.Kind[Options]):
    """EC2 has scheduled an event for the instance."""

    name = "event"
    pseudo_metric = "event"
    section_type = EventSection
    options_type = Options
    ends_with = GONE

    def parse(self, raw_rule: EventSection) -> tuple[Options, Severity]:
        """Return which events it is about."""
        if not raw_rule.codes and "codes" in raw_rule.model_fields_set:
            raise section.Mistake("codes", "is empty", f"leave it out for all: {', '.join(CODES)}")
        for place, code in enumerate(raw_rule.codes):
            if code not in CODES:
                reason = f"{errors.printable(code)[:64]} is not a code of EC2"
                raise section.Mistake(f"codes[{place}]", reason, errors.nearest(code, CODES))
        by_code = "severity" not in raw_rule.model_fields_set
        codes = tuple(dict.fromkeys(raw_rule.codes))
        return Options(codes=codes, ahead=raw_rule.ahead, by_code=by_code), raw_rule.severity

    def export(self, rule: Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        keys: dict[str, object] = {"codes": options.codes} if options.codes else {}
        keys |= {} if options.ahead is None else {"ahead": fields.written(options.ahead)}
        return keys if options.by_code else keys | {"severity": rule.severity}

    def steady_range(self, rule: Rule) -> tuple[float, float] | None:
        """Return any value: it looks at none."""
        return -math.inf, math.inf

    def is_steady(self, rule: Rule, rule_state: RuleState) -> bool:
        """Return whether it does not fire: it depends only on changes that EC2 reports."""
        return rule_state.severity is None

    def judge(self, rule: Rule, rule_state: RuleState, facts: kind.Facts, horizon: Horizon | None) -> kind.Judgement:
        """Compare the events of the condition with those that were notified."""
        return _judge(rule, self.options(rule), rule_state, facts.condition)

    def known_until(self, rule_state: RuleState, facts: kind.Facts) -> int | None:
        """Return when the worker was collected last."""
        collected_at = facts.condition.collected_at
        return None if collected_at is None else math.floor(collected_at)

    def summary(self, rule: Rule, transition: Transition, unit: str, interval: int) -> str:
        """Return the events ahead."""
        return transition.reason

    def later(self, summary: str) -> str:
        """Remove the time left until the event: it was true when the summary was written.

        >>> KIND.later("a: system-reboot scheduled for 2026-12-01T06:00:00Z (in 7 days): words (in 2 days)")
        'a: system-reboot scheduled for 2026-12-01T06:00:00Z: words (in 2 days)'
        """
        return _UNTIL.sub("", summary, count=1)

    def conditions(self, rule: Rule) -> dict[str, object]:
        """Return codes, time ahead and severity."""
        options = self.options(rule)
        severity = "by code" if options.by_code else rule.severity
        return {"codes": list(options.codes or CODES), "ahead": options.ahead, "severity": severity}

    def described(self, rule: Rule, unit: str) -> tuple[str, ...]:
        """Return codes, time ahead and severity in words."""
        options = self.options(rule)
        ahead = (f"{options.ahead} s ahead",) if options.ahead else ()
        severity = "by code" if options.by_code else rule.severity
        return (f"codes {' '.join(options.codes or CODES)}", *ahead, f"severity {severity}")

    def explain(
        self, rule: Rule, rule_state: RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the events that the condition remembers."""
        options, condition = self.options(rule), facts.condition
        at = condition.collected_at or 0.0
        events = tuple(
            details(event).model_copy(update={"not_notified": why_not(options, event, at)})
            for event in condition.events
        )
        lines = (
            f"{event.code} {event.not_before or '-'} {event.description}"
            f"{f'; not notified: {event.not_notified}' if event.not_notified else ''}"
            for event in events
        )
        return kind.Explanation(
            _now(options, condition), Details(events=events), tuple(("event", line) for line in lines)
        )


# --- what is remembered ------------------------------------------------------------------------------------------


def merge_listed(
    before: Condition, events: Sequence[ScheduledEvent] | None, at: float
) -> tuple[tuple[ScheduledEvent, ...], float | None]:
    """Return a condition's events after a collection at a time listed these, and when they last changed.

    ``None`` is that EC2 was not asked: nothing changes. What the event queue warned of is kept apart from them.
    """
    known_events = tuple(event for event in before.events if not event.by_queue)
    if events is None or (not events and not known_events):
        return known_events, before.events_at
    seen_at = {key(event): event.seen_at for event in known_events}
    current = [event.model_copy(update={"seen_at": seen_at.get(key(event), at)}) for event in events]
    after = tuple(sorted({key(event): event for event in current}.values(), key=_order))
    return after, before.events_at if after == known_events else at


def key(event: ScheduledEvent) -> str:
    """Name an event with its time: an event that is put off is another one.

    >>> key(ScheduledEvent(id="instance-event-1", code="system-reboot", not_before=1_700_000_000))
    'instance-event-1@1700000000'
    """
    return f"{event.id}@{'' if event.not_before is None else event.not_before}"


def _order(event: ScheduledEvent) -> tuple[float, str]:
    return math.inf if event.not_before is None else event.not_before, event.id


def outcome(event: ScheduledEvent) -> str | None:
    """Return what EC2 says became of an event: ``completed`` or ``cancelled``, ``None`` if it is to come."""
    begin, end, _ = event.description.lstrip().partition("]")
    return _END_MARKS.get((begin + end).lower())


# --- evaluation --------------------------------------------------------------------------------------------------


def severity_of(rule: Rule, options: Options, event: ScheduledEvent) -> Severity:
    """Return how severe an event is: as its code, or as the rule."""
    return CODES.get(event.code, "warning") if options.by_code else rule.severity


def ahead(options: Options, condition: Condition) -> tuple[ScheduledEvent, ...]:
    """Return the events to notify of at the newest collection: upcoming or in progress, the earliest first."""
    at = condition.collected_at
    if at is None:
        return ()
    return tuple(event for event in condition.events if why_not(options, event, at) is None)


def why_not(options: Options, event: ScheduledEvent, at: float) -> str | None:
    """Return why a rule does not notify of an event at a time; ``None`` if it does."""
    if options.codes and event.code not in options.codes:
        return f"the rule is not about {event.code}"
    if (over := outcome(event)) is not None:
        return f"EC2 has marked it as {over}"
    if event.not_after is not None and event.not_after <= at:
        return f"its end, {rfc3339(event.not_after)}, is past"
    if options.ahead is not None and event.not_before is not None and event.not_before - options.ahead > at:
        return f"it notifies from {rfc3339(event.not_before - options.ahead)} on"
    return None


def _judge(rule: Rule, options: Options, rule_state: RuleState, condition: Condition) -> kind.Judgement:
    """Compare the events of a condition with those that were notified.

    If another event is added or a time changes, the alert notifies again at the same severity.
    """
    if rule_state.metric != Event.name and (rule_state.metric is not None or rule_state.severity is not None):
        rule_state = RuleState()  # the state of another kind's rule with the same name
    due = ahead(options, condition)
    keys = tuple(key(event) for event in due)
    worst = max((severity_of(rule, options, event) for event in due), key=SEVERITIES.index, default=None)
    if (keys, worst) == (rule_state.events, rule_state.severity):
        return rule_state, ()
    last = rule_state.trail[-1].at if rule_state.trail else 0
    fresh = [event for event in due if key(event) not in rule_state.events]
    if worst == rule_state.severity and not fresh:
        return rule_state.model_copy(update={"events": keys}), ()
    at = max(_appeared(options, fresh) if fresh else _end(rule_state, condition), last)
    if worst is None:
        reason, cause = _endings(options, rule_state, condition), None
    else:
        reason, cause = describe_all(due, condition.collected_at or 0.0), _words(due)
    event_keys = ",".join(keys or rule_state.events)
    transition = Transition(at=at, before=rule_state.severity, after=worst, reason=reason, cause=cause, key=event_keys)
    change = SeverityChange(at, worst, latches.BITS[worst])
    return RuleState(metric=Event.name, trail=(change,), events=keys), (transition,)


def _appeared(options: Options, events: Sequence[ScheduledEvent]) -> int:
    """Return when the last of these events was due to be notified."""
    times = [0.0]
    for event in events:
        due = 0 if options.ahead is None else (event.not_before or 0) - options.ahead
        times.append(max(event.seen_at or 0.0, due))
    return math.floor(max(times))


def _end(rule_state: RuleState, condition: Condition) -> int:
    """Return when the last of the notified events ended: at its end if that ended it, else when EC2 reported it."""
    event_by_key = {key(event): event for event in condition.events}
    collected_at = condition.collected_at or 0.0
    times = [0.0]
    for name in rule_state.events:
        event = event_by_key.get(name)
        if event is not None and outcome(event) is None:
            if event.not_after is not None and event.not_after <= collected_at:
                times.append(event.not_after)
        else:
            times.append(condition.events_at or 0.0)
    return math.floor(max(times))


def _endings(options: Options, rule_state: RuleState, condition: Condition) -> str:
    """Describe how the notified events ended."""
    event_by_key = {key(event): event for event in condition.events}
    moved = {event.id for event in condition.events}
    endings = []
    for name in rule_state.events:
        event = event_by_key.get(name)
        if event is None:
            is_postponed = name.rpartition("@")[0] in moved
            endings.append("it was postponed" if is_postponed else "EC2 no longer lists it")
        else:
            reason = why_not(options, event, condition.collected_at or 0.0)
            endings.append(f"{event.code}: {reason}" if reason is not None else "")
    return f"no event is ahead: {'; '.join(dict.fromkeys(ending for ending in endings if ending))}"[:_MAX_CAUSE]


# --- words -------------------------------------------------------------------------------------------------------


def describe_all(events: Sequence[ScheduledEvent], at: float) -> str:
    """Describe what is ahead at a time: the earliest event in full, the others by code and time."""
    first, *later_events = events
    text = describe(first, at)
    if later_events:
        more = ", ".join(f"{event.code} {_when(event)}" for event in later_events[:3])
        text += f"; and {len(later_events)} more: {more}{' …' if len(later_events) > 3 else ''}"
    return text


def describe(event: ScheduledEvent, at: float) -> str:
    """Describe an event, its time, and until when it may be postponed.

    >>> describe(ScheduledEvent(id="1", code="system-reboot", not_before=1_700_086_400), 1_700_000_000)
    'system-reboot scheduled for 2023-11-15T22:13:20Z (in 24 hours)'
    """
    text = f"{event.code} scheduled for {_when(event)}"
    if event.code == "rebalance-recommendation":
        text = f"{event.code} since {_when(event)}"
    elif event.not_before is not None:
        has_begun = event.not_before <= at
        text = f"{event.code} due since {_when(event)}" if has_begun else f"{text} (in {_span(event.not_before - at)})"
    words = errors.printable(event.description.strip())[:_MAX_WORDS]
    text += f": {words}" if words else ""
    if event.deadline is not None and event.deadline > at:
        text += f" (it can be postponed until {rfc3339(event.deadline)})"
    return text


def _when(event: ScheduledEvent) -> str:
    return "a time that EC2 does not give" if event.not_before is None else rfc3339(event.not_before)


def _span(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return "a minute"


#: What ``describe`` appends to a time.
_UNTIL = re.compile(r"(?<=\dZ) \(in (?:\d+ (?:days|hours|minutes)|a minute)\)")


def _words(events: Sequence[ScheduledEvent]) -> str:
    """Return EC2's own descriptions of events, each with its id and code."""
    words = "; ".join(f"{event.id} {event.code} {event.description.strip()}".strip() for event in events)
    return errors.printable(words)[:_MAX_CAUSE]


def _now(options: Options, condition: Condition) -> str:
    """Describe the state of a rule from what a condition remembers."""
    due = ahead(options, condition)
    if due:
        return describe_all(due, condition.collected_at or 0.0)
    if not condition.events:
        return "EC2 has scheduled nothing" if condition.collected_at is not None else "EC2 was not asked yet"
    first = condition.events[0]
    reason = why_not(options, first, condition.collected_at or 0.0)
    return f"not notified: {first.code} {_when(first)}: {reason}"


def details(event: ScheduledEvent) -> EventDetails:
    """Return an event in its JSON form."""
    return EventDetails(
        id=errors.printable(event.id),
        code=errors.printable(event.code),
        description=errors.printable(event.description.strip()),
        not_before=wording.time(event.not_before),
        not_after=wording.time(event.not_after),
        deadline=wording.time(event.deadline),
        state=outcome(event) or "ahead",
    )


KIND = Event()
