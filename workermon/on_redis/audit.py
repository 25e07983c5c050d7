"""The audit trail: one sorted set by time."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import client, keys


class RedisAudit:
    """``ports.Audit`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def record(self, entry: models.AuditEntry) -> None:
        """Add an entry, and drop what is too old or too much."""
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(keys.AUDIT, {entry.model_dump_json(): entry.at})
            pipe.zremrangebyscore(keys.AUDIT, "-inf", f"({entry.at - ports.AUDIT_AGE}")
            pipe.zremrangebyrank(keys.AUDIT, 0, -ports.AUDIT_ENTRIES - 1)
            pipe.expire(keys.AUDIT, ports.AUDIT_AGE)
            pipe.execute()

    def entries(self, since: float, limit: int = ports.AUDIT_ENTRIES) -> list[models.AuditEntry]:
        """Return the entries from that time on."""
        with client.guard(self._client):
            found: Any = self._client.zrevrangebyscore(keys.AUDIT, "+inf", since, 0, limit)
        return [models.AuditEntry.model_validate_json(text) for text in found]
