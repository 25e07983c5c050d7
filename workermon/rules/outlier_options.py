"""What a rule about outliers of a group asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from workermon import models
from workermon.models import fields
from workermon.rules import distance, parsing, section
from workermon.rules.distance import Distance, Side


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


class Options(distance.Options):
    """Distances are in scaled MADs, from the median of the workers whose label ``by`` has the same value."""

    by: str
    breach: models.Count = models.Count(m=3, n=3)
