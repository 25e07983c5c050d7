"""A monitor with access to its collections."""

from __future__ import annotations

import json
from typing import Any

from workermon import collect, models, testing

ONE = "i-0000000000000001a"
TWO = "i-0000000000000002b"
CPU = "cpu_utilization"
DISK = "disk_utilization"
MEMORY = "memory_utilization"
#: On a whole minute and five minutes.
NOW = 1_700_000_100.0


class World(testing.Monitor):
    """An in-memory monitor. Without a worker its methods are about ``ONE``."""

    def __init__(self) -> None:
        super().__init__(now=NOW)

    def add(self, worker_id: str = ONE, status: models.Status = "running", **fields: Any) -> models.Worker:
        """Monitor an instance that EC2 has."""
        fields = {"name": f"w-{worker_id[-1]}", "added_at": NOW - 7200, **fields}
        return self.add_worker(worker_id, status, **fields)

    def collect(self, *worker_ids: str, force: bool = False) -> collect.Report:
        """Collect these workers."""
        return super().collect(*(worker_ids or (ONE,)), force=force)

    def condition(self, worker_id: str = ONE) -> models.Condition:
        """Return the condition of a worker."""
        return self.workers.get([worker_id])[worker_id].condition

    def events(self) -> list[dict[str, Any]]:
        """Return the published events, oldest first."""
        return [json.loads(text) for _, text in self.store.published]

    def points(self, metric: str, period: int = 300, worker_id: str = ONE) -> list[tuple[int, float]]:
        """Return the ledger's datapoints as (time, value)."""
        series = self.samples.read([(worker_id, metric, period)], 0, NOW * 2)
        return [(point.at, point.value) for point in series[worker_id, metric].points]

    def queries(self, metric: str) -> list[models.Query]:
        """Return the queries of the last fetch for a metric."""
        return [query for query in self.cloudwatch.calls[-1] if query.metric == metric]
