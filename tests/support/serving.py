"""What the fixture ``serve`` gives: the application over a monitor in memory."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

#: Serves with these settings, and returns a client of it; ``client`` is its address.
Serve = Callable[..., TestClient]
