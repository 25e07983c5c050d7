"""The fleet as the page last read it: reading tens of thousands of workers takes seconds, and nobody waits for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from workermon import errors, logs, views

log = logs.get(__name__)

#: Minimum seconds for which a snapshot is used.
MIN_AGE = 1.0

#: The pause before the next read, in multiples of a read's duration: so it takes at most a tenth of one processor.
PAUSE = 10


class Snapshots:
    """Keeps the newest snapshot, and reads it again in the background when somebody looks.

    The rows of a page and the firing alerts are read for each request. Only the set of matching workers, the figures
    and the squares may be as old as the snapshot. A small fleet is read for each request too.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._snapshot: views.Snapshot | None = None
        self._read_at = self._took = 0.0
        self._reading = False

    def get(self, read: Callable[[], views.Snapshot]) -> views.Snapshot:
        """Return a snapshot. Only the first one is waited for."""
        with self._lock:
            return self._get(read)

    def soon(self, read: Callable[[], views.Snapshot], patience: float) -> views.Snapshot | None:
        """Return a snapshot; ``None`` if another thread reads the first one for longer than ``patience`` seconds."""
        if not self._lock.acquire(timeout=patience):
            return self._snapshot
        try:
            return self._get(read)
        finally:
            self._lock.release()

    def _get(self, read: Callable[[], views.Snapshot]) -> views.Snapshot:
        age = self._now() - self._read_at
        if self._snapshot is None or self._took < MIN_AGE / PAUSE:
            return self._read(read)
        if age > max(MIN_AGE, PAUSE * self._took) and not self._reading:
            self._reading = True
            threading.Thread(target=self._read_behind, args=(read,), name="snapshot", daemon=True).start()
        return self._snapshot

    def warm(self, read: Callable[[], views.Snapshot]) -> None:
        """Read the first snapshot in the background."""
        threading.Thread(target=self._warm, args=(read,), name="snapshot", daemon=True).start()

    def _warm(self, read: Callable[[], views.Snapshot]) -> None:
        try:
            self.get(read)
        except errors.WorkermonError as error:
            log.warning("page.snapshot_failed", reason=str(error))

    def _read(self, read: Callable[[], views.Snapshot]) -> views.Snapshot:
        started = self._now()
        self._snapshot = read()
        self._read_at = self._now()
        self._took = self._read_at - started
        return self._snapshot

    def _read_behind(self, read: Callable[[], views.Snapshot]) -> None:
        try:
            started = self._now()
            snapshot = read()
            with self._lock:
                self._snapshot, self._read_at = snapshot, self._now()
                self._took = self._read_at - started
        except errors.WorkermonError as error:
            log.warning("page.snapshot_failed", reason=str(error))
        finally:
            self._reading = False
