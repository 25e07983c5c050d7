"""A look over the whole fleet: of each record only what a glance shows is read, in a tenth of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, get_args

import redis
from pydantic_core import SchemaValidator, core_schema

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable

#: Workers that one command reads.
CHUNK = 500
#: Between the fields of a worker, and after each: JSON has neither of them.
_FIELD, _END = b"\x1f", b"\x1e"


class ReadGlances(lua.Script[bytes]):
    """Return set-up, condition and last error of workers in one text."""

    worker_hashes: lua.Keys


#: Reads a worker's record in full.
Reader = Callable[[str], ports.Record | None]


def every(connection: redis.Redis, read: Reader) -> Iterator[ports.Glance]:
    """Yield the whole fleet in the order of the ids; ``read`` is asked for records that are not what they should be."""
    after: bytes | str = "-"
    while True:
        with client.guard(connection):
            members: Any = connection.zrangebylex(keys.WORKERS, after, "+", start=0, num=CHUNK)
        if not members:
            return
        names = client.texts(members)
        reading = ReadGlances(worker_hashes=[keys.worker(name) for name in names])
        texts = client.run(connection, reading).split(_END)[:-1]
        for name, text in zip(names, texts if len(texts) == len(names) else [b""] * len(names), strict=True):
            glance = _glance(connection, name, text)
            record = None if glance is not None else read(name)
            if glance is not None or record is not None:
                yield glance or ports.Glance.of(cast("ports.Record", record))
        after = b"(" + members[-1]


def _schema(required: Mapping[str, core_schema.CoreSchema], **others: core_schema.CoreSchema) -> SchemaValidator:
    """Return what reads these fields of an object, and skips the others without making anything of them."""
    fields = {name: core_schema.typed_dict_field(schema) for name, schema in required.items()}
    fields |= {name: core_schema.typed_dict_field(schema, required=False) for name, schema in others.items()}
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="ignore"))


_TEXT, _TIME = core_schema.str_schema(), core_schema.float_schema()
_INTERVAL = core_schema.int_schema(ge=1)
_CHECK = core_schema.literal_schema(list(get_args(models.Check)))
_OR_NO_CHECK = core_schema.nullable_schema(_CHECK)
#: The outcomes come in the order of these fields, which is that of ``models.Checks.answered``.
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


def _glance(connection: redis.Redis, worker_id: str, text: bytes) -> ports.Glance | None:
    """Return what a worker's texts show, ``None`` if they are not what a worker has."""
    try:
        spec, condition, last_error = text.split(_FIELD)
        worker: dict[str, Any] = _WORKER.validate_json(spec)
        seen: Mapping[str, Any] = _CONDITION.validate_json(condition) if condition else _NONE
    except ValueError:
        return None
    checks: Mapping[models.CheckName, models.Check | None] | None = seen.get("checks")
    return ports.Glance(
        worker["id"],
        worker["name"],
        worker["region"],
        worker.get("account", "default"),
        worker.get("labels") or _NONE,
        worker.get("monitoring", "active"),
        worker["interval"],
        worker["added_at"],
        seen.get("status", "unknown"),
        None if checks is None else tuple([(name, each) for name, each in checks.items() if each is not None]),
        seen.get("collected_at"),
        seen.get("latest") or _NONE,
        unreadable.parsed(connection, keys.worker(worker_id), models.CollectionError, last_error)
        if last_error
        else None,
    )
