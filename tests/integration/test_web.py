"""``workermon web`` as users run it: a process, a real server, and requests over a socket."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.celery_house import House, opened
from tests.support.free_ports import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def problem(self) -> dict[str, Any]:
        """Return the problem in it."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        return document


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    """Give an installation with one monitored instance."""
    with opened(tmp_path, redis_url, workers=1) as opened_house:
        opened_house.add(opened_house.ids)
        yield opened_house


def ask(port: int, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
    """Send a request. ``_`` in the name of a header is a hyphen."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = client.getresponse()
        answer_headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer_headers, answer.read().decode())
    finally:
        client.close()


def test_tokens_and_sessions_over_a_socket(house: House) -> None:
    """A token reads and is limited to its role. A session begins and ends with it. No output has the token."""
    port, worker_id = free_port(), house.ids[0]
    web = house.start("workermon", "web", "--port", str(port))
    eventually(lambda: f"page: http://127.0.0.1:{port}\n" in web.output, within=60, description="the URL")
    eventually(lambda: ask(port, "GET", "/readyz").status == 200)

    created = house.run("workermon", "token", "create", "ci", "--role", "viewer")
    token = created.stdout.strip()
    login = {"Authorization": f"Bearer {token}"}
    listing = ask(port, "GET", "/api/v1/workers", **login)
    assert [worker["id"] for worker in json.loads(listing.body)["workers"]] == [worker_id]
    refused = ask(port, "POST", f"/api/v1/workers/{worker_id}/pause", **login)
    assert (refused.status, refused.problem["action"]) == (403, "ask for the role operator")
    assert ask(port, "POST", f"/api/v1/workers/{worker_id}/pause", Origin="https://evil.example").status == 403
    assert ask(port, "GET", "/api/v1/workers", Host="evil.example").status == 403
    assert ask(port, "POST", "/api/v1/workers", "{", Content_Type="application/json").status == 400

    signed_in = ask(port, "POST", "/login", f"token={token}", Content_Type="application/x-www-form-urlencoded")
    assert signed_in.status == 303
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    assert ask(port, "GET", "/api/v1/status", Cookie=cookie).status == 200
    assert ask(port, "POST", f"/api/v1/workers/{worker_id}/pause", Cookie=cookie).status == 403

    # Whoever sits at this machine may write, and the trail says so.
    assert ask(port, "POST", f"/api/v1/workers/{worker_id}/pause").status == 200
    [entry] = [
        row
        for row in json.loads(house.run("workermon", "audit", "--json").stdout)["audit"]
        if row["from"] == "127.0.0.1"
    ]
    assert (entry["by"], entry["action"], entry["outcome"]) == (
        "local",
        f"POST /api/v1/workers/{worker_id}/pause",
        "ok",
    )
    assert json.loads(ask(port, "GET", "/api/v1/audit?limit=1").body)["audit"] == [entry]

    assert house.run("workermon", "token", "revoke", "ci").returncode == 0
    assert ask(port, "GET", "/api/v1/workers", **login).status == 401
    assert ask(port, "GET", "/api/v1/status", Cookie=cookie).status == 401

    second_page = house.run("workermon", "web", "--port", str(port))
    assert (second_page.returncode, second_page.stderr.count("\n")) == (1, 1)
    assert f"port {port} of 127.0.0.1: " in second_page.stderr
    open_to_all = house.run("workermon", "web", "--host", "192.0.2.1")
    assert (open_to_all.returncode, open_to_all.stderr.count("\n")) == (2, 1)

    assert ask(port, "GET", "/api/v1/openapi.json").status == 200
    assert ask(port, "GET", "/api/v1/docs").status == 200

    assert web.stop() == 0
    assert "Warning" not in web.output
    assert token not in web.output
    assert cookie.partition("=")[2] not in web.output
