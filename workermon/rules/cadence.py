"""Pure: how often a worker's metric is requested: each period, or each ``models.RELAXED`` periods.

Each requested datapoint costs money. A series far from every threshold can wait for some periods, because its values
change nothing; the datapoints in between are fetched later. A metric is requested each period while it is near a
threshold or beyond it, moves towards one, or has too short a history to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workermon import models
from workermon.rules.kind import Kind

#: Datapoints needed to tell how a series moves.
MIN_HISTORY = 4

#: Share of the series assumed to be near a threshold before anything is known about them.
NEAR_SHARE = 0.1

#: Hardly any rule needs more datapoints than this to resolve.
_MAX_RECOVERY = 100

#: The later reason is the more urgent one.
_BY_URGENCY: tuple[models.CadenceReason, ...] = ("far", "rising", "near", "watched", "new")

#: The reasons in words.
REASON_TEXTS: dict[models.CadenceReason, str] = {
    "far": "it is far from every threshold",
    "rising": "it moves towards a threshold",
    "near": "it is near a threshold, or beyond it",
    "watched": "a rule needs each datapoint as it arrives",
    "new": "its history is too short to know how it moves",
    "budget": "the day's budget requests it less often",
}


def rules_over(
    metric: str, worker: models.Worker, configuration: models.Configuration, kinds: Mapping[str, Kind[Any]]
) -> list[tuple[Kind[Any], models.Rule]] | None:
    """Return the rules over a metric of a worker; ``None`` if they and other rules are evaluated together."""
    rules = [rule for rule in configuration.rules if rule.kind in kinds]
    combined = {name for rule in rules for name in (*kinds[rule.kind].operands(rule), *rule.inhibited_by)}
    applicable: list[tuple[Kind[Any], models.Rule]] = []
    for rule in rules:
        kind = kinds[rule.kind]
        if metric not in kind.metrics(rule) or not rule.applies_to(worker):
            continue
        if rule.name in combined or rule.inhibited_by:
            return None
        applicable.append((kind, kind.for_worker(rule, worker.labels)))
    return applicable


def expected(
    metric: str, condition: models.Condition | None, looking: Sequence[tuple[Kind[Any], models.Rule]] | None
) -> float:
    """Return how many periods will probably lie between two requests for a metric with adaptive cadence.

    ``looking`` are from ``rules_over``; ``condition`` is ``None`` for a worker that was never collected. The estimate
    uses what the series shows now, or the cadence that its newest datapoint would give. Of series without data, a share
    of ``NEAR_SHARE`` is assumed to be near a threshold.
    """
    if looking is None:
        return 1.0
    latest = None if condition is None else condition.latest.get(metric)
    if latest is None:
        watched = any(kind.cadence(rule, []) == "watched" for kind, rule in looking)
        return 1.0 if watched else 1 / (NEAR_SHARE + (1 - NEAR_SHARE) / models.RELAXED)
    cadence = None if condition is None else condition.cadence.get(metric)
    if cadence is not None and cadence.reason not in ("budget", "new"):
        return float(models.RELAXED if cadence.reason == "far" else 1)
    at_rest = [latest] * max(MIN_HISTORY, _MAX_RECOVERY)
    reason = of_series(at_rest, looking)
    return float(models.RELAXED if reason == "far" else 1)


def of_series(
    points: Sequence[models.Datapoint], rules: Iterable[tuple[Kind[Any], models.Rule]]
) -> models.CadenceReason:
    """Return why a series is requested as often as it is.

    ``points`` are its newest datapoints without gaps, in order; ``rules`` those that use it, each with its kind.
    """
    if len(points) < MIN_HISTORY:
        return "new"
    values = [point.value for point in points]
    return max((kind.cadence(rule, values) for kind, rule in rules), key=_BY_URGENCY.index, default="far")


def decide(reason: models.CadenceReason | None, budget: int) -> models.Cadence | None:
    """Return how often a metric is requested; ``None``: each period, because cadence is fixed.

    ``budget`` is how many periods the budget puts between two requests. The longer distance applies.
    """
    periods = models.RELAXED if reason == "far" else 1
    if budget > periods:
        return models.Cadence(budget, "budget")
    return None if reason is None else models.Cadence(periods, reason)


def nearness(values: Sequence[float], edges: Sequence[float], *, rising: bool, recover: int) -> models.CadenceReason:
    """Return how near a series is to some thresholds. ``edges`` are those, and the values at which they clear.

    Near means within a tenth of the threshold, or within the series' recent movement. ``recover`` datapoints must be
    beyond the edge before the series counts as clear. It moves towards an edge if it reaches it at its present rate.
    """
    if len(values) < recover:
        return "new"
    sign = 1.0 if rising else -1.0
    signed = [sign * value for value in values]
    edge = min((sign * limit for limit in edges), default=float("inf"))
    newest, highest = signed[-1], max(signed)
    if highest + max(abs(edge) / 10, highest - min(signed)) >= edge:
        # After a large movement it may be constant again. Only its newest datapoints show where it goes.
        return "near"
    recent = signed[-models.RELAXED - 1 :]
    return "rising" if newest + 2 * (newest - min(recent)) >= edge else "far"
