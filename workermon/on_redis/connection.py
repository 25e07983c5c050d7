"""A Redis client that keeps its connections, sets keys of the wrong type aside, and then completes its command."""

from __future__ import annotations

from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from workermon import lua

#: Commands that only read. A transaction of these can be repeated.
_READING = frozenset({"GET", "HGET", "HGETALL", "HMGET", "LRANGE", "TYPE", "ZRANGE", "ZREVRANGE"})


class Client(redis.Redis):
    """redis-py's client. If a command fails because of a key's type, it is repeated without that key."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connections = lua.KeptConnections(self, super().execute_command)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        try:
            return self.connections.execute_command(*args, **options)
        except ResponseError as error:
            if not _set_aside(self, error, _keys(args)):
                raise
            return self.connections.execute_command(*args, **options)

    def disconnect_idle(self) -> None:
        """Close the connections that no thread uses."""
        self.connections.release()
        self.connection_pool.disconnect(inuse_connections=False)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline that does the same, unless it is a transaction that writes."""
        return _Pipeline(
            self.connection_pool, self.response_callbacks, transaction=transaction, shard_hint=shard_hint
        ).of(self)


class _Pipeline(Pipeline):
    _owner: Client | None = None

    def of(self, owner: Client) -> _Pipeline:
        """Set the client that this pipeline belongs to."""
        self._owner = owner
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run the commands. The commands of a transaction are not repeated, unless they only read."""
        stack, transaction = list(self.command_stack), bool(vars(self)["transaction"])
        only_reads = all(args[0] in _READING for args, _ in stack)
        repeats = not self.explicit_transaction and (not transaction or only_reads)
        try:
            replies = self._run(raise_on_error)
        except ResponseError as error:
            if not self._mend(error, stack) or not repeats:
                raise
            self.command_stack = stack
            return list(super().execute(raise_on_error))
        for reply in replies if repeats and not raise_on_error else ():
            if isinstance(reply, ResponseError) and self._mend(reply, stack):
                self.command_stack = stack
                return list(super().execute(raise_on_error))
        return list(replies)

    def _run(self, raise_on_error: bool) -> list[Any]:
        """Run the commands, over a kept connection if they are not a transaction."""
        stack, usual, owner = self.command_stack, super().execute, self._owner
        if owner is None or not stack or self.watching or self.explicit_transaction or vars(self)["transaction"]:
            return list(usual(raise_on_error))
        try:
            replies = owner.connections.exchange(self._exchange, lambda: list(usual(False)))
            if raise_on_error:
                self.raise_first_error(stack, replies)  # type: ignore[no-untyped-call]  # redis-py has no type for it
        finally:
            self.reset()
        return replies

    def _exchange(self, connection: Any) -> list[Any]:
        """Send all commands in one piece. redis-py cuts them up, and wakes the server for each piece."""
        parts = [part for args, _ in self.command_stack for part in connection.pack_command(*args)]
        connection.send_packed_command([b"".join(parts)])
        replies: list[Any] = []
        for args, options in self.command_stack:
            try:
                reply = self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]  # redis-py has no type for it
                replies.append(reply)
            except ResponseError as error:
                replies.append(error)
        return replies

    def _mend(self, error: ResponseError, stack: list[Any]) -> bool:
        names = dict.fromkeys(name for command in stack for name in _keys(command[0]))
        return self._owner is not None and _set_aside(self._owner, error, list(names))


def _set_aside(client: Client, error: ResponseError, names: list[str]) -> bool:
    from workermon.on_redis import unreadable_records  # it runs scripts over a client

    return unreadable_records.set_aside(client, error, names)


def _keys(args: Any) -> list[str]:
    """Return which of our keys a command names."""
    name_arguments = args[3 : 3 + int(args[2])] if args[0] in ("EVALSHA", "EVAL") else args[1:]
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in name_arguments]
    return [name for name in names if name.startswith("workermon:")]
