"""What may be missing elsewhere and must be there in a test."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return a value; fails if there is none."""
    assert value is not None
    return value
