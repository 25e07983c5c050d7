"""Tokens and sessions, as hashes, and the key of CSRF tokens."""

from __future__ import annotations

import secrets
from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import client, keys, unreadable_records


class RedisAccess:
    """``ports.Access`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def add(self, token: models.Token) -> bool:
        """Store a token, unless one with that name exists."""
        with client.guard(self._client):
            return bool(self._client.hsetnx(keys.TOKENS, token.name, token.model_dump_json()))

    def token(self, name: str) -> models.Token | None:
        """Return a token."""
        with client.guard(self._client):
            document: Any = self._client.hget(keys.TOKENS, name)
        return (
            unreadable_records.parsed(self._client, f"{keys.TOKENS} {name}", models.Token, document)
            if document
            else None
        )

    def tokens(self) -> list[models.Token]:
        """Return all tokens."""
        with client.guard(self._client):
            documents: Any = self._client.hgetall(keys.TOKENS)
        read = [
            unreadable_records.parsed(self._client, f"{keys.TOKENS} {unreadable_records.text(name)}", models.Token, raw)
            for name, raw in documents.items()
        ]
        return sorted((token for token in read if token is not None), key=lambda token: token.name)

    def remove(self, name: str) -> bool:
        """Remove a token first, which ends its sessions. Then delete those."""
        with client.guard(self._client):
            removed: Any = self._client.hdel(keys.TOKENS, name)
        self._forget([session.digest for session in self._sessions() if session.token == name])
        return bool(removed)

    def open_session(self, session: models.WebSession) -> None:
        """Store a session. If there are too many, drop the oldest."""
        stored_sessions = sorted(self._sessions(), key=lambda record: record.begins)
        over = [record.digest for record in stored_sessions if record.ends <= session.begins]
        living = [
            record.digest
            for record in stored_sessions
            if record.ends > session.begins and record.digest != session.digest
        ]
        self._forget([*over, *living[: max(0, len(living) + 1 - ports.MAX_SESSIONS)]])
        with client.guard(self._client):
            self._client.hset(keys.SESSIONS, session.digest, session.model_dump_json())

    def session(self, digest: str) -> models.WebSession | None:
        """Return a session."""
        with client.guard(self._client):
            document: Any = self._client.hget(keys.SESSIONS, digest)
        return unreadable_records.parsed(self._client, keys.SESSIONS, models.WebSession, document) if document else None

    def close_session(self, digest: str) -> None:
        """Delete a session."""
        self._forget([digest])

    def key(self) -> str:
        """Return the key. If two processes create one at the same time, the first one stays."""
        with client.guard(self._client):
            self._client.setnx(keys.CSRF_KEY, secrets.token_hex(32))
            key: Any = self._client.get(keys.CSRF_KEY)
        return str(key.decode())

    def _sessions(self) -> list[models.WebSession]:
        with client.guard(self._client):
            documents: Any = self._client.hvals(keys.SESSIONS)
        read = [unreadable_records.parsed(self._client, keys.SESSIONS, models.WebSession, raw) for raw in documents]
        return [session for session in read if session is not None]

    def _forget(self, digests: list[str]) -> None:
        if digests:
            with client.guard(self._client):
                self._client.hdel(keys.SESSIONS, *digests)
