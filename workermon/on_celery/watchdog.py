"""Ends a process whose work hangs, so that its supervisor restarts it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from workermon import logs

log = logs.get(__name__)


class Watchdog:
    """Watches one piece of work at a time, from a separate thread.

    If work takes longer than ``limit`` seconds, it ends the process by ``end``, at most ``limit / 6`` seconds later,
    because a hanging call cannot be interrupted.
    """

    def __init__(self, limit: float, end: Callable[[], None], steady: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._end, self._steady = limit, end, steady
        self._begun_at: float | None = None
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, work: str) -> Iterator[None]:
        """Watch the work in this block; ``work`` names it in the log."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(work,), name="watchdog", daemon=True)
            self._thread.start()
        self._begun_at = self._steady()
        try:
            yield
        finally:
            self._begun_at = None

    def hangs(self) -> bool:
        """Return whether work has begun and not ended within the limit."""
        begun_at = self._begun_at
        return begun_at is not None and self._steady() - begun_at > self._limit

    def _watch(self, work: str) -> None:
        pause = threading.Event()
        while not pause.wait(self._limit / 6):
            if self.hangs():
                log.error("watchdog.ended", work=work, limit=self._limit)
                logging.shutdown()
                self._end()
                return
