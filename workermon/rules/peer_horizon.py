"""How far a worker's data is known, for comparisons with other workers."""

from __future__ import annotations

import math
from typing import Any

from workermon import models
from workermon.rules.kind import Kind
from workermon.rules.peers import Peer


def peer(
    kind: Kind[Any],
    rule: models.Rule,
    worker: models.Worker,
    condition: models.Condition,
    configuration: models.Configuration,
) -> Peer | None:
    """Return a worker as a peer of others, without datapoints; ``None`` if the rule does not apply to it.

    Datapoints from before it was added do not count: they were collected later, and would change earlier decisions.
    """
    if kind.not_applied(rule, worker, configuration) is not None:
        return None
    horizon = kind.horizon(rule, worker, condition, configuration)
    if horizon is None:
        return None
    known_until = None
    if horizon.newest is not None and condition.status == "running" and worker.monitoring != "paused":
        latest = condition.latest.get(rule.metric or "")
        newest = max(horizon.newest, 0 if latest is None else latest.at)
        known_until = newest // horizon.period * horizon.period + horizon.period - 1
    return Peer(known_until, horizon.period, horizon.kept_at, math.ceil(worker.added_at))
