"""What the API's routes share: what a request may carry, and how a document is answered."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from workermon import models


class Fields(BaseModel):
    """What a request carries: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def answer(found: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a document, as the commands print it with ``--json``."""
    return JSONResponse(models.to_json(found), status, dict(headers or {}))
