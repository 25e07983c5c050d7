"""The fields that requests share: what each accepts, and how it rejects the rest."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from workermon import models
from workermon.web import paging, problem_details


class Fields(BaseModel):
    """The base of requests: unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def no_query(request: Request) -> None:
    """Reject a query if a route takes none; for ``dependencies``."""
    for name in request.query_params:
        raise problem_details.Refused(422, f"query.{name[:64]}", "is unknown", "leave it out")


def _pair(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise ValueError("is not key=value, such as team=vfx")
    return text


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is not a duration such as 30s, 5m or 24h")
    return models.seconds(value)


def _moment(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("is not a time such as 2026-11-23T16:00:00Z")
    return models.moment_or_utc(value)


#: ``key=value``.
Pair = Annotated[
    models.Text, AfterValidator(_pair), WithJsonSchema({"type": "string", "pattern": "^[^=]+=.+$", "maxLength": 256})
]
#: Whole seconds, or a text such as ``90s``, ``5m``, ``24h``.
Duration = Annotated[
    int,
    BeforeValidator(_seconds),
    Field(le=3660 * models.DAY),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 3660 * models.DAY},
                {"type": "string", "pattern": r"^[0-9]{1,5} ?[smhd]$", "examples": ["60s", "5m", "24h"]},
            ]
        }
    ),
]
#: A time in RFC 3339; in UTC if it names no offset.
Moment = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Labels = Annotated[dict[models.Text, models.Text], Field(max_length=50)]
#: An instance id, or a name.
WorkerId = Annotated[models.Text, Path(alias="id", description="An instance id or a name.")]
Limit = Annotated[int, Field(ge=1, le=paging.MAX_LIMIT)]

#: The dependencies of a route that takes no query.
WITHOUT_QUERY = [Depends(no_query)]
