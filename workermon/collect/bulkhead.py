"""Keeps one slow account and region from using up a node's threads: who may collect now, and who waits for a place.

A bulkhead belongs to one process and is shared by its threads. With only one account and region, or only one thread, it
delays nobody. Waiting workers block no thread: the next free thread collects them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from workermon import logs

log = logs.get(__name__)

#: Seconds. A collection makes a few calls of 50 to 300 ms. One that takes longer than this is slow.
SLOW_AFTER = 5.0

#: Seconds for which an account and region counts as slow after its last slow collection.
SLOW_FOR = 60.0

#: Seconds for which a thread keeps collecting waiting workers before its task ends: below the task's time limits.
GO_ON_FOR = 45.0

#: Threads that an account and region leaves to others, if the process has twice as many. One is for their collections,
#: one for a reconciliation, which also asks EC2: it enters no bulkhead, but runs once at a time (fleet.SingleRun).
LEFT_FREE = 2

#: Waiting workers that a thread takes at once: the size of a batch.
MAX_WORKERS = 100


class Place(NamedTuple):
    """A place that a thread holds, and the workers that it collects there.

    ``started_at`` is when it took this place, ``first`` when it took the first one of its task.
    """

    number: int
    scope: str
    worker_ids: tuple[str, ...]
    started_at: float
    first: float


class Bulkhead:
    """Admits collections. ``threads`` is the number of the process's threads; ``clock`` is in seconds. Thread-safe.

    An account and region leaves ``LEFT_FREE`` threads to the others. All slow ones together leave half of the threads.
    """

    def __init__(self, threads: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._scopes: set[str] = set()
        #: By scope: when each of its places was taken, by the place's number.
        self._running: dict[str, dict[int, float]] = {}
        self._slow_until: dict[str, float] = {}
        #: By scope: the waiting workers, in order.
        self._waiting: dict[str, dict[str, None]] = {}

    def enter(self, scope: str, worker_ids: Sequence[str]) -> Place | None:
        """Return a place, or ``None`` if these workers have to wait. Workers that waited longer go first."""
        with self._lock:
            now = self._clock()
            self._scopes.add(scope)
            free = self._is_free(scope, now)
            if free and scope not in self._waiting:
                return self._take(scope, tuple(worker_ids), now, now)
            waiting = self._waiting.setdefault(scope, {})
            waiting.update(dict.fromkeys(worker_ids))
            return self._next(scope, now, now) if free else None

    def leave(self, place: Place, *, onward: bool = True) -> Place | None:
        """Release a place. Return the next one for this thread, if workers wait and the thread has time left."""
        with self._lock:
            now = self._clock()
            del self._running[place.scope][place.number]
            if now - place.started_at > SLOW_AFTER:
                limits = self.threads > 1 and len(self._scopes) > 1
                if limits and self._slow_until.get(place.scope, 0.0) < now:
                    log.warning("collect.slow", scope=place.scope, seconds=round(now - place.started_at, 1))
                self._slow_until[place.scope] = now + SLOW_FOR
            if not onward or now - place.first > GO_ON_FOR:
                return None
            scope = next((scope for scope in self._waiting if self._is_free(scope, now)), None)
            return None if scope is None else self._next(scope, now, place.first)

    def _is_free(self, scope: str, now: float) -> bool:
        if self.threads < 2 or len(self._scopes) < 2:
            return True
        if self._is_slow(scope, now):
            slow = sum(
                len(running) for other_scope, running in self._running.items() if self._is_slow(other_scope, now)
            )
            return slow < self.threads // 2
        left_free = LEFT_FREE if self.threads >= 2 * LEFT_FREE else 1
        return len(self._running.get(scope, ())) < self.threads - left_free

    def _is_slow(self, scope: str, now: float) -> bool:
        if self._slow_until.get(scope, 0.0) > now:
            return True
        return any(now - started > SLOW_AFTER for started in self._running.get(scope, {}).values())

    def _next(self, scope: str, now: float, first: float) -> Place:
        waiting = self._waiting.pop(scope)
        worker_ids = tuple(waiting)
        if len(worker_ids) > MAX_WORKERS:  # the rest waits again, so that no scope takes every place
            self._waiting[scope] = dict.fromkeys(worker_ids[MAX_WORKERS:])
        return self._take(scope, worker_ids[:MAX_WORKERS], now, first)

    def _take(self, scope: str, worker_ids: tuple[str, ...], now: float, first: float) -> Place:
        self._number += 1
        self._running.setdefault(scope, {})[self._number] = now
        return Place(self._number, scope, worker_ids, now, first)
