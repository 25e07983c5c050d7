"""The configuration in force: one document, and a revision that everybody can look at cheaply."""

from __future__ import annotations

from typing import Any

import redis

from workermon import lua, models
from workermon.on_redis import client, keys


class SaveConfiguration(lua.Script[int]):
    """Save a configuration whose revision is one above the saved one; return 1, or 0 if it is not."""

    configuration: lua.Key
    revision: lua.Argument
    document: lua.Argument


def saving(configuration: models.Configuration) -> SaveConfiguration:
    """Return the call that saves one."""
    return SaveConfiguration(
        configuration=keys.CONFIGURATION, revision=configuration.revision, document=configuration.model_dump_json()
    )


class RedisConfigurations:
    """``ports.Configurations`` on Redis; ``default`` (as revision 0) holds if none was saved."""

    def __init__(self, redis_client: redis.Redis, default: models.Configuration) -> None:
        self._client = redis_client
        self._default = default.model_copy(update={"revision": 0})
        self._cached = self._default

    def load(self) -> models.Configuration:
        """Return the configuration in force; one small reading if it has not changed."""
        with client.guard(self._client):
            revision: Any = self._client.hget(keys.CONFIGURATION, "revision")
            cached = self._cached
            if int(revision or 0) == cached.revision:
                return cached
            document: Any = self._client.hget(keys.CONFIGURATION, "document")
        self._cached = models.Configuration.model_validate_json(document) if document else self._default
        return self._cached

    def save(self, configuration: models.Configuration) -> bool:
        """Put it in force, if its revision is one above what is there."""
        return bool(client.run(self._client, saving(configuration)))
