"""What an evaluation has to read to escalate the alerts of its subjects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workermon import models, ports
from workermon.alerts import escalation


def read(
    configuration: models.Configuration, bases: Iterable[ports.Basis[Any]], silences: ports.Silences, now: float
) -> escalation.Escalations:
    """Return the rules that escalate, and who has acknowledged due alerts. Reads nothing if nothing is due."""
    return escalation.Escalations(
        rules={rule.name: rule for rule in configuration.rules if rule.escalate},
        acknowledged=silences.acknowledged(escalation.due(bases, now)),
    )
