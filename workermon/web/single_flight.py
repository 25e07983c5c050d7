"""Shares expensive results among all clients that request them at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Returns results that were started after the request: never older ones, and one at a time is computed.

    So a flood of requests asks the nodes, Redis and AWS no more often than one client that asks without a pause.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started_at = -1.0
        self._outcome: Callable[[], T] | None = None

    def get(self, make: Callable[[], T]) -> T:
        """Return the result of ``make``, or raise its error. Callers that wait meanwhile share the next one."""
        now = self._clock()
        with self._lock:
            if self._outcome is None or self._started_at < now:
                self._started_at = self._clock()
                self._outcome = _outcome(make)
            outcome = self._outcome
        return outcome()


def _outcome(make: Callable[[], T]) -> Callable[[], T]:
    try:
        value = make()
    except Exception as error:
        failure = error

        def fail() -> T:
            raise failure

        return fail
    return lambda: value
