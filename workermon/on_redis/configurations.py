"""The configuration in force: one document, and a revision that everybody can look at cheaply."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models
from workermon.on_redis import client, keys

SAVE = client.Script.load("save_configuration")


def saving(configuration: models.Configuration) -> tuple[list[str], list[client.Argument]]:
    """Return what ``SAVE`` takes to save one."""
    return [keys.CONFIGURATION], [configuration.revision, configuration.model_dump_json()]


class RedisConfigurations:
    """``ports.Configurations`` on Redis; ``default`` (as revision 0) holds where none was saved."""

    def __init__(self, redis_client: redis.Redis, default: models.Configuration) -> None:
        self._client = redis_client
        self._default = default.model_copy(update={"revision": 0})
        self._cached = self._default

    def load(self) -> models.Configuration:
        """Return the configuration in force; one small reading where it has not changed."""
        with client.guard(self._client):
            revision: Any = self._client.hget(keys.CONFIGURATION, "revision")
            cached = self._cached
            if int(revision or 0) == cached.revision:
                return cached
            document: Any = self._client.hget(keys.CONFIGURATION, "document")
        self._cached = models.Configuration.model_validate_json(document) if document else self._default
        return self._cached

    def save(self, configuration: models.Configuration) -> bool:
        """Put it in force, where its revision is one above what is there."""
        return bool(SAVE.run(self._client, *saving(configuration)))
