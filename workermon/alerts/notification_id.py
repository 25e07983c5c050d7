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
    return _hashed(subject, rule, state or "ok", str(at))


def of_escalation(subject: models.SubjectKey, rule: str, step: int, since: int | None, version: int) -> str:
    """Return the id of the notification of a step, for the episode that began at ``since``.

    It is none that a transition has. The version tells apart what escalates again after a correction.
    """
    return _hashed(subject, rule, f"escalation {step}", f"{since} {version}")


def _hashed(subject: models.SubjectKey, *parts: str) -> str:
    text = "\n".join((subject.incarnation, subject.id, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
