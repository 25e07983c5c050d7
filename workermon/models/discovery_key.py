"""The key for the state of ``[discover]`` in an account and region where workers are collected too."""

from __future__ import annotations

from typing import Final

_PREFIX: Final = "discover:"


def search_key(key: str) -> str:
    """Return the key of the search in an account and region, beside that of the collection there.

    >>> search_key("default/us-east-1")
    'discover:default/us-east-1'
    """
    return f"{_PREFIX}{key}"


def searched_of(key: str) -> str | None:
    """Return the account and region of a ``search_key``, ``None`` for any other key."""
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None
