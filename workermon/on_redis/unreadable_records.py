"""Records that cannot be read. Each affects only itself: it is left out, reported by its key, and not destroyed.

A record whose text cannot be parsed stays in place. A key of the wrong Redis type would make every command on it fail,
so it is renamed (``keys.SET_ASIDE``) and kept for a month. Its contents are created again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import pydantic
import redis
from redis.exceptions import RedisError

from workermon import errors, logs, lua
from workermon.on_redis import client, keys

log = logs.get(__name__)

T = TypeVar("T")
Model = TypeVar("Model", bound=pydantic.BaseModel)

#: Seconds for which a record is reported after it was last tried. Records in use are tried more often.
REPORTED_FOR: Final = 900

#: All numbers that are stored are below: times, and counts. From here on whole ones are not exact.
_MAX_NUMBER: Final = 2.0**53

#: Keys checked by one command.
_CHUNK: Final = 1000


class NoteUnreadable(lua.Script[int]):
    """Record that a record cannot be read. Return 1 if that is new."""

    unreadable: lua.Key
    name: lua.Argument
    reason: lua.Argument


class ListUnreadable(lua.Script[list[list[bytes]]]):
    """Return the records that cannot be read, and why."""

    unreadable: lua.Key
    max_age: lua.Argument


class RedisUnreadable:
    """``ports.Unreadable`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def load(self) -> dict[str, str]:
        """Return why each record cannot be read, by its key."""
        return reasons(client.run(self._client, listing()))


def listing() -> ListUnreadable:
    """Return the call that lists the records that cannot be read."""
    return ListUnreadable(unreadable=keys.UNREADABLE, max_age=REPORTED_FOR)


def reasons(entries: Iterable[list[bytes]]) -> dict[str, str]:
    """Return why each record cannot be read, by its key, from the reply to ``listing``."""
    return {text(name): text(reason) for name, reason in sorted(entries)}


def text(raw: bytes) -> str:
    """Return bytes as text, invalid UTF-8 as escapes."""
    return raw.decode("utf-8", "backslashreplace")


def note(connection: redis.Redis, name: str, reason: str) -> None:
    """Record that a key's record cannot be read. Never raises, because only one record is affected."""
    printable_name, printable_reason = errors.printable(name)[:400], errors.printable(reason)[:300]
    try:
        if NoteUnreadable(unreadable=keys.UNREADABLE, name=printable_name, reason=printable_reason).run(connection):
            log.error("record.unreadable", key=printable_name, reason=printable_reason)
    except RedisError as error:
        log.error("record.unreadable", key=printable_name, reason=printable_reason, not_noted=type(error).__name__)


def parsed(connection: redis.Redis, name: str, model: type[Model], raw: bytes) -> Model | None:
    """Return the parsed record. If it cannot be read, record that and return ``None``.

    Unknown fields are ignored, because a newer version that runs beside this one in an upgrade may have written them.
    """
    return parsed_with(connection, name, lambda text: model.model_validate_json(text, extra="ignore"), raw)


def parsed_by(connection: redis.Redis, name: str, adapter: pydantic.TypeAdapter[T], raw: bytes) -> T | None:
    """Return a parsed record of any type, as ``parsed`` does."""
    return parsed_with(connection, name, lambda text: adapter.validate_json(text, extra="ignore"), raw)


def parsed_with(connection: redis.Redis, name: str, parse: Callable[[bytes], T], raw: bytes) -> T | None:
    """Return a record as ``parse`` reads it, which raises ``ValueError`` if it cannot."""
    try:
        return parse(raw)
    except ValueError as error:
        note(connection, name, describe(error))
        return None


def finite(raw: bytes | str) -> float:
    """Return a number; raises ``ValueError`` for any other text, and for a number that none of ours can be."""
    value = float(raw)
    if not abs(value) < _MAX_NUMBER:  # so neither is what is no number
        raise ValueError("out of range")
    return value


def number(connection: redis.Redis, name: str, raw: bytes | None) -> float | None:
    """Return a number; ``None`` if there is none, or if it cannot be read, which is noted."""
    try:
        return None if raw is None else finite(raw)
    except ValueError:
        note(connection, name, "it is not a number")
        return None


def describe(error: ValueError) -> str:
    """Return what is wrong with a text, without quoting it."""
    if not isinstance(error, pydantic.ValidationError):
        return "it is not what belongs there"
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


# --- keys of another type -------------------------------------------------------------------------------------------


def set_aside(connection: redis.Redis, error: Exception, names: Sequence[str]) -> bool:
    """Rename keys whose type is wrong; return whether there were any.

    ``names`` are the keys of the command that failed. If none of them is wrong, all our keys are checked.
    """
    if "WRONGTYPE" not in str(error):
        return False
    try:
        return _set_aside(connection, names) or any(
            _set_aside(connection, key_names) for key_names in _every_key(connection)
        )
    except RedisError:
        return False


def _set_aside(connection: redis.Redis, names: Sequence[str]) -> bool:
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        types = pipe.execute()
    wrong = [
        (name, kind.decode())
        for name, kind in zip(names, types, strict=True)
        if kind != b"none"
        and (rows := keys.patterns_of(name.encode()))
        and kind.decode() not in {row.type for row in rows}
    ]
    for name, kind in wrong:
        place = f"{keys.SET_ASIDE}{name}"
        connection.execute_command("RENAME", name, place)
        connection.execute_command("EXPIRE", place, keys.HISTORY)
        note(connection, name, f"it was a {kind}, and is kept as {place}")
        if name == keys.WORKERS:
            _list_workers(connection)
    return bool(wrong)


def _every_key(connection: redis.Redis) -> Iterable[list[str]]:
    cursor = 0
    while True:
        reply: Any = connection.execute_command("SCAN", cursor, "MATCH", "workermon:*", "COUNT", _CHUNK)
        cursor = int(reply[0])
        yield [text(name) for name in reply[1] if not name.startswith(keys.SET_ASIDE.encode())]
        if not cursor:
            return


def _list_workers(connection: redis.Redis) -> None:
    """Rebuild the list of the fleet from the keys of the workers."""
    prefix = keys.worker("")
    for names in _every_key(connection):
        ids = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        if ids:
            connection.execute_command("ZADD", keys.WORKERS, *(part for worker_id in ids for part in (0, worker_id)))
