"""Slow, silent and very many connections: each gets one clear answer, and the page continues."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Response

from tests.support.commands import Ports
from tests.support.serving import Served, served
from tests.support.waiting import eventually
from workermon import errors, runtime, settings
from workermon.web import app, protocol, request_limits, server

pytestmark = pytest.mark.integration

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Bytes of an answer that no buffer of the system holds.
LARGE = 40_000_000

Connect = Callable[[], socket.socket]


@pytest.fixture
def serving(world: Ports, silent_log: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve the application, with a route that has a large answer."""
    router = APIRouter()

    @router.get("/large")
    def large() -> Response:
        return Response(b"x" * LARGE)

    monkeypatch.setattr(app.ROUTES, "routes", [*router.routes, *app.ROUTES.routes])
    container = runtime.open(settings.Settings(_env_file=None), world.overrides())
    with served(app.create_app(container)) as running:
        yield running
    container.close()


@pytest.fixture
def connect(serving: Served) -> Iterator[Connect]:
    """Give a function that connects. All connections are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection((serving.host, serving.port), timeout=30))


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Return the status and the document that a connection answers."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def test_a_head_that_comes_slowly_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete request gets 408 in time, also as the second one. An idle connection is closed silently."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.5)
    slow, idle, second = connect(), connect(), connect()
    slow.sendall(GET[:20])
    second.sendall(GET)
    assert answered(second) == (200, {"ok": True})
    second.sendall(GET[:20])
    for connection in (slow, second):
        status, problem = answered(connection)
        assert (status, problem["detail"]) == (408, "did not come within 1.5 s")
        assert connection.recv(1) == b""
    assert idle.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000, 431),
        (b"GET /livez?" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\x00c\r\n\r\n", 400),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused(connect: Connect, sent: bytes, expected: int) -> None:
    """Invalid requests, two lengths, two hosts and endless headers get a problem, and the connection ends."""
    connection = connect()
    connection.sendall(sent)
    status, problem = answered(connection)
    assert (status, problem["status"]) == (expected, expected)


def test_hundreds_of_connections_leave_room(serving: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two hundred idle connections those beyond the limit get 503. Earlier and later clients are served."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 150)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 100.0)
    connections = [connect() for _ in range(150)]
    eventually(lambda: len(serving.uvicorn.server_state.connections) == 150)
    for _ in range(50):
        status, problem = answered(connect())
        assert (status, problem["title"]) == (503, "connections")
    connections[0].sendall(GET)
    assert answered(connections[0]) == (200, {"ok": True})
    for connection in connections:
        connection.close()
    eventually(lambda: not serving.uvicorn.server_state.connections)
    late = connect()
    late.sendall(GET)
    assert answered(late) == (200, {"ok": True})


def test_a_body_that_comes_slowly_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time gets 408, and blocks no thread."""
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 0.3)
    slow = [connect() for _ in range(60)]  # more than there are threads
    for connection in slow:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    ready = connect()
    ready.sendall(GET.replace(b"livez", b"readyz"))
    assert answered(ready) == (200, {"ok": True})
    for connection in slow:
        status, problem = answered(connection)
        assert (status, problem["detail"]) == (408, "its body did not come within 0.3 s")


def test_who_sends_too_much_reads_the_answer(serving: Served, connect: Connect) -> None:
    """Ten megabytes are read and dropped, so that the client gets 413. With Expect it sends none of it."""
    client = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=30)
    client.request("POST", "/livez", b"x" * 10_000_000, {"Host": "localhost"})
    assert client.getresponse().status == 413
    client.close()
    asking = connect()
    head = b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
    asking.sendall(head)
    assert answered(asking)[0] == 413


def test_who_never_reads_is_dropped(serving: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a client does not read its answer, the connection is closed after a while."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)
    connection = connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: serving.uvicorn.server_state.tasks or serving.uvicorn.server_state.total_requests)
    eventually(lambda: not serving.uvicorn.server_state.connections)
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1_000_000):
            received += len(chunk)
    assert received < LARGE


def test_a_taken_port_is_one_clear_line(serving: Served) -> None:
    """The error names the port and what to do. So does the error for an address of another machine."""
    port = serving.port
    with pytest.raises(errors.WorkermonError, match=f"port {port} of 127.0.0.1: another program listens there"):
        server.bind("127.0.0.1", port)
    with pytest.raises(errors.InvalidInput, match="is not an address of this machine"):
        server.bind("192.0.2.1", port)
    with pytest.raises(errors.InvalidInput, match="has no address"):
        server.bind("nowhere.invalid", port)
