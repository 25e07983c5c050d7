"""The application over a monitor in memory, asked by a client of the same process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.commands import Ports
from tests.support.serving import Serve
from workermon import runtime, settings
from workermon.web import app


@pytest.fixture
def serve(world: Ports, silent_log: None) -> Iterator[Serve]:
    """Give a function that serves the monitor ``world`` with these settings, and returns a client of it."""
    opened = []

    def make(client: str = "127.0.0.1", base_url: str = "http://localhost:8650", **options: Any) -> TestClient:
        container = runtime.open(settings.Settings(_env_file=None, **options), world.overrides())
        opened.append(container)
        created = app.create_app(container)
        return TestClient(created, base_url=base_url, client=(client, 50000), raise_server_exceptions=False)

    yield make
    for container in opened:
        container.close()


@pytest.fixture
def web(serve: Serve) -> TestClient:
    """Give a client on this machine, of whom no login is asked."""
    return serve()
