"""What applies to every request: the host, the headers, and errors as problems."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.commands import Ports
from workermon import errors


def test_alive_and_ready_need_no_login(web: TestClient) -> None:
    """Both probes answer 200 while Redis does."""
    assert web.get("/livez").status_code == 200
    assert web.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/", "/api/v1/workers", "/api/v1/openapi.json"])
def test_head_is_answered_as_get(web: TestClient, path: str) -> None:
    """HEAD, which uptime checks and load balancers send, has the status and the headers of GET."""
    asked, got = web.head(path), web.get(path)
    assert asked.status_code == got.status_code == 200
    assert asked.headers["Content-Type"] == got.headers["Content-Type"]


def test_head_of_the_endless_stream_is_refused(web: TestClient) -> None:
    """HEAD of the stream is refused: it would never end."""
    assert web.head("/api/v1/stream").status_code == 405


def test_ready_says_no_without_redis(web: TestClient, world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis the process is alive but not ready, and the problem has three parts."""

    def down() -> float:
        raise errors.RedisUnavailable("Redis", "it is out of reach", "start it")

    monkeypatch.setattr(world.server, "time", down)
    assert web.get("/livez").status_code == 200
    answer = web.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank", "title": "Redis", "status": 503, "detail": "it is out of reach", "action": "start it",
    }  # fmt: skip


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8650", "[::1]:8650", "LOCALHOST:1"])
def test_a_loopback_name_is_served(web: TestClient, host: str) -> None:
    """On loopback its three names are served, with any port."""
    assert web.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8650", "10.0.0.1"])
def test_a_foreign_host_is_refused_on_loopback(web: TestClient, host: str) -> None:
    """A page that rebinds its own name to 127.0.0.1 gets nothing."""
    answer = web.get("/livez", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["title"] == f"Host {host.partition(':')[0]}"


@pytest.mark.parametrize("host", ["", "a b", "localhost/x", "localhost@evil", "<script>"])
def test_a_host_that_is_none_is_refused(web: TestClient, host: str) -> None:
    """An invalid host gets 400."""
    assert web.get("/livez", headers={"Host": host}).status_code == 400


def test_every_answer_keeps_a_browser_at_home(web: TestClient) -> None:
    """Every answer forbids foreign content, frames, guessed types and caching."""
    for path in ("/livez", "/nowhere"):
        headers = web.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_what_nobody_foresaw_is_a_problem_that_shows_no_text(
    web: TestClient, world: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error has its kind and place. Its text may hold a secret and is not shown."""

    def broken() -> float:
        raise KeyError("hunter2")

    monkeypatch.setattr(world.server, "time", broken)
    answer = web.get("/readyz")
    assert answer.status_code == 500
    assert "KeyError" in answer.json()["detail"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/workers", "GET, HEAD, POST"),
        ("/api/v1/workers/render-07", "DELETE, GET, HEAD"),
        ("/api/v1/alerts/ack", "POST"),
        ("/api/v1/stream", "GET"),
    ],
)
def test_a_refused_method_comes_with_all_that_are_allowed(web: TestClient, path: str, methods: str) -> None:
    """The Allow header of a 405 names the methods of every route of the path, and HEAD where GET is answered."""
    answer = web.patch(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


def test_what_is_not_there_and_what_may_not_be_done_are_problems(web: TestClient) -> None:
    """404 and 405 are problems too."""
    for answer, status in ((web.get("/nowhere"), 404), (web.delete("/livez"), 405)):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert set(answer.json()) == {"type", "title", "status", "detail", "action"}
