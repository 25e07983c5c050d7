"""Who may use the page and the API, and the trail of what was changed."""

from __future__ import annotations

from typing import Protocol

from workermon import models

#: Sessions of browsers at a time; beyond that the oldest one ends.
MAX_SESSIONS = 1000
#: Entries of the audit trail, and seconds that one is kept.
AUDIT_ENTRIES = 10_000
AUDIT_AGE = 400 * models.DAY


class Access(Protocol):
    """Tokens by name, and the sessions of browsers that logged in with one. Only hashes are kept of either."""

    def add(self, token: models.Token) -> bool:
        """Keep a token; ``False`` if there is one of that name."""

    def token(self, name: str) -> models.Token | None:
        """Return a token, ``None`` if there is none of that name."""

    def tokens(self) -> list[models.Token]:
        """Return all tokens, by name."""

    def remove(self, name: str) -> bool:
        """Remove a token and end its sessions; ``False`` if there is none of that name."""

    def open_session(self, session: models.WebSession) -> None:
        """Keep a session; forget those that were over when it began, and the oldest beyond ``MAX_SESSIONS``."""

    def session(self, digest: str) -> models.WebSession | None:
        """Return a session, also one that is over; ``None`` if there is none of that digest."""

    def close_session(self, digest: str) -> None:
        """Forget a session."""

    def key(self) -> str:
        """Return the key that CSRF tokens are made with: random, made at the first call, the same ever after."""


class Audit(Protocol):
    """The trail of writes: at most ``AUDIT_ENTRIES``, none older than ``AUDIT_AGE``."""

    def record(self, entry: models.AuditEntry) -> None:
        """Add an entry."""

    def entries(self, since: float, limit: int = AUDIT_ENTRIES) -> list[models.AuditEntry]:
        """Return the entries from that time on, the newest first."""
