"""Tokens and sessions by the hash of their secret, and the audit trail as a stream of bounded length."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import client, keys


class RedisAccess:
    """``ports.Access`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def add_token(self, token: models.Token) -> bool:
        """Keep a token; ``False`` if there is one of that name."""
        with client.guard(self._client):
            return bool(self._client.hsetnx(keys.TOKENS, token.name, token.model_dump_json()))

    def tokens(self) -> list[models.Token]:
        """Return the tokens, by name."""
        with client.guard(self._client):
            found: Any = self._client.hvals(keys.TOKENS)
        return sorted((models.Token.model_validate_json(text) for text in found), key=lambda token: token.name)

    def token(self, digest: str) -> models.Token | None:
        """Return the token with that hash."""
        return next((token for token in self.tokens() if token.digest == digest), None)

    def revoke_token(self, name: str) -> bool:
        """Forget a token; its sessions end, for each names the token that it was begun with."""
        with client.guard(self._client):
            return bool(self._client.hdel(keys.TOKENS, name))

    def begin_session(self, session: models.LoginSession, now: float) -> None:
        """Keep a session until it ends."""
        lifetime = max(1, int(session.ends - now))
        with client.guard(self._client):
            self._client.set(keys.login_session(session.digest), session.model_dump_json(), ex=lifetime)

    def session(self, digest: str, now: float) -> models.LoginSession | None:
        """Return the session with that hash, unless it has ended or its token was revoked."""
        with client.guard(self._client):
            text: Any = self._client.get(keys.login_session(digest))
        if text is None:
            return None
        session = models.LoginSession.model_validate_json(text)
        with client.guard(self._client):
            token: Any = self._client.hget(keys.TOKENS, session.token)
        # A new token of the same name is another one.
        known = token is not None and models.Token.model_validate_json(token).digest == session.token_digest
        return session if known and session.ends > now else None

    def end_session(self, digest: str) -> None:
        """Forget a session."""
        with client.guard(self._client):
            self._client.delete(keys.login_session(digest))

    def count_failure(self, source: str, now: float) -> int:  # noqa: ARG002  (Redis has its own clock)
        """Count a failed login from an address; return how many there were within the last ten minutes."""
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.incr(keys.login_failures(source))
            pipe.expire(keys.login_failures(source), ports.FAILURES_KEPT, nx=True)
            return int(pipe.execute()[0])

    def failures(self, source: str) -> int:
        """Return how many logins from an address failed within the last ten minutes."""
        with client.guard(self._client):
            found: Any = self._client.get(keys.login_failures(source))
        return int(found or 0)


class RedisAuditTrail:
    """``ports.AuditTrail`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def append(self, entry: models.AuditEntry) -> None:
        """Keep an entry."""
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(keys.AUDIT, {entry.model_dump_json(): entry.at})
            pipe.zremrangebyrank(keys.AUDIT, 0, -ports.MAX_AUDIT_ENTRIES - 1)
            pipe.execute()

    def since(self, at: float, limit: int) -> list[models.AuditEntry]:
        """Return entries since a time, the newest first."""
        with client.guard(self._client):
            found: Any = self._client.zrevrangebyscore(keys.AUDIT, "+inf", at, start=0, num=limit)
        return [models.AuditEntry.model_validate_json(text) for text in found]
