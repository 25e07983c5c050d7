"""The repository of monitored workers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import pydantic
import redis

from workermon import errors, lua, models, ports
from workermon.on_redis import client, keys, parse_cache, schema, unreadable_records, worker_summaries

T = TypeVar("T")

#: The fields of a record, in this order.
FIELDS = (
    "spec",
    "condition",
    "last_error",
    "dimensions",
    "dimensions_at",
    "changed_from",
    "seq",
    "requested_at",
    "warnings",
)

#: Warnings from the event queue that are kept for each worker.
MAX_WARNINGS = 10

#: Workers that one command reads; it takes the server about a millisecond.
CHUNK = 500

#: Bytes of the smallest dimension set in JSON: one without dimensions, and a comma.
_LEAST_SET = 3

_DimensionSets = dict[str, list[models.Dimensions]]
_DIMENSIONS: pydantic.TypeAdapter[_DimensionSets] = pydantic.TypeAdapter(_DimensionSets)

# Set-up and dimensions hardly ever change. A condition is read again by the process that wrote it, in small fleets.
_SPECS = parse_cache.ParseCache(lambda text: models.Worker.model_validate_json(text, extra="ignore"))
_CONDITIONS = parse_cache.ParseCache(lambda text: models.Condition.model_validate_json(text, extra="ignore"))
_SETS = parse_cache.ParseCache(lambda text: _DIMENSIONS.validate_json(text, extra="ignore"))


class AddWorkers(lua.Script[list[bytes]]):
    """Add workers, all or none; return the ids that exist already. ``specs``: id, incarnation, spec of each."""

    workers: lua.Key
    worker_hashes: lua.Keys
    specs: lua.Arguments


class ReadWorkers(lua.Script[list[list[Any]]]):
    """Return the same fields of many workers."""

    worker_hashes: lua.Keys
    fields: lua.Arguments


class ListLongFields(lua.Script[list[int]]):
    """Return the positions of the hashes whose field has at least so many bytes."""

    hashes: lua.Keys
    field: lua.Argument
    least: lua.Argument


class SetWorkerFields(lua.Script[int]):
    """Set fields (names and values, alternating). Return 1, or 0 if this incarnation of the worker is gone."""

    worker: lua.Key
    incarnation: lua.Argument
    fields: lua.Arguments


class ReplaceDimensions(lua.Script[list[bytes | int]]):
    """Replace a worker's dimensions if they are stored as expected; otherwise return the stored text, or 0 if gone."""

    worker: lua.Key
    incarnation: lua.Argument
    expected: lua.Argument
    dimensions: lua.Argument
    at: lua.Argument


class ReplaceSpec(lua.Script[int]):
    """Replace a set-up by another. Return 1, or 0 if it has changed, or the worker is not in the fleet."""

    workers: lua.Key
    worker: lua.Key
    worker_id: lua.Argument
    spec_before: lua.Argument
    incarnation: lua.Argument
    spec: lua.Argument


class RequestCollection(lua.Script[int], shared="numbers"):
    """Record that the event queue named a worker, and its warning. Return 1 if the warning is new."""

    worker: lua.Key
    pending: lua.Key
    worker_id: lua.Argument
    at: lua.Argument
    id: lua.Argument
    until_at: lua.Argument
    warning: lua.Argument
    max_warnings: lua.Argument


def record(redis_client: redis.Redis, worker_id: str, fields: Sequence[Any]) -> ports.Record | None:
    """Return the record from the ``FIELDS`` of a worker's hash; ``None`` if it is missing or cannot be read.

    Unreadable values that the next collection writes again count as unknown.
    """
    spec, condition, last_error, dimensions, dimensions_at, changed_from, sequence, requested_at, warnings = fields
    name = keys.worker(worker_id)
    if spec is None:
        return None

    def read(field: str, texts: parse_cache.ParseCache[T], raw: bytes) -> T | None:
        try:
            return texts.parse(worker_id, raw)
        except ValueError as error:
            unreadable_records.note(redis_client, f"{name} {field}", unreadable_records.describe(error))
            return None

    def number(field: str, raw: bytes | None) -> float | None:
        return unreadable_records.number(redis_client, f"{name} {field}", raw)

    worker = read("spec", _SPECS, spec)
    if worker is None:
        return None
    parsed_condition = read("condition", _CONDITIONS, condition) if condition else None
    error = (
        unreadable_records.parsed(redis_client, f"{name} last_error", models.CollectionError, last_error)
        if last_error
        else None
    )
    parsed_dimensions = read("dimensions", _SETS, dimensions) if dimensions else {}
    changed = number("changed_from", changed_from or None)
    parsed_condition = parsed_condition or models.Condition()
    if error is not parsed_condition.last_error:
        parsed_condition = parsed_condition.model_copy(update={"last_error": error})
    return ports.Record(
        worker=worker,
        condition=parsed_condition.with_warnings(_warnings(redis_client, name, warnings)),
        dimensions=parsed_dimensions or {},
        dimensions_at=(number("dimensions_at", dimensions_at) or 0.0) if parsed_dimensions is not None else 0.0,
        changed_from=None if changed is None else int(changed),
        sequence=int(number("seq", sequence) or 0),
        requested_at=number("requested_at", requested_at or None),
    )


