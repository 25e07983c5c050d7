"""The API described in OpenAPI 3.1, built from the routes' own types."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workermon import views
from workermon.web import gate, problem_details

# FastAPI gives bodies and query models the alias of their parameter, and pydantic warns about that.
warnings.filterwarnings("ignore", message="The 'alias' attribute with value '(body|query)' was provided")

router = APIRouter(prefix="/api/v1", include_in_schema=False)

#: Of the API, which only ever gains: routes, fields of answers, fields of requests that may be left out.
VERSION = "1"

DESCRIPTION = """\
Everything that workermon's commands show and do, as JSON over HTTP. Times are RFC 3339 in UTC, durations are seconds.
Readers ignore fields that they do not know; requests with unknown fields are refused.

On a loopback address no login is asked. Elsewhere send `Authorization: Bearer TOKEN`; `workermon token create` makes
one. A write may carry an `Idempotency-Key`: repeated with the same key and body, it is done once, and gives the first
answer again."""

#: The forms of a login; none is needed on loopback.
SECURITY: dict[str, dict[str, str]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of `workermon token create`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": gate.COOKIE,
        "description": "Who logged in on the page.",
    },
}


class Problem(views.Document):
    """An error (RFC 9457): ``title`` says what, ``detail`` why, ``action`` what to do."""

    type: str
    title: str
    status: int
    detail: str
    action: str


def schema(app: FastAPI) -> dict[str, Any]:
    """Return the document that describes the API of an app."""
    document = get_openapi(
        title="workermon", version=VERSION, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's own errors, which ours replace
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    content = {problem_details.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {"Problem": {"description": "A problem, in three parts.", "content": content}}
    components["securitySchemes"] = SECURITY
    for operation in operations(document):
        # Named by its function, as a generated client's methods are.
        operation["operationId"] = operation["operationId"].partition("_api_v1_")[0]
        responses = operation["responses"]
        if "Validation Error" in responses.get("422", {}).get("description", ""):
            del responses["422"]
        for status in ("4XX", "5XX"):
            responses[status] = {"$ref": "#/components/responses/Problem"}
        operation["security"] = [{}, *({name: []} for name in SECURITY)]
    return document


def of(app: FastAPI) -> dict[str, Any]:
    """Return the document of an app, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = schema(app)
    return app.openapi_schema


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each operation that a schema describes."""
    for path in document["paths"].values():
        yield from path.values()


@router.get("/openapi.json", dependencies=[gate.VIEWER])
async def openapi(request: Request) -> Response:
    """Return the schema of this API."""
    return JSONResponse(of(request.app))
