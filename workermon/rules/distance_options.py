"""Options of rules that compare a distance: from the usual value, or from the group's median."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workermon import models
from workermon.models import fields
from workermon.rules import breaches, latches, parsing, section, wording

Side = Literal["above", "below", "both"]

Distance = Annotated[fields.Number, Field(gt=0, le=1000)]


class Keys(fields.Section):
    """The keys that all kinds that compare distances share."""

    beyond: Distance
    side: Side = "both"


class Section(section.RuleSection):
    """The keys of a rule that compares distances. ``clear`` has the unit of ``beyond``."""

    severity: models.Severity = "critical"
    breach: parsing.Count
    lasts: fields.Duration | None = Field(default=None, alias="for")
    clear: Distance | None = None
    recover: parsing.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    flapping: parsing.Flapping | None = None
    cases: tuple[section.CaseSection, ...] = ()


class Options(models.Frozen):
    """It fires if M of N slots lie further away than ``beyond``, on a side.

    ``lasts`` replaces ``breach``: all slots of so many seconds.
    """

    beyond: float
    side: Side = "both"
    breach: models.Count
    lasts: int | None = None
    clear: float | None = None
    recover: models.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"

    @property
    def side_in_words(self) -> str:
        """Return on which side a distance counts."""
        return "above or below" if self.side == "both" else self.side

    def described(self, severity: models.Severity, measure: str) -> tuple[str, ...]:
        """Return the conditions beside ``beyond`` in words; ``measure`` is the unit of distances."""
        clear = () if self.clear is None else (f"clear {self.clear:g} {measure}",)
        return (
            *clear,
            f"breach {self.breach}" if self.lasts is None else f"for {wording.duration(self.lasts)}",
            f"recover {self.recover}",
            f"missing {self.missing}",
            f"severity {severity}",
        )

    def compared(self, distance: float) -> float:
        """Return a distance as the threshold compares it: 0 or less on the side that does not count."""
        if self.side == "both":
            return abs(distance)
        return distance if self.side == "above" else -distance

    def limits(self, severity: models.Severity, period: int) -> breaches.Limits:
        """Return the limits that distances in slots of ``period`` seconds are compared with."""
        clear = self.beyond if self.clear is None else self.clear
        level = breaches.Level(severity, latches.BITS[severity], self.beyond, clear)
        recover, number = self.recover, -(-(self.lasts or 0) // period)
        m, n = (self.breach.m, self.breach.n) if self.lasts is None else (number, number)
        return breaches.Limits((level,), True, m, n, recover.m, recover.n, self.missing)
