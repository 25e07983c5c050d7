"""Waiting for a condition with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], within: float = 30.0, what: str | Callable[[], str] = "the condition") -> T:
    """Wait until ``predicate`` returns something true and return that; fails after ``within`` seconds.

    What it raises meanwhile counts as "not yet", and is shown when the time is up. ``what`` may be a function, which is
    asked then: what a process has logged up to that moment, and not before.
    """
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        raised: Exception | None = None
        try:
            if outcome := predicate():
                return outcome
        except Exception as why:
            raised = why
        if time.monotonic() >= deadline:
            condition = what if isinstance(what, str) else what()
            raise AssertionError(f"{condition} did not hold within {within:g} s") from raised
        time.sleep(pause)  # between two looks at the condition, never instead of one
        pause = min(pause * 1.5, 0.1)
