"""A front that speaks TLS for a server that does not, as a load balancer or stunnel does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path


class TlsFront:
    """Accepts TLS connections and forwards them.

    ``renamed`` are hosts and ports in the server's answers, with their replacements: a sentinel does not know the front
    of the server that it names.
    """

    def __init__(self, port: int, certificate: Path, renamed: Mapping[str, str]) -> None:
        self._real = port
        self._renamed = {bulk_string(old): bulk_string(new) for old, new in renamed.items()}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._listening.getsockname()[1])

    def close(self) -> None:
        """Break every connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a client that does not trust the certificate, or speaks no TLS
            secure = self._context.wrap_socket(accepted, server_side=True)
            real = socket.create_connection(("127.0.0.1", self._real))
            self._open += [secure, real]
            threading.Thread(target=self._pass, args=(real, secure), daemon=True).start()
            self._pass(secure, real)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                for old, new in self._renamed.items():
                    data = data.replace(old, new)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def bulk_string(text: str) -> bytes:
    """Return a text as Redis' protocol has it."""
    return f"${len(text)}\r\n{text}\r\n".encode()
