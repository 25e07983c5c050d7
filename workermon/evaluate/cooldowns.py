"""Which groups this process evaluated a moment ago. They are not evaluated again at once."""

from __future__ import annotations

#: Seconds for each member of a group, and the maximum. For so long a group is not evaluated again because of its
#: members' messages: otherwise a large one would be read with each batch of them. The sweep finds what is due.
COOLDOWN, MAX_COOLDOWN = 0.05, 5.0

#: Groups whose cooldown a process remembers.
MAX_COOLDOWNS = 100_000


class Cooldowns:
    """Until when each group cools down; times in seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def is_over(self, subject_id: str, at: float) -> bool:
        """Return whether a group may be evaluated because of its members' messages. A clock set back ends it too."""
        return not 0 < self._until.get(subject_id, at) - at <= MAX_COOLDOWN

    def start(self, subject_id: str, members: int, at: float) -> None:
        """Record that a group was evaluated. The more members it has, the longer it is not evaluated again."""
        if len(self._until) >= MAX_COOLDOWNS:
            self._until.clear()
        self._until[subject_id] = at + min(COOLDOWN * members, MAX_COOLDOWN)
