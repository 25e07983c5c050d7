"""Errors as answers: RFC 9457, with the three parts of a command's error line in ``title``, ``detail``, ``action``."""

from __future__ import annotations

import http
import traceback
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from workermon import errors, logs
from workermon.web import render

log = logs.get(__name__)

MEDIA_TYPE = "application/problem+json"

#: The status for each kind of error; the first match counts.
_STATUSES: tuple[tuple[type[errors.WorkermonError], int], ...] = (
    (errors.RevisionChanged, 412),
    (errors.SecretNotAllowed, 403),
    (errors.InvalidInput, 400),
    (errors.NotFound, 404),
    (errors.RedisUnavailable, 503),
    (errors.AwsThrottled, 503),
    (errors.AwsUnreachable, 504),
    (errors.InstanceGone, 404),
    (errors.AwsError, 502),
    (errors.WorkermonError, 409),
)

#: What to do about the framework's own answers.
_ACTIONS = {404: "see /api/v1/docs for what there is", 405: "see /api/v1/docs for what may be done there"}


#: Addresses used by programs, whatever they accept.
_PROGRAMS = ("/api/", "/alertmanager/", "/metrics", "/livez", "/readyz")


class Problem(JSONResponse):
    """A problem: JSON for programs, and a page for a browser that requested a page."""

    def __init__(self, content: Mapping[str, object], status: int, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(content, status, headers, media_type)
        self._content, self._headers_given = content, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it in the requested form."""
        accept = Headers(scope=scope).get("accept", "")
        program = "text/html" not in accept or scope["path"].startswith(_PROGRAMS)
        if program:
            await super().__call__(scope, receive, send)
            return
        page = HTMLResponse(render.render("error.html", **self._content), self.status_code, self._headers_given)
        page.raw_headers += [header for header in self.raw_headers if header[0] == b"set-cookie"]
        await page(scope, receive, send)


class Refused(errors.WorkermonError):
    """A request is refused with an HTTP status; ``headers`` are added to the answer."""

    def __init__(self, status: int, subject: str, reason: str, todo: str) -> None:
        super().__init__(subject, reason, todo)
        self.args = (status, subject, reason, todo)
        self.status = status
        self.headers: dict[str, str] = {}


def status_of(error: errors.WorkermonError) -> int:
    """Return the HTTP status for an error."""
    if isinstance(error, Refused):
        return error.status
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def answer(
    error: errors.WorkermonError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as a problem."""
    status = status or status_of(error)
    headers_given = dict(headers or {}) | (error.headers if isinstance(error, Refused) else {})
    if status == 503:
        headers_given.setdefault("Retry-After", "5")
    content = {
        "type": "about:blank",
        "title": errors.printable(error.subject),
        "status": status,
        "detail": errors.printable(error.reason),
        "action": errors.printable(error.todo),
    }
    return Problem(content, status, headers_given, MEDIA_TYPE)


def unexpected(error: Exception) -> errors.WorkermonError:
    """Log an unforeseen error, and return what may be shown of it: its text may contain anything."""
    frame = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    place = f"{Path(frame.filename).name} line {frame.lineno}" if frame else "an unknown place"
    log.error("web.failed", kind=type(error).__name__, place=place)
    reason = f"unexpected {type(error).__name__} in {place}"
    return errors.WorkermonError("workermon", reason, "see the log, and report it")


def register(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""
    app.add_exception_handler(errors.WorkermonError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, of_framework)


def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.WorkermonError)
    return answer(error)


def _invalid(_request: Request, error: Exception) -> Response:
    """Name the first mistake. The input is not repeated, because it may be a secret."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return answer(errors.InvalidInput("request", "its body is not JSON", "send one JSON document"), 400)
    location = ".".join(str(part)[:64] for part in first["loc"]) or "request"
    reason = errors.validation_reason(first["msg"])[:300]
    return answer(errors.InvalidInput(location, reason, "see /api/v1/docs for what it takes"), 422)


def of_framework(request: Request, error: Exception) -> Response:
    """Answer an error of the framework, such as a path that is not there."""
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase.lower()
    action = _ACTIONS.get(error.status_code, "see /api/v1/docs")
    problem = errors.WorkermonError(f"{request.method} {request.url.path[:128]}", phrase, action)
    return answer(problem, error.status_code, error.headers)
