"""Tokens, sessions of browsers, and the audit trail."""

from __future__ import annotations

from typing import Protocol

from workermon.models import AuditEntry, LoginSession, Token


class Access(Protocol):
    """The tokens that page and API take, and the browsers that logged in with them."""

    def add_token(self, token: Token) -> bool:
        """Keep a token; ``False`` if there is one of that name."""

    def tokens(self) -> list[Token]:
        """Return the tokens, by name."""

    def token(self, digest: str) -> Token | None:
        """Return the token with that hash."""

    def revoke_token(self, name: str) -> bool:
        """Forget a token and every session that was begun with it; ``False`` if there is none of that name."""

    def begin_session(self, session: LoginSession, now: float) -> None:
        """Keep a session until it ends."""

    def session(self, digest: str, now: float) -> LoginSession | None:
        """Return the session with that hash, unless it has ended or its token was revoked."""

    def end_session(self, digest: str) -> None:
        """Forget a session."""

    def count_failure(self, source: str, now: float) -> int:
        """Count a failed login from an address; return how many there were within the last ten minutes."""

    def failures(self, source: str) -> int:
        """Return how many logins from an address failed within the last ten minutes."""


class AuditTrail(Protocol):
    """Every write, whoever asked for it; the newest ``MAX_AUDIT_ENTRIES`` are kept."""

    def append(self, entry: AuditEntry) -> None:
        """Keep an entry."""

    def since(self, at: float, limit: int) -> list[AuditEntry]:
        """Return entries since a time, the newest first."""


#: Entries of the audit trail.
MAX_AUDIT_ENTRIES = 10_000
#: Seconds for which a failed login counts against its address.
FAILURES_KEPT = 600
