"""Applies a whole set-up in one transaction: the configuration, and the workers added, changed and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import alerts, client, configurations, keys, schema, workers

#: Counts the changes beside the revision, so that changes that touch no rule are distinguished too.
_COUNT = "changes"


class MarkAllPending(lua.Script[int], shared="numbers"):
    """Mark every worker as pending evaluation."""

    workers: lua.Key
    pending: lua.Key
    at: lua.Argument
    worker_prefix: lua.Argument


class RedisSetup:
    """``ports.Setup`` on Redis, by ``WATCH`` and ``MULTI``."""

    def __init__(
        self, redis_client: redis.Redis, channel: str, lifetime: Callable[[], int] = lambda: models.ALERT_HISTORY
    ) -> None:
        self._client = redis_client
        self._lifetime = lifetime
        self._alerts = alerts.RedisAlerts(redis_client, channel, lifetime)

    def version(self) -> str:
        """Return a value that differs after every change of the set-up."""
        with client.guard(self._client):
            return _version(self._client)

    def put(self, change: ports.Change) -> bool:
        """Write all of it in one step, if nothing it is based on has changed."""
        schema.begin(self._client)
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            leaving = [verdict.basis.subject.id for verdict in change.leaving]
            try:
                pipe.watch(keys.CONFIGURATION, keys.WORKERS, *map(keys.alerts, leaving))
                if not self._is_current(change):
                    return False
                pipe.multi()
                self._queue(pipe, change)
                pipe.execute()
            except redis.WatchError:
                return False
        return True

    def _is_current(self, change: ports.Change) -> bool:
        if _version(self._client) != change.version:
            return False
        members: Any = self._client.zrange(keys.WORKERS, 0, -1)
        unknown = set(client.texts(members)) ^ set(change.fleet)
        # Unreadable workers are not part of the fleet, and stay unchanged.
        if unknown & set(change.fleet) or workers.RedisWorkers(self._client).get(sorted(unknown)):
            return False
        with self._client.pipeline(transaction=False) as pipe:
            for worker in change.updated:
                pipe.hget(keys.worker(worker.id), "spec")
            for verdict in change.leaving:
                pipe.hget(keys.alerts(verdict.basis.subject.id), "version")
            replies: list[Any] = pipe.execute()
        specs, versions = replies[: len(change.updated)], replies[len(change.updated) :]
        return all(
            spec is not None and models.Worker.model_validate_json(spec, extra="ignore") == change.fleet[worker.id]
            for worker, spec in zip(change.updated, specs, strict=True)
        ) and all(
            int(version or 0) == verdict.basis.version
            for verdict, version in zip(change.leaving, versions, strict=True)
        )

    def _queue(self, pipe: Any, change: ports.Change) -> None:
        pipe.hincrby(keys.CONFIGURATION, _COUNT, 1)
        if change.added:
            workers.adding(change.added).add_to(pipe)
        for worker in change.updated:
            workers.replacing(worker).add_to(pipe)
        lifetime = self._lifetime()
        for verdict in change.leaving:
            self._alerts.writing(verdict, lifetime, retire=True).add_to(pipe)
        if change.configuration is not None:
            configurations.saving(change.configuration).add_to(pipe)
            marking = MarkAllPending(
                workers=keys.WORKERS, pending=keys.PENDING, at=repr(change.at), worker_prefix=keys.worker("")
            )
            marking.add_to(pipe)


def _version(connection: redis.Redis) -> str:
    fields: Any = connection.hmget(keys.CONFIGURATION, ["revision", _COUNT])
    return "/".join((value or b"0").decode() for value in fields)
