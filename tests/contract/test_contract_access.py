"""What every keeper of tokens, sessions and the audit trail promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import fakeredis
import pytest
import redis

from workermon import models, ports, testing
from workermon.on_redis import access

NOW = 1_700_000_000.0
OPS = models.Token(name="ops", role="operator", digest="d1", created_at=NOW)
READER = models.Token(name="grafana", role="viewer", digest="d2", created_at=NOW)


class Kept(NamedTuple):
    """Both ports of one implementation."""

    access: ports.Access
    audit: ports.AuditTrail


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield Kept(testing.MemoryAccess(), testing.MemoryAuditTrail())
        return
    client: redis.Redis = (
        fakeredis.FakeRedis() if request.param == "fakeredis" else request.getfixturevalue("redis_client")
    )
    yield Kept(access.RedisAccess(client), access.RedisAuditTrail(client))


def test_a_token_is_found_by_its_hash_until_it_is_revoked(kept: Kept) -> None:
    """Names are unique; a revoked token is found no more, and revoking it again says so."""
    assert kept.access.add_token(OPS)
    assert kept.access.add_token(READER)
    assert not kept.access.add_token(OPS.model_copy(update={"digest": "d3"}))
    assert kept.access.tokens() == [READER, OPS]
    assert kept.access.token("d1") == OPS
    assert kept.access.token("d3") is None
    assert kept.access.revoke_token("ops")
    assert not kept.access.revoke_token("ops")
    assert kept.access.token("d1") is None


def test_a_session_ends_with_its_token_with_its_time_or_by_hand(kept: Kept) -> None:
    """A cookie that was stolen is worth nothing once the token behind it is revoked."""
    kept.access.add_token(OPS)
    session = models.LoginSession(digest="s1", token="ops", token_digest="d1", csrf="c", ends=NOW + 60)
    kept.access.begin_session(session, NOW)
    assert kept.access.session("s1", NOW) == session
    assert kept.access.session("s1", NOW + 61) is None
    assert kept.access.session("other", NOW) is None
    kept.access.end_session("s1")
    assert kept.access.session("s1", NOW) is None
    kept.access.begin_session(session, NOW)
    kept.access.revoke_token("ops")
    assert kept.access.session("s1", NOW) is None
    kept.access.add_token(OPS.model_copy(update={"digest": "d9"}))
    assert kept.access.session("s1", NOW) is None, "a new token of the same name is another one"


def test_failures_are_counted_by_address(kept: Kept) -> None:
    """One address' failures slow nobody else."""
    assert [kept.access.count_failure("10.0.0.1", NOW) for _ in range(3)] == [1, 2, 3]
    assert (kept.access.failures("10.0.0.1"), kept.access.failures("10.0.0.2")) == (3, 0)


def test_the_audit_trail_is_newest_first_and_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries come back by time, since a time, and no more than are kept."""
    monkeypatch.setattr(ports, "MAX_AUDIT_ENTRIES", 3)
    for number in range(5):
        kept.audit.append(
            models.AuditEntry(
                at=NOW + number, who="ops", source="10.0.0.1", via="api", action="pause", target=f"i-{number}"
            )
        )
    assert [entry.target for entry in kept.audit.since(0, 10)] == ["i-4", "i-3", "i-2"]
    assert [entry.target for entry in kept.audit.since(NOW + 3, 10)] == ["i-4", "i-3"]
    assert [entry.target for entry in kept.audit.since(0, 1)] == ["i-4"]
