"""A build that evaluates a group up to the newest slot of a single member. Python runs this file at the start."""

from __future__ import annotations

import math

from workermon.rules import group_fold


def horizon(self: group_fold.Group) -> int | None:
    """Return the time up to which at least one member is known."""
    known_times = [member.known_until for member in self.members.values() if member.known_until is not None]
    return math.floor(min(max(known_times), self.at)) if known_times else None


group_fold.Group.horizon = horizon  # type: ignore[method-assign]  # the mutant
