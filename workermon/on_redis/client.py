"""Connecting to Redis, translating its errors, and running scripts. Nothing connects before it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from workermon import errors, lua
from workermon.on_redis import connection, keys, server_errors
from workermon.settings import redis_address

#: Seconds. A command for which a person waits fails within three if nothing answers.
CONNECT_TIMEOUT = 2.0
#: Seconds. Our longest script takes milliseconds. The rest allows for a server that forks or syncs its file.
TIMEOUT = 4.0
#: A connection that broke is retried after about 0.1, 0.2 and 0.4 s. For longer outages the callers retry. A timeout is
#: not retried: a server that did not answer for so long should not get more load.
RETRIES = 3
#: Seconds after which an idle connection is pinged before it is used.
HEALTH_CHECK = 30

R = TypeVar("R")


def connect(url: str) -> redis.Redis:
    """Return a client for ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://``; it connects at first use.

    Sentinels are written as ``sentinel://[user:password@]host:port[,host:port…]/database?service=name``. User and
    password are those of the server; ``sentinel_username`` and ``sentinel_password`` in the query are those of the
    sentinels. With
    ``ssl=true`` in the query (or ``ssl_ca_certs`` and the like) both use TLS; with ``sentinel_ssl=false`` too, only the
    server does. Raises ``errors.InvalidInput`` for a URL that is not valid. The message never shows the URL.
    """
    try:
        created_client = (
            _through_sentinels(url) if url.startswith("sentinel:") else connection.Client.from_url(url, **_options())
        )
        pool = created_client.connection_pool
        pool.connection_kwargs["decode_responses"] = False
        pool.connection_class(**pool.connection_kwargs)  # refuses unknown options; opens nothing
    except (ValueError, TypeError, AttributeError):
        raise errors.InvalidInput(
            "WORKERMON_REDIS_URL",
            "a part of it is not understood",
            "write a URL such as redis://:password@host:6379/1",
        ) from None
    return created_client


class _Patience(Retry):
    """Retries what a broken connection may have caused, but not a wrong password."""

    def call_with_retry(  # type: ignore[override]  # the signature differs between versions of redis-py
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        **options: Any,
    ) -> Any:
        def worth(error: Exception) -> bool:
            return not isinstance(error, AuthenticationError) and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, worth, **options)


def _options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": TIMEOUT,
        "retry": _Patience(ExponentialWithJitterBackoff(base=0.1, cap=1.0), RETRIES, (redis.ConnectionError,)),
        "health_check_interval": HEALTH_CHECK,
        "redis_connect_func": _enter,
    }


def _log_in(connection: Any) -> None:
    """Log in as redis-py does, and refuse a server that is too old or part of a cluster."""
    try:
        connection.on_connect_check_health(check_health=False)
    finally:  # such a server may also refuse the database, with a less clear error
        server_errors.check_greeting(connection.handshake_metadata)


def _enter(connection: Any) -> None:
    """Greet a server, and refuse one whose data a newer workermon has written."""
    _log_in(connection)
    connection.send_command("GET", keys.SCHEMA)
    server_errors.check_schema(connection.read_response())


def _through_sentinels(url: str) -> redis.Redis:
    address = redis_address.RedisAddress.parse(url)
    if address.query or not (urlsplit(url).path.strip("/") or "0").isdecimal():
        raise ValueError("unknown options, or a database that is not a number")
    sentinels = []
    for host in address.hosts:
        name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "26379")
        sentinels.append((name.strip("[]"), int(port)))
    options = _options()
    # Each is asked once. The retry repeats the command itself, and with it all of these.
    impatient = {**options, "retry": Retry(NoBackoff(), 0), "redis_connect_func": _log_in}
    manager = Sentinel(sentinels, sentinel_kwargs={**impatient, **address.sentinel})
    client: redis.Redis = manager.master_for(
        address.service,
        redis_class=connection.Client,
        db=address.database,
        username=address.username or None,
        password=address.password or None,
        **({"ssl": True, **address.tls} if address.tls else {}),
        **options,
    )
    return client


def place(client: redis.Redis) -> str:
    """Name the server for an error: host and port, path or Sentinel's service; never a credential."""
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return f"Redis {pool.service_name!r} (by Sentinel)"
    options = pool.connection_kwargs
    if path := options.get("path"):
        return f"Redis at {path}"
    return f"Redis at {options.get('host', 'localhost')}:{options.get('port', 6379)}"


@contextlib.contextmanager
def guard(client: redis.Redis) -> Iterator[None]:
    """Turn redis-py's errors in this block into ``errors.RedisUnavailable``: one line without credentials.

    After an error that a failover may have caused, idle connections are dropped, so that the address is resolved again.
    """
    try:
        yield
    except RedisError as error:
        if server_errors.asks_for_another(error):
            # The address may lead to another server by now. Connections in use by other threads will find out
            # themselves.
            _disconnect_idle(client)
        raise unavailable(client, error) from None


def _disconnect_idle(client: redis.Redis) -> None:
    if isinstance(client, connection.Client):
        client.disconnect_idle()
    else:
        client.connection_pool.disconnect(inuse_connections=False)


def unavailable(client: redis.Redis, error: RedisError) -> errors.RedisUnavailable:
    """Return our error for a redis-py error."""
    return server_errors.kind(error)(place(client), *server_errors.explain(error))


def texts(members: Any) -> list[str]:
    """Return the members of a reply as text."""
    return [member.decode("utf-8", "backslashreplace") for member in members]


def run(redis_client: redis.Redis, call: lua.Script[R]) -> R:
    """Run a script and return its reply."""
    with guard(redis_client):
        return call.run(redis_client)


def run_many(redis_client: redis.Redis, calls: Sequence[lua.Script[R]]) -> list[R]:
    """Run scripts in one round trip, each in a step of its own. Return their replies."""
    with guard(redis_client):
        return lua.run_many(redis_client, calls)


def run_each(redis_client: redis.Redis, calls: Sequence[lua.Script[R]]) -> list[R | RedisError]:
    """Run scripts as ``run_many`` does. If one fails because of a single record, its reply is the error."""
    with guard(redis_client):
        replies = lua.run_each(redis_client, calls)
        for reply in replies:
            if isinstance(reply, RedisError) and not server_errors.is_of_one_record(reply):
                raise reply
        return replies
