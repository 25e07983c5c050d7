"""Describes mistakes of a config file in one line: the source, line and column, the path, why, and what to do.

Checks know only paths, such as ``rules[0].above.critical``. ``positions`` finds their place in the text.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Iterable
from typing import Any

import pydantic

from workermon import errors
from workermon.config import positions
from workermon.models import fields

#: Our texts for pydantic's errors.
_TYPES = {
    "string_type": "must be a text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
}


class Mistake(Exception):
    """A mistake at a path of the file; ``place`` is its position in the text there, in characters from 0, if known."""

    def __init__(self, path: str, reason: str, todo: str, place: int | None = None) -> None:
        super().__init__(path, reason, todo, place)
        self.path, self.reason, self.todo, self.place = path, reason, todo, place


class InvalidText(errors.InvalidInput):
    """A mistake within a text of the file, at the character ``place`` from 0."""

    def __init__(self, subject: str, reason: str, todo: str, place: int | None = None) -> None:
        super().__init__(subject, reason, todo)
        self.args = (subject, reason, todo, place)
        self.place = place


def excerpt(text: object) -> str:
    """Return text of the file for use in a line: printable, at most 64 characters."""
    return errors.printable(str(text))[:64]


def location(source: str, path: str, text: str, place: int | None = None) -> str:
    """Return the name of a place of a file in errors: source, path, and line and column if found.

    They are those of the key, or of the character ``place`` of its text.
    """
    if not path:
        return source
    offsets = {_path(parts): offset for parts, offset in positions.find(text).items()} if text else {}
    full_path = path.strip("[]") if path.startswith("[") else path
    while full_path and full_path not in offsets:  # a missing key has the position of its table
        full_path = full_path[: max(full_path.rfind("."), full_path.rfind("["), 0)]
    if not full_path:
        return f"{source}: {path}"
    offset = offsets[full_path] if place is None else positions.within(text, offsets[full_path], place)
    line, column = positions.line_and_column(text, offset)
    return f"{source}: line {line}, column {column}: {path}"


def syntax(source: str, message: str) -> tuple[str, str]:
    """Return place and reason of a ``tomllib`` error.

    >>> syntax("fleet.toml", "Invalid value (at line 1, column 8)")
    ('fleet.toml: line 1, column 8', 'is not TOML: Invalid value')
    """
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message)
    return (f"{source}: {match[2]}", f"is not TOML: {match[1]}") if match else (source, f"is not TOML: {message}")


def first(
    invalid: pydantic.ValidationError,
    grammar: type[pydantic.BaseModel],
    secrets: Collection[str],
    within: tuple[str | int, ...] = (),
) -> Mistake:
    """Turn pydantic's first error about ``grammar`` into ours. Possible secrets are never repeated.

    ``secrets`` are the keys that take a secret by name, ``within`` is the place of ``grammar`` in the file.
    """
    # A misspelt key first: often another key is missing only because of it.
    error = min(invalid.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    place, kind = error["loc"], error["type"]
    path = _path((*within, *place))
    if kind == "extra_forbidden":
        valid_names = _fields(grammar, place[:-1])
        return Mistake(path, "is not a known key", errors.nearest(str(place[-1]), valid_names))
    if kind == "missing":
        return Mistake(path, "is missing", "add it")
    if any(part in secrets for part in place):
        return Mistake(
            path, "must be a secret by name, not the secret itself", 'write { env = "NAME" } or { file = "…" }'
        )
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
        return Mistake(path, f"{excerpt(error['input'])!r} is none of {', '.join(choices)}", "choose one of them")
    reason = _TYPES.get(kind) or errors.validation_reason(error["msg"]).replace("Input should", "should")
    return Mistake(path, reason, "see docs/reference/config-file.md")


def _path(location: Iterable[int | str]) -> str:
    path = ""
    for part in location:
        if part == "[key]":  # pydantic's mark for "the key itself"
            continue
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{excerpt(part)}"
    return path


def _fields(grammar: type[pydantic.BaseModel], location: Iterable[int | str]) -> list[str]:
    """Return the known keys at a place of the grammar."""
    kind: Any = grammar
    for part in location:
        kind = _inside(kind, part)
    return fields.keys(kind) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) else []


def _inside(kind: Any, part: int | str) -> Any:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        field = kind.model_fields.get(str(part))
        kind = field.annotation if field else None
    else:
        inner = typing.get_args(kind)
        kind = inner[-1 if typing.get_origin(kind) is dict else 0] if inner else None
    while type(None) in typing.get_args(kind):  # X | None
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
    return kind
