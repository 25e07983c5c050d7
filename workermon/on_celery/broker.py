"""Kombu's Redis transport, hardened: a malformed message does not harm the node that takes it from the queue.

Kombu parses an item before Celery sees it. An error there ends the process, after the item has left the queue. An error
in Celery's consumer leaves the message unacknowledged for good, and a few of those stop the node. This transport logs
and counts an item that is not a message, or not one that Celery can use, and takes the next one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

import kombu
from celery.app import amqp
from kombu import connection
from kombu.asynchronous import get_event_loop
from kombu.transport import pyamqp, virtual
from kombu.transport import redis as kombu_redis

from workermon import errors, logs, settings
from workermon.on_celery import message_waits, messages, rabbitmq, refused_messages

if TYPE_CHECKING:
    from kombu import Connection as _KombuConnection
    from kombu.transport.redis import Channel as _KombuChannel
    from kombu.transport.redis import Transport as _KombuTransport
else:
    # What follows is mixed into several classes of Kombu's each; a checker takes it for a subclass of one of them.
    _KombuChannel = _KombuTransport = _KombuConnection = object

log = logs.get(__name__)


class _QoS(kombu_redis.QoS):
    """Counts how many messages a node holds, and lets it read on as soon as it may.

    A node that holds as many messages as it may stops reading. When a thread acknowledges one, Kombu's loop does not
    wake up: it would read on only when one of its timers is due, up to ten seconds later.

    A server that becomes a replica refuses all acknowledgements. Kombu would count the messages as held for ever, stop
    reading, and never learn that it has to connect to another server. So a message counts as finished even if its
    acknowledgement is refused. The new primary delivers the messages again.
    """

    _loop_waits = False

    def can_consume(self) -> bool:
        """Return whether the node may take another message. If not, the next acknowledgement wakes the loop."""
        if super().can_consume():
            return True
        self._loop_waits = True
        return bool(super().can_consume())  # once more: one may have been acknowledged just before the loop said so

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        with self._finishing(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message, or give it back."""
        with self._finishing(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextlib.contextmanager
    def _finishing(self, delivery_tag: str) -> Generator[None]:
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise
        finally:
            self._wake_loop()

    def _wake_loop(self) -> None:
        loop = get_event_loop()
        if self._loop_waits and loop is not None:
            self._loop_waits = False
            loop.call_soon(_do_nothing)


def _do_nothing() -> None:
    """Be called by a loop that is only to wake up."""


class _CheckedChannel(_KombuChannel):
    """Skips items that are not messages for Celery. A mixin for Kombu's channel."""

    QoS = _QoS

    # Kombu has no options for these.
    keyprefix_queue = settings.BINDING
    keyprefix_binding_permanent = settings.BINDING_PERMANENT
    keyprefix_binding_deadlines = settings.BINDING_DEADLINES

    _client_of_pool: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client. Kombu makes one for each command, which takes as long as the command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._client_of_pool is None or self._client_of_pool.connection_pool is not self.pool:
            self._client_of_pool = super()._create_client()
        return self._client_of_pool

    def _connparams(self, *args: Any, **options: Any) -> Any:
        """Return where to connect. Raises an error of the connection if the channel's connection was closed.

        Without this Kombu raises AttributeError when a message is given back or acknowledged after the server went
        away. That ends the node.
        """
        if self.connection is None or self.connection.client is None:
            raise kombu_redis.redis.exceptions.ConnectionError("the connection was closed meanwhile")
        return super()._connparams(*args, **options)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except refused_messages.NO_MESSAGE as error:
            log.error("queue.malformed", reason=f"{type(error).__name__}: {error}"[:200])
            refused_messages.refused.send(sender=None, reason="no message")
            return True

    def _receive(self) -> Any:
        try:
            return super()._receive()
        except refused_messages.NO_MESSAGE as error:
            log.error("queue.malformed", reason=f"{type(error).__name__}: {error}"[:200])
            return True

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any) -> Any:
        """Consume a queue. A valid task message goes to ``callback``; an invalid one is removed from the queue."""
        if queue not in messages.QUEUES:
            return super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        answer = super().basic_consume(
            queue, no_ack, refused_messages.guarded(queue, callback), consumer_tag, **options
        )
        callbacks: dict[str, Callable[[Any], Any]] = self.connection._callbacks
        receive = callbacks[queue]

        def checked(raw: Any) -> Any:
            # Kombu does not count it as received yet, so a message refused here need not be given back.
            try:
                messages.check(raw, time.time())
            except messages.UnusableMessage as error:
                return refused_messages.refuse(queue, str(error))
            return receive(raw)

        callbacks[queue] = checked
        return answer


class Channel(_CheckedChannel, message_waits.WaitingChannel, kombu_redis.Channel):
    """The channel to a single server."""


#: Kombu would treat these as errors of a command, not of the connection, and the node would end or hang. A server that
#: became a replica reports it. A client that waits for a message gets UNBLOCKED, which has no class.
_FAILED_OVER: Final = (kombu_redis.redis.exceptions.ResponseError,)


