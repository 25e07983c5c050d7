"""The fold over a group of workers: how many members meet a condition, in order of time.

Each member has a fold of its own (``slots``); this module walks the resulting changes. It evaluates a group up to the
time up to which every member that counts is known. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon.models import (
    LATENESS,
    MEMBER_LEVELS,
    NO_MEMBER,
    GroupMember,
    Rule,
    RuleState,
    Series,
    Severity,
    SeverityChange,
    Transition,
    plural,
)
from workermon.rules import flapping, slots
from workermon.rules.latches import SEVERITY_OF

#: Seconds beside two periods for which a group waits for a member whose datapoints do not arrive: three collections.
#: After that it counts with its last known state, and later datapoints correct the result.
PATIENCE = 180

#: Members that a text names; the others are only counted.
MAX_NAMED = 5


class Needed(NamedTuple):
    """How many members must meet the condition: a ``number``, or a ``share`` of the members that run."""

    number: int | None = None
    share: float | None = None

    def of(self, size: int) -> int:
        """Return the number in a group of a size.

        >>> Needed(3).of(20), Needed(share=0.3).of(10), Needed(share=0.3).of(11)
        (3, 3, 4)
        """
        if self.number is not None:
            return self.number
        return max(1, math.ceil((self.share or 0.0) * size - 1e-9))

    def __str__(self) -> str:
        return str(self.number) if self.number is not None else f"{(self.share or 0.0) * 100:g} %"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The members of a group by worker id; ``lateness`` in seconds, nothing after ``at`` counts.

    ``series`` are the datapoints of each, for a rule over their values; ``changed_from`` is the earliest datapoint
    written since the last evaluation, ``unit_of`` returns the unit of a metric.
    """

    members: Mapping[str, GroupMember]
    lateness: int = LATENESS
    at: float = math.inf
    series: Mapping[str, Series] = dataclasses.field(default_factory=dict)
    changed_from: int | None = None
    unit_of: Callable[[str], str] = str

    @property
    def patience(self) -> int:
        """Return for how many seconds of data the members wait for one without any."""
        return 2 * max((member.period for member in self.members.values()), default=0) + PATIENCE

    def horizon(self) -> int | None:
        """Return the time up to which the group is known; ``None`` if nothing is known.

        That is the time up to which every member is known that has not left. A member that falls behind is waited for
        ``PATIENCE``.
        """
        known_until = [member.known_until for member in self.members.values() if member.known_until is not None]
        if known_until:
            return math.floor(min(max(min(known_until), max(known_until) - self.patience), self.at))
        last_change = max((member.changes[-1][0] for member in self.members.values() if member.changes), default=None)
        return None if last_change is None else math.floor(min(last_change, self.at))


def waiting(rule_state: RuleState, group: Group) -> RuleState | None:
    """Return the state of a rule that begins once its other members are known; ``None`` if it has waited long enough.

    A state that has not begun keeps in ``start`` how far the first members were known at the first evaluation.
    """
    known_until = max(
        (member.known_until for member in group.members.values() if member.known_until is not None), default=None
    )
    if rule_state.cursor is not None or known_until is None:
        return None
    since = known_until if rule_state.start is None else rule_state.start
    return None if known_until - since > group.patience else RuleState(start=since)


class MemberLevels(NamedTuple):
    """The state of a group: the levels of the members that run (0 ok, 1 warning, 2 critical) by worker id."""

    levels: Mapping[str, int]

    def holding(self, rank: int) -> tuple[str, ...]:
        """Return the members with a level or a higher one, in order."""
        return tuple(sorted(worker_id for worker_id, level in self.levels.items() if level >= rank))


class _Change(NamedTuple):
    """A time at which severities latched or unlatched, as bits; ``since`` is when the first holder began to hold."""

    at: int
    before: int
    after: int
    member_levels: MemberLevels
    since: int


def judge(rule: Rule, needed: Needed, rule_state: RuleState, group: Group) -> tuple[RuleState, tuple[Transition, ...]]:
    """Walk the changes of the members after the state's cursor; return the new state and the transitions.

    A different result before the cursor is a correction. If the rule's number has changed, it counts from the cursor
    on. A severity ends only when a member stops meeting it: a growing group ends nothing.
    """
    horizon, cursor = group.horizon(), rule_state.cursor
    if horizon is None or (cursor is not None and horizon < cursor):
        return rule_state, ()
    restarted = cursor is not None and rule_state.metric != str(needed)
    if restarted and cursor == horizon:
        return rule_state, ()
    if restarted:
        rule_state = _from_now_on(rule, rule_state)
    members = _counted(group.members, rule_state)
    begin = _begin(rule_state, members, group)
    unchanged = [change for change in rule_state.trail if change.at <= begin]
    changes = _fold(
        needed, members, range(begin, horizon), unchanged[-1].latched if unchanged else 0, restarted=restarted
    )
    trail = unchanged + [SeverityChange(change.at, SEVERITY_OF[change.after], change.after) for change in changes]
    if restarted:
        trail = _from(trail, begin + 1)
    recent = _trimmed(trail, horizon - group.lateness)
    state = rule_state.model_copy(
        update={
            "cursor": horizon,
            "trail": recent,
            "trimmed": rule_state.trimmed or len(recent) < len(trail),
            "metric": str(needed),
            "start": _last_added(group.members) if cursor is None else rule_state.start,
            "flap_state": flapping.settled(rule, rule_state.flap_state, trail[: len(trail) - len(recent)]),
        }
    )
    if not changes and len(unchanged) == len(rule_state.trail):
        return state, ()
    return state, _transitions(_Outcome(rule, needed, members, rule_state, len(unchanged), trail, changes))


