"""What every store of tokens, sessions and the audit trail promises."""

from __future__ import annotations

import pytest

from tests.contract.builders import NOW
from tests.support.repositories import Repository
from workermon import models, ports


def token(name: str, role: models.Role = "viewer") -> models.Token:
    """Return a token."""
    return models.Token(name=name, role=role, digest=f"hash of {name}", created=NOW)


def session(digest: str, begins: float = NOW, ends: float = NOW + 60, of: str = "ci") -> models.WebSession:
    """Return a session."""
    return models.WebSession(digest=digest, token=of, token_digest=f"hash of {of}", begins=begins, ends=ends)


def entry(number: int, at: float) -> models.AuditEntry:
    """Return a write."""
    return models.AuditEntry(id=str(number), at=at, by="me", origin="here", action="add", target="x", outcome="ok")


def test_a_token_is_kept_once_until_removed(repository: Repository) -> None:
    """A name is unique. Tokens are sorted by name. Removing an unknown name returns false."""
    assert repository.access.tokens() == []
    assert repository.access.add(token("ops", "operator"))
    assert repository.access.add(token("ci"))
    assert not repository.access.add(token("ci", "admin"))
    assert repository.access.tokens() == [token("ci"), token("ops", "operator")]
    assert repository.access.token("ci") == token("ci")
    assert repository.access.token("stranger") is None
    assert repository.access.remove("ci")
    assert not repository.access.remove("ci")
    assert repository.access.tokens() == [token("ops", "operator")]


def test_sessions_end_with_their_token(repository: Repository) -> None:
    """Closing ends one session. Removing a token ends its sessions and no others."""
    repository.access.add(token("ci"))
    for opened in (session("a"), session("b"), session("c", of="ops")):
        repository.access.open_session(opened)
    repository.access.close_session("a")
    assert repository.access.session("a") is None
    assert repository.access.session("b") == session("b")
    repository.access.remove("ci")
    assert repository.access.session("b") is None
    assert repository.access.session("c") == session("c", of="ops")


def test_sessions_are_bounded(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new session drops those that have expired, and the oldest beyond the limit."""
    monkeypatch.setattr(ports, "MAX_SESSIONS", 3)
    repository.access.open_session(session("over", ends=NOW + 1))
    for number in range(4):
        repository.access.open_session(session(str(number), begins=NOW + 2 + number))
    live = [digest for digest in ("over", "0", "1", "2", "3") if repository.access.session(digest)]
    assert live == ["1", "2", "3"]


def test_the_key_stays_the_same(repository: Repository) -> None:
    """The key is created once and then returned unchanged."""
    assert repository.access.key()
    assert repository.access.key() == repository.access.key()


def test_the_trail_is_kept_by_time(repository: Repository) -> None:
    """Entries are returned from a time on, newest first, up to a limit."""
    assert repository.audit.entries(0) == []
    for number in range(3):
        repository.audit.record(entry(number, NOW + number))
    assert [audit_entry.id for audit_entry in repository.audit.entries(0)] == ["2", "1", "0"]
    assert [audit_entry.id for audit_entry in repository.audit.entries(NOW + 1)] == ["2", "1"]
    assert repository.audit.entries(0, 1) == [entry(2, NOW + 2)]


def test_the_trail_is_bounded_by_age_and_number(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that are too old or too many are dropped with the next entry."""
    monkeypatch.setattr(ports, "AUDIT_ENTRIES", 3)
    for number in range(5):
        repository.audit.record(entry(number, NOW + number))
    assert [audit_entry.id for audit_entry in repository.audit.entries(0)] == ["4", "3", "2"]
    repository.audit.record(entry(9, NOW + 3.5 + ports.AUDIT_AGE))
    assert [audit_entry.id for audit_entry in repository.audit.entries(0)] == ["9", "4"]
