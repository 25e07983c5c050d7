"""The learned delays of an account and region, shared by all worker processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import redis

from workermon import models
from workermon.on_redis import client, keys


class RedisLearnedDelays:
    """``ports.LearnedDelays`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def load(self, scope: models.AccountRegion) -> dict[str, Any]:
        """Return all learned delays."""
        with client.guard(self._client):
            stored = cast("dict[bytes, bytes]", self._client.hgetall(keys.learned_delays(scope)))
        learned: dict[str, Any] = {}
        for name, text in stored.items():
            try:
                learned[name.decode()] = json.loads(text)
            except ValueError:
                continue
        return learned

    def save(self, scope: models.AccountRegion, values: Mapping[str, Any]) -> None:
        """Store these beside the others."""
        if not values:
            return
        key = keys.learned_delays(scope)
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            pipe.hset(key, mapping={name: json.dumps(value, separators=(",", ":")) for name, value in values.items()})
            pipe.expire(key, keys.LESSONS)
            pipe.execute()