def member_levels(members: Mapping[str, GroupMember], at: int) -> MemberLevels:
    """Return the state of a group at a time."""
    levels = {worker_id: _level(member, at) for worker_id, member in members.items()}
    return MemberLevels({worker_id: level for worker_id, level in levels.items() if level != NO_MEMBER})


def counted(members: Mapping[str, GroupMember], rule_state: RuleState) -> Mapping[str, GroupMember]:
    """Return the members, each with the time from which it counts."""
    return _counted(members, rule_state)


def names(members: Mapping[str, GroupMember], worker_ids: Sequence[str]) -> str:
    """Name some members, and count the others.

    >>> member = GroupMember("web-1", 0, 60, 0, ())
    >>> names({"i-1": member}, ["i-1", "i-2"])
    'web-1, i-2'
    """
    labels = [members[worker_id].name if worker_id in members else worker_id for worker_id in worker_ids]
    more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
    return ", ".join(labels[:MAX_NAMED]) + more


# --- who counts ------------------------------------------------------------------------------------------------------


def _last_added(members: Mapping[str, GroupMember]) -> int:
    """Return the time up to which workers were added that have been in the group since its first evaluation."""
    return max((member.added for member in members.values()), default=0)


def _counted(members: Mapping[str, GroupMember], rule_state: RuleState) -> Mapping[str, GroupMember]:
    """Return the members. One that was added to an already evaluated group counts only from then on.

    Its past, which is collected too, must not change what was decided without it.
    """
    started_at = rule_state.start
    if started_at is None or all(member.added <= started_at for member in members.values()):
        return members
    return {
        worker_id: member if member.added <= started_at else _counting(member, member.added)
        for worker_id, member in members.items()
    }


def _counting(member: GroupMember, begin: int) -> GroupMember:
    level = _level(member, begin)
    later = tuple(change for change in member.changes if change[0] > begin)
    return member._replace(changes=((begin, level), *later), trimmed=False)


def _level(member: GroupMember, at: int) -> int:
    level = member.changes[0][1] if member.trimmed and member.changes else NO_MEMBER
    for when, changed in member.changes:
        if when > at:
            break
        level = changed
    return level


# --- the fold --------------------------------------------------------------------------------------------------------


def _from_now_on(rule: Rule, rule_state: RuleState) -> RuleState:
    """Return a state that never evaluates again before its cursor, because the rule had another condition there."""
    last, cursor = rule_state.trail[-1] if rule_state.trail else None, rule_state.cursor or 0
    latest = SeverityChange(cursor, None, 0) if last is None else last._replace(at=cursor)
    flap_state = flapping.settled(rule, rule_state.flap_state, rule_state.trail)
    return rule_state.model_copy(update={"trail": (latest,), "trimmed": True, "flap_state": flap_state})


def _from(trail: Sequence[SeverityChange], begin: int) -> list[SeverityChange]:
    """Return a trail that begins at a time with the levels held then."""
    latest = [change for change in trail if change.at <= begin][-1]
    return [latest._replace(at=begin), *(change for change in trail if change.at > begin)]


def _begin(rule_state: RuleState, members: Mapping[str, GroupMember], group: Group) -> int:
    """Return the time after which changes are walked."""
    cursor = rule_state.cursor
    if cursor is None:
        return min((member.changes[0][0] for member in members.values() if member.changes), default=0) - 1
    begin = cursor - group.lateness
    if rule_state.trimmed and rule_state.trail:  # earlier states are no longer known
        begin = max(begin, rule_state.trail[0].at)
    for member in members.values():
        if member.trimmed and member.changes:
            begin = max(begin, member.changes[0][0])
    return min(cursor, begin)


