"""The labels of firing alerts at receivers that identify alerts by their labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
import redis

from workermon.on_redis import client, keys, unreadable_records

_LABEL_SETS: pydantic.TypeAdapter[list[dict[str, str]]] = pydantic.TypeAdapter(list[dict[str, str]])


class RedisFiringLabels:
    """``ports.FiringLabels`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def load(self, channel: str, alert_id: str) -> list[dict[str, str]]:
        """Return the sets of labels under which an alert fires at the receiver, or may fire."""
        key = keys.firing_labels(alert_id, channel)
        with client.guard(self._client):
            text: Any = self._client.get(key)
        read = None if text is None else unreadable_records.parsed_by(self._client, key, _LABEL_SETS, text)
        return read or []

    def save(self, channel: str, alert_id: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        """Replace the sets; without any, the alert does not fire at the receiver."""
        key = keys.firing_labels(alert_id, channel)
        with client.guard(self._client):
            if label_sets:
                self._client.set(key, json.dumps([dict(labels) for labels in label_sets]), ex=keys.HISTORY)
            else:
                self._client.delete(key)
