"""``workermon web``: the application behind uvicorn, on a socket of its own, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import dishka
import uvicorn
from fastapi import FastAPI

from workermon import errors, logs, ports, settings, views
from workermon.web import app, hub, protocol

log = logs.get(__name__)

#: Seconds for running requests when it stops; 'up' kills after 6.
STOP_SECONDS = 2
#: Lower priority of its processor time: on the same machine alerts come first.
NICE = 5
#: Seconds between two ticks of uvicorn, which renew the time in answers. Its own tenth of a second costs an idle page
#: more CPU than all else.
TICK = 1.0


class _Server(uvicorn.Server):
    """uvicorn's server. A signal ends it successfully. Event streams, which never end, are ended first."""

    def __init__(self, config: uvicorn.Config, streams: hub.Hub) -> None:
        super().__init__(config)
        self._streams = streams
        self._stop_main_loop: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Tick until it is told to stop."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop_main_loop = lambda: loop.call_soon_threadsafe(stopping.set)
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._streams.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM; a second one stops at once."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.force_exit, self.should_exit = self.should_exit, True
            self._stop_main_loop()

        before = {
            handled_signal: signal.signal(handled_signal, stop) for handled_signal in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for handled_signal, handler in before.items():
                signal.signal(handled_signal, handler)


def serve(container: dishka.Container, announce: Callable[[str], None]) -> None:
    """Serve until a signal; ``announce`` is called with the URL once the port is open.

    Raises ``errors.WorkermonError`` if the port is taken, ``errors.InvalidInput`` if nobody could log in.
    """
    app_settings = container.get(settings.Settings)
    _prepare(container.get(ports.Schema))
    check_reach(app_settings, container.get(ports.Access))
    sockets = bind(app_settings.web_host, app_settings.web_port)
    os.nice(NICE)  # of this thread, and of those that it starts from now on
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is none
    served = app.create_app(container)
    served.state.snapshots.warm(container.get(views.FleetSnapshot).snapshot)
    serving = _Server(config(served), served.state.hub)
    announce(url(app_settings.web_host, app_settings.web_port))
    serving.run(sockets=sockets)


def _prepare(schema: ports.Schema) -> None:
    """Migrate the stored data to this version. Raises ``errors.UnfitServer`` if that is impossible."""
    try:
        schema.prepare()
    except errors.UnfitServer:
        raise
    except errors.RedisUnavailable as error:
        log.warning("web.schema_unknown", reason=str(error))  # the page says so too, until Redis is back


def config(application: FastAPI) -> uvicorn.Config:
    """Return uvicorn's configuration for an application."""
    return uvicorn.Config(
        application,
        http=protocol.BoundedProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # whom to believe is decided in gate
        server_header=False,
        timeout_keep_alive=int(protocol.HEAD_SECONDS),
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=protocol.MAX_HEAD,
    )


def check_reach(app_settings: settings.Settings, access: ports.Access) -> None:
    """Refuse an address that others can reach while nobody could log in there."""
    if settings.is_loopback(app_settings.web_host) or (app_settings.web_user_header and app_settings.web_networks):
        return
    try:
        if access.tokens():
            return
    except errors.RedisUnavailable as error:
        # Without Redis nobody can log in either, and it may be back soon.
        log.warning("web.tokens_unknown", reason=str(error))
        return
    raise errors.InvalidInput(
        f"address {app_settings.web_host}",
        "others could reach the page there, and there is neither a token nor a proxy that logs them in",
        "run 'workermon token create NAME --role viewer' first, or set WORKERMON_WEB_USER_HEADER",
    )


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of a host. Raises ``errors.WorkermonError`` with what to do if that is not possible."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise errors.InvalidInput(f"host {host}", "has no address", "name an address of this machine") from None
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, number, _, address in dict.fromkeys(addresses):
        # With an explicit protocol asyncio turns Nagle's algorithm off. Otherwise a short answer waits for 40 ms.
        listening = socket.socket(family, kind, number)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(128)
            sockets.append(listening)
        except OSError as error:
            listening.close()
            # Even a machine without IPv6 has a localhost of IPv6.
            failed = error if failed is None or error.errno == errno.EADDRINUSE else failed
    if failed is not None and (not sockets or failed.errno == errno.EADDRINUSE):
        for listening in sockets:
            listening.close()
        raise _not_ours(host, port, failed)
    return sockets


def _not_ours(host: str, port: int, error: OSError) -> errors.WorkermonError:
    if error.errno == errno.EADDRINUSE:
        todo = "stop it, or choose another port by --port or WORKERMON_WEB_PORT"
        return errors.WorkermonError(f"port {port} of {host}", "another program listens there", todo)
    if error.errno == errno.EACCES:
        return errors.WorkermonError(
            f"port {port} of {host}", "may not be used by this user", "choose one from 1024 on"
        )
    return errors.InvalidInput(f"host {host}", "is not an address of this machine", "use 127.0.0.1 or one that it has")


def url(host: str, port: int) -> str:
    """Return the page's URL; with the machine's own name if it listens on all addresses.

    >>> url("127.0.0.1", 8650), url("::1", 8650)
    ('http://127.0.0.1:8650', 'http://[::1]:8650')
    """
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
