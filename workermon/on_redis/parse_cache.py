"""A cache of what stored texts were parsed as: most are read again as they were last read or written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: Records for which texts are kept. In larger fleets each would be dropped before it is read again.
MAX_TEXTS = 2_000


class ParseCache(Generic[T]):
    """Parses the texts of one field of many records. Values are shared, so nobody may change one. Safe between threads.

    ``parse`` raises ``ValueError`` for a text that cannot be read; that is not kept.
    """

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self._parse = parse
        self._cached: dict[str, tuple[bytes, T]] = {}
        self._lock = threading.Lock()

    def parse(self, name: str, text: bytes) -> T:
        """Return what the text of a record says."""
        cached = self._cached.get(name)
        if cached is not None and cached[0] == text:
            return cached[1]
        value = self._parse(text)
        self.keep(name, text, value)
        return value

    def keep(self, name: str, text: bytes, value: T) -> None:
        """Keep what a text says until the record has another text, or too many others came after it."""
        with self._lock:
            self._cached.pop(name, None)
            self._cached[name] = (text, value)
            if len(self._cached) > MAX_TEXTS:
                del self._cached[next(iter(self._cached))]
