"""What a rule about outliers of a group asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from workermon import models
from workermon.models import fields
from workermon.rules import parsing, section, slots
from workermon.rules.unusual_options import Distance, Side


class OutlierKeys(fields.Section):
    """``outlier = { by = "pool", beyond = 4 }``."""

    by: models.Text
    beyond: Distance
    side: Side = "both"

    @field_validator("by")
    @classmethod
    def _is_label(cls, by: str) -> str:
        if "=" in by:
            raise ValueError("is not a label's name: it has a '='")
        return by


class OutlierSection(section.RuleSection):
    """The keys of a rule about outliers; ``clear`` is in scaled MADs, as ``beyond`` is."""

    outlier: OutlierKeys
    severity: models.Severity = "critical"
    breach: parsing.Count = models.Count(m=3, n=3)
    lasts: fields.Duration | None = Field(default=None, alias="for")
    clear: Distance | None = None
    recover: parsing.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """It fires if M of N slots lie more than ``beyond`` scaled MADs from the median of the group, on a side.

    The workers whose label ``by`` has the same value are a group. ``lasts`` is there instead of ``breach``: all slots
    of so many seconds.
    """

    by: str
    beyond: float
    side: Side = "both"
    breach: models.Count = models.Count(m=3, n=3)
    lasts: int | None = None
    clear: float | None = None
    recover: models.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"

    def compared(self, distance: float) -> float:
        """Return a distance as the threshold compares it: what lies on the other side is no outlier."""
        if self.side == "both":
            return abs(distance)
        return distance if self.side == "above" else -distance

    def limits(self, severity: models.Severity, period: int) -> slots.Limits:
        """Return what distances in slots of ``period`` seconds are compared with."""
        clear = self.beyond if self.clear is None else self.clear
        level = slots.Level(severity, slots.BITS[severity], self.beyond, clear)
        recover, number = self.recover, -(-(self.lasts or 0) // period)
        m, n = (self.breach.m, self.breach.n) if self.lasts is None else (number, number)
        return slots.Limits((level,), True, m, n, recover.m, recover.n, self.missing)
