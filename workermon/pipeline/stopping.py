"""A request to stop that also ends a wait for a connection."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref


class Stop(threading.Event):
    """An event with a file descriptor, which is readable while the event is set.

    Who waits for a socket waits for both, and so stops at once. A signal handler may set it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
            weakref.finalize(self, os.close, end)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._reader

    def set(self) -> None:
        """Request the stop."""
        super().set()
        with contextlib.suppress(BlockingIOError):  # it is readable already
            os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Withdraw the request."""
        super().clear()
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
