"""A clock that a test sets."""

from __future__ import annotations


class ManualClock:
    """A clock that stands still until it is told to move: ``clock()`` is the time now, in seconds since 1970."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time now."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the time then."""
        self.now += seconds
        return self.now
