"""Who may do what over HTTP, and what was done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workermon.models.base import Frozen, Text

#: ``viewer`` reads; ``operator`` also acks, silences, pauses, resumes and refreshes; ``admin`` also changes the set-up.
Role = Literal["viewer", "operator", "admin"]
#: From the least to the most.
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")


def may(role: Role, needed: Role) -> bool:
    """Tell whether a role includes another.

    >>> may("operator", "viewer"), may("viewer", "operator")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(needed)


class Token(Frozen):
    """A token for page and API. Only the hash of the secret is kept; ``created_at`` in seconds since 1970."""

    name: Text
    role: Role
    digest: str = Field(repr=False)
    created_at: float


class LoginSession(Frozen):
    """A browser that logged in with a token (its name and hash); it ends with that token, or at ``ends``."""

    digest: str = Field(repr=False)
    token: Text
    token_digest: str = Field(repr=False)
    csrf: str = Field(repr=False)
    ends: float


class AuditEntry(Frozen):
    """One write: who asked for it, from where, by which way, what it was, and what became of it.

    ``who`` is a token's name, a proxy's user or a login name of the machine; ``source`` an address or a terminal.
    ``target`` names what was changed; ``outcome`` is ``done`` or the error.
    """

    at: float
    who: str
    source: str
    via: Literal["cli", "api", "page", "alertmanager"]
    action: str
    target: str
    outcome: str = "done"
