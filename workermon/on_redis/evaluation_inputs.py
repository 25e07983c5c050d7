"""What an evaluation reads first, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from workermon import lua, ports
from workermon.on_redis import bases, client, keys, liveness, silences, unreadable_records


class LoadSurroundings(lua.Script[list[Any]]):
    """Return all silences, and fields of the signs of life."""

    silences: lua.Key
    liveness: lua.Key
    fields: lua.Arguments


class RedisEvaluationInputs:
    """``ports.EvaluationInputs`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def load(self, worker_ids: Sequence[str]) -> ports.EvaluationInput:
        """Return everything, each subject read in one step."""
        connection = self._client
        loading = LoadSurroundings(silences=keys.SILENCES, liveness=keys.LIVENESS, fields=liveness.SINCE)
        calls: list[lua.Script[Any]] = [loading, unreadable_records.listing(), bases.loading_monitor()]
        (stored_silences, since), entries, monitor, *workers = client.run_many(
            connection, [*calls, *bases.loading_workers(worker_ids)]
        )
        return ports.EvaluationInput(
            monitor_alerts=bases.of_monitor(connection, monitor),
            silences=silences.parsed(connection, dict(zip(stored_silences[::2], stored_silences[1::2], strict=True))),
            unreadable=unreadable_records.reasons(entries),
            monitoring_since=liveness.monitoring_since(connection, since),
            workers=bases.of_workers(connection, worker_ids, workers),
        )
