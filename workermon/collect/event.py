"""The event ``worker.metrics.collected``, published on the channel for one worker and collection."""

from __future__ import annotations

from workermon import models


def encode(worker: models.Worker, condition: models.Condition, configuration: models.Configuration) -> str:
    """Return the event as JSON: the newest datapoint of each metric, ``null`` for none."""
    return models.Event.json_of(worker, condition, configuration)
