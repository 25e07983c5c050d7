"""The page about the API: built on the server from the schema, so that it loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.requests import Request
from starlette.responses import Response

from workermon.web import gate, openapi, render

router = APIRouter(prefix="/api/v1", include_in_schema=False)

#: The prefix of a schema's references to others.
_REFERENCE = "#/components/schemas/"


class Type(NamedTuple):
    """A part of a written type; ``refers`` is the name of a schema on this page, if it is one."""

    text: str
    refers: str = ""


class Field(NamedTuple):
    """A parameter or field: its name, its place, its type, and its description."""

    name: str
    place: str
    types: tuple[Type, ...]
    required: bool
    description: str


class Operation(NamedTuple):
    """An operation: a method and a path, its input, and its answers."""

    name: str
    method: str
    path: str
    summary: str
    description: str
    fields: tuple[Field, ...]
    answers: tuple[tuple[str, str, tuple[Type, ...]], ...]


class Model(NamedTuple):
    """A document in a request or answer."""

    name: str
    description: str
    fields: tuple[Field, ...]


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Return a schema's operations, by their tag."""
    by_path: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            by_path.setdefault(described["tags"][0], []).append(_operation(method, path, described))
    return by_path


def schemas(document: Mapping[str, Any]) -> list[Model]:
    """Return the documents of a schema, by name."""
    return [
        Model(name, described.get("description", ""), tuple(_fields(described)))
        for name, described in sorted(document["components"]["schemas"].items())
    ]


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Operation:
    parameters = (
        Field(
            parameter["name"],
            parameter["in"],
            tuple(_types(parameter["schema"])),
            parameter["required"],
            parameter.get("description", ""),
        )
        for parameter in described.get("parameters", ())
    )
    bodies = (
        Field("", content_type, tuple(_types(content["schema"])), True, described["requestBody"].get("description", ""))
        for content_type, content in described.get("requestBody", {}).get("content", {}).items()
    )
    answers = (
        (
            status,
            answer["description"],
            tuple(_types(next(iter(answer.get("content", {"": {}}).values())).get("schema"))),
        )
        for status, answer in described["responses"].items()
        if "$ref" not in answer
    )
    return Operation(
        name=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described["summary"],
        description=described["description"],
        fields=(*parameters, *bodies),
        answers=tuple(answers),
    )


def _fields(described: Mapping[str, Any]) -> Iterator[Field]:
    required = described.get("required", ())
    for name, field in described.get("properties", {}).items():
        yield Field(name, "", tuple(_types(field)), name in required, field.get("description", ""))


def _types(schema: Mapping[str, Any] | None) -> Iterator[Type]:
    """Yield the parts of a written type."""
    if not schema:
        return
    if reference := schema.get("$ref"):
        name = reference.removeprefix(_REFERENCE)
        yield Type(name, name)
        return
    for number, alternative in enumerate(schema.get("anyOf", schema.get("oneOf", ()))):
        if number:
            yield Type(" or ")
        yield from _types(alternative)
    if "enum" in schema or "const" in schema:
        yield Type(" | ".join(str(value) for value in schema.get("enum", [schema.get("const")])))
    elif schema.get("type") == "array":
        yield Type("list of ")
        yield from _types(schema.get("items", {"type": "anything"}))
    elif schema.get("type") == "object":
        yield Type("object")
        if isinstance(values := schema.get("additionalProperties"), dict):
            yield Type(" of ")
            yield from _types(values)
    elif "type" in schema:
        yield Type({"date-time": "time"}.get(schema.get("format", ""), schema["type"]))


@router.get("/docs", dependencies=[gate.VIEWER])
async def docs(request: Request) -> Response:
    """Show the API."""
    document = openapi.of(request.app)
    return HTMLResponse(
        render.render(
            "api_docs.html",
            about=document["info"]["description"].split("\n\n"),
            operations=operations(document),
            schemas=schemas(document),
        )
    )
