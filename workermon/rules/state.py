"""Pure: which changes of an instance's state are worth remembering, and when a stop is unexpected.

The time of a change is that of the collection that saw it first. What was seen is remembered in the worker's condition,
so that it does not matter when somebody looks at it: a stop that is over by then is recorded, one that lasts is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from workermon import errors
from workermon.models import (
    GONE,
    SEVERITIES,
    Alert,
    Condition,
    Rule,
    RuleState,
    SeverityChange,
    StateReason,
    Status,
    StatusChange,
    Transition,
    Worker,
)

#: The name by which a rule asks for this kind, and ``why`` for its explanation.
KIND: Literal["state"] = "state"

#: Statuses in which a worker does not run any more, and what a rule calls them.
DOWN: dict[Status, Literal["stopped", "terminated"]] = {
    "stopping": "stopped",
    "stopped": "stopped",
    "shutting-down": "terminated",
    "terminated": "terminated",
}

#: What EC2 documents as codes of a StateReason (the API reference, 2016-11-15), in words.
CODES = {
    "Client.InstanceInitiatedShutdown": "it was shut down from its own operating system",
    "Client.InstanceTerminated": "it was terminated or rebooted while an image of it was made",
    "Client.InternalError": "a client error ended it during its launch",
    "Client.InvalidSnapshot.NotFound": "a snapshot that it needs was not found",
    "Client.UserInitiatedHibernate": "somebody had it hibernate",
    "Client.UserInitiatedShutdown": "somebody stopped or terminated it through EC2",
    "Client.VolumeLimitExceeded": "the limit of the account on EBS volumes was exceeded",
    "Server.InsufficientInstanceCapacity": "EC2 had not enough capacity to launch it",
    "Server.InternalError": "an internal error of EC2",
    "Server.ScheduledStop": "EC2 stopped it for a scheduled retirement",
    "Server.SpotInstanceShutdown": "EC2 took back the Spot capacity and stopped it",
    "Server.SpotInstanceTermination": "EC2 took back the Spot capacity and terminated it",
}

#: Stands for the reason of an instance that EC2 does not know any more.
VANISHED = StateReason(code="unknown to EC2")

#: What became of a worker with such a status, in words.
SAID: dict[Status, str] = {
    "stopping": "the instance is being stopped",
    "stopped": "the instance is stopped",
    "shutting-down": "the instance is being terminated",
    "terminated": "the instance is terminated",
}

#: Seconds that what is over is remembered, for those who judge late.
KEPT = 3600

#: Changes that are remembered at most: two whole stops and a bit.
MOST = 12

#: Seconds after a change during which EC2 is asked again for a reason that it did not give.
PATIENCE = 300

#: Characters of EC2's words that are repeated.
_LONGEST = 200


class Down(NamedTuple):
    """A worker stopped running at ``at``, in a way that a rule is about; at ``back`` it ran again, if it does."""

    at: float
    status: Status
    reason: StateReason | None
    back: float | None = None


# --- what is remembered ------------------------------------------------------------------------------------------


def needs_reason(before: Condition, status: Status, at: float) -> bool:
    """Tell whether EC2 is to be asked why a worker has this status, which a collection at a time has seen."""
    if status not in DOWN or not (before.status == "running" or before.changes):
        return False
    last = before.changes[-1] if before.changes else None
    if last is None or last.status not in DOWN or DOWN[last.status] != DOWN[status]:
        return True
    return last.reason is None and at - last.at < PATIENCE


def append_change(before: Condition, status: Status, at: float, reason: StateReason | None) -> tuple[StatusChange, ...]:
    """Return the changes of a condition after a collection at a time has seen this status.

    There are none where nothing else was seen than that it runs, or never that it does.
    """
    changes = before.changes
    if not changes:
        if status == "running" or before.status != "running":
            return ()
        began = before.running_since if before.running_since is not None else before.collected_at
        changes = (StatusChange(at=at if began is None else began, status="running"),)
    last = changes[-1]
    if status != last.status and last.seen is None:
        last = last.model_copy(update={"seen": before.collected_at})
    elif status == last.status and last.seen is not None:
        last = last.model_copy(update={"seen": None})
    if reason is not None and last.reason is None and DOWN.get(last.status, "") == DOWN.get(status):
        last = last.model_copy(update={"reason": reason})
    changes = (*changes[:-1], last)
    if status != last.status and (status == "running" or status in DOWN):
        same = DOWN.get(last.status, "") == DOWN.get(status)
        changes = (*changes, StatusChange(at=at, status=status, reason=reason or (last.reason if same else None)))
    if status == "running" and at - changes[-1].at > KEPT:
        return ()
    return _kept(changes, at)


def _kept(changes: tuple[StatusChange, ...], at: float) -> tuple[StatusChange, ...]:
    """Leave out what is over for long; the last time that it ran stays, for what came after it."""
    ran = max((place for place, change in enumerate(changes) if change.status == "running"), default=0)
    recent = (place for place, change in enumerate(changes) if change.seen is None or at - change.seen <= KEPT)
    return changes[max(min(ran, next(recent, ran)), len(changes) - MOST) :]


# --- judgement ---------------------------------------------------------------------------------------------------


def outages(rule: Rule, condition: Condition, start: float | None = None) -> tuple[Down, ...]:
    """Return when a worker that was seen running stopped doing so unexpectedly, in order of time.

    Only the last of them can last still. That it was seen running no later than ``start`` does not count.
    """
    found: list[Down] = []
    down: Down | None = None
    ran = False
    changes = condition.changes
    for place, change in enumerate(changes):
        if change.status == "running":
            if down is not None:
                found.append(down._replace(back=change.at))
                down = None
            ran = _ran(change, start)
        elif ran and down is None and DOWN[change.status] in rule.states:
            reason = _reason(changes[place:])
            if reason is None or reason.code not in rule.expected:
                down = Down(change.at, change.status, reason)
    return tuple(found if down is None else [*found, down])


def _reason(changes: Iterable[StatusChange]) -> StateReason | None:
    """Return the reason of the first change: what EC2 said of it, or later of the state that it led to."""
    group: str | None = None
    for change in changes:
        kind = DOWN.get(change.status)
        group = group or kind
        if kind != group:
            return None
        if change.reason is not None:
            return change.reason
    return None


def judge(rule: Rule, rule_state: RuleState, condition: Condition) -> tuple[RuleState, tuple[Transition, ...]]:
    """Judge what a condition remembers; return the new state, and what turned, in order of time.

    Nothing here knows the time of day. ``judged`` itself comes back where nothing is new.
    """
    if rule_state.metric != KIND and (rule_state.metric is not None or rule_state.severity is not None):
        rule_state = RuleState()  # what another kind of rule of this name left
    if not condition.changes and rule_state.severity is None:
        return rule_state, ()
    found = outages(rule, condition, rule_state.start)
    transitions: list[Transition] = []
    severity, at = rule_state.severity, rule_state.trail[-1].at if rule_state.trail else 0
    over = None if severity is None else _over(rule, at, found, condition)
    if over is not None:
        transitions.append(over.model_copy(update={"before": severity}))
        severity, at = None, over.at
    elif severity is not None and severity != rule.severity:
        reason = "the severity of the rule was changed"
        transitions.append(Transition(at=at, before=severity, after=rule.severity, reason=reason))
        severity = rule.severity
    for each in found:
        if severity is not None or (each.back is not None and math.floor(each.at) <= (rule_state.cursor or 0)):
            continue  # it goes on, or was recorded
        at = max(math.floor(each.at), at)
        transitions.append(_went(rule, each, at))
        if each.back is None:
            severity = rule.severity
        else:
            at = max(math.floor(each.back), at)
            transitions.append(Transition(at=at, before=rule.severity, after=None, reason=_BACK))
    cursor = max((math.floor(change.at) for change in condition.changes), default=0)
    if not transitions and cursor <= (rule_state.cursor or 0):
        return rule_state, ()
    trail = (SeverityChange(at, severity, 0 if severity is None else 1 << SEVERITIES.index(severity)),)
    state = RuleState(
        cursor=max(cursor, rule_state.cursor or 0),
        trail=trail if transitions else rule_state.trail,
        metric=KIND,
        start=rule_state.start,
    )
    return state, tuple(transitions)


_BACK = "the instance runs again"


def _over(rule: Rule, fired: int, found: Sequence[Down], condition: Condition) -> Transition | None:
    """Return how what fired at a time ended, ``None`` where it goes on."""
    same = next((each for each in found if math.floor(each.at) == fired), None)
    if same is not None:
        return None if same.back is None else _ended(max(math.floor(same.back), fired), _BACK)
    if found and found[-1].back is None:
        return None
    seen = condition.collected_at
    if condition.status == "running":
        # Whoever saw it run before it stopped, and wrote so later, has seen nothing new.
        if seen is None or seen <= fired:
            return None
        since = condition.running_since
        return _ended(math.floor(since if since is not None and since > fired else seen), _BACK)
    down = [change for change in condition.changes if change.status in DOWN]
    if not down:
        return None
    reason = _reason(down[-1:])
    if reason is not None and reason.code in rule.expected:
        return _ended(fired, f"{reason.code} is expected", correction=True)
    return _ended(fired, "the rule was changed", correction=True)


def _ended(at: int, reason: str, *, correction: bool = False) -> Transition:
    return Transition(at=at, before=None, after=None, reason=reason, correction=correction)


def _went(rule: Rule, down: Down, at: int) -> Transition:
    """Return the turn to firing for a worker that stopped running."""
    cause = None
    if down.reason is not None:
        words = down.reason.message.removeprefix(down.reason.code).lstrip(": ")
        cause = errors.printable(f"{down.reason.code}: {words}" if words else down.reason.code)[:_LONGEST]
    return Transition(at=at, before=None, after=rule.severity, reason=said(down.status, down.reason), cause=cause)


def said(status: Status, reason: StateReason | None) -> str:
    """Say in words what became of a worker, and why.

    >>> said("stopped", StateReason(code="Server.ScheduledStop"))
    'the instance is stopped: EC2 stopped it for a scheduled retirement (Server.ScheduledStop)'
    """
    what = SAID.get(status, f"the instance is {status}")
    if reason is None:
        return f"{what}: EC2 gave no reason"
    code = errors.printable(reason.code)[:_LONGEST]
    if reason.code in CODES:
        return f"{what}: {CODES[reason.code]} ({code})"
    words = errors.printable(reason.message.removeprefix(reason.code).lstrip(": "))[:_LONGEST]
    return f"{what}: {words} ({code})" if words else f"{what}: {code}"


def anew(condition: Condition) -> RuleState:
    """Return the state of a rule while monitoring is paused: what was seen by then plays no part in it."""
    seen = condition.collected_at
    return RuleState(start=None if seen is None else math.ceil(seen), metric=KIND)


def untold(rules: Iterable[Rule], worker: Worker, condition: Condition, alerts: Mapping[str, Alert]) -> bool:
    """Tell whether that EC2 has terminated a worker is yet to be seen by its collection, or to be judged.

    Whoever clears it away before that takes the alert with it.
    """
    if worker.monitoring == "paused":
        return False
    for rule in rules:
        if rule.kind != KIND or "terminated" not in rule.states or not rule.applies_to(worker):
            continue
        alert = alerts.get(rule.name) or Alert(rule=rule.name)
        if alert.open:
            continue
        if condition.status in GONE:
            if judge(rule, alert.rule_state, condition)[0].severity is not None:
                return True
        elif condition.status == "running" or any(_ran(change, alert.rule_state.start) for change in condition.changes):
            return True
    return False


def _ran(change: StatusChange, start: float | None) -> bool:
    """Tell whether a worker was seen running later than ``start``; a change without ``seen`` goes on."""
    return change.status == "running" and (start is None or change.seen is None or change.seen > start)


def explain_state(rule: Rule, rule_state: RuleState, condition: Condition) -> str:
    """Say how a rule stands by what a condition remembers."""
    if condition.status == "running":
        return "the instance runs"
    if condition.status not in DOWN:
        return f"the instance is {condition.status}, which turns nothing"
    downs_now = [change for change in condition.changes if change.status in DOWN]
    if not downs_now:
        return f"{SAID[condition.status]}; it was never seen running"
    last = condition.changes[-1]
    reason = _reason(downs_now[-1:])
    text = said(condition.status if last.status in DOWN else last.status, reason)
    if not any(_ran(change, rule_state.start) for change in condition.changes):
        return f"{text}; it was not seen running since monitoring went on"
    open_now = [down for down in outages(rule, condition, rule_state.start) if down.back is None]
    if open_now:
        return text
    if reason is not None and reason.code in rule.expected:
        return f"{text}; that is expected"
    return f"{text}; the rule is about {' and '.join(rule.states)} only"
