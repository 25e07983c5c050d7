"""How a document is answered."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from workermon import models


def answer(document: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a document, as the commands print it with ``--json``."""
    return JSONResponse(models.to_json(document), status, dict(headers or {}))
