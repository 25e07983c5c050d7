"""The page that shows the API."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from fastapi.testclient import TestClient


def test_the_page_shows_every_request_and_document(web: TestClient) -> None:
    """It has everything of the schema, each link within the page works, and no name is there twice."""
    answer = web.get("/api/v1/docs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    schema = web.get("/api/v1/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    text = html.unescape(answer.text)
    for path, methods in schema["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in text
    places = re.findall(r' id="([^"]+)"', answer.text)
    assert len(places) == len(set(places))
    assert {f"schema-{name}" for name in schema["components"]["schemas"]} <= set(places)
    assert set(re.findall(r'href="#([^"]+)"', answer.text)) <= set(places)


def test_the_page_loads_nothing_from_elsewhere(web: TestClient) -> None:
    """It has no script, no style of its own, and every address is on this server."""
    text = web.get("/api/v1/docs").text
    assert "<script" not in text
    assert " style=" not in text
    assert "`" not in text
    assert "<style" not in text
    addresses = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
    for address in addresses:
        if address.startswith("/static/"):
            assert web.get(address).status_code == 200


def test_the_frozen_schema_is_openapi() -> None:
    """Each operation has a name of its own, as a generated client needs it."""
    frozen = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
    paths = json.loads(frozen.read_text("utf-8"))["paths"]
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(names) == len(set(names))