def _fold(
    needed: Needed, members: Mapping[str, GroupMember], span: range, latched: int, *, restarted: bool
) -> list[_Change]:
    """Walk the members' changes after ``span.start`` up to ``span.stop``, those of one time together."""
    levels = {worker_id: _level(member, span.start) for worker_id, member in members.items()}
    since = dict.fromkeys(levels, span.start)
    events = [
        (at, worker_id, level)
        for worker_id, member in members.items()
        for at, level in member.changes
        if span.start < at <= span.stop
    ]
    if restarted:
        events.append((span.start + 1, "", NO_MEMBER))
    changes: list[_Change] = []
    for at, together in itertools.groupby(sorted(events), key=lambda event: event[0]):
        ended_bits = 3 if restarted and at == span.start + 1 else 0
        for _, worker_id, level in together:
            if not worker_id:
                continue
            ended_bits |= _bits(levels[worker_id]) & ~_bits(level)
            if levels[worker_id] <= 0 < level:
                since[worker_id] = at
            levels[worker_id] = level
        after = _latched(needed, list(levels.values()), latched, ended_bits)
        if after != latched:
            running = {worker_id: level for worker_id, level in levels.items() if level != NO_MEMBER}
            began = min((since[worker_id] for worker_id, level in running.items() if level > 0), default=at)
            changes.append(_Change(at, latched, after, MemberLevels(running), began))
            latched = after
    return changes


def _bits(level: int) -> int:
    """Return the severities that a level meets: 1 warning, 2 critical. A member at critical meets both."""
    return (1 << max(level, 0)) - 1


def _latched(needed: Needed, levels: Sequence[int], latched: int, ended_bits: int) -> int:
    size = sum(level != NO_MEMBER for level in levels)
    after = 0
    for rank in (1, 2):
        bit = 1 << (rank - 1)
        holding = sum(level >= rank for level in levels)
        fires = size > 0 and holding >= needed.of(size)
        if fires or (latched & bit and not ended_bits & bit):
            after |= bit
    return after


def _trimmed(trail: Sequence[SeverityChange], reach: int) -> tuple[SeverityChange, ...]:
    """Drop all changes that can no longer be corrected, except the last of them."""
    place = 0
    while place + 1 < len(trail) and trail[place + 1].at <= reach:
        place += 1
    return tuple(trail[place:])


# --- transitions -----------------------------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """The result of a fold: the first ``kept_changes`` of the old trail still hold, ``trail`` is the new one."""

    rule: Rule
    needed: Needed
    members: Mapping[str, GroupMember]
    before: RuleState
    kept_changes: int
    trail: Sequence[SeverityChange]
    changes: Sequence[_Change]


def _transitions(outcome: _Outcome) -> tuple[Transition, ...]:
    cursor = outcome.before.cursor
    past = slots.steps(outcome.before.trail, outcome.kept_changes)
    flaps = flapping.among(outcome.rule, outcome.before.flap_state, outcome.trail)
    transitions, steps = [], set()
    for change in outcome.changes:
        before, after = SEVERITY_OF[change.before], SEVERITY_OF[change.after]
        if before == after:
            continue
        step = (change.at, before, after)
        steps.add(step)
        if step in past:
            continue
        late = cursor is not None and change.at <= cursor
        transitions.append(_transition(outcome, change, late=late, is_flapping=change.at in flaps))
    withdrawn = [_withdrawn(step) for step in reversed(past) if step not in steps]
    return (*withdrawn, *transitions)


def _transition(outcome: _Outcome, change: _Change, *, late: bool, is_flapping: bool) -> Transition:
    before, after = SEVERITY_OF[change.before], SEVERITY_OF[change.after]
    decided = after if change.after > change.before else before
    rank = MEMBER_LEVELS[decided]
    holding, size = change.member_levels.holding(rank), len(change.member_levels.levels)
    reason = in_words(outcome.members, holding, size) + (f"; {decided} fires at {outcome.needed}" if after else "")
    return Transition(
        at=change.at,
        before=before,
        after=after,
        value=float(len(holding)),
        threshold=float(outcome.needed.of(size)),
        count=f"{len(holding)} of {size}",
        members=holding,
        correction=late,
        flapping=is_flapping,
        condition_since=change.since if before is None else None,
        reason=reason + (", seen late: a datapoint came late or was revised" if late else ""),
    )


def _withdrawn(step: tuple[int, Severity | None, Severity | None]) -> Transition:
    at, before, after = step
    reason = f"a datapoint came late or was revised: it did not change from {before or 'ok'} to {after or 'ok'}"
    return Transition(at=at, before=after, after=before, correction=True, withdrawn=True, reason=reason, members=())


def in_words(members: Mapping[str, GroupMember], holding: Iterable[str], size: int) -> str:
    """Describe which members of a group meet the condition.

    >>> in_words({}, [], 0), in_words({}, ["i-1"], 4), in_words({}, [], 1)
    ('no worker of the group runs', '1 of 4 workers: i-1', '0 of 1 worker')
    """
    if not size:
        return "no worker of the group runs"
    holding_ids = list(holding)
    names_text = f": {names(members, holding_ids)}" if holding_ids else ""
    return f"{len(holding_ids)} of {plural(size, 'worker')}{names_text}"
