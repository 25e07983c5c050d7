"""The series of a group: one value for each slot, aggregated from the values of its members."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workermon.models import NO_MEMBER, Datapoint, GroupMember
from workermon.rules import expression_values, group_fold


def total(numbers: Sequence[float]) -> float:
    """Return the sum; infinite, which is absent, if it is too large for a number."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return math.inf


#: What the values of all members in a slot become; p95 by nearest rank.
AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "avg": lambda numbers: total(numbers) / len(numbers),
    "sum": total,
    "max": max,
    "p95": lambda numbers: expression_values.percentile(numbers, 95),
}


class Grid(NamedTuple):
    """The slots of a group: ``period`` in seconds is the longest of its members', ``last`` is the newest slot's time.

    For that slot every datapoint of every member that counts has arrived. ``begin`` is when the first member joined.
    """

    period: int
    last: int
    begin: int

    def reaching(self, at: int) -> Grid:
        """Return the slots, extended to include a time.

        >>> Grid(60, 120, 0).reaching(250).last, Grid(60, 120, 0).reaching(60).last
        (240, 120)
        """
        return self._replace(last=max(self.last, at // self.period * self.period))


def grid(group: group_fold.Group) -> Grid | None:
    """Return the slots of a group; ``None`` if nothing is known of it."""
    horizon = group.horizon()
    begin = min((member.changes[0][0] for member in group.members.values() if member.changes), default=None)
    if horizon is None or begin is None:
        return None
    period = max(member.period for member in group.members.values())
    return Grid(period, ((horizon + 1) // period - 1) * period, begin)


def points(group: group_fold.Group, aggregate: str, slots: Grid) -> tuple[Datapoint, ...]:
    """Return the aggregate of each slot in which any member has a value. A member counts once in each slot."""
    by_slot: dict[int, list[float]] = {}
    for worker_id, member in group.members.items():
        series = group.series.get(worker_id)
        member_values: dict[int, list[float]] = {}
        for at, value in series.points if series is not None else ():
            if math.isfinite(value) and at < slots.last + slots.period and counts(member, at):
                member_values.setdefault(at // slots.period, []).append(value)
        for slot, numbers in member_values.items():
            by_slot.setdefault(slot, []).append(total(numbers) / len(numbers))
    combine = AGGREGATES[aggregate]
    combined = ((slot, combine(by_slot[slot])) for slot in sorted(by_slot))
    return tuple(Datapoint(slot * slots.period, value) for slot, value in combined if math.isfinite(value))


def counts(member: GroupMember, at: int) -> bool:
    """Return whether a worker is a member of its group at a time."""
    level = NO_MEMBER
    for when, changed in member.changes:
        if when > at:
            break
        level = changed
    return level != NO_MEMBER
