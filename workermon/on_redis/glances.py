"""A look over the whole fleet: its records as plain JSON, without the validation that takes most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import redis
from pydantic_core import from_json

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


def _glance(connection: redis.Redis, worker_id: str, text: bytes) -> ports.Glance | None:
    """Return what a worker's texts show, ``None`` if they are not what a worker has."""
    try:
        spec, condition, last_error = text.split(_FIELD)
        worker: dict[str, Any] = from_json(spec)
        seen: dict[str, Any] = from_json(condition or b"{}")
        checks: Mapping[models.CheckName, models.Check] | None = seen.get("checks")
        glance = ports.Glance(
            worker["id"],
            worker["name"],
            worker["region"],
            worker.get("account", "default"),
            worker.get("labels") or _NONE,
            worker.get("monitoring", "active"),
            worker["interval"],
            worker["added_at"],
            seen.get("status", "unknown"),
            None if checks is None else tuple((name, checks[name]) for name in _CHECKS if checks.get(name)),
            seen.get("collected_at"),
            # What is no number raises.
            {metric: (at - 0, value - 0) for metric, (at, value) in (seen.get("latest") or _NONE).items()},
            unreadable.parsed(connection, keys.worker(worker_id), models.CollectionError, last_error)
            if last_error
            else None,
        )
        _check(glance)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return glance


_NONE: Mapping[str, Any] = {}
_CHECKS: tuple[models.CheckName, ...] = ("system", "instance", "attached_ebs", "application", "performance")
_TYPES = (str, str, str, str, dict, str, int, str)


def _check(glance: ports.Glance) -> None:
    """Raise ``TypeError`` if a value is not of its type: somebody else wrote the record."""
    # Tuples of types are compared at once; one by one they would take a fifth of the time of all.
    if (*map(type, glance[:7]), type(glance.status)) != _TYPES:
        raise TypeError
