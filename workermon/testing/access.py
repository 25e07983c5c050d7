"""Tokens, sessions and the audit trail in memory."""

from __future__ import annotations

import threading

from workermon import models, ports


class MemoryAccess:
    """``ports.Access`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tokens: dict[str, models.Token] = {}
        self._sessions: dict[str, models.WebSession] = {}

    def add(self, token: models.Token) -> bool:
        """Store a token, unless one with that name exists."""
        with self._lock:
            if token.name in self._tokens:
                return False
            self._tokens[token.name] = token
            return True

    def token(self, name: str) -> models.Token | None:
        """Return a token."""
        return self._tokens.get(name)

    def tokens(self) -> list[models.Token]:
        """Return all tokens."""
        with self._lock:
            return [self._tokens[name] for name in sorted(self._tokens)]

    def remove(self, name: str) -> bool:
        """Remove a token and end its sessions."""
        with self._lock:
            self._sessions = {key: session for key, session in self._sessions.items() if session.token != name}
            return self._tokens.pop(name, None) is not None

    def open_session(self, session: models.WebSession) -> None:
        """Store a session. If there are too many, drop the oldest."""
        with self._lock:
            living = [stored for stored in self._sessions.values() if stored.ends > session.begins]
            living = [stored for stored in living if stored.digest != session.digest]
            living.sort(key=lambda stored: stored.begins)
            living = [*living[max(0, len(living) + 1 - ports.MAX_SESSIONS) :], session]
            self._sessions = {stored.digest: stored for stored in living}

    def session(self, digest: str) -> models.WebSession | None:
        """Return a session."""
        return self._sessions.get(digest)

    def close_session(self, digest: str) -> None:
        """Delete a session."""
        with self._lock:
            self._sessions.pop(digest, None)

    def key(self) -> str:
        """Return the key."""
        return "of a test"


class MemoryAudit:
    """``ports.Audit`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: list[models.AuditEntry] = []

    def record(self, entry: models.AuditEntry) -> None:
        """Add an entry, and drop entries that are too old or too many."""
        with self._lock:
            recent = [recorded for recorded in self._entries if recorded.at >= entry.at - ports.AUDIT_AGE]
            self._entries = sorted([*recent, entry], key=lambda recorded: (recorded.at, recorded.id))[
                -ports.AUDIT_ENTRIES :
            ]

    def entries(self, since: float, limit: int = ports.AUDIT_ENTRIES) -> list[models.AuditEntry]:
        """Return the entries from that time on."""
        with self._lock:
            return [entry for entry in reversed(self._entries) if entry.at >= since][:limit]
