"""Requests that a client may repeat, and the answers to the first ones."""

from __future__ import annotations

from typing import NamedTuple, Protocol

#: Seconds. How long an answer is kept for repeated requests, and how long a request may take before its key is free
#: again, because the process that handled it is gone.
ANSWER_AGE, REQUEST_AGE = 3600, 120


class FirstRequest(NamedTuple):
    """The first request with a key: a digest of it, and its answer; ``status`` is ``None`` until there is one."""

    digest: str
    status: int | None = None
    body: str = ""


class IdempotencyKeys(Protocol):
    """The keys of requests that run only once, each with its answer for a limited time."""

    def claim(self, key: str, digest: str) -> FirstRequest | None:
        """Claim a key for a request, for ``REQUEST_AGE``. Return the request that has it already, if any."""

    def answer(self, key: str, request: FirstRequest) -> None:
        """Store the answer of a request that claimed its key, for ``ANSWER_AGE``."""

    def release(self, key: str) -> None:
        """Release a key: its request failed, and may be tried again."""
