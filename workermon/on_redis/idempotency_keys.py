"""Keys of requests that run only once: a string each, which Redis expires."""

from __future__ import annotations

import json
import secrets
from typing import Any

import redis

from workermon import ports
from workermon.on_redis import client, keys


class RedisIdempotencyKeys:
    """``ports.IdempotencyKeys`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def claim(self, key: str, digest: str) -> ports.FirstRequest | None:
        """Claim the key. A second request gets the first one's answer."""
        # The client repeats a command if the connection breaks, so the claim names its owner.
        owner, name = secrets.token_hex(8), keys.idempotency_key(key)
        text = json.dumps([digest, None, owner])
        with client.guard(self._client):
            stored: Any = None
            while stored is None:
                if self._client.set(name, text, nx=True, ex=ports.REQUEST_AGE):
                    return None
                stored = self._client.get(name)
        stored_digest, status, body = json.loads(stored)
        if (status, body) == (None, owner):
            return None
        return ports.FirstRequest(stored_digest, status, body if status is not None else "")

    def answer(self, key: str, request: ports.FirstRequest) -> None:
        """Store the answer."""
        with client.guard(self._client):
            self._client.set(keys.idempotency_key(key), json.dumps(request, ensure_ascii=False), ex=ports.ANSWER_AGE)

    def release(self, key: str) -> None:
        """Release it."""
        with client.guard(self._client):
            self._client.delete(keys.idempotency_key(key))
