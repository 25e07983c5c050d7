"""The API's schema: frozen in a file, and kept by every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.support.commands import REGION, A, B, Ports, fires
from tests.support.examples import examples
from workermon import fleet, models, runtime, settings
from workermon.web import app, openapi

FROZEN = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
#: A stream has no end that a request could wait for.
ENDLESS = {"/api/v1/stream"}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
]
#: A query longer than all headers may be is refused with 431, which this check does not count as a refusal of bad data.
REJECTION, TOO_LONG = openapi_checks.negative_data_rejection, 431


@pytest.fixture(scope="module")
def served() -> Iterator[FastAPI]:
    """Give the application over an in-memory monitor with a firing worker."""
    world = Ports()
    regions = fleet.Regions(default=REGION, known_regions=frozenset({REGION}))
    container = runtime.open(settings.Settings(_env_file=None), {**world.overrides(), fleet.Regions: regions})
    scope = models.AccountRegion(region=REGION)
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope))
    world.get(fleet.Adding).add([B], fleet.AddOptions(scope=scope, labels={"team": "vfx"}))
    fires(world, A)
    yield app.create_app(container)
    container.close()


@pytest.fixture(scope="module")
def attacked(served: FastAPI) -> Any:
    """Give the schema with everything that can be attacked in this process: a stream would never end."""
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", served, headers={"Host": "localhost"})


@pytest.fixture(autouse=True)
def _silent_log(silent_log: None) -> None:
    """Keep the log out of the way."""


@schemathesis.serializer("application/toml")
def _toml(_context: Any, value: Any) -> bytes:
    """Send a config file as it is, and other content as JSON."""
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")


def attacks() -> list[tuple[str, str]]:
    """Return each route as ``METHOD path``, with sound requests and, where there is something to break, broken ones."""
    paths = json.loads(FROZEN.read_text("utf-8"))["paths"]
    return [
        (f"{method.upper()} {path}", mode)
        for path in paths if path not in ENDLESS
        for method, operation in paths[path].items()
        for mode in ("positive", "negative")
        if mode == "positive" or "requestBody" in operation or operation.get("parameters")
    ]  # fmt: skip


@pytest.mark.parametrize(("route", "mode"), attacks())
def test_the_api_keeps_to_its_schema(attacked: Any, route: str, mode: str) -> None:
    """Every answer to valid and invalid requests is in the schema, and never a 5xx of workermon."""
    method, _, path = route.partition(" ")
    cases = attacked[path][method].as_strategy(generation_mode=GenerationMode(mode))

    @examples(45, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def attack(case: Any) -> None:
        response = case.call(headers={"Host": "localhost"})
        too_long = response.status_code == TOO_LONG
        case.validate_response(response, checks=[check for check in CHECKS if not (too_long and check is REJECTION)])

    attack()


#: Words for readers, which may change.
WORDS = {"description", "summary", "title", "examples"}
#: What requests carry: more may be asked for, but never demanded.
REQUESTS = {"AddRequest", "AckRequest", "SilenceBody"}


def broken(frozen: Any, present: Any, place: str = "") -> Iterator[str]:
    """Yield each place where a client that was made from the frozen schema would be wrong today."""
    key = place.rpartition("/")[2]
    if isinstance(frozen, dict) and isinstance(present, dict):
        for name, value in frozen.items():
            if name not in present:
                yield f"{place}/{name}"
            elif name not in WORDS or isinstance(value, dict):
                yield from broken(value, present[name], f"{place}/{name}")
    elif frozen == present:
        return
    elif (
        key in {"required", "enum"} and isinstance(frozen, list) and not any(f"/{name}/" in place for name in REQUESTS)
    ):
        yield from (f"{place}/{value}" for value in frozen if value not in present)
    elif key == "parameters" and isinstance(frozen, list):
        by_name = {parameter["name"]: parameter for parameter in present}
        for parameter in frozen:
            yield from broken(parameter, by_name.get(parameter["name"]), f"{place}/{parameter['name']}")
        names = {parameter["name"] for parameter in frozen}
        yield from (f"{place}/{name}" for name, new in by_name.items() if name not in names and new.get("required"))
    elif isinstance(frozen, list) and isinstance(present, list) and len(frozen) == len(present):
        for number, pair in enumerate(zip(frozen, present, strict=True)):
            yield from broken(*pair, f"{place}/{number}")
    else:
        yield place


def test_the_schema_breaks_no_client(served: FastAPI) -> None:
    """Routes, fields and types of the frozen schema stay. 'make openapi' adds new ones."""
    assert list(broken(json.loads(FROZEN.read_text("utf-8")), openapi.schema(served))) == []


def test_a_client_would_notice() -> None:
    """A removed field, another type or a new required field is found. A new field or route is allowed."""
    frozen: dict[str, Any] = {
        "paths": {"/a": {"get": {"parameters": []}}},
        "schemas": {"AddRequest": {"required": ["ids"]}},
    }
    grown = {**frozen, "schemas": {**frozen["schemas"], "New": {"type": "string"}}}
    assert list(broken(frozen, grown)) == []
    assert list(broken(grown, frozen)) == ["/schemas/New"]
    assert list(broken({"type": "string"}, {"type": "integer"})) == ["/type"]
    duty = {**frozen, "schemas": {"AddRequest": {"required": ["ids", "name"]}}}
    assert list(broken(frozen, duty)) == ["/schemas/AddRequest/required"]
    required = {**frozen, "paths": {"/a": {"get": {"parameters": [{"name": "x", "required": True}]}}}}
    assert list(broken(frozen, required)) == ["/paths//a/get/parameters/x"]