class _PatientTransport(_KombuTransport):
    """Wakes up less often while no messages arrive. A mixin for Kombu's transport, which has no options for these."""

    #: Seconds that the server holds a channel's first request for a message open.
    brpop_timeout = message_waits.SHORT
    #: Seconds between two checks for expiring queues to keep alive, which they need once in twenty minutes.
    BINDINGS_EVERY: Final = 10

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Register Kombu's timers, one of them with a longer interval."""
        super().register_with_event_loop(connection, loop)
        cycle: Any = self.cycle
        timer = getattr(cycle, "_binding_expiry_tref", None)  # Kombu's own; some versions lack it
        if timer is not None:
            timer.cancel()
            cycle._binding_expiry_tref = loop.call_repeatedly(self.BINDINGS_EVERY, cycle.maybe_refresh_binding_expiry)


class Transport(_PatientTransport, kombu_redis.Transport):
    """The transport to a single server."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, *_FAILED_OVER)


class SentinelChannel(_CheckedChannel, message_waits.WaitingChannel, kombu_redis.SentinelChannel):
    """The channel to a server that Sentinel names."""


class SentinelTransport(_PatientTransport, kombu_redis.SentinelTransport):
    """The transport to a server that Sentinel names."""

    Channel = SentinelChannel
    connection_errors = (*kombu_redis.SentinelTransport.connection_errors, *_FAILED_OVER)


#: Our class for each of Kombu's transports.
_TRANSPORTS: Final[Mapping[Any, Any]] = {
    kombu_redis.Transport: Transport,
    kombu_redis.SentinelTransport: SentinelTransport,
    pyamqp.Transport: rabbitmq.Transport,
    pyamqp.SSLTransport: rabbitmq.TlsTransport,
}


def waiting(connection: Any) -> dict[str, int]:
    """Return how many messages wait in each of our queues; for Redis also, as ``unacked``, how many nodes hold."""
    if not is_redis(connection):
        return rabbitmq.waiting(connection)
    with connection.channel() as channel:
        sizes = {queue: int(channel._size(queue)) for queue in sorted(messages.QUEUES)}
        return {**sizes, "unacked": int(channel.client.hlen(channel.unacked_key))}


def is_redis(connection: Any) -> bool:
    """Return whether a connection leads to Redis, directly or by Sentinel."""
    return issubclass(connection.get_transport_cls(), kombu_redis.Transport)


def check_server(client: Any, subject: str) -> None:
    """Raise ``errors.UnfitServer`` if a server is too old or part of a cluster.

    A server that is unreachable, or does not tell its version, passes.
    """
    version, mode = _version_and_mode(client)
    if settings.too_old(version):
        oldest = ".".join(map(str, settings.OLDEST_REDIS))
        raise errors.UnfitServer(subject, f"it is too old (Redis {version})", f"use Redis {oldest} or newer, or Valkey")
    if mode == "cluster":
        raise errors.UnfitServer(subject, *settings.CLUSTER_MODE)


def refuse(client: Any, subject: str) -> None:
    """End this process with a one-line error if a server cannot be used."""
    try:
        check_server(client, subject)
    except errors.UnfitServer as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def _version_and_mode(client: Any) -> tuple[str, str]:
    """Return version and mode of a server, each empty if it does not tell."""
    refused = kombu_redis.redis.exceptions.RedisError, OSError
    try:
        info = client.info("server")
        return str(info.get("redis_version", "")), str(info.get("redis_mode") or info.get("server_mode") or "")
    except kombu_redis.redis.exceptions.NoPermissionError:
        # Our user may not be allowed INFO. Every user that can log in may run HELLO.
        with contextlib.suppress(*refused):
            return "", "cluster" if "cluster" in str(client.execute_command("HELLO")) else ""
    except refused:
        pass
    return "", ""


class _ConnectionOfOurs(_KombuConnection):
    """Uses these transports and shows no password. A mixin for Kombu's connection; its URL still says ``redis``."""

    def get_transport_cls(self) -> Any:
        """Return the transport's class."""
        usual = super().get_transport_cls()
        return _TRANSPORTS.get(usual, usual)

    def info(self) -> dict[str, Any]:
        """Return what 'inspect stats' and Flower show of it, without passwords: a socket's address contains one."""
        return {name: shown_safely(value, name) for name, value in super().info().items()}

    def as_uri(self, include_password: bool = False, *args: Any, **options: Any) -> str:
        """Return its URL. Flower asks for it with the password, because it reads the queues itself."""
        if not include_password:
            return str(super().as_uri(False, *args, **options))
        plain = kombu.Connection(**dict(self._info(resolve=False)))
        return str(plain.as_uri(True, *args, **options))


class _PooledConnection(_ConnectionOfOurs, connection.PooledConnection):
    """A connection of a pool."""


class _Pool(connection.ConnectionPool):
    """The connections that messages are sent over."""

    def new(self) -> _PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class Connection(_ConnectionOfOurs, kombu.Connection):
    """A connection that uses our transports, by itself and in a pool."""

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:  # noqa: N802  (Kombu's name)
        """Return a pool of such connections."""
        return _Pool(self, limit, **options)


def shown_safely(value: Any, name: str = "") -> Any:
    """Return a setting for display: values named like credentials, and passwords within URLs, become ``***``.

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
