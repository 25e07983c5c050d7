"""The configuration in force: one document, and a revision that is cheap to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pydantic
import redis

from workermon import lua, models
from workermon.on_redis import client, keys, schema, unreadable_records


class SaveConfiguration(lua.Script[int]):
    """Save a configuration whose revision is one above the saved one. Return 1, or 0 if it is not."""

    configuration: lua.Key
    revision: lua.Argument
    document: lua.Argument


def saving(configuration: models.Configuration) -> SaveConfiguration:
    """Return the call that saves a configuration."""
    return SaveConfiguration(
        configuration=keys.CONFIGURATION, revision=configuration.revision, document=configuration.model_dump_json()
    )


_DOCUMENT: pydantic.TypeAdapter[dict[str, Any]] = pydantic.TypeAdapter(dict[str, Any])

#: The parts of a configuration. If the whole cannot be read, they are read one by one.
_PARTS: Mapping[str, type[models.Frozen]] = {
    "rules": models.Rule,
    "silences": models.Maintenance,
    "channels": models.Channel,
    "metrics": models.Metric,
    "accounts": models.Account,
    "limits": models.Limit,
}


class RedisConfigurations:
    """``ports.Configurations`` on Redis. Until one is saved, ``default`` applies as revision 0."""

    def __init__(self, redis_client: redis.Redis, default: models.Configuration) -> None:
        self._client = redis_client
        self._default = default.model_copy(update={"revision": 0})
        self._cached = self._default
        self._has_loaded = False

    def load(self) -> models.Configuration:
        """Return the configuration in force. Costs one small read if it has not changed."""
        with client.guard(self._client):
            revision: Any = self._client.hget(keys.CONFIGURATION, "revision")
            cached = self._cached
            number = self._revision(revision)
            self._has_loaded = True
            if number == cached.revision:
                return cached
            document: Any = self._client.hget(keys.CONFIGURATION, "document")
        self._cached = self._read(document, number) if document else self._default
        return self._cached

    def loaded(self) -> models.Configuration:
        """Return the configuration that was loaded last, without a look at Redis."""
        return self._cached if self._has_loaded else self.load()

    def of_revision(self, revision: int) -> models.Configuration:
        """Return the configuration that was loaded last if it has that revision, otherwise the one in force."""
        return self._cached if self._has_loaded and self._cached.revision == revision else self.load()

    def _revision(self, raw: bytes | None) -> int:
        """Return the revision. If it is not a number it is written again, because verdicts have to name it."""
        number = unreadable_records.number(self._client, f"{keys.CONFIGURATION} revision", raw or b"0")
        if number is not None:
            return int(number)
        document: Any = self._client.hget(keys.CONFIGURATION, "document")
        read = (
            unreadable_records.parsed(self._client, keys.CONFIGURATION, models.Configuration, document)
            if document
            else None
        )
        revision = self._cached.revision if read is None else read.revision
        self._client.hset(keys.CONFIGURATION, "revision", revision)
        return revision

    def _read(self, document: bytes, revision: int) -> models.Configuration:
        """Parse a document's configuration without its unreadable parts. Falls back to the previous configuration."""
        try:
            read = models.Configuration.model_validate_json(document, extra="ignore")
            return read if read.revision == revision else read.model_copy(update={"revision": revision})
        except ValueError as error:
            sound = self._without_unreadable(document)
            if sound is None:
                unreadable_records.note(self._client, keys.CONFIGURATION, unreadable_records.describe(error))
                sound = self._cached
            return sound.model_copy(update={"revision": revision, "complete": False})

    def _without_unreadable(self, document: bytes) -> models.Configuration | None:
        try:
            document_fields = _DOCUMENT.validate_json(document)
            for field, model in _PARTS.items():
                part = document_fields.get(field)
                if isinstance(part, list):
                    document_fields[field] = [
                        entry for place, entry in enumerate(part) if self._is_sound(model, field, place, entry)
                    ]
                elif isinstance(part, dict):
                    document_fields[field] = {
                        name: entry for name, entry in part.items() if self._is_sound(model, field, name, entry)
                    }
            return models.Configuration.model_validate(document_fields, extra="ignore")
        except ValueError:
            return None

    def _is_sound(self, model: type[models.Frozen], field: str, place: object, value: object) -> bool:
        name = f"{keys.CONFIGURATION} {field}.{place}"
        return unreadable_records.parsed(self._client, name, model, json.dumps(value).encode()) is not None

    def save(self, configuration: models.Configuration) -> bool:
        """Put a configuration in force if its revision is one above the present one."""
        schema.begin(self._client)
        return bool(client.run(self._client, saving(configuration)))
