"""The base of every view's result: frozen models that serialize to the contract's JSON.

Times are seconds since 1970 in Python, so that code can compute with them, and RFC 3339 in JSON.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainSerializer, WithJsonSchema

from workermon import models

#: Seconds since 1970; RFC 3339 in JSON.
Time = Annotated[
    float,
    PlainSerializer(models.rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Document(models.Frozen):
    """A result of a view, or a part of it."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the plain object of the contract."""
        return models.to_json(self)


def absent(value: object) -> bool:
    """Return whether a field is left out of the JSON object, for ``Field(exclude_if=absent)``."""
    return value is None
