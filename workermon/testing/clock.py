"""A clock that a test sets."""

from __future__ import annotations


class ManualClock:
    """A clock that moves only when a test moves it: ``clock()`` is the time now, in seconds since 1970."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time now."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Advance the clock, and return the new time."""
        self.now += seconds
        return self.now
