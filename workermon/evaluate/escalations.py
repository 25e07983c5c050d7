"""What the evaluation of some subjects has to know to escalate their alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workermon import models, ports
from workermon.alerts import escalation


def read(
    configuration: models.Configuration, bases: Iterable[ports.Basis[Any]], silences: ports.Silences, now: float
) -> escalation.Escalations:
    """Return the rules that escalate, and who has acknowledged what is due; nothing is read if nothing is."""
    return escalation.Escalations(
        rules={rule.name: rule for rule in configuration.rules if rule.escalate},
        acknowledged=silences.acknowledged(escalation.due(bases, now)),
    )
