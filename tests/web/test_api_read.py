"""The API's reading routes: the commands' JSON, in pages, with problems for invalid requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.commands import A, B, C, Ports, fires
from workermon import errors, models, views

Ok = Callable[..., str]


def problem(web: TestClient, path: str, status: int) -> dict[str, Any]:
    """Return the problem that a request gets, with that status."""
    answer = web.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["action"]
    return document


@pytest.fixture
def fleet(ok: Ok, world: Ports) -> None:
    """Give two workers, one of them firing."""
    ok("add", A, "--label", "team=vfx")
    ok("add", B, "--label", "team=web", "--label", "tier=1")
    fires(world, A)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("workers", ("list",)),
        ("workers?status=running&label=team%3Dvfx", ("list", "--status", "running", "--label", "team=vfx")),
        (f"workers/{A}", ("show", A)),
        ("workers/render-01", ("show", "render-01")),
        (f"workers/{A}/history", ("history", A)),
        (f"workers/{A}/history?metric=cpu_utilization&since=2h", ("history", A, "cpu_utilization", "--since", "2h")),
        (
            f"workers/{A}/history?metric=cpu_utilization&since=30d&step=1h",
            ("history", A, "cpu_utilization", "--since", "30d", "--step", "1h"),
        ),
        (f"workers/{A}/why?metric=cpu_utilization", ("why", A, "cpu_utilization")),
        (f"workers/{A}/why", ("why", A)),
        ("alerts?state=all&rule=cpu-high&worker=render-01&since=1d", ("alerts", "--all", "--rule", "cpu-high")),
        ("alerts", ("alerts",)),
        ("alerts?state=all", ("alerts", "--all")),
        ("silences", ("silences",)),
    ],
)
def test_the_api_says_what_the_command_says(web: TestClient, ok: Ok, fleet: None, path: str, command: Any) -> None:
    """A route's document equals its command's, field by field. Lists also have the next page's cursor."""
    ok("silence", "--rule", "cpu-high", "--for", "2h", "--reason", "new disk")
    answer = web.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    if path.startswith(("workers?", "alerts")) or path == "workers":
        assert document.pop("next") is None
    assert document == json.loads(ok(*command, "--json"))


def test_status_is_200_also_if_a_part_is_down(web: TestClient, run: Callable[..., Any], world: Ports) -> None:
    """Nothing runs in this test, so the command exits with 1. The API answers the same document with 200."""
    result = run("status", "--json")
    assert result.exit_code == 1
    answer = web.get("/api/v1/status")
    assert (answer.status_code, answer.json()) == (200, json.loads(result.stdout))


def test_the_fleet_is_walked_in_pages(web: TestClient, ok: Ok, fleet: None) -> None:
    """Pages follow by name. A worker that is removed between them breaks nothing."""
    first = web.get("/api/v1/workers?limit=1").json()
    assert [worker["name"] for worker in first["workers"]] == ["render-01"]
    ok("remove", A)
    second = web.get("/api/v1/workers", params={"limit": 1, "cursor": first["next"]}).json()
    assert ([worker["name"] for worker in second["workers"]], second["next"]) == (["render-02"], None)


