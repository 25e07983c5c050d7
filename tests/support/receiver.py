"""An HTTP server on this machine that takes one step of its plan for each request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import NamedTuple

TOKEN = "T0KEN-in-the-path"


class Request(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes


Step = Callable[[socket.socket], None]


def answer(status: int, **headers: str) -> Step:
    """Answer with a status and these headers."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    def step(peer: socket.socket) -> None:
        peer.sendall(f"HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: 2\r\n\r\nok".encode())

    return step


class Receiver:
    """An HTTP server that takes one step of its plan for each request. After the plan it answers 200."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.plan: list[Step] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/{TOKEN}?key={TOKEN}"

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve_connection, args=(peer,), daemon=True).start()

    def _serve_connection(self, peer: socket.socket) -> None:
        if self._tls is not None:
            try:
                peer = self._tls.wrap_socket(peer, server_side=True)
            except OSError:
                return
        with peer, peer.makefile("rb") as reader:
            line = reader.readline().decode("latin-1").strip()
            if not line:
                return
            headers = {}
            while (text := reader.readline().decode("latin-1").strip()) != "":
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            body = reader.read(int(headers.get("content-length", "0")))
            self.requests.append(Request(line, headers, body))
            step = self.plan.pop(0) if self.plan else answer(200)
            try:
                step(peer)
            except OSError:
                self.over.set()

    def drip(self, text: bytes) -> Step:
        """Send a byte each 20 ms until the other end is gone."""

        def step(peer: socket.socket) -> None:
            for place in range(len(text)):
                peer.sendall(text[place : place + 1])
                if self.over.wait(0.02):
                    return

        return step

    def hang(self, peer: socket.socket) -> None:
        self.over.wait(30)

    def cut(self, peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 20")

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
