"""An overview of the whole fleet: reads only what it shows of each record, in a tenth of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import redis
from pydantic_core import SchemaValidator, core_schema

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable_records

#: Workers that one command reads.
CHUNK = 500
#: Separate the fields of a worker, and workers. JSON contains neither of them.
_FIELD, _END = b"\x1f", b"\x1e"


class ReadSummaries(lua.Script[bytes]):
    """Return set-up, condition and last error of workers as one text."""

    worker_hashes: lua.Keys


#: Reads a worker's record in full.
Reader = Callable[[str], ports.Record | None]


def every(connection: redis.Redis, read: Reader) -> Iterator[ports.WorkerSummary]:
    """Yield the whole fleet in order of the ids; ``read`` is called for records with an unexpected form."""
    chunk = _chunk(connection, "-")
    if len(chunk) < CHUNK:
        yield from _summaries(connection, chunk, read)
        return
    # The server looks up the next chunk while this process parses the last one.
    with ThreadPoolExecutor(1, thread_name_prefix="summaries") as ahead:
        while chunk:
            reading = ahead.submit(_chunk, connection, b"(" + chunk[-1][0])
            yield from _summaries(connection, chunk, read)
            chunk = reading.result()


def _chunk(connection: redis.Redis, after: bytes | str) -> list[tuple[bytes, bytes]]:
    """Return worker ids and their stored texts."""
    with client.guard(connection):
        members: Any = connection.zrangebylex(keys.WORKERS, after, "+", start=0, num=CHUNK)
    if not members:
        return []
    reading = ReadSummaries(worker_hashes=[keys.worker(name) for name in client.texts(members)])
    texts = client.run(connection, reading).split(_END)[:-1]
    return list(zip(members, texts if len(texts) == len(members) else [b""] * len(members), strict=True))


def _summaries(
    connection: redis.Redis, chunk: list[tuple[bytes, bytes]], read: Reader
) -> Iterator[ports.WorkerSummary]:
    for member, text in chunk:
        if (summary := _summary(connection, member, text)) is not None:
            yield summary
        elif (record := read(unreadable_records.text(member))) is not None:
            yield ports.WorkerSummary.of(record)


def _schema(required: Mapping[str, core_schema.CoreSchema], **optional: core_schema.CoreSchema) -> SchemaValidator:
    """Return a parser for these fields of an object. It skips all other fields."""
    fields = {name: core_schema.typed_dict_field(schema) for name, schema in required.items()}
    fields |= {name: core_schema.typed_dict_field(schema, required=False) for name, schema in optional.items()}
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="ignore"))


_TEXT, _TIME = core_schema.str_schema(), core_schema.float_schema()
_INTERVAL = core_schema.int_schema(ge=1)
_CHECK = core_schema.literal_schema(list(get_args(models.Check)))
_OR_NO_CHECK = core_schema.nullable_schema(_CHECK)
#: The outcomes have the order of these fields, which is that of ``models.Checks.answered``.
_CHECKS = core_schema.typed_dict_schema(
    {
        "system": core_schema.typed_dict_field(_CHECK),
        "instance": core_schema.typed_dict_field(_CHECK),
        "attached_ebs": core_schema.typed_dict_field(_OR_NO_CHECK, required=False),
        "application": core_schema.typed_dict_field(_OR_NO_CHECK, required=False),
        "performance": core_schema.typed_dict_field(_OR_NO_CHECK, required=False),
    },
    extra_behavior="ignore",
)
_POINT = core_schema.tuple_schema([core_schema.int_schema(), _TIME])
_WORKER = _schema(
    {"id": _TEXT, "name": _TEXT, "region": _TEXT, "interval": _INTERVAL, "added_at": _TIME},
    account=_TEXT,
    labels=core_schema.dict_schema(_TEXT, _TEXT),
    monitoring=core_schema.literal_schema(list(get_args(models.Monitoring))),
)
_CONDITION = _schema(
    {},
    status=core_schema.literal_schema(list(get_args(models.Status))),
    checks=core_schema.nullable_schema(_CHECKS),
    collected_at=core_schema.nullable_schema(_TIME),
    latest=core_schema.dict_schema(_TEXT, _POINT),
)
_NONE: Mapping[str, Any] = {}


def _summary(connection: redis.Redis, member: bytes, text: bytes) -> ports.WorkerSummary | None:
    """Return the summary from a worker's stored texts; ``None`` if they are not a worker's."""
    try:
        spec, condition, last_error = text.split(_FIELD)
        worker: dict[str, Any] = _WORKER.validate_json(spec)
        document: Mapping[str, Any] = _CONDITION.validate_json(condition) if condition else _NONE
    except ValueError:
        return None
    checks: Mapping[models.CheckName, models.Check | None] | None = document.get("checks")
    return ports.WorkerSummary(
        worker["id"],
        worker["name"],
        worker["region"],
        worker.get("account", models.DEFAULT_ACCOUNT),
        worker.get("labels") or _NONE,
        worker.get("monitoring", "active"),
        worker["interval"],
        worker["added_at"],
        document.get("status", "unknown"),
        None if checks is None else tuple([(name, outcome) for name, outcome in checks.items() if outcome is not None]),
        document.get("collected_at"),
        document.get("latest") or _NONE,
        unreadable_records.parsed(
            connection, keys.worker(unreadable_records.text(member)), models.CollectionError, last_error
        )
        if last_error
        else None,
    )
