"""The application over an in-memory monitor: the fixture ``serve``, and a server on a real socket."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.support.waiting import eventually
from workermon.web import server

#: Serves with these settings, and returns a client of it; ``client`` is its address.
Serve = Callable[..., TestClient]


def application(client: TestClient) -> FastAPI:
    """Return the application of a client. httpx accepts any ASGI application."""
    assert isinstance(client.app, FastAPI)
    return client.app


@dataclass(frozen=True)
class Served:
    """A server that runs in a thread of this process, and its address."""

    uvicorn: uvicorn.Server
    host: str
    port: int


@contextlib.contextmanager
def served(application: FastAPI) -> Iterator[Served]:
    """Serve an application as ``workermon web`` does, in a thread."""
    [listening] = server.bind("127.0.0.1", 0)
    host, port = listening.getsockname()
    running = uvicorn.Server(server.config(application))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        eventually(lambda: running.started, description="the server")
        yield Served(running, host, port)
    finally:
        application.state.hub.close()
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
