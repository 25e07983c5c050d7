"""Workers with labels and with collections that a test makes, for rules over groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workermon import models, testing
from workermon.config import catalogue
from workermon.rules import group

MINUTE = 60
T0 = 1_699_999_200
CPU = "cpu_utilization"


def rule(name: str = "pool-hot", **keys: object) -> models.Rule:
    """Return a rule over the pools: two workers of three above 90 % for one slot."""
    condition = {"above": {"critical": 90.0}, "breach": {"m": 1, "n": 1}, "recover": {"m": 1, "n": 1}}
    options: dict[str, object] = {"by": "pool", "count": models.Members(m=2, n=3), "condition": condition}
    return group.KIND.rule(name, **({"metric": CPU, "notify": ("ops",)} | options | keys))


def worker_id(number: int) -> str:
    """Return an instance id."""
    return f"i-{number:017x}"


class Pools(testing.Monitor):
    """Workers in pools. Each has a slot a minute with values that the test sets."""

    def __init__(self, *rules: models.Rule, now: float = T0, lateness: int = 900) -> None:
        super().__init__(
            models.Configuration(
                rules=rules or (rule(),),
                channels={},
                metrics=catalogue.CATALOGUE,
                collect=(CPU,),
                lateness=lateness,
            ),
            now,
        )
        self.liveness.beat("listener", now - 10_000)

    def add(self, number: int, pool: str | None = "a", **changes: Any) -> models.Worker:
        """Monitor a worker."""
        labels = {} if pool is None else {"pool": pool}
        fields = {"name": f"web-{number}", "added_at": T0, "detailed": True, "labels": labels, **changes}
        return self.add_worker(worker_id(number), **fields)

    def collected(
        self,
        number: int,
        at: int,
        values: Mapping[int, float] | None = None,
        *,
        status: models.Status = "running",
        since: float = T0 - 7200,
    ) -> None:
        """Write a collection at ``at`` with values by time. All slots up to ``at`` are complete."""
        self.clock.now = max(self.clock.now, at)
        worker = self.workers.get([worker_id(number)])[worker_id(number)].worker
        points = tuple(models.Datapoint(*value) for value in sorted((values or {}).items()))
        running = status == "running"
        requested = {CPU: float(at)}
        condition = models.Condition(
            status=status,
            collected_at=at,
            succeeded_at=at,
            running_since=since if running else None,
            requested_at=requested,
            periods={CPU: MINUTE},
            delays={CPU: 0},
        )
        sample = models.Sample(
            worker=worker,
            collected_at=at,
            status=status,
            series={CPU: models.Series(MINUTE, points)} if running else {},
            requested_at=requested,
        )
        self.samples.write(sample, condition, "{}", force=True)

    def slot(self, at: int, values: Mapping[int, float]) -> None:
        """Collect the slot at a time, of each worker by its number, and evaluate them."""
        for number, value in values.items():
            self.collected(number, at + MINUTE, {at: value})
        self.evaluate()

    def notified(self) -> list[tuple[str, str, str]]:
        """Return dedup key, status and summary of each notification so far, oldest first."""
        entries = [entry.notification for entry in reversed(self.alerts.history()) if entry.notification]
        return [(entry.dedup_key, entry.status, entry.summary) for entry in entries]
