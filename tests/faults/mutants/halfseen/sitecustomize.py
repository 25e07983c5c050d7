"""A build that evaluates a group up to the slot that one of its members knows; Python runs this file as it starts."""

from __future__ import annotations

import math

from workermon.rules import group_fold


def horizon(self: group_fold.Group) -> int | None:
    """Return the time up to which somebody is known."""
    known_times = [member.known_until for member in self.members.values() if member.known_until is not None]
    return math.floor(min(max(known_times), self.at)) if known_times else None


group_fold.Group.horizon = horizon  # type: ignore[method-assign]  # the mutant
