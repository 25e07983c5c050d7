"""A call in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs a call in a thread of its own, one at a time. The caller never waits."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self._name, self._call = name, call
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the call, unless the last one is still running."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._call, name=self._name, daemon=True)
            self._thread.start()
