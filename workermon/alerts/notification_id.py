"""Pure: the one place where a notification's id is hashed."""

from __future__ import annotations

import hashlib

from workermon import models

#: Hexadecimal digits of an id: 160 bits, so that no two transitions ever share one.
_ID_LENGTH = 40


def of_transition(subject: models.SubjectKey, rule: str, state: str | None, at: int | str) -> str:
    """Return the id of a transition's notification.

    It is the same after a replay, and another one for a new episode or a new incarnation of the subject. ``at`` is the
    time of the transition, or what else names it.
    """
    text = "\n".join((subject.incarnation, subject.id, rule, state or "ok", str(at)))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
