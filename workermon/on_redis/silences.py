"""Silences in one hash, and the acknowledgements of alerts beside their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from workermon import models
from workermon.on_redis import client, keys, schema, unreadable_records


def parsed(connection: redis.Redis, documents: Mapping[bytes, bytes]) -> list[models.Silence]:
    """Return the silences from their documents by id, the first to end first."""
    read = [
        unreadable_records.parsed(connection, f"{keys.SILENCES} {unreadable_records.text(name)}", models.Silence, raw)
        for name, raw in documents.items()
    ]
    sound = [silence for silence in read if silence is not None]
    return sorted(sound, key=lambda silence: (silence.ends, silence.id))


class RedisSilences:
    """``ports.Silences`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def every(self) -> list[models.Silence]:
        """Return the silences that were not removed, the first to end first."""
        with client.guard(self._client):
            documents: Any = self._client.hgetall(keys.SILENCES)
        return parsed(self._client, documents)

    def add(self, silence: models.Silence) -> None:
        """Put a silence in force, and delete those that ended before it begins."""
        schema.begin(self._client)
        over = [stored.id for stored in self.every() if stored.ends <= silence.begins]
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            if over:
                pipe.hdel(keys.SILENCES, *over)
            pipe.hset(keys.SILENCES, silence.id, silence.model_dump_json())
            pipe.execute()

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Remove these silences."""
        ids = list(silence_ids)
        if ids:
            with client.guard(self._client):
                self._client.hdel(keys.SILENCES, *ids)

    def acknowledge(self, acknowledged: models.Acknowledgement) -> None:
        """Record who has seen an alert."""
        with client.guard(self._client):
            name = keys.acknowledged(acknowledged.alert_id)
            self._client.set(name, acknowledged.model_dump_json(), ex=keys.HISTORY)

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, models.Acknowledgement]:
        """Return who acknowledged these alerts last."""
        if not alert_ids:
            return {}
        with client.guard(self._client):
            documents: Any = self._client.mget([keys.acknowledged(alert_id) for alert_id in alert_ids])
        read = {
            alert_id: unreadable_records.parsed(self._client, keys.acknowledged(alert_id), models.Acknowledgement, raw)
            for alert_id, raw in zip(alert_ids, documents, strict=True)
            if raw
        }
        return {alert_id: acknowledgement for alert_id, acknowledgement in read.items() if acknowledgement is not None}
