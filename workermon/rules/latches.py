"""Which severities of an alert are latched, as bits. A latched one holds until enough slots are clear of its level."""

from __future__ import annotations

from collections.abc import Mapping

from workermon.models import Severity

#: The bit by which each severity is latched; without a severity none is.
BITS: Mapping[Severity | None, int] = {None: 0, "warning": 1, "critical": 2}
#: The severity of latched bits: that of the highest level.
SEVERITY_OF: tuple[Severity | None, ...] = (None, "warning", "critical", "critical")


def severities(latched: int) -> tuple[Severity, ...]:
    """Return the latched severities, the least severe first.

    >>> severities(0), severities(2), severities(3)
    ((), ('critical',), ('warning', 'critical'))
    """
    return tuple(severity for severity, bit in BITS.items() if severity is not None and latched & bit)
