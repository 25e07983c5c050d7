"""Kombu's Redis transport, but what is no sound message does not harm the node that takes it from the queue.

Kombu parses what it took before Celery sees it, and an error there ends the process, after the item is gone from the
queue. An error in Celery's consumer leaves the message in the node's hands for good, and a few of those stop it. Here
what is no message, or none that Celery can use, is logged with its reason and counted, and the next one is taken.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

import kombu
from celery.app import amqp
from kombu import connection
from kombu.transport import pyamqp, virtual
from kombu.transport import redis as kombu_redis

from workermon import errors, logs, settings
from workermon.on_celery import messages, rabbitmq, refusals

log = logs.get(__name__)


class _QoS(kombu_redis.QoS):
    """Counts a message as finished even if the server refuses its acknowledgement.

    If the server becomes a replica while a node works on as many messages as it may hold, it refuses all of them. Kombu
    would count them as held for ever, not read on, and never learn that it has to connect to another server. The new
    primary gives the messages out again.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        with self._finishing(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Refuse a message, or give it back."""
        with self._finishing(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextlib.contextmanager
    def _finishing(self, delivery_tag: str) -> Generator[None]:
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class _Careful:
    """Skips items that are not messages for Celery. For a channel of Kombu."""

    QoS = _QoS

    # Kombu has no option for these.
    keyprefix_queue = settings.BINDING
    keyprefix_binding_permanent = settings.BINDING_PERMANENT
    keyprefix_binding_deadlines = settings.BINDING_DEADLINES

    def _connparams(self, *args: Any, **options: Any) -> Any:
        """Return where to connect; for a channel whose connection was closed that is an error of the connection.

        Kombu has an AttributeError there, when a message is given back or acknowledged after the server went away. It
        ends the node.
        """
        if self.connection is None or self.connection.client is None:  # type: ignore[attr-defined]
            raise kombu_redis.redis.exceptions.ConnectionError("the connection was closed meanwhile")
        return super()._connparams(*args, **options)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except refusals.NO_MESSAGE as why:
            log.error("queue.no_message", reason=f"{type(why).__name__}: {why}"[:200])
            refusals.refused.send(sender=None, reason="no message")
            return True

    def _receive(self) -> Any:
        try:
            return super()._receive()  # type: ignore[misc]
        except refusals.NO_MESSAGE as why:
            log.error("queue.no_message", reason=f"{type(why).__name__}: {why}"[:200])
            return True

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any) -> Any:
        """Consume a queue; a message of a task's goes to ``callback`` when it is sound, and leaves it either way."""
        if queue not in messages.QUEUES:
            return super().basic_consume(queue, no_ack, callback, consumer_tag, **options)  # type: ignore[misc]
        answer = super().basic_consume(queue, no_ack, refusals.guarded(queue, callback), consumer_tag, **options)  # type: ignore[misc]
        callbacks: dict[str, Callable[[Any], Any]] = self.connection._callbacks  # type: ignore[attr-defined]
        receive = callbacks[queue]

        def checked(raw: Any) -> Any:
            # Not received yet in Kombu's books, so that what is refused here need not be given back.
            try:
                messages.check(raw, time.time())
            except messages.Wrong as why:
                return refusals.refuse(queue, str(why))
            return receive(raw)

        callbacks[queue] = checked
        return answer


class Channel(_Careful, kombu_redis.Channel):
    """The channel to one server."""


#: Kombu would take these for faults of a command, not of the connection, and the node would end or stay where it is. A
#: server that became a replica says so; to one that waits for a message it says UNBLOCKED, which has no class.
_FAILED_OVER: Final = (kombu_redis.redis.exceptions.ResponseError,)


class _Calm:
    """Wakes up less often while nothing comes; for a transport of Kombu's, which has no options for these."""

    #: Seconds that the server holds a request for a message open. A node that stops waits for its end.
    brpop_timeout = 2
    #: Seconds between two looks whether queues that expire are to be kept, which they need once in twenty minutes.
    BINDINGS_EVERY: Final = 10

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have Kombu's timers run, but one of them less often."""
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        cycle: Any = self.cycle  # type: ignore[attr-defined]
        timer = getattr(cycle, "_binding_expiry_tref", None)  # its own; a version without it has nothing to slow down
        if timer is not None:
            timer.cancel()
            cycle._binding_expiry_tref = loop.call_repeatedly(self.BINDINGS_EVERY, cycle.maybe_refresh_binding_expiry)


class Transport(_Calm, kombu_redis.Transport):
    """The transport to one server."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, *_FAILED_OVER)


class SentinelChannel(_Careful, kombu_redis.SentinelChannel):
    """The channel to a server that Sentinel names."""


class SentinelTransport(_Calm, kombu_redis.SentinelTransport):
    """The transport to a server that Sentinel names."""

    Channel = SentinelChannel
    connection_errors = (*kombu_redis.SentinelTransport.connection_errors, *_FAILED_OVER)


#: What stands in for each of Kombu's transports.
_TRANSPORTS: Final[Mapping[Any, Any]] = {
    kombu_redis.Transport: Transport,
    kombu_redis.SentinelTransport: SentinelTransport,
    pyamqp.Transport: rabbitmq.Transport,
    pyamqp.SSLTransport: rabbitmq.TlsTransport,
}


def waiting(connection: Any) -> dict[str, int]:
    """Return how many messages wait in each queue of ours, and from Redis as ``unacked`` how many nodes hold."""
    if not is_redis(connection):
        return rabbitmq.waiting(connection)
    with connection.channel() as channel:
        sizes = {queue: int(channel._size(queue)) for queue in sorted(messages.QUEUES)}
        return {**sizes, "unacked": int(channel.client.hlen(channel.unacked_key))}


def is_redis(connection: Any) -> bool:
    """Return whether a connection leads to Redis, directly or by Sentinel."""
    return issubclass(connection.get_transport_cls(), kombu_redis.Transport)


def check_server(client: Any, what: str) -> None:
    """Raise ``errors.UnfitServer`` if a server is too old or part of a cluster; else leave it alone.

    So is one that is away, or does not tell.
    """
    version, mode = _said(client)
    if settings.too_old(version):
        oldest = ".".join(map(str, settings.OLDEST_REDIS))
        raise errors.UnfitServer(what, f"it is too old (Redis {version})", f"use Redis {oldest} or newer, or Valkey")
    if mode == "cluster":
        raise errors.UnfitServer(what, *settings.CLUSTER_MODE)


def refuse(client: Any, what: str) -> None:
    """End this process in one line if a server cannot be used."""
    try:
        check_server(client, what)
    except errors.UnfitServer as why:
        print(f"error: {why}", file=sys.stderr)  # noqa: T201
        sys.exit(why.exit_code)


def _said(client: Any) -> tuple[str, str]:
    """Return version and mode of a server, each empty if it does not tell."""
    refused = kombu_redis.redis.exceptions.RedisError, OSError
    try:
        info = client.info("server")
        return str(info.get("redis_version", "")), str(info.get("redis_mode") or info.get("server_mode") or "")
    except kombu_redis.redis.exceptions.NoPermissionError:
        # INFO may be withheld from our user; whoever may log in may say HELLO.
        with contextlib.suppress(*refused):
            return "", "cluster" if "cluster" in str(client.execute_command("HELLO")) else ""
    except refused:
        pass
    return "", ""


class _Ours:
    """Uses these transports and shows no password; for a connection of Kombu's, whose URL says ``redis`` as always."""

    def get_transport_cls(self) -> Any:
        """Return the transport's class."""
        usual = super().get_transport_cls()  # type: ignore[misc]
        return _TRANSPORTS.get(usual, usual)

    def info(self) -> dict[str, Any]:
        """Return what 'inspect stats' and Flower show of it: the address of a socket has the password in it."""
        return {name: shown_safely(value, name) for name, value in super().info().items()}  # type: ignore[misc]

    def as_uri(self, include_password: bool = False, *args: Any, **options: Any) -> str:
        """Return its URL; Flower asks for it with the password, to look at the queues itself."""
        if not include_password:
            return str(super().as_uri(False, *args, **options))  # type: ignore[misc]
        plain = kombu.Connection(**dict(self._info(resolve=False)))  # type: ignore[attr-defined]
        return str(plain.as_uri(True, *args, **options))


class _PooledConnection(_Ours, connection.PooledConnection):
    """A connection of a pool."""


class _Pool(connection.ConnectionPool):
    """The connections that messages are sent over."""

    def new(self) -> _PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class Connection(_Ours, kombu.Connection):
    """A connection that uses our transports, by itself and in a pool."""

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:  # noqa: N802  (Kombu's)
        """Return a pool of such connections."""
        return _Pool(self, limit, **options)


def shown_safely(value: Any, name: str = "") -> Any:
    """Return a setting as it can be shown: what is named like a credential, and passwords within URLs, as ``***``.

    >>> shown_safely({"sentinel_kwargs": {"password": "hunter2"}, "url": "unix://:hunter2@/run/redis?db=1"})
    {'sentinel_kwargs': {'password': '***'}, 'url': 'unix://:***@/run/redis?db=***'}
    """
    if isinstance(value, Mapping):
        return {key: shown_safely(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown_safely(item, name) for item in value]
    if value is not None and any(word in name.lower() for word in ("password", "secret", "token", "credential")):
        return "***"
    if isinstance(value, str) and "://" in value:
        return settings.masked(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


class AMQP(amqp.AMQP):
    """The settings that an application needs for its broker."""

    Connection = Connection
