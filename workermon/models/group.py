"""A group of workers with the same value of a label, and what each of them reports for a rule over the group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from workermon.models.base import Frozen, Severity

#: The level of a worker that is not a member at a time: it did not run, or was not in the group.
NO_MEMBER = -1
#: The level of a member by the severity that its rule has for it.
MEMBER_LEVELS: Mapping[Severity | None, int] = {None: 0, "warning": 1, "critical": 2}


class GroupMember(NamedTuple):
    """What a worker reports for a rule over its group; times in seconds.

    ``known_until`` is the time up to which its report is complete; ``None`` after it left, so that it does not hold the
    group back. ``period`` is that of its slots, ``added`` when the worker was added. ``changes`` are ``(at, level)`` in
    order of time; the level is one of ``MEMBER_LEVELS``, or ``NO_MEMBER`` from when on it is not a member.
    ``trimmed``: there were earlier changes, so nothing is known before the first one. ``recorded`` is the period under
    which the ledger has its datapoints; ``None`` if the group needs none of them.
    """

    name: str
    known_until: int | None
    period: int
    added: int
    changes: tuple[tuple[int, int], ...]
    trimmed: bool = False
    recorded: int | None = None


class Membership(Frozen):
    """A worker's membership in a group by a rule, stored with the rule's state for the worker.

    ``group`` is the subject's id, ``None`` while it is not a member. It has been one since ``since``; ``former`` are
    earlier changes, as in ``GroupMember.changes``, and ``recorded`` is as in ``GroupMember``.
    """

    group: str | None = None
    since: int = 0
    former: tuple[tuple[int, int], ...] = ()
    recorded: int | None = None
