"""The audit trail: its entries, and their order by time."""

from __future__ import annotations

from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable_records


class RecordAudit(lua.Script[int]):
    """Add an entry, and drop entries that are too old or too many. Return how many were dropped."""

    order: lua.Key
    entries: lua.Key
    id: lua.Argument
    entry: lua.Argument
    at: lua.Argument
    before: lua.Argument
    max_entries: lua.Argument
    lifetime: lua.Argument


class RedisAudit:
    """``ports.Audit`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def record(self, entry: models.AuditEntry) -> None:
        """Add an entry, and drop entries that are too old or too many."""
        recording = RecordAudit(
            order=keys.AUDIT,
            entries=keys.AUDIT_ENTRIES,
            id=entry.id,
            entry=entry.model_dump_json(),
            at=repr(entry.at),
            before=repr(entry.at - ports.AUDIT_AGE),
            max_entries=ports.AUDIT_ENTRIES,
            lifetime=int(ports.AUDIT_AGE),
        )
        client.run(self._client, recording)

    def entries(self, since: float, limit: int = ports.AUDIT_ENTRIES) -> list[models.AuditEntry]:
        """Return the entries from that time on."""
        with client.guard(self._client):
            ids: Any = self._client.zrevrangebyscore(keys.AUDIT, "+inf", since, 0, limit)
            documents: Any = self._client.hmget(keys.AUDIT_ENTRIES, ids) if ids else []
        read = [
            unreadable_records.parsed(self._client, keys.AUDIT_ENTRIES, models.AuditEntry, raw)
            for raw in documents
            if raw is not None
        ]
        return [entry for entry in read if entry is not None]
