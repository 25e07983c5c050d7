"""What may be missing elsewhere and must be there in a test."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return the value, and fail if it is ``None``."""
    assert value is not None
    return value
