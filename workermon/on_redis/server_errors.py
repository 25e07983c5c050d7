"""What each error of the server means, and what its operator can do about it: one row for each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from workermon import errors, models, settings

_CONNECT: Final = "start it, or correct WORKERMON_REDIS_URL"
_CORRECT: Final = "correct WORKERMON_REDIS_URL"
RIGHTS: Final = "give its user the rights in docs/reference/redis-keys.md"
_TOO_OLD: Final = f"use Redis {'.'.join(map(str, settings.OLDEST_REDIS))} or newer, or Valkey"

#: Kinds of redis-py's errors with the text for each. The first match counts.
_KINDS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...]] = (
    (
        (exceptions.AuthenticationError, exceptions.AuthorizationError),
        "it refuses user or password",
        "correct them in WORKERMON_REDIS_URL",
    ),
    (exceptions.BusyLoadingError, "it is still loading its data", "wait until it is done"),
    (
        exceptions.ReadOnlyError,
        "it is a read-only replica",
        "name its primary in WORKERMON_REDIS_URL, or the sentinels (sentinel://)",
    ),
    (exceptions.OutOfMemoryError, "it is out of memory", "raise its maxmemory, with the policy noeviction"),
    (exceptions.MasterDownError, "it is a replica that lost its primary", "repair the replication, or fail over"),
    # This error's text shows how the sentinels are connected to.
    (MasterNotFoundError, "no sentinel names a master of that service", _CONNECT),
    (exceptions.InvalidResponse, "what answers there is not Redis", _CORRECT),
    (redis.TimeoutError, "no answer in time", _CONNECT),
)

#: How the text of other errors begins, or what it contains, with the text to show.
_TEXTS: Final = (
    ("MISCONF", "it cannot write its data to disk", "free space on its disk, or see its log"),
    ("NOREPLICAS", "it has too few replicas to take writes", "start its replicas, or lower min-replicas-to-write"),
    ("DB index is out of range", "it has no database of that number", "name another one in WORKERMON_REDIS_URL"),
    ("unknown command", "it is too old, or some of its commands are switched off", _TOO_OLD),
)


class TooOld(exceptions.RedisError):
    """The server is older than workermon needs; the text is its name and version."""


class NewerSchema(exceptions.RedisError):
    """A newer workermon has written here; the text is its schema's version."""


class ClusterMode(exceptions.RedisError):
    """The server is a node of a cluster."""


#: What a server answers that is not the primary, or not ready. redis-py has no class for such an error from a script.
_NOT_HERE: Final = ("READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED")


def asks_for_another(error: exceptions.RedisError) -> bool:
    """Return whether the address may lead to another server by now: this one is gone, silent, a replica or loading.

    >>> asks_for_another(exceptions.ResponseError("READONLY You can't write against a read only replica."))
    True
    """
    disconnected = (redis.ConnectionError, redis.TimeoutError, exceptions.ReadOnlyError, exceptions.MasterDownError)
    return isinstance(error, disconnected) or any(word in str(error) for word in _NOT_HERE)


def is_of_one_record(error: Exception) -> bool:
    """Return whether the server refused a command because of one record, and not because of its own state."""
    pattern = r"WRONGTYPE|attempt to |not an integer|not a valid float|bad argument"
    return type(error) is exceptions.ResponseError and re.search(pattern, str(error)) is not None


def kind(error: exceptions.RedisError) -> type[errors.RedisUnavailable]:
    """Return the class of our error for it."""
    if isinstance(error, NewerSchema):
        return errors.SchemaMismatch
    return errors.UnfitServer if isinstance(error, TooOld | ClusterMode) else errors.RedisUnavailable


def explain(error: exceptions.RedisError) -> tuple[str, str]:
    """Return why the server refuses and what to do, each in one line without credentials."""
    if isinstance(error, TooOld):
        return f"it is too old ({error})", _TOO_OLD
    if isinstance(error, ClusterMode):
        return settings.CLUSTER_MODE
    if isinstance(error, NewerSchema):
        reason = f"its data has schema {error}, and this version of workermon knows schema {models.SCHEMA}"
        return reason, "upgrade workermon here, or name another server"
    if isinstance(error, exceptions.NoPermissionError) or "NOPERM" in str(error) or "ACL failure" in str(error):
        return f"its access rules refuse {_refused(str(error))}", RIGHTS
    for kinds, reason, todo in _KINDS:
        if isinstance(error, kinds):
            return reason, todo
    for part, reason, todo in _TEXTS:
        if part in str(error):
            return reason, todo
    if isinstance(error, redis.ConnectionError):
        return _broken(error), _CONNECT
    return f"it refuses a command ({errors.printable(str(error))[:200]})", "see the server's log"


def check_greeting(greeting: Mapping[object, object] | None) -> None:
    """Raise if the server's greeting (its answer to HELLO) shows that workermon cannot use it."""
    server_fields = {_text(name): _text(value) for name, value in (greeting or {}).items()}
    version = server_fields.get("version", "")
    if server_fields.get("server") == "redis" and settings.too_old(version):
        raise TooOld(f"Redis {version}")
    if server_fields.get("mode") == "cluster":
        raise ClusterMode


def check_schema(stored: bytes | None) -> None:
    """Raise if a newer workermon wrote the stored data; ``stored`` is the version from Redis."""
    version = _text(stored or b"")
    if version.isdecimal() and int(version) > models.SCHEMA:
        raise NewerSchema(version)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _refused(text: str) -> str:
    """Return what the access rules refuse, in the server's words: a command, a key or a channel."""
    command = re.search(r"the '([\w|-]+)' command", text)
    if command:
        return f"the command {command[1]}"
    key = re.search(r"access the '([^']*)' (key|channel)", text)
    if key:
        return f"the {key[2]} {errors.printable(key[1])}"
    if "channel" in text:
        return "a channel"
    return "a key" if "key" in text else "a command"


def _broken(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return "the connection broke" if "connecting" in str(error) else str(error).lower().rstrip(".") or "out of reach"
