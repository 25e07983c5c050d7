"""Replays a rule over groups, from recorded series of its members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from workermon.models import MEMBER_LEVELS, NO_MEMBER, GroupMember, Rule, RuleState, Series, Severity, Transition
from workermon.rules import group, group_fold
from workermon.rules.horizon import Horizon
from workermon.rules.kind import Facts

#: Seconds. No datapoint of a recording is too late.
_ALL = 10**9


def member(rule: Rule, name: str, segments: Sequence[Series], until: int | None = None) -> GroupMember | None:
    """Return a member's changes over series that follow one another in time; ``None`` without any series.

    Slots up to ``until`` are expected; ``None``: up to the last datapoint.
    """
    filled = [segment for segment in segments if segment.points]
    if not filled:
        return None
    state = RuleState()
    begin = filled[0].points[0].at // filled[0].period * filled[0].period
    for place, segment in enumerate(filled):
        newest = segment.points[-1].at
        if place == len(filled) - 1:
            newest = max(newest, until or 0)
        facts = Facts.recorded(rule.metric or "", segment, segment.points[0].at // segment.period * segment.period)
        horizon = Horizon.until(newest, segment.period)
        state, _ = group.KIND.judge(rule, state, _with_lateness(facts), horizon)
    period = filled[-1].period
    changes = [(change.at, MEMBER_LEVELS[change.severity]) for change in state.trail]
    known_until = None if state.cursor is None else state.cursor + period - 1
    return GroupMember(name, known_until, period, 0, ((begin, 0), *changes), recorded=period)


def replayed_member(
    name: str, span: tuple[int, int], episodes: Iterable[tuple[float, float | None, Severity]]
) -> GroupMember:
    """Return the changes of a member that is known in a span and meets its condition in these episodes."""
    begin, end = span
    changes = [(begin, 0)]
    for first, last, severity in episodes:
        changes += [(int(first), MEMBER_LEVELS[severity]), *([] if last is None else [(int(last), 0)])]
    return GroupMember(name, end, 1, 0, tuple(changes))


def tried(name: str, span: tuple[int, int], period: int, transitions: Iterable[Transition]) -> GroupMember:
    """Return the changes of a member that is known in a span of slots, from its transitions."""
    begin, end = span
    changes = ((transition.at, MEMBER_LEVELS[transition.after]) for transition in transitions)
    return GroupMember(name, end, period, 0, ((begin, 0), *changes), recorded=period)


def departed(member_changes: GroupMember) -> GroupMember:
    """Return the changes of a member that has stopped."""
    departure = () if member_changes.known_until is None else ((member_changes.known_until + 1, NO_MEMBER),)
    return member_changes._replace(known_until=None, changes=(*member_changes.changes, *departure))


def judge(rule: Rule, members: Mapping[str, GroupMember], series: Mapping[str, Series]) -> tuple[Transition, ...]:
    """Return the transitions of a rule over a group, given its members and their datapoints."""
    begin = min((member_changes.changes[0][0] for member_changes in members.values()), default=0)
    over = group_fold.Group(members=members, lateness=_ALL, series=series)
    rule_state = RuleState(start=begin) if group.KIND.needs_members(rule) else RuleState()
    return group.KIND.judge_group(rule, rule_state, over)[1]


def _with_lateness(facts: Facts) -> Facts:
    return Facts(series=facts.series, condition=facts.condition, lateness=_ALL)
