"""Limits of a request: one clear answer for each that exceeds one."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from workermon.web import request_limits

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("size", [request_limits.MAX_BODY + 1, 10_000_000])
def test_a_large_body_is_refused(web: TestClient, size: int) -> None:
    """A body beyond a megabyte gets 413 on every route, and the connection ends."""
    answer = web.post("/livez", content=b"x" * size)
    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.json()["detail"]
    assert answer.headers["Connection"] == "close"


def test_a_large_body_without_a_length_is_refused(web: TestClient) -> None:
    """A chunked body is counted as it arrives."""
    answer = web.post("/livez", content=iter([b"x" * 600_000, b"x" * 600_000]))
    assert answer.status_code == 413


def test_a_body_that_is_said_to_be_endless_is_not_read(web: TestClient) -> None:
    """A request that announces a gigabyte is refused at once."""
    answer = web.post("/livez", content=b"x", headers={"Content-Length": "1000000000"})
    assert answer.status_code == 413


def test_many_headers_are_refused(web: TestClient) -> None:
    """More than a hundred headers are 431."""
    answer = web.get("/livez", headers={f"X-{number}": "x" for number in range(request_limits.MAX_HEADERS)})
    assert answer.status_code == 431


def test_too_many_requests_at_a_time_are_refused(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the answer is 503, with the time to try again."""
    monkeypatch.setattr(request_limits, "MAX_REQUESTS", 0)
    answer = web.get("/livez")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/static/..%2fapp.py", "/%00"])
def test_no_path_leads_out(web: TestClient, path: str) -> None:
    """A path with .. finds nothing."""
    answer = web.get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
