"""Requests that a client may repeat, in memory."""

from __future__ import annotations

import threading

from workermon import ports
from workermon.testing import memory


class MemoryIdempotencyKeys:
    """``ports.IdempotencyKeys`` in memory, by the store's clock."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        #: Each request and until when it is kept, by key.
        self._requests: dict[str, tuple[ports.FirstRequest, float]] = {}

    def claim(self, key: str, digest: str) -> ports.FirstRequest | None:
        """Claim the key. A second request gets the first one's answer."""
        now = self._store.clock()
        with self._lock:
            request, until = self._requests.get(key, (None, 0.0))
            if request is not None and now < until:
                return request
            self._requests[key] = ports.FirstRequest(digest), now + ports.REQUEST_AGE
            return None

    def answer(self, key: str, request: ports.FirstRequest) -> None:
        """Store the answer."""
        with self._lock:
            self._requests[key] = request, self._store.clock() + ports.ANSWER_AGE

    def release(self, key: str) -> None:
        """Release it."""
        with self._lock:
            self._requests.pop(key, None)
