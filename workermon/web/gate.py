"""Who may do what: checks the ``Host``, the login and the role. Nothing else decides that.

A route names the role that it needs by its parameter: ``caller: Viewer``, ``Operator`` or ``Admin``. A route that does
not use its caller has ``dependencies=[VIEWER]`` instead. A form has ``csrf_token(request, caller)`` in its field
``csrf``.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from workermon import errors, logs, models, ports, settings
from workermon.web import client_address, csrf, login_attempts, problem_details

log = logs.get(__name__)

#: The cookie of a session, and seconds that one lasts.
COOKIE = "workermon_session"
SESSION_SECONDS = 12 * 3600
#: The user of the page on this machine, where no login is needed.
LOCAL = "local"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request: a name, a role, an address, and how they are known.

    ``session`` is the hash of the session's cookie, if there is one.
    """

    name: str
    role: models.Role
    origin: str
    by: Literal["local", "token", "session", "proxy"] = "local"
    session: str = ""

    def may(self, role: models.Role) -> bool:
        """Return whether its role includes another."""
        return models.ROLES.index(self.role) >= models.ROLES.index(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Identifies callers by token, proxy, session, or as a user of this machine."""

    app_settings: settings.Settings
    access: ports.Access
    now: ports.Clock
    attempts: login_attempts.Attempts

    def identify(self, request: Request) -> Caller:
        """Return the sender of a request. Raises ``problem_details.Refused`` if a login is needed, or it is wrong."""
        peer = client_address.of(self.app_settings, request.scope)
        user = self._user(request) if peer.is_proxy else None
        authorization = request.headers.getlist("authorization")
        if authorization and (user is None or authorization[0].lower().startswith("bearer ")):
            return self._by_token(authorization, peer)
        if user is not None:
            return Caller(name=user, role=self.app_settings.web_user_role, origin=peer.address, by="proxy")
        if cookie := request.cookies.get(COOKIE):
            return self._by_session(cookie, peer)
        if not settings.is_loopback(self.app_settings.web_host) or peer.is_proxy:
            raise login_needed("this request carries none")
        if peer.is_forwarded:
            raise login_needed("it came through a proxy that WORKERMON_WEB_PROXIES does not name")
        return Caller(name=LOCAL, role="admin", origin=peer.address)

    def verify(self, text: str, peer: client_address.Peer) -> models.Token:
        """Return the presented token. Raises ``problem_details.Refused`` if it is invalid, or after many attempts."""
        name = models.token_name(text)
        self._may_try(peer, name or "")
        token_known = None if name is None else self.access.token(name)
        if token_known is None or not hmac.compare_digest(token_known.digest, models.secret_digest(text)):
            raise self._failed(peer, name or "", "this token is not known")
        return token_known

    def open_session(self, token: models.Token) -> str:
        """Start a session with a token, and return the value of its cookie."""
        cookie = secrets.token_urlsafe(32)
        begins = self.now()
        session = models.WebSession(
            digest=models.secret_digest(cookie),
            token=token.name,
            token_digest=token.digest,
            begins=begins,
            ends=begins + SESSION_SECONDS,
        )
        self.access.open_session(session)
        return cookie

    def admit(self, request: Request, role: models.Role) -> Caller:
        """Return the sender of a request, if it is allowed. Raises ``problem_details.Refused``."""
        caller = self.identify(request)
        if request.method not in _SAFE and caller.by != "token":
            csrf.check_origin(request, client_address.of(self.app_settings, request.scope))
            if caller.by == "session" or csrf.is_browser(request):
                csrf.check_token(request, self.csrf_token(caller))
        if not caller.may(role):
            reason = f"a {caller.role} may not do this"
            raise problem_details.Refused(
                403, f"{request.method} {request.url.path[:128]}", reason, f"ask for the role {role}"
            )
        if request.method not in _SAFE and role != "viewer":
            request.state.writer = caller  # for the audit trail
        return caller

    def csrf_token(self, caller: Caller) -> str:
        """Return the token for forms of this caller's page."""
        return csrf.token(self.access.key(), f"{caller.by}:{caller.session or caller.name}")

    def _user(self, request: Request) -> str | None:
        """Return the user named by a trusted proxy."""
        values = request.headers.getlist(self.app_settings.web_user_header) if self.app_settings.web_user_header else []
        if not values or not values[0].strip():
            return None
        if len(values) > 1 or len(values[0]) > 256 or errors.printable(values[0]) != values[0]:
            raise problem_details.Refused(
                400, f"header {self.app_settings.web_user_header}", "names no user", "send one name"
            )
        return values[0].strip()

    def _by_token(self, authorization: list[str], peer: client_address.Peer) -> Caller:
        scheme, _, text = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise login_needed("its Authorization header is not a bearer token")
        token = self.verify(text.strip(), peer)
        return Caller(name=token.name, role=token.role, origin=peer.address, by="token")

    def _by_session(self, cookie: str, peer: client_address.Peer) -> Caller:
        session = self.access.session(models.secret_digest(cookie))
        token = None if session is None or session.ends <= self.now() else self.access.token(session.token)
        if session is None or token is None or not hmac.compare_digest(token.digest, session.token_digest):
            raise login_needed("the session is over")
        return Caller(
            name=token.name, role=token.role, origin=peer.address, by="session", session=session.digest
        )  # fmt: skip

    def _may_try(self, peer: client_address.Peer, name: str) -> None:
        wait = self.attempts.wait(peer.address, name)
        if wait > 0:
            refused = problem_details.Refused(429, "login", "it failed too often", f"try again in {wait:.0f} s")
            refused.headers["Retry-After"] = str(int(wait) + 1)
            raise refused

    def _failed(self, peer: client_address.Peer, name: str, reason: str) -> problem_details.Refused:
        self.attempts.failed(peer.address, name)
        log.warning("web.login_refused", origin=peer.address, reason=reason)
        return login_needed(reason)


def login_needed(reason: str) -> problem_details.Refused:
    """Return the refusal that asks for a login."""
    refused = problem_details.Refused(401, "login", reason, "send Authorization: Bearer TOKEN, or log in at /login")
    refused.headers["WWW-Authenticate"] = 'Bearer realm="workermon"'
    return refused


def check_host(app_settings: settings.Settings, scope: Scope) -> None:
    """Reject a ``Host`` with which a foreign page would reach a loopback address.

    Raises ``problem_details.Refused``.
    """
    peer = client_address.of(app_settings, scope)
    match = _HOST.fullmatch(peer.hosts[0])
    if match is None or sum(name == b"host" for name, _ in scope["headers"]) != 1:
        raise problem_details.Refused(400, "Host", "is not a host", "send one Host header")
    name = match[1].lower().strip("[]")
    own_names = {"localhost", "127.0.0.1", "::1", app_settings.web_host.lower()}
    if settings.is_loopback(app_settings.web_host) and not peer.is_proxy and name not in own_names:
        reason = "is not a name of this machine's loopback address"
        todo = "use http://localhost, or name your proxy in WORKERMON_WEB_PROXIES"
        raise problem_details.Refused(403, f"Host {match[1][:64]}", reason, todo)


def of(request: Request) -> Gate:
    """Return the gate of the application."""
    gate: Gate = request.app.state.gate
    return gate


def identify(request: Request) -> Caller:
    """Return the sender of a request. Raises ``problem_details.Refused`` if a login is needed."""
    return of(request).identify(request)


def csrf_token(request: Request, caller: Caller) -> str:
    """Return the token for the field ``csrf`` of a page's forms, and for its scripts' header ``X-CSRF-Token``."""
    return of(request).csrf_token(caller)


def _at_least(role: models.Role) -> Callable[[Request], Caller]:
    def admit(request: Request) -> Caller:
        return of(request).admit(request, role)

    return admit


#: What a route depends on that does not use its caller.
VIEWER, OPERATOR, ADMIN = Depends(_at_least("viewer")), Depends(_at_least("operator")), Depends(_at_least("admin"))

#: The caller of a route, with at least that role.
Viewer = Annotated[Caller, VIEWER]
Operator = Annotated[Caller, OPERATOR]
Admin = Annotated[Caller, ADMIN]
