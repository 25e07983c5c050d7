"""The kind ``state``: a worker stopped running unexpectedly.

The time of a change is that of the collection that first saw it. The worker's condition remembers the changes, so the
time of evaluation does not matter: a stop that is already over is recorded, one that lasts is notified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from workermon import errors
from workermon.models import (
    GONE,
    Alert,
    Condition,
    Frozen,
    Rule,
    RuleState,
    Severity,
    SeverityChange,
    StateReason,
    Status,
    StatusChange,
    Text,
    Transition,
    Worker,
    rfc3339,
)
from workermon.rules import kind, latches, section, wording
from workermon.rules.horizon import Horizon

DownState = Literal["stopped", "terminated"]

#: Statuses in which a worker no longer runs, and a rule's names for them.
DOWN: dict[Status, DownState] = {
    "stopping": "stopped",
    "stopped": "stopped",
    "shutting-down": "terminated",
    "terminated": "terminated",
}

#: The codes of a StateReason that EC2 documents (the API reference, 2016-11-15), in words.
CODES = {
    "Client.InstanceInitiatedShutdown": "it was shut down from its own operating system",
    "Client.InstanceTerminated": "it was terminated or rebooted while an image of it was made",
    "Client.InternalError": "a client error ended it during its launch",
    "Client.InvalidSnapshot.NotFound": "a snapshot that it needs was not found",
    "Client.UserInitiatedHibernate": "somebody hibernated it through EC2",
    "Client.UserInitiatedShutdown": "somebody stopped or terminated it through EC2",
    "Client.VolumeLimitExceeded": "the limit of the account on EBS volumes was exceeded",
    "Server.InsufficientInstanceCapacity": "EC2 had not enough capacity to launch it",
    "Server.InternalError": "an internal error of EC2",
    "Server.ScheduledStop": "EC2 stopped it for a scheduled retirement",
    "Server.SpotInstanceShutdown": "EC2 took back the Spot capacity and stopped it",
    "Server.SpotInstanceTermination": "EC2 took back the Spot capacity and terminated it",
}

#: The form of a StateReason's code. EC2 may use undocumented codes.
_CODE = re.compile(r"(?:Client|Server)(?:\.[A-Z][A-Za-z]{1,63}){1,3}")

#: Stands for the reason of an instance that EC2 no longer knows.
UNKNOWN_TO_EC2 = StateReason(code="unknown to EC2")

#: What happened to a worker with such a status, in words.
STATUS_TEXT: dict[Status, str] = {
    "stopping": "the instance is being stopped",
    "stopped": "the instance is stopped",
    "shutting-down": "the instance is being terminated",
    "terminated": "the instance is terminated",
}

#: Seconds for which a past change is remembered, for a late evaluation.
CHANGES_KEPT_FOR = 3600

#: How many changes are remembered: two complete stops and a little more.
MAX_CHANGES = 12

#: Seconds after a change in which EC2 is asked again for a missing reason.
REASON_AWAITED_FOR = 300

#: Characters of EC2's text that are repeated.
_MAX_WORDS = 200

_RUNS_AGAIN = "the instance runs again"


class StateSection(section.RuleSection):
    """The keys of a ``state`` rule."""

    states: tuple[DownState, ...] = ("stopped", "terminated")
    expected: tuple[Text, ...] = ()
    severity: Severity = "critical"


class Options(Frozen):
    """The states that it covers, and EC2's codes that are expected, so that it does not fire for them."""

    states: tuple[DownState, ...] = ("stopped", "terminated")
    expected: tuple[str, ...] = ()


class ReasonDetails(Frozen):
    """EC2's reason for a state."""

    code: str
    message: str


class ChangeDetails(Frozen):
    """A change of the worker's status; ``seen_until`` is ``None`` while it lasts."""

    at: str
    status: Status
    seen_until: str | None
    reason: ReasonDetails | None


class Details(Frozen):
    """The changes that the worker's condition remembers."""

    changes: tuple[ChangeDetails, ...]


class Outage(NamedTuple):
    """A worker stopped running at ``at``, in a way that a rule covers; at ``back`` it ran again, if it does."""

    at: float
    status: Status
    reason: StateReason | None
    back: float | None = None


