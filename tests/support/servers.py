"""Addresses of a real server."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def database(url: str, number: int) -> str:
    """Return the URL of another database of the same server, over TCP or a unix socket."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return urlunsplit(parts._replace(query=f"db={number}"))
    return urlunsplit(parts._replace(path=f"/{number}"))
