"""Who may use the page and the API, and the audit trail."""

from __future__ import annotations

from typing import Protocol

from workermon import models

#: Maximum number of browser sessions. Beyond that the oldest one ends.
MAX_SESSIONS = 1000
#: Maximum entries of the audit trail, and their maximum age in seconds.
AUDIT_ENTRIES = 10_000
AUDIT_AGE = 400 * models.DAY


class Access(Protocol):
    """Tokens by name, and the browser sessions that logged in with one. Only hashes of both are stored."""

    def add(self, token: models.Token) -> bool:
        """Store a token; ``False`` if one with that name exists."""

    def token(self, name: str) -> models.Token | None:
        """Return a token, ``None`` if there is none of that name."""

    def tokens(self) -> list[models.Token]:
        """Return all tokens, by name."""

    def remove(self, name: str) -> bool:
        """Remove a token and end its sessions; ``False`` if there is none of that name."""

    def open_session(self, session: models.WebSession) -> None:
        """Store a session. Delete those that ended before it began, and the oldest beyond ``MAX_SESSIONS``."""

    def session(self, digest: str) -> models.WebSession | None:
        """Return a session, even a past one; ``None`` if there is none with that digest."""

    def close_session(self, digest: str) -> None:
        """Delete a session."""

    def key(self) -> str:
        """Return the key of CSRF tokens: random, created by the first call, never changed."""


class Audit(Protocol):
    """The trail of writes: at most ``AUDIT_ENTRIES``, none older than ``AUDIT_AGE``."""

    def record(self, entry: models.AuditEntry) -> None:
        """Add an entry."""

    def entries(self, since: float, limit: int = AUDIT_ENTRIES) -> list[models.AuditEntry]:
        """Return the entries from that time on, newest first."""
