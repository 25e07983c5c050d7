"""Tokens, sessions and the audit trail in memory."""

from __future__ import annotations

from workermon import models, ports


class MemoryAccess:
    """``ports.Access`` in memory; the clock of failures is the one that each call gives."""

    def __init__(self) -> None:
        self._tokens: dict[str, models.Token] = {}
        self._sessions: dict[str, models.LoginSession] = {}
        self._failures: dict[str, tuple[float, int]] = {}
        self._now = 0.0

    def add_token(self, token: models.Token) -> bool:
        """Keep a token; ``False`` if there is one of that name."""
        return self._tokens.setdefault(token.name, token) is token

    def tokens(self) -> list[models.Token]:
        """Return the tokens, by name."""
        return sorted(self._tokens.values(), key=lambda token: token.name)

    def token(self, digest: str) -> models.Token | None:
        """Return the token with that hash."""
        return next((token for token in self.tokens() if token.digest == digest), None)

    def revoke_token(self, name: str) -> bool:
        """Forget a token."""
        return self._tokens.pop(name, None) is not None

    def begin_session(self, session: models.LoginSession, now: float) -> None:  # noqa: ARG002
        """Keep a session."""
        self._sessions[session.digest] = session

    def session(self, digest: str, now: float) -> models.LoginSession | None:
        """Return the session with that hash, unless it has ended or its token was revoked."""
        session = self._sessions.get(digest)
        known = session is not None and self.token(session.token_digest) is not None
        return session if session is not None and known and session.ends > now else None

    def end_session(self, digest: str) -> None:
        """Forget a session."""
        self._sessions.pop(digest, None)

    def count_failure(self, source: str, now: float) -> int:
        """Count a failed login from an address."""
        self._now = now
        since, number = self._failures.get(source, (now, 0))
        if now - since > ports.FAILURES_KEPT:
            since, number = now, 0
        self._failures[source] = (since, number + 1)
        return number + 1

    def failures(self, source: str) -> int:
        """Return how many logins from an address failed within the last ten minutes."""
        since, number = self._failures.get(source, (0.0, 0))
        return number if self._now - since <= ports.FAILURES_KEPT else 0


class MemoryAuditTrail:
    """``ports.AuditTrail`` in memory."""

    def __init__(self) -> None:
        self._entries: list[models.AuditEntry] = []

    def append(self, entry: models.AuditEntry) -> None:
        """Keep an entry."""
        self._entries.append(entry)
        del self._entries[: -ports.MAX_AUDIT_ENTRIES]

    def since(self, at: float, limit: int) -> list[models.AuditEntry]:
        """Return entries since a time, the newest first."""
        newest = sorted((entry for entry in self._entries if entry.at >= at), key=lambda entry: -entry.at)
        return newest[:limit]
