"""Who may use the page and the API, and the entries of the audit trail."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated, Literal

from pydantic import Field

from workermon.models.base import Frozen

#: Roles. Each role may also do what the ones before it may.
Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")

#: A token's name is part of the token, so it has no spaces and no characters that a header or URL would change.
ACCESS_NAME = r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}"


class Token(Frozen):
    """A token for the page and the API. Of the token itself only ``digest``, its SHA-256, is stored."""

    name: Annotated[str, Field(pattern=rf"^{ACCESS_NAME}$")]
    role: Role
    digest: Annotated[str, Field(repr=False)]
    created: float


class WebSession(Frozen):
    """A browser session, logged in with a token. It ends when that token, named by ``token_digest``, is removed."""

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
    """Return a new token (256 random bits) and its stored form. Its prefix lets secret scanners recognize it."""
    text = f"wmt_{name}_{secrets.token_hex(32)}"
    return text, Token(name=name, role=role, digest=secret_digest(text), created=now)


def token_name(text: str) -> str | None:
    """Return the name in a token; ``None`` if the text is not a token.

    >>> token_name("wmt_ci_" + 64 * "0"), token_name("hunter2")
    ('ci', None)
    """
    match = re.fullmatch(rf"wmt_({ACCESS_NAME})_[0-9a-f]{{64}}", text)
    return match[1] if match else None


def secret_digest(text: str) -> str:
    """Return the hash under which a token or session is stored. 256 random bits cannot be guessed from it."""
    return hashlib.sha256(text.encode()).hexdigest()
