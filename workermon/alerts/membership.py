"""Pure: what a worker reports to its groups, and what it remembers of that.

The state of such a rule for one worker is stored like any other, but nobody is notified of it. The group's alert
follows from the reports of all members.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from workermon import models, ports
from workermon.alerts.verdict import VerdictBuilder

#: Earlier changes in a member's report, for a worker that stops and starts all the time.
MAX_FORMER = 32


class MemberReport(NamedTuple):
    """What a member reports to its group (the subject's id) beside its state, if the group needs datapoints.

    ``changed_from`` is the earliest that is new, ``recorded`` the period under which the ledger has them (seconds).
    """

    group: str
    changed_from: int | None = None
    recorded: int | None = None


def record_report(
    builder: VerdictBuilder, alert: models.Alert, rule_state: models.RuleState, report: MemberReport
) -> None:
    """Store the state of a rule for a running worker, and report it to the group if it is new.

    A worker that was in another group leaves that group.
    """
    group, changed_from, recorded = report
    before = alert.membership or models.Membership()
    if before.group not in (None, group):
        before = models.Membership(since=_leave(builder, alert, before).since)
    membership = before
    if before.group is None and rule_state.cursor is not None:
        running_since = builder.basis.record.condition.running_since
        begin = max(rule_state.start or 0, math.ceil(running_since or 0), before.since)
        membership = before.model_copy(update={"group": group, "since": begin, "recorded": recorded})
    updated = alert.model_copy(update={"rule_state": rule_state, "membership": membership})
    builder.alerts[alert.rule] = updated
    new = rule_state is not alert.rule_state or membership is not alert.membership or changed_from is not None
    if membership.group is not None and new:
        _update_group(builder, updated, report, _end(rule_state, membership) - 1, _changes(updated, membership))


def leave(builder: VerdictBuilder, alert: models.Alert, begin: float) -> None:
    """Report to the group that a worker has left, and keep its state in case it returns.

    It left at the end of its known data. Datapoints before ``begin`` do not count.
    """
    membership = alert.membership
    if membership is not None and membership.group is not None:
        membership = _leave(builder, alert, membership)
    elif alert.rule_state.cursor is None and alert.rule_state.start is not None:
        builder.alerts[alert.rule] = alert
        return
    builder.alerts[alert.rule] = models.Alert(
        rule=alert.rule,
        version=alert.version,
        last=alert.last,
        rule_state=models.RuleState(start=math.floor(begin)),
        membership=membership,
    )


def forget(builder: VerdictBuilder, alert: models.Alert | None) -> None:
    """Report to the group that a worker has left, and delete its state."""
    if alert is not None and alert.membership is not None and alert.membership.group is not None:
        _leave(builder, alert, alert.membership)


def _leave(builder: VerdictBuilder, alert: models.Alert, membership: models.Membership) -> models.Membership:
    """Report to the group that a member has left. Return what the worker remembers."""
    assert membership.group is not None
    end = _end(alert.rule_state, membership)
    changes = (*(change for change in _changes(alert, membership) if change[0] < end), (end, models.NO_MEMBER))
    _update_group(
        builder, alert, MemberReport(membership.group, recorded=membership.recorded), None, changes[-MAX_FORMER:]
    )
    return models.Membership(since=end, former=changes[-MAX_FORMER:])


def _update_group(
    builder: VerdictBuilder,
    alert: models.Alert,
    report: MemberReport,
    known_until: int | None,
    changes: tuple[tuple[int, int], ...],
) -> None:
    worker, membership = builder.basis.record.worker, alert.membership
    former = membership.former if membership else ()
    member = models.GroupMember(
        name=worker.name,
        known_until=known_until,
        period=alert.rule_state.period or 60,
        added=math.ceil(worker.added_at),
        changes=changes,
        trimmed=_is_trimmed(alert, membership or models.Membership()) or len(former) >= MAX_FORMER,
        recorded=report.recorded,
    )
    builder.memberships.append(ports.MembershipChange(report.group, alert.rule, worker.id, member, report.changed_from))


def _is_trimmed(alert: models.Alert, membership: models.Membership) -> bool:
    """Return whether the level that a worker had when it joined is no longer known."""
    trail = alert.rule_state.trail
    return alert.rule_state.trimmed and bool(trail) and trail[0].at > membership.since


def _changes(alert: models.Alert, membership: models.Membership) -> tuple[tuple[int, int], ...]:
    """Return the levels over time: the earlier ones, the time it joined, then the present ones."""
    trail = alert.rule_state.trail
    later = tuple(
        (change.at, models.MEMBER_LEVELS[change.severity]) for change in trail if change.at > membership.since
    )
    if _is_trimmed(alert, membership):
        return later
    severity = next((change.severity for change in reversed(trail) if change.at <= membership.since), None)
    return (*membership.former, (membership.since, models.MEMBER_LEVELS[severity]), *later)


def _end(rule_state: models.RuleState, membership: models.Membership) -> int:
    """Return the first time about which nothing is known."""
    if rule_state.cursor is None:
        return membership.since
    return max(rule_state.cursor + (rule_state.period or 1), membership.since)
