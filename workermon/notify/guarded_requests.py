"""A replacement for the module ``requests`` in a library, so that it contacts only what its channel allows.

Each connection is made by ``transport.Transport``: to allowed addresses, within the deadline. It uses no proxy, follows
no redirect, verifies certificates, and limits the size of replies. The library is not ours, so its requests are guarded
where it makes them: in its modules, by the name ``requests``.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import importlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

from urllib3 import connection, connectionpool

from workermon.notify import transport

#: Bytes of a reply, unpacked. Services answer with a few hundred.
MAX_REPLY = 1_000_000

#: Verbs for which ``requests`` has a function.
_VERBS = ("get", "options", "head", "post", "put", "patch", "delete")


@dataclasses.dataclass(slots=True)
class Exchange:
    """The requests of a library in ``within``: their connection, and the last error."""

    connected: transport.Transport
    failure: Exception | None = None
    #: The last unsuccessful status, such as ``404 Not Found``.
    status: str | None = None


_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("guarded_requests", default=None)


@contextlib.contextmanager
def within(connected: transport.Transport) -> Iterator[Exchange]:
    """Guard the requests of this thread in this block."""
    exchange = Exchange(connected)
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


class Guarded:
    """Replaces the module ``requests``. Outside of ``within`` it behaves like that module."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._session = _session(library)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the module; its sending functions are guarded."""
        if _current.get() is None:
            return getattr(self._library, name)
        if name in ("Session", "session"):
            return self._session
        if name in _VERBS:
            return self._verb(name)
        return self.request if name == "request" else getattr(self._library, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send one request."""
        with self._session() as session:
            return session.request(method=method, url=url, **options)

    def _verb(self, name: str) -> Callable[..., Any]:
        def send(url: str, *data: Any, **options: Any) -> Any:
            # The second argument of get and its like is ``params``, that of the others ``data``.
            second = "params" if name == "get" else "data"
            return self.request(name, url, **dict(zip((second, "json"), data, strict=False)), **options)

        return send


def guard(package: str) -> None:
    """Put the replacement for ``requests`` into every loaded module of a package."""
    library = importlib.import_module("requests")
    stand_in = Guarded(library)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}.") and getattr(module, "requests", None) is library:
            vars(module)["requests"] = stand_in


def _session(library: Any) -> Any:
    """Return a class of sessions whose requests are guarded."""

    class Adapter(library.adapters.HTTPAdapter):  # type: ignore[misc]  # imported only where Apprise is
        """Connects by the exchange's transport."""

        def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
            # As for the other channels: the system's authorities, or those of SSL_CERT_FILE.
            super().init_poolmanager(*sizes, **options, ssl_context=ssl.create_default_context())
            self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    class Session(library.Session):  # type: ignore[misc]  # imported only where Apprise is
        """Sends within the limits of a channel."""

        def __init__(self) -> None:
            super().__init__()
            self.trust_env = False
            for scheme in ("http://", "https://"):
                self.mount(scheme, Adapter())

        def send(self, request: Any, **options: Any) -> Any:
            exchange = _exchange()
            options |= {"stream": True, "allow_redirects": False, "proxies": {}}
            if not exchange.connected.allow_private:
                options["verify"] = True
            try:
                if not (exchange.connected.allow_private or request.url.lower().startswith("https:")):
                    raise transport.Unencrypted
                reply = super().send(request, **options)
                reply._content, reply._content_consumed = _content(reply.raw), True
            except Exception as error:
                exchange.failure = error
                # The library expects an error of this kind.
                raise library.ConnectionError("no answer", request=request) from error
            exchange.failure = None
            exchange.status = None if reply.ok else transport.status_text(reply.status_code)
            return reply

    return Session


def _exchange() -> Exchange:
    exchange = _current.get()
    assert exchange is not None, "a session outlived its exchange"
    return exchange


def _content(raw: Any) -> bytes:
    read = b""
    while len(read) <= MAX_REPLY:
        chunk = raw.read(65_536, decode_content=True)
        if not chunk:
            return read
        read += chunk
    raise ConnectionError("the reply is too long")


class _Plain(connection.HTTPConnection):
    """HTTP over a checked connection."""

    def _new_conn(self) -> socket.socket:
        return _exchange().connected.connect(self.host, self.port)


class _Secure(connection.HTTPSConnection):
    """HTTPS over a checked connection."""

    def _new_conn(self) -> socket.socket:
        return _exchange().connected.connect(self.host, self.port)


class _PlainPool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Secure
