"""Waiting for a condition with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T], within: float = 30.0, description: str | Callable[[], str] = "the condition"
) -> T:
    """Wait until ``predicate`` returns something true, and return that. Fail after ``within`` seconds.

    An exception in ``predicate`` counts as "not yet". The last one is shown if the time runs out. ``description`` names
    the condition. It may be a function: it is called only on failure, to quote what a process has logged by then.
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
            condition = description if isinstance(description, str) else description()
            raise AssertionError(f"waited {within:g} s without success for: {condition}") from raised
        time.sleep(pause)  # between two evaluations of the condition, never instead of one
        pause = min(pause * 1.5, 0.1)
