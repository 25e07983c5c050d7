"""Crash points: named places where a test makes the process exit, as if it were killed. Off in normal runs.

``WORKERMON_FAILPOINT=evaluate.committed`` exits when that place is reached, ``evaluate.committed:3`` when it is reached
for the third time. It is read once, when the composition root is imported. If it is unset, ``reach`` is one comparison.
"""

from __future__ import annotations

import os
import threading
from typing import Final

#: Exit code of a process that ended at a crash point; no other code uses it.
EXIT: Final = 86

_armed: str | None = None
_remaining = 0
_lock = threading.Lock()


def arm(spec: str | None) -> None:
    """Exit at the point that ``name`` or ``name:times`` names; at none if it is empty or ``None``."""
    global _armed, _remaining
    name, _, times = (spec or "").partition(":")
    _remaining = int(times) if times.isdigit() else 1
    _armed = name or None


def reach(name: str) -> None:
    """Exit at once, without closing or writing anything, if this is the named point."""
    if _armed is not None and name == _armed:
        _count()


def _count() -> None:
    global _remaining
    with _lock:
        _remaining -= 1
        if _remaining == 0:
            os._exit(EXIT)
