"""Listed statuses: each in its worker's hash, so that it goes with its worker."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable_records, workers

#: Seconds for which the outcome of a listing is kept.
KEPT = 3600

#: The field of a worker's hash: the time of the request, a space, and the status as JSON without its id.
_FIELD = "listed"

#: What reading any text may raise: it may be no JSON, have other types, a number without end, or deep nesting.
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)


class StoreStatuses(lua.Script[None]):
    """Store the listed status of the workers that exist."""

    worker_hashes: lua.Keys
    texts: lua.Arguments


class RedisStatusListings:
    """``ports.StatusListings`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def put(self, at: float, statuses: Sequence[models.InstanceStatus]) -> None:
        """Store the statuses of those instances that are monitored."""
        texts = _texts(at, statuses)
        for start in range(0, len(statuses), workers.CHUNK):
            storing = StoreStatuses(
                worker_hashes=[keys.worker(status.id) for status in statuses[start : start + workers.CHUNK]],
                texts=texts[start : start + workers.CHUNK],
            )
            client.run(self._client, storing)

    def get(self, worker_ids: Sequence[str]) -> dict[str, ports.ListedStatus]:
        """Return what is stored of these workers."""
        if not worker_ids:
            return {}
        reading = workers.ReadWorkers(
            worker_hashes=[keys.worker(worker_id) for worker_id in worker_ids], fields=[_FIELD]
        )
        listed = {}
        for worker_id, (text,) in zip(worker_ids, client.run(self._client, reading), strict=True):
            if text is not None and (status := _listed(worker_id, text)) is not None:
                listed[worker_id] = status
        return listed

    def note(self, scope: str, listing: ports.Listing) -> None:
        """Store how the last listing of an account and region went."""
        with client.guard(self._client):
            self._client.set(keys.status_listing(scope), json.dumps(listing), ex=KEPT)

    def last(self, scope: str) -> ports.Listing | None:
        """Return how the last listing went, if that is known."""
        with client.guard(self._client):
            text: Any = self._client.get(keys.status_listing(scope))
        try:
            at, seconds, pages, complete, zones, zones_at = json.loads(text or "")
            return ports.Listing(
                unreadable_records.finite(at),
                unreadable_records.finite(seconds),
                int(pages),
                bool(complete),
                tuple(map(str, zones)),
                unreadable_records.finite(zones_at),
            )
        except _UNREADABLE:
            return None


def _texts(at: float, statuses: Sequence[models.InstanceStatus]) -> list[str]:
    """Return the texts of statuses. Nearly all instances share a few."""
    shared: dict[tuple[str, int], str] = {}
    texts = []
    for status in statuses:
        if status.impairments or status.events:
            texts.append(_text(at, status))
            continue
        key = status.status, id(status.checks)
        if key not in shared:
            shared[key] = _text(at, status)
        texts.append(shared[key])
    return texts


def _text(at: float, status: models.InstanceStatus) -> str:
    return f"{at:.3f} {status.model_dump_json(exclude={'id', 'zone'}, exclude_defaults=True)}"


def _listed(worker_id: str, text: bytes) -> ports.ListedStatus | None:
    at, _, document = text.partition(b" ")
    try:
        status = _parsed(document).model_copy(update={"id": worker_id})
        return ports.ListedStatus(unreadable_records.finite(at), status)
    except _UNREADABLE:
        return None


@functools.lru_cache(maxsize=1024)
def _parsed(document: bytes) -> models.InstanceStatus:
    return models.InstanceStatus.model_validate({"id": "", **json.loads(document)}, extra="ignore")
