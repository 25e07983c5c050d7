"""Requests that a client may repeat: what was answered to the first one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

#: Seconds. How long an answer is kept for a repeated request, and how long a request may take until its key is free
#: again, because the process that worked on it is gone.
ANSWER_AGE, REQUEST_AGE = 3600, 120


class FirstRequest(NamedTuple):
    """The first request with a key: a digest of it, and its answer; ``status`` is ``None`` while there is none."""

    digest: str
    status: int | None = None
    body: str = ""


class IdempotencyKeys(Protocol):
    """The keys of requests that are done once, each with its answer for a bounded time."""

    def claim(self, key: str, digest: str) -> FirstRequest | None:
        """Claim a key for a request, for ``REQUEST_AGE``; return what has it already, ``None`` if nothing had."""

    def answer(self, key: str, request: FirstRequest) -> None:
        """Keep the answer of a request that claimed its key, for ``ANSWER_AGE``."""

    def release(self, key: str) -> None:
        """Free a key: its request failed, and may be tried again."""
