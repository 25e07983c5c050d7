"""A monitored worker with collections that a test makes, and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workermon import models, ports, testing, views
from workermon.config import catalogue
from workermon.models import Datapoint, Levels, Rule, Series
from workermon.rules import threshold

MINUTE = 60
T0 = 1_699_999_200
CPU = threshold.KIND.rule(
    name="cpu-high",
    metric="cpu_utilization",
    above=Levels(warning=80, critical=90),
    notify=("ops",),
)
QUIET = Rule(name="no-data", kind="no-data")
ID = "i-0abc0123456789def"


class Site(testing.Monitor):
    """A monitored worker with collections that a test makes."""

    def __init__(self, *rules: Rule) -> None:
        super().__init__(
            models.Configuration(
                rules=rules or (CPU,), channels={}, metrics=catalogue.CATALOGUE, collect=("cpu_utilization",)
            ),
            T0,
        )
        self.violations: list[ports.Violations] = []
        self.liveness.beat("listener", T0 - 10_000)
        self.condition = models.Condition()
        self.worker = self.add(ID)

    def add(self, worker_id: str, **changes: Any) -> models.Worker:
        """Monitor a worker."""
        return self.add_worker(worker_id, **{"name": "render-07", "added_at": T0, "detailed": True, **changes})

    def collected(
        self,
        at: float,
        cpu: Mapping[int, float] | None = None,
        *,
        status: models.Status = "running",
        failed: bool | None = False,
        period: int = MINUTE,
        worker: models.Worker | None = None,
    ) -> None:
        """Write a collection at ``at``: ``cpu`` is the value by time."""
        worker = worker or self.worker
        self.clock.now = max(self.clock.now, at)
        running = status == "running"
        checks = None
        if running and failed is not None:
            checks = models.Checks(system="impaired" if failed else "ok", instance="ok")
        series = {"cpu_utilization": Series(period, tuple(Datapoint(*point) for point in sorted((cpu or {}).items())))}
        requested = {"cpu_utilization": at} if running else dict(self.condition.requested_at)
        previous = self.condition
        self.condition = models.Condition(
            status=status,
            checks=checks,
            collected_at=at,
            succeeded_at=at,
            running_since=(at if previous.running_since is None else previous.running_since) if running else None,
            requested_at=requested | {"status_check_failed": at},
            periods={"cpu_utilization": period},
        )
        sample = models.Sample(
            worker=worker,
            collected_at=at,
            status=status,
            checks=checks,
            series=series if running else {},
            requested_at=requested,
        )
        self.samples.write(sample, self.condition, "{}", force=True)

    def evaluate(self, *worker_ids: str) -> list[str]:
        """Evaluate these workers, by default the only one."""
        return super().evaluate(*(worker_ids or (ID,)))

    def minutes(self, values: Sequence[float | None], begin: int = 0) -> None:
        """Collect each minute and evaluate: each value comes three minutes after its slot began."""
        for slot, value in enumerate(values, begin):
            at = T0 + MINUTE * slot
            self.collected(at + 3 * MINUTE, {} if value is None else {at: value})
            self.evaluate()

    def change(self, **changes: object) -> None:
        """Put another configuration in force."""
        self.configure(**changes)

    def notified(self, alert_id: str = f"{ID}/cpu-high") -> list[tuple[str, str, int]]:
        """Return the notifications as (status, severity, minute of the deciding time), oldest first."""
        return [
            (entry.notification.status, entry.notification.severity, (entry.transition.at - T0) // MINUTE)
            for entry in reversed(self.alerts.history(alert_id))
            if entry.notification
        ]

    def recorded(self, alert_id: str = f"{ID}/cpu-high") -> list[tuple[str | None, int, bool, bool]]:
        """Return the history as (severity, minute, correction, notified), oldest first."""
        return [
            (
                entry.transition.after,
                (entry.transition.at - T0) // MINUTE,
                entry.transition.correction,
                bool(entry.notification),
            )
            for entry in reversed(self.alerts.history(alert_id))
        ]

    def alert(self, rule: str = "cpu-high") -> models.Alert:
        """Return the state of an alert."""
        return self.alerts.load([ID])[ID].alerts[rule]


def points(values: Sequence[float | None], begin: int = 0) -> dict[int, float]:
    """Return values a minute apart by their time."""
    return {T0 + MINUTE * slot: value for slot, value in enumerate(values, begin) if value is not None}


def explanation_json(monitor: testing.Monitor, metric: str | None = "cpu_utilization") -> dict[str, Any]:
    """Return how the rules over a metric are explained for the worker, as JSON has it."""
    return monitor.get(views.Explanation).explain(monitor.workers.get([ID])[ID], metric).to_json()