def written_condition(worker: models.Worker, condition: models.Condition) -> str:
    """Return the text of a condition, which will be read as this condition again."""
    text = condition.model_dump_json(exclude={"last_error"}, exclude_defaults=True)
    _CONDITIONS.keep(worker.id, text.encode(), condition)
    return text


def _warnings(redis_client: redis.Redis, name: str, raw: bytes | None) -> list[models.ScheduledEvent]:
    """Parse the event queue's warnings: lines of id, time and JSON."""
    if not raw:
        return []
    texts = [line.split(b" ", 2)[-1] for line in raw.split(b"\n") if line]
    parsed_warnings = (
        unreadable_records.parsed(redis_client, f"{name} warnings", models.ScheduledEvent, text) for text in texts
    )
    return [warning for warning in parsed_warnings if warning is not None]


def adding(workers: Sequence[models.Worker]) -> AddWorkers:
    """Return the call that adds these workers."""
    return AddWorkers(
        workers=keys.WORKERS,
        worker_hashes=[keys.worker(worker.id) for worker in workers],
        specs=[part for worker in workers for part in (worker.id, worker.incarnation, worker.model_dump_json())],
    )


def setting(worker: models.Worker, **fields: str) -> SetWorkerFields:
    """Return the call that sets fields of a worker's hash."""
    return SetWorkerFields(
        worker=keys.worker(worker.id),
        incarnation=worker.incarnation,
        fields=[part for field in fields.items() for part in field],
    )


def replacing(worker: models.Worker) -> SetWorkerFields:
    """Return the call that replaces how a worker is set up, and clears its steadiness."""
    return setting(worker, spec=worker.model_dump_json(), steady="")


