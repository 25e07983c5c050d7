"""The application: its routers, and the layers that every request passes."""

from __future__ import annotations

import dishka
from dishka.integrations.fastapi import setup_dishka
from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workermon import __version__, errors, health, ports, settings, views
from workermon.web import (
    actions,
    alertmanager,
    api_docs,
    api_read,
    api_write,
    audit_trail,
    gate,
    hub,
    login,
    login_attempts,
    metrics,
    openapi,
    pages,
    probes,
    problem_details,
    request_limits,
    single_flight,
    snapshots,
    stream,
)

#: The routers. FastAPI analyses each route at its first use, once a process (20 ms in all).
ROUTES = APIRouter()
for _router in (
    metrics.router,
    pages.router,
    actions.router,
    probes.router,
    login.router,
    api_read.router,
    api_write.router,
    stream.router,
    alertmanager.router,
    openapi.router,
    api_docs.router,
):  # fmt: skip
    ROUTES.include_router(_router)

#: Headers of every answer: the browser loads nothing from elsewhere, allows no frame, and stores nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # by "no-referrer" a form of ours would come from the origin "null"
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

#: The methods that routes have.
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def create_app(container: dishka.Container) -> FastAPI:
    """Return the application over a container with the stages and views of its routes."""
    app = FastAPI(title="workermon", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app_settings, now = container.get(settings.Settings), container.get(ports.Clock)
    tries = login_attempts.Attempts(now)
    app.state.gate = gate.Gate(app_settings=app_settings, access=container.get(ports.Access), now=now, attempts=tries)
    app.state.hub = hub.Hub(lambda: container.get(views.LiveMessages).follow())
    app.state.snapshots = snapshots.Snapshots()
    app.state.status = single_flight.SingleFlight[health.Status]()
    app.state.metrics = metrics.Cache()
    app.state.began = now()
    app.router.routes.extend(ROUTES.routes)
    problem_details.register(app)
    app.add_exception_handler(405, _wrong_method)
    app.add_exception_handler(problem_details.Refused, login.refused)
    setup_dishka(container, app)
    app.add_middleware(audit_trail.Trail, audit=container.get(ports.Audit), now=now)
    app.add_middleware(request_limits.Limits)
    app.add_middleware(OuterLayer, app_settings=app_settings)  # added last: every request passes it first
    return app


def _wrong_method(request: Request, _error: Exception) -> Response:
    """Name the methods of all routes of the path. The framework names those of the first one only."""
    methods = {method for method in _METHODS if _matches({**request.scope, "method": method})}
    if "GET" in methods and request.url.path != stream.PATH:
        methods.add("HEAD")  # answered as GET
    headers = {"Allow": ", ".join(sorted(methods))}
    return problem_details.of_framework(request, HTTPException(405, headers=headers))


def _matches(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in ROUTES.routes)


class OuterLayer:
    """The outermost layer: refuses a wrong ``Host``, adds ``HEADERS`` to each answer, and answers unforeseen errors.

    A route's own caching header stays. An answer without one is not stored. HEAD is answered as GET, and the server
    leaves out the body: uptime checks and load balancers send it.
    """

    def __init__(self, app: ASGIApp, app_settings: settings.Settings) -> None:
        self.app, self.app_settings = app, app_settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers.update({name: value for name, value in HEADERS.items() if name not in headers})
            await send(message)

        try:
            gate.check_host(self.app_settings, scope)
            await self.app(_without_head(scope), receive, framed)
        except errors.WorkermonError as error:
            await problem_details.answer(error)(scope, receive, framed)
        except Exception as error:
            problem = problem_details.unexpected(error)
            if started:
                raise problem from None  # the connection ends: half an answer must not look whole
            await problem_details.answer(problem, 500)(scope, receive, framed)


def _without_head(scope: Scope) -> Scope:
    """Return a HEAD request as a GET. The stream of events has no end, so it has no HEAD."""
    if scope["method"] != "HEAD" or scope["path"] == stream.PATH:
        return scope
    return {**scope, "method": "GET"}
