"""The API's audit trail: who wrote what, from where, and the result."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Body
from fastapi.testclient import TestClient

from tests.support.commands import Ports
from tests.support.serving import Serve
from workermon import errors, models
from workermon.web import app, gate


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add routes that write, read by POST, and fail."""
    router = APIRouter()

    @router.post("/test/write/{name}")
    def write(name: str, caller: gate.Operator, body: dict[str, str] = Body(default={})) -> str:  # noqa: B008
        return caller.name

    @router.post("/test/plan")
    def plan(caller: gate.Viewer) -> str:
        return caller.name

    @router.post("/test/fail")
    def fail(caller: gate.Operator) -> None:
        raise errors.NotFound("worker x", "none", "look")

    monkeypatch.setattr(app.ROUTES, "routes", [*router.routes, *app.ROUTES.routes])


def trail(world: Ports) -> list[tuple[str, str, str, str, str]]:
    """Return user, address, action, subject and result of the entries."""
    return [(entry.by, entry.origin, entry.action, entry.target, entry.outcome) for entry in world.audit.entries(0)]


def test_a_write_is_in_the_trail(web: TestClient, world: Ports) -> None:
    """A write is recorded with its body, a failed one too. Reads are not."""
    web.post("/test/write/x", json={"reason": "new <disk>"})
    world.clock.advance(1)
    web.post("/test/fail")
    web.post("/test/plan")
    web.get("/livez")
    assert trail(world) == [
        ("local", "127.0.0.1", "POST /test/fail", "", "refused (404)"),
        ("local", "127.0.0.1", "POST /test/write/x", '{"reason": "new <disk>"}', "ok"),
    ]
    assert world.audit.entries(0)[0].at == world.clock()


def test_the_trail_holds_no_secret(web: TestClient, world: Ports) -> None:
    """Neither a config file nor a form's token is recorded, and line breaks are escaped."""
    web.post("/test/write/x", content=b'url = "https://hooks.example/secret"', headers={"Content-Type": "text/plain"})
    home = {"Origin": "http://localhost:8650", "X-CSRF-Token": "x"}
    web.post("/test/write/x", data={"csrf": "x", "reason": "a\nb"}, headers=home | {"Origin": "null"})
    assert "secret" not in str(trail(world))
    assert len(trail(world)) == 1


def test_a_caller_who_may_not_is_not_in_it(serve: Serve, world: Ports) -> None:
    """Refused requests of strangers and viewers are not recorded."""
    text, stored_token = models.make_token("eve", "viewer", world.clock())
    world.access.add(stored_token)
    client = serve(web_host="0.0.0.0", base_url="http://monitor.example")
    assert client.post("/test/write/x").status_code == 401
    assert client.post("/test/write/x", headers={"Authorization": f"Bearer {text}"}).status_code == 403
    assert trail(world) == []


def test_a_trail_out_of_reach_takes_nothing_back(
    web: TestClient, world: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is answered, and the log says that its entry is missing."""

    def down(_: object) -> None:
        raise errors.RedisUnavailable("Redis", "down", "start it")

    monkeypatch.setattr(world.audit, "record", down)
    assert web.post("/test/write/x", json={}).status_code == 200


def test_the_trail_is_read_in_pages(web: TestClient, world: Ports) -> None:
    """The newest entries are first, a page at a time. ``since`` drops earlier ones, an invalid cursor gives 400."""
    for number in range(5):
        web.post(f"/test/write/{number}", json={})
        world.clock.advance(60)
    first = web.get("/api/v1/audit?limit=3").json()
    assert [row["action"][-1] for row in first["audit"]] == ["4", "3", "2"]
    assert first["audit"][0].keys() == {"id", "at", "by", "from", "action", "target", "outcome"}
    second = web.get(f"/api/v1/audit?limit=3&cursor={first['next']}").json()
    assert [row["action"][-1] for row in second["audit"]] == ["1", "0"]
    assert second["next"] is None
    assert [row["action"][-1] for row in web.get("/api/v1/audit?since=90s").json()["audit"]] == ["4"]
    assert web.get("/api/v1/audit?cursor=x").status_code == 400
    assert web.get("/api/v1/audit?limit=1001").status_code == 422