class RedisWorkers:
    """``ports.Workers`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def add(self, workers: Sequence[models.Worker]) -> None:
        """Add them all or none, in one step."""
        if not workers:
            return
        ids = [worker.id for worker in workers]
        for worker_id in ids:
            if ids.count(worker_id) > 1:
                raise errors.InvalidInput(f"worker {worker_id}", "it is named twice", "name it once")
        schema.begin(self._client)
        existing = client.run(self._client, adding(workers))
        if existing:
            raise errors.InvalidInput(
                f"worker {', '.join(existing_id.decode() for existing_id in existing)}",
                "it is monitored already",
                "see 'workermon show', or remove it first",
            )

    def update(self, worker: models.Worker) -> bool:
        """Replace how a worker is set up, if its incarnation exists."""
        return bool(client.run(self._client, replacing(worker)))

    def restore(self, record: ports.Record) -> bool:
        """Replace set-up and condition of a worker, if its incarnation exists."""
        restoring = setting(
            record.worker,
            spec=record.worker.model_dump_json(),
            steady="",
            condition=written_condition(record.worker, record.condition),
            dimensions_at=repr(record.dimensions_at),
            **({"last_error": record.condition.last_error.model_dump_json()} if record.condition.last_error else {}),
        )
        return bool(client.run(self._client, restoring))

    def get(self, worker_ids: Sequence[str]) -> dict[str, ports.Record]:
        """Return the records of the workers that exist."""
        if not worker_ids:
            return {}
        replies: list[list[Any]] = []
        for start in range(0, len(worker_ids), CHUNK):
            chunk = worker_ids[start : start + CHUNK]
            read = ReadWorkers(worker_hashes=[keys.worker(worker_id) for worker_id in chunk], fields=FIELDS)
            replies += client.run(self._client, read)
        records = {
            worker_id: record(self._client, worker_id, fields)
            for worker_id, fields in zip(worker_ids, replies, strict=True)
        }
        return {worker_id: stored for worker_id, stored in records.items() if stored is not None}

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""
        with client.guard(self._client):
            return client.texts(self._client.zrange(keys.WORKERS, 0, -1))

    def monitored(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of these workers are monitored, in one command."""
        if not worker_ids:
            return set()
        with client.guard(self._client):
            scores: Any = self._client.zmscore(keys.WORKERS, list(worker_ids))
        return {worker_id for worker_id, score in zip(worker_ids, scores, strict=True) if score is not None}

    def reset_unreadable(self, worker_ids: Sequence[str]) -> None:
        """Give workers whose set-up cannot be read one with nothing but their id."""
        for worker_id in worker_ids:
            with client.guard(self._client):
                spec: Any = self._client.hget(keys.worker(worker_id), "spec")
            if self.get([worker_id]):
                continue
            bare = models.Worker(
                id=worker_id, name=worker_id, region="unknown", added_at=0.0, incarnation=secrets.token_hex(8)
            )
            replacing_spec = ReplaceSpec(
                workers=keys.WORKERS,
                worker=keys.worker(worker_id),
                worker_id=worker_id,
                spec_before=spec or b"",
                incarnation=bare.incarnation,
                spec=bare.model_dump_json(),
            )
            client.run(self._client, replacing_spec)

    def every(self, chunk: int = 500) -> Iterator[ports.Record]:
        """Yield the whole fleet in order of the ids. Workers added meanwhile may be missing."""
        after: bytes | str = "-"
        while True:
            with client.guard(self._client):
                members: Any = self._client.zrangebylex(keys.WORKERS, after, "+", start=0, num=chunk)
            if not members:
                return
            yield from self.get(client.texts(members)).values()
            after = b"(" + members[-1]

    def summaries(self) -> Iterator[ports.WorkerSummary]:
        """Yield a summary of each worker of the fleet."""
        return worker_summaries.every(self._client, lambda worker_id: self.get([worker_id]).get(worker_id))

    def with_series(self, least: int) -> list[str]:
        """Return the workers whose stored dimension sets are long. Their length is known without reading them."""
        matching, ids = [], self.ids()
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            listing = ListLongFields(
                hashes=[keys.worker(worker_id) for worker_id in chunk], field="dimensions", least=_LEAST_SET * least
            )
            matching += [chunk[place] for place in client.run(self._client, listing)]
        return matching

    def found_dimensions(self, worker: models.Worker, dimensions: _DimensionSets, at: float) -> bool:
        """Add results of ListMetrics to the stored ones, unless the incarnation is gone.

        Two processes may have searched for different metrics of the same worker: both results are kept.
        """
        stored: bytes | str = ""
        while True:
            call = ReplaceDimensions(
                worker=keys.worker(worker.id),
                incarnation=worker.incarnation,
                expected=stored,
                dimensions=json.dumps({**_readable_sets(stored), **dimensions}),
                at=repr(at),
            )
            reply = client.run(self._client, call)
            if not reply:
                return True
            if isinstance(reply[0], int):
                return False
            stored = reply[0]

    def request_collection(self, worker_ids: Sequence[str], at: float) -> None:
        """Request that these workers are collected beside their schedule, from a time on."""
        if worker_ids:
            client.run_many(self._client, [_request(worker_id, at) for worker_id in worker_ids])

    def warn(self, worker_id: str, warning: models.ScheduledEvent, at: float) -> bool:
        """Store the event queue's warnings, in one step with the pending mark."""
        return bool(client.run(self._client, _request(worker_id, at, warning)))


def _readable_sets(text: bytes | str) -> dict[str, Any]:
    """Return stored dimensions by metric. What cannot be read is searched again."""
    try:
        document = json.loads(text) if text else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _request(worker_id: str, at: float, warning: models.ScheduledEvent | None = None) -> RequestCollection:
    return RequestCollection(
        worker=keys.worker(worker_id),
        pending=keys.PENDING,
        worker_id=worker_id,
        at=repr(at),
        id="" if warning is None else warning.id.replace(" ", "_"),
        until_at="" if warning is None else (warning.not_after or int(at)) + models.DAY,
        warning="" if warning is None else warning.model_dump_json(exclude_defaults=True),
        max_warnings=MAX_WARNINGS,
    )
