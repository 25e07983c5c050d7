"""Declaring and calling Lua scripts: keys and arguments have names, and the text is in a ``.lua`` file.

A declaration is a class. Its docstring says what the script does and returns, its annotations name keys and arguments::

    class HoldLease(lua.Script[int]):
        \"""Take a lease, or extend it; return 1 if ``owner`` holds it now.\"""

        lease: lua.Key
        owner: lua.Argument
        milliseconds: lua.Argument

An instance is one call: ``HoldLease(lease=…, owner=…, milliseconds=…).run(connection)``. Redis runs it as one step.
The text is ``scripts/hold_lease.lua`` beside the declaring module. It begins with a local of the same name for each
key and argument, in the same order, which a test checks.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar, cast, dataclass_transform

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

Value = str | bytes | int | float
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

#: A key. A script may take any number of keys in a list, after the others.
Key = Annotated[str | bytes, "a key"]
Keys = Annotated[Sequence[str] | Sequence[bytes], "keys"]
#: An argument. A script may take any number of arguments in a list, after the others.
Argument = Annotated[Value, "an argument"]
Arguments = Annotated[Sequence[Value], "arguments"]

#: Every declared script.
DECLARED: Final[list[type[Script[Any]]]] = []


@dataclass_transform(kw_only_default=True)
class Script(Generic[R_co]):
    """A call of a Lua script that replies with an ``R_co``; a subclass declares the script."""

    #: The script's text, sent once and then named by its digest.
    text: ClassVar[str]
    digest: ClassVar[str]
    path: ClassVar[Path]
    #: The names of keys and arguments, in the order of the script; ``*_list`` is ``None`` if it takes no list.
    key_names: ClassVar[tuple[str, ...]]
    key_list: ClassVar[str | None]
    argument_names: ClassVar[tuple[str, ...]]
    argument_list: ClassVar[str | None]

    def __init_subclass__(cls, shared: str = "", **options: Any) -> None:
        """Declare a script; ``shared`` names the files of ``scripts/shared`` whose functions it uses."""
        super().__init_subclass__(**options)
        declared = inspect.get_annotations(cls, eval_str=True)
        cls.key_names = tuple(name for name, kind in declared.items() if kind == Key)
        cls.argument_names = tuple(name for name, kind in declared.items() if kind == Argument)
        cls.key_list = next((name for name, kind in declared.items() if kind == Keys), None)
        cls.argument_list = next((name for name, kind in declared.items() if kind == Arguments), None)
        lists = [name for name in (cls.key_list, cls.argument_list) if name]
        assert len(cls.key_names) + len(cls.argument_names) + len(lists) == len(declared), (
            f"{cls.__name__}: unknown kind"
        )
        folder = Path(cast("str", sys.modules[cls.__module__].__file__)).parent / "scripts"
        cls.path = folder / f"{re.sub(r'(?<!^)(?=[A-Z])', '_', cls.__name__).lower()}.lua"
        files = [folder / "shared" / f"{name}.lua" for name in shared.split()]
        cls.text = "".join(file.read_text("utf-8") for file in [*files, cls.path])
        cls.digest = hashlib.sha1(cls.text.encode(), usedforsecurity=False).hexdigest()
        DECLARED.append(cls)

    def __init__(self, **values: Any) -> None:
        keys: list[str | bytes] = [values.pop(name) for name in self.key_names]
        if self.key_list:
            keys += values.pop(self.key_list)
        arguments: list[Value] = [values.pop(name) for name in self.argument_names]
        if self.argument_list:
            arguments += values.pop(self.argument_list)
        if values:
            raise TypeError(f"{type(self).__name__} takes no {', '.join(values)}")
        #: What Redis gets after the script: the number of keys, the keys, the arguments.
        self.parameters = (len(keys), *keys, *arguments)

    def run(self, connection: Any, **options: Any) -> R_co:
        """Run it on a client of redis-py and return the reply; ``options`` are those of ``execute_command``."""
        try:
            reply = connection.execute_command("EVALSHA", self.digest, *self.parameters, **options)
        except NoScriptError:
            reply = connection.execute_command("EVAL", self.text, *self.parameters, **options)
        return cast("R_co", reply)

    def add_to(self, transaction: Any) -> None:
        """Add the call to a transaction, with the whole text: an unknown digest would leave one command out."""
        transaction.execute_command("EVAL", self.text, *self.parameters)


def run_many(connection: Any, calls: Sequence[Script[R]]) -> list[R]:
    """Run calls in one round trip, each in a step of its own, and return the replies. Raises the first error."""
    if len(calls) < 2:
        return [call.run(connection) for call in calls]
    replies = run_each(connection, calls)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return cast("list[R]", replies)


def run_each(connection: Any, calls: Sequence[Script[R]]) -> list[Any]:
    """Run calls as ``run_many`` does. If one fails, its error takes the place of its reply."""
    if not calls:
        return []
    replies = _send(connection, calls)
    # A call has not run if the server did not know its script.
    missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        for text in {calls[place].text for place in missing}:
            connection.execute_command("SCRIPT LOAD", text)
        for place, reply in zip(missing, _send(connection, [calls[place] for place in missing]), strict=True):
            replies[place] = reply
    return replies


def _send(connection: Any, calls: Sequence[Script[R]]) -> list[Any]:
    with connection.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command("EVALSHA", call.digest, *call.parameters)
        return list(pipe.execute(raise_on_error=False))


class KeptConnections:
    """Connections of a client of redis-py that are kept from one command to the next.

    redis-py itself takes 0.2 ms of CPU more for a command when nothing else runs: it takes a connection out of its
    pool, looks whether that is still good, and measures what it does. What a broken connection interrupts here goes
    that way once more. A timeout is not repeated. Safe between threads.
    """

    def __init__(self, client: Any, usual: Callable[..., Any] | None = None) -> None:
        """``usual`` runs a command as redis-py does, by default the client itself."""
        self._client = client
        self._usual = usual or client.execute_command
        #: Connections that no thread uses. Whatever was sent over them is answered.
        self._free: list[Any] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command as the client does."""

        def exchange(connection: Any) -> Any:
            connection.send_command(*args)
            return self._client.parse_response(connection, args[0], **options)

        return self.exchange(exchange, lambda: self._usual(*args, **options))

    def exchange(self, exchange: Callable[[Any], R], retry: Callable[[], R]) -> R:
        """Return what ``exchange`` does with a connection. If that broke, or leads to a replica, return ``retry()``."""
        connection = self._take()
        try:
            result = exchange(connection)
        except (RedisConnectionError, ReadOnlyError):
            self._drop(connection)
        except ResponseError:
            self._free.append(connection)
            raise
        except BaseException:
            self._drop(connection)  # an answer may still be under way
            raise
        else:
            self._free.append(connection)
            return result
        return retry()

    def release(self) -> None:
        """Give all connections that no thread uses back to the pool."""
        free, self._free = self._free, []
        for connection in free:
            self._client.connection_pool.release(connection)

    def _take(self) -> Any:
        """Return a connection; a forked process has its own."""
        try:
            connection = self._free.pop()
        except IndexError:
            return self._client.connection_pool.get_connection()
        if connection.pid == os.getpid():
            return connection
        self._free.clear()
        return self._client.connection_pool.get_connection()

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._client.connection_pool.release(connection)
