"""Pure: computes a notification's id. No other module does."""

from __future__ import annotations

import hashlib

from workermon import models

#: Hexadecimal digits of an id: 160 bits, so that no two transitions share one.
_ID_LENGTH = 40


def of_transition(subject: models.SubjectKey, rule: str, state: str | None, at: int | str) -> str:
    """Return the id of a transition's notification.

    A replay gives the same id; a new episode or a new incarnation of the subject gives another. ``at`` is the time of
    the transition, or its key.
    """
    return _hashed(subject, rule, state or "ok", str(at))


def of_escalation(subject: models.SubjectKey, rule: str, step: int, since: int | None, version: int) -> str:
    """Return the id of the notification of a step, for the episode that began at ``since``.

    No transition has the same id. The version distinguishes escalations that repeat after a correction.
    """
    return _hashed(subject, rule, f"escalation {step}", f"{since} {version}")


def _hashed(subject: models.SubjectKey, *parts: str) -> str:
    text = "\n".join((subject.incarnation, subject.id, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
