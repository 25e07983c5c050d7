"""A group of workers: those that carry a label with one value, and what each of them says of a rule over the group."""

from __future__ import annotations

from typing import NamedTuple

from workermon.models.base import Frozen

#: The level of a worker that is no member at a time: it did not run, or was not in the group.
NO_MEMBER = -1


class GroupMember(NamedTuple):
    """What a worker says of a rule over its group; times in seconds.

    ``known`` is the time up to which that is known, ``None`` of a worker that left: it does not hold the group back.
    ``period`` is that of its slots, ``added`` when the worker was added. ``changes`` are ``(at, level)`` in order of
    time, the level 0 for ok, 1 for warning, 2 for critical, ``NO_MEMBER`` from when on it is none. ``trimmed``: there
    were earlier ones, before which nothing is known. ``recorded`` is the period under which the ledger has its
    datapoints, ``None`` if the group needs none of them.
    """

    name: str
    known: int | None
    period: int
    added: int
    changes: tuple[tuple[int, int], ...]
    trimmed: bool = False
    recorded: int | None = None


class Membership(Frozen):
    """Whose member a worker is by a rule, kept with the rule's state for the worker.

    ``group`` is the subject's id, ``None`` while it is a member of none. It is one since ``since``; ``former`` are
    earlier changes, as ``GroupMember.changes`` has them, and ``recorded`` is what ``GroupMember`` has.
    """

    group: str | None = None
    since: int = 0
    former: tuple[tuple[int, int], ...] = ()
    recorded: int | None = None
