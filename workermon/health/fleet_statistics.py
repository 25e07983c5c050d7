"""The status' figures about a whole fleet, summed worker by worker: there may be 50,000 of them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter

from workermon import models, ports

#: Seconds beyond three intervals after which a collection that was not even tried is late.
GRACE = 30


@functools.lru_cache(maxsize=1024)
def _scope_key(account: str, region: str) -> str:
    return models.AccountRegion(region=region, account=account).key


@dataclasses.dataclass(slots=True)
class FleetStatistics:
    """The signs of the added workers, as of ``at``; all times are in seconds.

    A worker is watched if it has to be collected: it is neither paused nor terminated. ``late`` counts the watched ones
    without a collection for three intervals, ``failing`` those whose newest collection failed; ``an_error`` is one of
    the reasons. ``oldest`` is by account and region (its key) when the watched worker that waits longest was collected,
    or otherwise added.
    """

    at: float
    ids: set[str] = dataclasses.field(default_factory=set)
    watched: set[str] = dataclasses.field(default_factory=set)
    scopes: set[str] = dataclasses.field(default_factory=set)
    monitoring: Counter[str] = dataclasses.field(default_factory=Counter)
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    errors: Counter[str] = dataclasses.field(default_factory=Counter)
    late: int = 0
    failing: int = 0
    an_error: models.CollectionError | None = None
    oldest: dict[str, float] = dataclasses.field(default_factory=dict)
    first_due: float = math.inf

    def add(self, worker: ports.WorkerSummary) -> None:
        """Add a worker. A time of it in the future counts as unknown."""
        worker = worker.clamped(self.at)
        scope, error = _scope_key(worker.account, worker.region), worker.last_error
        self.ids.add(worker.id)
        self.scopes.add(scope)
        self.monitoring[worker.monitoring] += 1
        self.statuses[worker.status] += 1
        if error is not None:
            self.errors[error.kind] += 1
        if worker.monitoring != "active" or worker.status in models.GONE:
            return
        self.watched.add(worker.id)
        tried = max(worker.added_at, worker.collected_at or 0)
        if error is not None:
            self.failing += 1
            self.an_error = self.an_error or error
            tried = max(tried, error.at)
        self.first_due = min(self.first_due, tried + worker.interval)
        self.late += self.at - tried > 3 * worker.interval + GRACE
        since = worker.added_at if worker.collected_at is None else worker.collected_at
        if since < self.oldest.get(scope, math.inf):
            self.oldest[scope] = since

    @property
    def lateness(self) -> float:
        """Return by how many seconds the latest collection of a worker is overdue, successful or not."""
        return round(max(0.0, self.at - self.first_due), 1)

    @property
    def figures(self) -> dict[str, int]:
        """Return how many workers there are in all, by monitoring, and by status."""
        return {"all": len(self.ids), **dict(sorted(self.monitoring.items())), **dict(sorted(self.statuses.items()))}

    @property
    def ages(self) -> dict[tuple[str, str], float]:
        """Return by account and region how many seconds ago the worker that waits longest was collected."""
        return {
            models.account_and_region(scope): max(0.0, round(self.at - since, 3))
            for scope, since in self.oldest.items()
        }