class State(kind.Kind[Options]):
    """A worker stopped running unexpectedly."""

    name = "state"
    pseudo_metric = "state"
    section_type = StateSection
    options_type = Options
    ends_with = frozenset()

    def parse(self, raw_rule: StateSection) -> tuple[Options, Severity]:
        """Return which states it covers, and which codes are expected."""
        if not raw_rule.states:
            raise section.Mistake("states", "is empty", 'write ["stopped", "terminated"], or one of them')
        for place, code in enumerate(raw_rule.expected):
            if code not in CODES and not _CODE.fullmatch(code):
                reason = f"{errors.printable(code)[:64]} is not a code of EC2"
                raise section.Mistake(f"expected[{place}]", reason, errors.nearest(code, CODES))
        unique = tuple(dict.fromkeys(raw_rule.states)), tuple(dict.fromkeys(raw_rule.expected))
        return Options(states=unique[0], expected=unique[1]), raw_rule.severity

    def warnings(self, rule: Rule) -> tuple[str, ...]:
        """Warn of an expected code that EC2 does not document."""
        unknown = [code for code in self.options(rule).expected if code not in CODES]
        return tuple(
            f"{code} is none of the codes that EC2 documents; "
            f"{errors.did_you_mean(code, CODES) or 'it counts as written'}"
            for code in unknown
        )

    def export(self, rule: Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        return {"states": options.states, "expected": options.expected, "severity": rule.severity}

    def steady_range(self, rule: Rule) -> tuple[float, float] | None:
        """Return any value: it looks at none."""
        return -math.inf, math.inf

    def is_steady(self, rule: Rule, rule_state: RuleState) -> bool:
        """Return whether it does not fire: it depends only on changes that EC2 reports."""
        return rule_state.severity is None

    def judge(self, rule: Rule, rule_state: RuleState, facts: kind.Facts, horizon: Horizon | None) -> kind.Judgement:
        """Fold the changes that the condition remembers."""
        return _judge(self.options(rule), rule.severity, rule_state, facts.condition)

    def paused(self, rule_state: RuleState, condition: Condition) -> RuleState:
        """Return a state in which earlier sightings of the running worker do not count."""
        collected_at = condition.collected_at
        return RuleState(start=None if collected_at is None else math.ceil(collected_at), metric=self.name)

    def must_resolve(self, rule: Rule, worker: Worker, condition: Condition, alert: Alert) -> bool:
        """Return whether the termination has yet to be collected or evaluated."""
        if worker.monitoring == "paused" or alert.open or "terminated" not in self.options(rule).states:
            return False
        if not rule.applies_to(worker):
            return False
        if condition.status in GONE:
            state, _ = _judge(self.options(rule), rule.severity, alert.rule_state, condition)
            return state.severity is not None
        start = alert.rule_state.start
        return condition.status == "running" or any(_was_running(change, start) for change in condition.changes)

    def known_until(self, rule_state: RuleState, facts: kind.Facts) -> int | None:
        """Return when the worker was collected last."""
        collected_at = facts.condition.collected_at
        return None if collected_at is None else math.floor(collected_at)

    def summary(self, rule: Rule, transition: Transition, unit: str, interval: int) -> str:
        """Return what happened to the instance."""
        return transition.reason

    def conditions(self, rule: Rule) -> dict[str, object]:
        """Return states and codes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.export(rule).items()}

    def described(self, rule: Rule, unit: str) -> tuple[str, ...]:
        """Return states and codes in words."""
        options = self.options(rule)
        expected = (f"expected {' '.join(options.expected)}",) if options.expected else ()
        return (f"states {' '.join(options.states)}", *expected, f"severity {rule.severity}")

    def explain(
        self, rule: Rule, rule_state: RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the changes that the condition remembers."""
        changes = facts.condition.changes
        details = Details(
            changes=tuple(
                ChangeDetails(
                    at=rfc3339(change.at),
                    status=change.status,
                    seen_until=wording.time(change.seen_until),
                    reason=change.reason
                    and ReasonDetails(code=change.reason.code, message=errors.printable(change.reason.message)),
                )
                for change in changes
            )
        )
        lines = (
            f"{rfc3339(entry.at)} {entry.status}{f', {entry.reason.code}' if entry.reason else ''}" for entry in changes
        )
        now = _now(self.options(rule), rule_state, facts.condition)
        return kind.Explanation(now, details, tuple(("seen", line) for line in lines))


# --- what is remembered ------------------------------------------------------------------------------------------


def needs_reason(before: Condition, status: Status, at: float) -> bool:
    """Return whether to ask EC2 why a worker has this status, which the collection at a time saw."""
    if status not in DOWN or not (before.status == "running" or before.changes):
        return False
    last = before.changes[-1] if before.changes else None
    if last is None or last.status not in DOWN or DOWN[last.status] != DOWN[status]:
        return True
    return last.reason is None and at - last.at < REASON_AWAITED_FOR


def append_change(before: Condition, status: Status, at: float, reason: StateReason | None) -> tuple[StatusChange, ...]:
    """Return the changes of a condition after the collection at a time saw this status.

    There are none if the worker was only ever seen running, or never.
    """
    changes = before.changes
    if not changes:
        if status == "running" or before.status != "running":
            return ()
        began = before.running_since if before.running_since is not None else before.collected_at
        changes = (StatusChange(at=at if began is None else began, status="running"),)
    last = changes[-1]
    if status != last.status and last.seen_until is None:
        last = last.model_copy(update={"seen_until": before.collected_at})
    elif status == last.status and last.seen_until is not None:
        last = last.model_copy(update={"seen_until": None})
    if reason is not None and last.reason is None and DOWN.get(last.status, "") == DOWN.get(status):
        last = last.model_copy(update={"reason": reason})
    changes = (*changes[:-1], last)
    if status != last.status and (status == "running" or status in DOWN):
        is_same_state = DOWN.get(last.status, "") == DOWN.get(status)
        changes = (
            *changes,
            StatusChange(at=at, status=status, reason=reason or (last.reason if is_same_state else None)),
        )
    if status == "running" and at - changes[-1].at > CHANGES_KEPT_FOR:
        return ()
    return _recent(changes, at)


def _recent(changes: tuple[StatusChange, ...], at: float) -> tuple[StatusChange, ...]:
    """Drop old changes. The last running status stays, because later changes refer to it."""
    ran = max((place for place, change in enumerate(changes) if change.status == "running"), default=0)
    recent = (
        place
        for place, change in enumerate(changes)
        if change.seen_until is None or at - change.seen_until <= CHANGES_KEPT_FOR
    )
    return changes[max(min(ran, next(recent, ran)), len(changes) - MAX_CHANGES) :]


# --- evaluation --------------------------------------------------------------------------------------------------


def outages(options: Options, condition: Condition, start: float | None = None) -> tuple[Outage, ...]:
    """Return the times when a worker that was seen running stopped unexpectedly, in order of time.

    Only the last outage can still last. Sightings of the running worker up to ``start`` do not count.
    """
    closed: list[Outage] = []
    outage: Outage | None = None
    ran = False
    for place, change in enumerate(condition.changes):
        if change.status == "running":
            if outage is not None:
                closed.append(outage._replace(back=change.at))
                outage = None
            ran = _was_running(change, start)
        elif ran and outage is None and DOWN[change.status] in options.states:
            reason = _reason(condition.changes[place:])
            if reason is None or reason.code not in options.expected:
                outage = Outage(change.at, change.status, reason)
    return tuple(closed if outage is None else [*closed, outage])


def _reason(changes: Iterable[StatusChange]) -> StateReason | None:
    """Return the reason of the first change: EC2's reason for it, or a later one for the state that it led to."""
    first: str | None = None
    for change in changes:
        state = DOWN.get(change.status)
        first = first or state
        if state != first:
            return None
        if change.reason is not None:
            return change.reason
    return None


def _judge(options: Options, worst: Severity, rule_state: RuleState, condition: Condition) -> kind.Judgement:
    """Fold the changes of a condition; ``worst`` is the rule's severity."""
    if rule_state.metric != State.name and (rule_state.metric is not None or rule_state.severity is not None):
        rule_state = RuleState()  # the state of another kind's rule with the same name
    if not condition.changes and rule_state.severity is None:
        return rule_state, ()
    outages_known = outages(options, condition, rule_state.start)
    transitions: list[Transition] = []
    severity, at = rule_state.severity, rule_state.trail[-1].at if rule_state.trail else 0
    over = None if severity is None else _end(options, at, outages_known, condition)
    if over is not None:
        transitions.append(over.model_copy(update={"before": severity}))
        severity, at = None, over.at
    elif severity is not None and severity != worst:
        reason = "the severity of the rule was changed"
        transitions.append(Transition(at=at, before=severity, after=worst, reason=reason))
        severity = worst
    for outage in outages_known:
        if severity is not None or (outage.back is not None and math.floor(outage.at) <= (rule_state.cursor or 0)):
            continue  # it still lasts, or was recorded
        at = max(math.floor(outage.at), at)
        transitions.append(_begin(worst, outage, at))
        if outage.back is None:
            severity = worst
        else:
            at = max(math.floor(outage.back), at)
            transitions.append(Transition(at=at, before=worst, after=None, reason=_RUNS_AGAIN))
    cursor = max((math.floor(change.at) for change in condition.changes), default=0)
    if not transitions and cursor <= (rule_state.cursor or 0):
        return rule_state, ()
    trail = (SeverityChange(at, severity, latches.BITS[severity]),)
    state = RuleState(
        cursor=max(cursor, rule_state.cursor or 0),
        trail=trail if transitions else rule_state.trail,
        metric=State.name,
        start=rule_state.start,
    )
    return state, tuple(transitions)


def _end(options: Options, fired_at: int, outages_known: Sequence[Outage], condition: Condition) -> Transition | None:
    """Return how the outage that fired at a time ended; ``None`` if it still lasts."""
    matching = next((outage for outage in outages_known if math.floor(outage.at) == fired_at), None)
    if matching is not None:
        return None if matching.back is None else _resolution(max(math.floor(matching.back), fired_at), _RUNS_AGAIN)
    if outages_known and outages_known[-1].back is None:
        return None
    collected_at = condition.collected_at
    if condition.status == "running":
        # A collection that saw it running before it stopped, but wrote that later, is no news.
        if collected_at is None or collected_at <= fired_at:
            return None
        since = condition.running_since
        return _resolution(math.floor(since if since is not None and since > fired_at else collected_at), _RUNS_AGAIN)
    down = [change for change in condition.changes if change.status in DOWN]
    if not down:
        return None
    reason = _reason(down[-1:])
    if reason is not None and reason.code in options.expected:
        return _resolution(fired_at, f"{reason.code} is expected", correction=True)
    return _resolution(fired_at, "the rule was changed", correction=True)


def _resolution(at: int, reason: str, *, correction: bool = False) -> Transition:
    return Transition(at=at, before=None, after=None, reason=reason, correction=correction)


def _begin(severity: Severity, outage: Outage, at: int) -> Transition:
    """Return the transition to firing for a worker that stopped running."""
    cause = None
    if outage.reason is not None:
        words = outage.reason.message.removeprefix(outage.reason.code).lstrip(": ")
        cause = errors.printable(f"{outage.reason.code}: {words}" if words else outage.reason.code)[:_MAX_WORDS]
    reason = describe_status(outage.status, outage.reason)
    return Transition(at=at, before=None, after=severity, reason=reason, cause=cause)


def describe_status(status: Status, reason: StateReason | None) -> str:
    """Describe what happened to a worker, and why.

    >>> describe_status("stopped", StateReason(code="Server.ScheduledStop"))
    'the instance is stopped: EC2 stopped it for a scheduled retirement (Server.ScheduledStop)'
    """
    text = STATUS_TEXT.get(status, f"the instance is {status}")
    if reason is None:
        return f"{text}: EC2 gave no reason"
    code = errors.printable(reason.code)[:_MAX_WORDS]
    if reason.code in CODES:
        return f"{text}: {CODES[reason.code]} ({code})"
    words = errors.printable(reason.message.removeprefix(reason.code).lstrip(": "))[:_MAX_WORDS]
    return f"{text}: {words} ({code})" if words else f"{text}: {code}"


def _was_running(change: StatusChange, start: float | None) -> bool:
    """Return whether a worker was seen running later than ``start``; a change without ``seen_until`` still lasts."""
    return change.status == "running" and (start is None or change.seen_until is None or change.seen_until > start)


def _now(options: Options, rule_state: RuleState, condition: Condition) -> str:
    """Describe the state of a rule from what a condition remembers."""
    if condition.status == "running":
        return "the instance runs"
    if condition.status not in DOWN:
        return f"the instance is {condition.status}, which changes nothing"
    stops = [change for change in condition.changes if change.status in DOWN]
    if not stops:
        return f"{STATUS_TEXT[condition.status]}; it was never seen running"
    last = condition.changes[-1]
    reason = _reason(stops[-1:])
    text = describe_status(condition.status if last.status in DOWN else last.status, reason)
    if not any(_was_running(change, rule_state.start) for change in condition.changes):
        return f"{text}; it has not been seen running since monitoring resumed"
    if any(outage.back is None for outage in outages(options, condition, rule_state.start)):
        return text
    if reason is not None and reason.code in options.expected:
        return f"{text}; that is expected"
    return f"{text}; the rule is about {' and '.join(options.states)} only"


KIND = State()
