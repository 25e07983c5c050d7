"""Who may do what: the ``Host``, the login, the role. They are decided here and nowhere else.

A route names the role that it needs by its parameter: ``caller: Viewer``, ``Operator`` or ``Admin``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from workermon import models, settings
from workermon.web import problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request: a name, what it may do, and from where it came."""

    name: str
    role: models.Role
    origin: str


#: Who uses the page on this machine, where no login is asked.
LOCAL = "local"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def check_host(own: settings.Settings, host: str | None) -> None:
    """Refuse a ``Host`` by which a foreign page would reach a loopback address; raises ``problems.Refused``."""
    found = _HOST.fullmatch(host or "")
    if found is None:
        raise problems.Refused(400, "Host", "is not a host", "send one Host header")
    name = found[1].lower().strip("[]")
    if settings.is_loopback(own.web_host) and name not in {"localhost", "127.0.0.1", "::1", own.web_host}:
        why = "is not a name of this machine's loopback address"
        raise problems.Refused(403, f"Host {found[1][:64]}", why, "use http://localhost, or put a proxy in front")


def identify(request: Request) -> Caller:
    """Return who sent a request; raises ``problems.Refused`` if a login is needed."""
    own: settings.Settings = request.app.state.settings
    origin = request.client.host if request.client else "unknown"
    if settings.is_loopback(own.web_host):
        return Caller(name=LOCAL, role="admin", origin=origin)
    raise problems.Refused(401, "login", "this request carries none", "send Authorization: Bearer TOKEN, or log in")


def _at_least(role: models.Role) -> Callable[[Request], Caller]:
    def admit(request: Request) -> Caller:
        caller = identify(request)
        if models.ROLES.index(caller.role) < models.ROLES.index(role):
            why = f"a {caller.role} may not do this"
            raise problems.Refused(403, f"{request.method} {request.url.path[:128]}", why, f"ask for the role {role}")
        return caller

    return admit


Viewer = Annotated[Caller, Depends(_at_least("viewer"))]
Operator = Annotated[Caller, Depends(_at_least("operator"))]
Admin = Annotated[Caller, Depends(_at_least("admin"))]
