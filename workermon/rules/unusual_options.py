"""What a rule about unusual values asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workermon import models
from workermon.models import fields
from workermon.rules import band, parsing, section, slots

Side = Literal["above", "below", "both"]

Distance = Annotated[fields.Number, Field(gt=0, le=1000)]


class UnusualKeys(fields.Section):
    """``unusual = { beyond = 4, season = "week" }``."""

    beyond: Distance
    season: band.Season = "day"
    side: Side = "both"


class UnusualSection(section.RuleSection):
    """The keys of a rule about unusual values; ``clear`` is in spreads, as ``beyond`` is."""

    unusual: UnusualKeys
    severity: models.Severity = "critical"
    breach: parsing.Count = models.Count(m=1, n=1)
    lasts: fields.Duration | None = Field(default=None, alias="for")
    clear: Distance | None = None
    recover: parsing.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """It fires if M of N slots lie more than ``beyond`` spreads from what is usual, on a side.

    ``lasts`` is there instead of ``breach``: all slots of so many seconds.
    """

    beyond: float
    season: band.Season = "day"
    side: Side = "both"
    breach: models.Count = models.Count(m=1, n=1)
    lasts: int | None = None
    clear: float | None = None
    recover: models.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"

    def compared(self, distance: float) -> float:
        """Return a distance as the threshold compares it: what lies on the other side is not unusual."""
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
