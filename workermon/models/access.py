"""Who may use the page and the API."""

from __future__ import annotations

from typing import Literal

#: What somebody may do; each role may also do what the ones before it may.
Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
