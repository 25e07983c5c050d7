"""``/login`` and ``/logout``: a browser's session, begun with a token."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.requests import Request

from workermon import errors
from workermon.web import client_address, csrf, gate, problem_details, render

router = APIRouter(include_in_schema=False)

#: The page after a login without a target.
HOME = "/"


@router.get("/login")
def form(to: Annotated[str, Query(alias="next")] = HOME) -> Response:
    """Show the login form."""
    return _page(200, to=_local(to), failed=None)


@router.post("/login")
def log_in(
    request: Request,
    token: Annotated[str, Form(max_length=256)] = "",
    to: Annotated[str, Form(alias="next")] = HOME,
) -> Response:
    """Start a session, and continue to the requested page."""
    gatekeeper = gate.of(request)
    peer = client_address.of(gatekeeper.app_settings, request.scope)
    csrf.check_origin(request, peer)
    try:
        cookie = gatekeeper.open_session(gatekeeper.verify(token.strip(), peer))
    except problem_details.Refused as error:
        return _page(
            error.status, to=_local(to), failed=f"{error.reason}; {error.todo}" if error.status == 429 else error.reason
        )
    answer = RedirectResponse(_local(to), 303)
    answer.set_cookie(
        gate.COOKIE, cookie, max_age=gate.SESSION_SECONDS, httponly=True, samesite="strict", secure=peer.is_secure
    )
    return answer


@router.post("/logout")
def log_out(request: Request, caller: gate.Viewer) -> Response:
    """End the session of this browser."""
    if caller.session:
        gate.of(request).access.close_session(caller.session)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(gate.COOKIE, httponly=True, samesite="strict")
    return answer


def refused(request: Request, error: Exception) -> Response:
    """Answer a refusal: ask a person for a login, and delete an expired cookie."""
    assert isinstance(error, problem_details.Refused)
    answer = problem_details.answer(error)
    if error.status == 401:
        person = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        answer = _ask(request) if person else answer
        if gate.COOKIE in request.cookies:
            answer.delete_cookie(gate.COOKIE, httponly=True, samesite="strict")
    return answer


def _ask(request: Request) -> Response:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("sec-fetch-site") == "cross-site" and gate.COOKIE not in request.cookies:
        # A link from elsewhere sends no cookie of ours; the same address requested by our own page does.
        return HTMLResponse(render.render("again.html", path=path), 401)
    return RedirectResponse(f"/login?next={quote(path, safe='')}", 303)


def _local(path: str) -> str:
    """Return a path of this page, whatever a link contains.

    >>> _local("/alerts?q=a"), _local("//evil.example"), _local("https://evil.example")
    ('/alerts?q=a', '/', '/')
    """
    good = path.startswith("/") and path[1:2] not in ("/", "\\") and errors.printable(path) == path and len(path) < 2048
    return path if good else HOME


def _page(status: int, *, to: str, failed: str | None) -> Response:
    return HTMLResponse(render.render("login.html", to=to, failed=failed), status)
