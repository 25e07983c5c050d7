"""One slow account and region must not take every thread of a node: who may collect now, and who waits for a place.

It lives in one process and is shared by its threads. Where there is one account and region only, and in a process that
does one thing at a time, it stops nobody. Who has to wait costs no thread: the next one that is free takes it over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from workermon import logs

log = logs.get(__name__)

#: Seconds. A collection is a few calls of 50 to 300 ms; what takes longer is slow, and is remembered so long after.
SLOW, REMEMBERED = 5.0, 60.0

#: Seconds for which a thread goes on with what waits, and then ends its task: below the task's time limits.
ONWARD = 45.0

#: Workers that are taken over at once: a cohort.
BATCH = 100


class SeverityChange(NamedTuple):
    """A place that is taken: the workers to be collected, since when, and since when its thread is at it."""

    number: int
    scope: str
    worker_ids: tuple[str, ...]
    begun: float
    first: float


class Bulkhead:
    """Safe between threads. ``threads`` is how many the process has, ``clock`` in seconds.

    One thread is left to the others by each account and region, and half of them by all that are slow together.
    """

    def __init__(self, threads: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._seen: set[str] = set()
        #: By scope, since when each turn there goes on, by its number.
        self._running: dict[str, dict[int, float]] = {}
        self._slow_until: dict[str, float] = {}
        #: By scope, who waits, in order.
        self._waiting: dict[str, dict[str, None]] = {}

    def enter(self, scope: str, worker_ids: Sequence[str]) -> SeverityChange | None:
        """Take a place, or wait: ``None``. Who waited longer goes first, so the turn may be that of others."""
        with self._lock:
            now = self._clock()
            self._seen.add(scope)
            free = self._is_free(scope, now)
            if free and scope not in self._waiting:
                return self._turn(scope, tuple(worker_ids), now, now)
            waiting = self._waiting.setdefault(scope, {})
            waiting.update(dict.fromkeys(worker_ids))
            return self._next(scope, now, now) if free else None

    def leave(self, turn: SeverityChange, *, onward: bool = True) -> SeverityChange | None:
        """Give a place back; return the next turn for this thread, if anybody waits and it is to go on."""
        with self._lock:
            now = self._clock()
            del self._running[turn.scope][turn.number]
            if now - turn.begun > SLOW:
                if self._slow_until.get(turn.scope, 0.0) < now and len(self._seen) > 1:
                    log.warning("collect.slow", scope=turn.scope, seconds=round(now - turn.begun, 1))
                self._slow_until[turn.scope] = now + REMEMBERED
            if not onward or now - turn.first > ONWARD:
                return None
            scope = next((scope for scope in self._waiting if self._is_free(scope, now)), None)
            return None if scope is None else self._next(scope, now, turn.first)

    def _is_free(self, scope: str, now: float) -> bool:
        if self.threads < 2 or len(self._seen) < 2:
            return True
        if self._is_slow(scope, now):
            slow = sum(len(turns) for other, turns in self._running.items() if self._is_slow(other, now))
            return slow < self.threads // 2
        return len(self._running.get(scope, ())) < self.threads - 1

    def _is_slow(self, scope: str, now: float) -> bool:
        if self._slow_until.get(scope, 0.0) > now:
            return True
        return any(now - begun > SLOW for begun in self._running.get(scope, {}).values())

    def _next(self, scope: str, now: float, first: float) -> SeverityChange:
        waiting = self._waiting.pop(scope)
        worker_ids = tuple(waiting)
        if len(worker_ids) > BATCH:  # the rest is the last in line again, so that no scope takes every turn
            self._waiting[scope] = dict.fromkeys(worker_ids[BATCH:])
        return self._turn(scope, worker_ids[:BATCH], now, first)

    def _turn(self, scope: str, worker_ids: tuple[str, ...], now: float, first: float) -> SeverityChange:
        self._number += 1
        self._running.setdefault(scope, {})[self._number] = now
        return SeverityChange(self._number, scope, worker_ids, now, first)
