"""Keeps work that many threads are asked for in one thread of a process, so that requests for it do not pile up."""

from __future__ import annotations

import threading
from collections.abc import Generator


class SingleRun:
    """Lets one thread at a time do some work; the others need not. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_running = self._is_requested = False

    def turns(self) -> Generator[None]:
        """Yield once for each time that the caller has to do the work now: not at all if another thread does it.

        That thread does it once more, because what is requested meanwhile may be new to it.
        """
        with self._lock:
            self._is_requested = True
            if self._is_running:
                return
            self._is_running = True
        is_mine = True
        try:
            while is_mine := self._take():
                yield
        finally:
            if is_mine:  # the work failed
                with self._lock:
                    self._is_running = False

    def _take(self) -> bool:
        """Return whether the work is requested. If not, this thread is done, and the next one may begin."""
        with self._lock:
            self._is_running, self._is_requested = self._is_requested, False
            return self._is_running
