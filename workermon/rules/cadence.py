"""Pure: how often a metric of a worker is to be asked for: each period, or each ``models.RELAXED`` periods.

Each datapoint costs, whoever asks for it in time. A series far from every threshold can wait for some periods, because
nothing comes of its values; the datapoints between are fetched later, all of them. It is asked for each period while
it is near a threshold or beyond it, rises (or falls) towards one, or has too short a history to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workermon import models
from workermon.rules.kind import Kind

#: Datapoints that are needed to tell how a series moves.
MIN_HISTORY = 4

#: The more urgent of two reasons is the later one.
_URGENCY: tuple[models.CadenceReason, ...] = ("far", "rising", "near", "watched", "new")

#: The reasons in words.
TEXT: dict[models.CadenceReason, str] = {
    "far": "it is far from every threshold",
    "rising": "it moves towards a threshold",
    "near": "it is near a threshold, or beyond it",
    "watched": "a rule looks at each datapoint of it as it comes",
    "new": "its history is too short to tell how it moves",
    "budget": "the budget of the day asks for less",
}


def of_series(
    points: Sequence[models.Datapoint], rules: Iterable[tuple[Kind[Any], models.Rule]]
) -> models.CadenceReason:
    """Return why a series is asked for as often as it is.

    ``points`` are its newest datapoints without gaps, in order; ``rules`` those that look at it, each with its kind.
    """
    if len(points) < MIN_HISTORY:
        return "new"
    values = [point.value for point in points]
    return max((kind.cadence(rule, values) for kind, rule in rules), key=_URGENCY.index, default="far")


def decide(reason: models.CadenceReason | None, budget: int) -> models.Cadence | None:
    """Return how often a metric is asked for; ``None``: each period, because cadence is fixed.

    ``budget`` is how many periods the budget puts between two requests. The longer of the two counts.
    """
    own = models.RELAXED if reason == "far" else 1
    if budget > own:
        return models.Cadence(budget, "budget")
    return None if reason is None else models.Cadence(own, reason)


def beside(values: Sequence[float], edges: Sequence[float], *, rising: bool, recover: int) -> models.CadenceReason:
    """Return how near to some thresholds a series is. ``edges`` are those, and where they clear.

    Near is a tenth of the threshold, or less than the series lately moved. ``recover`` datapoints must be beyond the
    edge before it can count as clear. It rises towards an edge if it reaches it when it goes on as it did.
    """
    if len(values) < recover:
        return "new"
    sign = 1.0 if rising else -1.0
    own = [sign * value for value in values]
    edge = min((sign * each for each in edges), default=float("inf"))
    newest, highest = own[-1], max(own)
    if highest + max(abs(edge) / 10, highest - min(own)) >= edge:
        # What moved that much may be back at rest: only its newest datapoints say where it goes.
        return "near"
    lately = own[-models.RELAXED - 1 :]
    return "rising" if newest + 2 * (newest - min(lately)) >= edge else "far"
