"""Who may use the page and the API, and what the audit trail holds."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated, Literal

from pydantic import Field

from workermon.models.base import Frozen

#: What somebody may do; each role may also do what the ones before it may.
Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")

#: A token's name: it is part of the token, so it has no spaces and no signs that a header or URL would change.
ACCESS_NAME = r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}"


class Token(Frozen):
    """A token for the page and the API; of the token itself only ``digest``, its SHA-256, is kept."""

    name: Annotated[str, Field(pattern=rf"^{ACCESS_NAME}$")]
    role: Role
    digest: Annotated[str, Field(repr=False)]
    created: float


class WebSession(Frozen):
    """A browser that logged in with a token: it ends with that very token, which ``token_digest`` names."""

    digest: Annotated[str, Field(repr=False)]
    token: str
    token_digest: Annotated[str, Field(repr=False)]
    begins: float
    ends: float


class AuditEntry(Frozen):
    """A write: who did it, from where, what, and how it ended."""

    id: str
    at: float
    by: str
    origin: str
    action: str
    target: str
    outcome: str


def make_token(name: str, role: Role, now: float) -> tuple[str, Token]:
    """Return a new token, 256 random bits, and what is kept of it. Its beginning lets scanners for secrets find it."""
    text = f"wmt_{name}_{secrets.token_hex(32)}"
    return text, Token(name=name, role=role, digest=secret_digest(text), created=now)


def token_name(text: str) -> str | None:
    """Return the name in a token, ``None`` for what is no token.

    >>> token_name("wmt_ci_" + 64 * "0"), token_name("hunter2")
    ('ci', None)
    """
    match = re.fullmatch(rf"wmt_({ACCESS_NAME})_[0-9a-f]{{64}}", text)
    return match[1] if match else None


def secret_digest(text: str) -> str:
    """Return the hash by which a token or session is kept; enough for 256 random bits, which nobody can try out."""
    return hashlib.sha256(text.encode()).hexdigest()
