"""The version of all stored data. An empty server gets the present one; an older server is migrated step by step."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from workermon import errors, logs, lua, models
from workermon.on_redis import client, keys, leases, migrations, server_errors

log = logs.get(__name__)

#: The lease under which one process migrates, in seconds. Each step of a migration extends it.
LEASE: Final = "schema"
LEASE_SECONDS: Final = 30.0
#: Seconds for which other processes wait for it, and between two checks.
PATIENCE: Final = 300.0
CHECK_INTERVAL: Final = 0.2

#: If none of these exists, the server is empty.
_PRESENT = (keys.WORKERS, keys.CONFIGURATION, keys.OPEN, keys.SILENCES, keys.OLD_INDEX, keys.LIVENESS, keys.ACCOUNTS)

#: Migrates the stored data to the next version, and calls its second argument after each part of the work. Another
#: process may have begun the migration and died, and commands of the new version may have written before it. It must
#: leave data of the new version intact.
Migration = Callable[[redis.Redis, Callable[[], None]], None]

#: By the version that a migration starts from.
MIGRATIONS: Mapping[int, Migration] = {1: migrations.to_2}


class AdvanceSchema(lua.Script[int]):
    """Write a version unless a higher one is stored."""

    schema: lua.Key
    version: lua.Argument


class BeginSchema(lua.Script[int]):
    """Write the version of an empty server; return 1 if it was empty."""

    schema: lua.Key
    present: lua.Keys
    version: lua.Argument


def begin(redis_client: redis.Redis) -> bool:
    """Give an empty server the present version. Every first write has to do this. Return whether it was empty.

    Data without a version counts as version 1, and is migrated.
    """
    return bool(client.run(redis_client, BeginSchema(schema=keys.SCHEMA, present=_PRESENT, version=models.SCHEMA)))


class RedisSchema:
    """``ports.Schema`` on Redis."""

    def __init__(self, redis_client: redis.Redis, steps: Mapping[int, Migration] = MIGRATIONS) -> None:
        self._client = redis_client
        self._steps = steps

    def prepare(self) -> None:
        """Migrate the stored data to this version, under a lease."""
        if self._stored() >= models.SCHEMA:
            return
        lease, owner = leases.RedisLeases(self._client), secrets.token_hex(8)
        until = time.monotonic() + PATIENCE
        while not lease.hold(LEASE, owner, LEASE_SECONDS):
            if self._stored() >= models.SCHEMA:
                return
            if time.monotonic() > until:
                raise errors.SchemaMismatch(
                    client.place(self._client), "another process migrates its data", "wait until it is done"
                )
            time.sleep(CHECK_INTERVAL)
        try:
            for before in range(self._stored(), models.SCHEMA):
                log.info("schema.migrating", version=before, to=before + 1)
                with client.guard(self._client):
                    self._steps[before](self._client, lambda: self._renew(lease, owner))
                self._advance(before + 1)
        finally:
            lease.release(LEASE, owner)

    def _renew(self, lease: leases.RedisLeases, owner: str) -> None:
        lease.hold(LEASE, owner, LEASE_SECONDS)

    def _stored(self) -> int:
        """Return the stored version; an empty server gets this one."""
        with client.guard(self._client):
            raw: Any = self._client.get(keys.SCHEMA)
            server_errors.check_schema(raw)
            if raw is not None and raw.isdigit():
                return int(raw)
        if begin(self._client):
            return models.SCHEMA
        self._advance(1)
        return 1

    def _advance(self, version: int) -> None:
        client.run(self._client, AdvanceSchema(schema=keys.SCHEMA, version=version))
