"""Servers that notifications are sent to."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.free_ports import free_port
from tests.support.mailbox import Mailbox
from tests.support.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    server = Receiver()
    yield server
    server.stop()


@pytest.fixture
def mail(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Mailbox, int]]]:
    """Start SMTP servers with a trusted certificate. Each call gives its mailbox and port."""
    controller = pytest.importorskip("aiosmtpd.controller")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "c.pem"))
    running = []

    def start(security: str = "starttls", auth: bool = False) -> tuple[Mailbox, int]:
        box = Mailbox()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
        port = free_port()
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "server_hostname": "localhost"}
        if auth:
            options |= {"authenticator": box.authenticate, "auth_required": True}
        if security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        elif security == "tls":
            options |= {"ssl_context": context, "auth_require_tls": False}
        server = controller.Controller(box, **options)
        server.start()
        running.append(server)
        return box, port

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def secure(certificate: Path) -> Iterator[tuple[Receiver, Path]]:
    """Run a receiver with its own certificate for localhost, and give the certificate too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
    server = Receiver(context)
    yield server, certificate / "c.pem"
    server.stop()
