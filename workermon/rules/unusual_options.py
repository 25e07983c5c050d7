"""What a rule about unusual values asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workermon import models
from workermon.models import fields
from workermon.rules import band, distance, parsing, section
from workermon.rules.distance import Distance, Side


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


class Options(distance.Options):
    """Distances are in spreads, from what is usual at the same time of the ``season``."""

    season: band.Season = "day"
    breach: models.Count = models.Count(m=1, n=1)
