"""The options of a rule about outliers of a group."""

from __future__ import annotations

from workermon import models
from workermon.rules import distance_options, parsing


class OutlierKeys(distance_options.Keys):
    """``outlier = { by = "pool", beyond = 4 }``."""

    by: parsing.LabelName


class OutlierSection(distance_options.Section):
    """The keys of a rule about outliers. ``clear`` is in scaled MADs, as ``beyond`` is."""

    outlier: OutlierKeys
    breach: parsing.Count = models.Count(m=3, n=3)


class Options(distance_options.Options):
    """Distances are in scaled MADs, from the median of the workers whose label ``by`` has the same value."""

    by: str
    breach: models.Count = models.Count(m=3, n=3)
