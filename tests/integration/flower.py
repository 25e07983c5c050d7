"""A running Flower, for the tests of this folder."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from tests.integration.celery_house import House
from tests.support.free_ports import free_port


class Flower:
    """A running Flower, asked over HTTP."""

    def __init__(self, house: House) -> None:
        self.port = free_port()
        self.process = house.celery(
            "flower", "--address=127.0.0.1", f"--port={self.port}", env={"FLOWER_BASIC_AUTH": "ops:hush"}
        )

    def get(self, path: str, login: str | None = "ops:hush") -> str:
        """Return the answer of a page or the API."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if login:
            request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def answers(self) -> bool:
        """Return whether it serves by now."""
        try:
            self.get("/healthcheck", login=None)
        except OSError:
            return False
        return True

    def tasks(self) -> dict[str, Any]:
        """Return the tasks that it knows."""
        document: dict[str, Any] = json.loads(self.get("/api/tasks?limit=1000"))
        return document