def test_alerts_are_walked_in_pages(web: TestClient, ok: Ok, world: Ports, fleet: None) -> None:
    """Firing alerts come first. An alert that ends between two pages is not skipped."""
    fires(world, A, status="resolved", version=2)
    fires(world, B)
    first = web.get("/api/v1/alerts?state=all&limit=1").json()
    assert [(alert["dedup_key"], alert["open"]) for alert in first["alerts"]] == [(f"{B}/cpu-high", True)]
    second = web.get("/api/v1/alerts", params={"state": "all", "limit": 1, "cursor": first["next"]}).json()
    assert [(alert["dedup_key"], alert["open"]) for alert in second["alerts"]] == [(f"{A}/cpu-high", False)]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=RENDER-02", ["render-02"]),
        ("q=tier%3D1", ["render-02"]),
        (f"q={A[-6:]}", ["render-01"]),
        ("label=team%3Dweb&label=tier%3D1", ["render-02"]),
        ("label=team%3Dweb&status=running", []),
        ("q=%3Cscript%3E", []),
    ],
)
def test_the_fleet_is_filtered(web: TestClient, fleet: None, query: str, names: list[str]) -> None:
    """Text matches names, ids and labels in any case. All filters have to match."""
    workers = web.get(f"/api/v1/workers?{query}").json()["workers"]
    assert [worker["name"] for worker in workers] == names


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("workers?limit=0", 422, "query.limit"),
        ("workers?limit=1001", 422, "query.limit"),
        ("workers?limit=x", 422, "query.limit"),
        ("workers?cursor=abc", 400, "cursor"),
        ("workers?cursor=", 400, "cursor"),
        (f"workers/{A}/history?step=1d", 400, "step"),
        ("alerts?cursor=%00", 400, "cursor"),
        ("workers?status=gone", 422, "query.status"),
        ("workers?label=team", 422, "query.label.0"),
        ("workers?label=a%3D1&label=a%3D2", 400, "label"),
        ("workers?colour=red", 422, "query.colour"),
        ("alerts?state=none", 422, "query.state"),
        (f"workers/{C}", 404, f"worker {C}"),
        ("workers/%0A", 422, "path.id"),
        ("workers/..%2F..%2Fetc%2Fpasswd", 404, "GET /api/v1/workers/../../etc/passwd"),
        (f"workers/{A}/history?metric=nothing", 404, "metric nothing"),
        (f"workers/{A}/history?since=yesterday", 422, "query.since"),
        (f"workers/{A}/history?since=nan", 422, "query.since"),
        (f"workers/{A}/why?metric=nothing", 404, "metric nothing"),
        ("nothing", 404, "GET /api/v1/nothing"),
        ("stream?worker=x", 422, "query.worker.0"),
    ],
)
def test_what_cannot_be_meant_is_a_problem(web: TestClient, fleet: None, path: str, status: int, error: str) -> None:
    """Each invalid request has a status, and three parts that describe the error."""
    assert problem(web, f"/api/v1/{path}", status)["title"] == error


def test_a_cursor_of_another_list_is_refused(web: TestClient, fleet: None) -> None:
    """A cursor of the fleet is refused for the alerts."""
    cursor = web.get("/api/v1/workers?limit=1").json()["next"]
    assert problem(web, f"/api/v1/alerts?cursor={cursor}", 400)["detail"] == "is not a cursor of this list"


def test_redis_out_of_reach_is_503(web: TestClient, world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says so and when to retry. The process continues."""

    def down() -> Any:
        raise errors.RedisUnavailable("Redis", "it is out of reach", "start it")

    monkeypatch.setattr(world.alerts, "open", down)
    assert problem(web, "/api/v1/alerts", 503)["title"] == "Redis"
    assert web.get("/api/v1/alerts").headers["Retry-After"] == "5"


def test_a_name_of_markup_is_text(web: TestClient, ok: Ok) -> None:
    """A name with quotes and angle brackets is unchanged, in JSON that a browser does not treat as a page."""
    name = "<script>alert('\"')</script>"
    ok("add", A, "--name", name)
    answer = web.get("/api/v1/workers", params={"q": "<SCRIPT>"})
    assert [worker["name"] for worker in answer.json()["workers"]] == [name]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["status", "silences", f"workers/{A}"])
def test_a_query_where_none_is_taken_is_refused(web: TestClient, fleet: None, path: str) -> None:
    """A misspelt filter is refused, because its result would look filtered."""
    assert problem(web, f"/api/v1/{path}?colour=red", 422)["title"] == "query.colour"


def test_a_page_of_an_older_snapshot_shows_the_present(ok: Ok, world: Ports, fleet: None) -> None:
    """A large fleet is filtered by a snapshot.

    Rows are current, and workers that are gone or no longer match are left out.
    """
    fleet_pages, snapshot = world.get(views.FleetPages), world.get(views.FleetSnapshot).snapshot()
    first = fleet_pages.page(snapshot, views.WorkerQuery(), limit=1, after=None)
    assert ([row.name for row in first.rows], first.next) == (["render-01"], ("render-01", A))
    ok("remove", A)
    repeated = fleet_pages.page(snapshot, views.WorkerQuery(), limit=1, after=None)
    assert (repeated.rows, repeated.next) == ((), first.next)
    assert [row.id for row in fleet_pages.page(snapshot, views.WorkerQuery(), limit=1, after=first.next).rows] == [B]
    stopped = fleet_pages.page(snapshot, views.WorkerQuery(status="stopped"), limit=9, after=None)
    world.ec2.put(models.Instance(id=B, region="us-east-1", status="running", name="render-02"))
    ok("refresh", B)
    assert [row.id for row in stopped.rows] == [B]
    assert fleet_pages.page(snapshot, views.WorkerQuery(status="stopped"), limit=9, after=None).rows == ()
