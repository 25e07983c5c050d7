"""The options of a rule about unusual values."""

from __future__ import annotations

from workermon import models
from workermon.rules import band, distance_options, parsing


class UnusualKeys(distance_options.Keys):
    """``unusual = { beyond = 4, season = "week" }``."""

    season: band.Season = "day"


class UnusualSection(distance_options.Section):
    """The keys of a rule about unusual values. ``clear`` is in spreads, as ``beyond`` is."""

    unusual: UnusualKeys
    breach: parsing.Count = models.Count(m=1, n=1)


class Options(distance_options.Options):
    """Distances are in spreads, from the usual value at the same time of the ``season``."""

    season: band.Season = "day"
    breach: models.Count = models.Count(m=1, n=1)
