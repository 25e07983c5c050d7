"""A monitored worker that is really collected."""

from __future__ import annotations

from tests.support.evaluating import ID, MINUTE, T0, Site
from workermon import collect, models

RULE = models.Rule(name="down", kind="state", notify=("ops",))


class House(Site):
    """A worker that is really collected: EC2, the collection and the judgement are the ones in force."""

    def __init__(self, *rules: models.Rule) -> None:
        super().__init__(*(rules or (RULE,)))

    def look(self, minute: float, status: models.Status | None = None, code: str | None = None) -> collect.Report:
        """Collect at a minute, after the instance has become this."""
        self.clock.now = T0 + minute * MINUTE
        if status is not None:
            self.ec2.become(ID, status, code)
        return self.collect(ID, force=True)

    def step(self, minute: float, status: models.Status | None = None, code: str | None = None) -> list[str]:
        """Collect and evaluate."""
        self.look(minute, status, code)
        return self.evaluate()

    def pause(self, paused: bool = True) -> None:
        """Pause the worker, or resume it."""
        worker = self.workers.get([ID])[ID].worker
        assert self.workers.update(worker.model_copy(update={"monitoring": "paused" if paused else "active"}))

    @property
    def condition(self) -> models.Condition:
        """Return what is known of the worker."""
        return self.workers.get([ID])[ID].condition

    @condition.setter
    def condition(self, value: models.Condition) -> None:
        """The base class makes up conditions; here a collection does."""

    def notified_of(self, rule: str = "down") -> list[tuple[str, int]]:
        """Return the notifications as (status, minute), oldest first."""
        return [(status, minute) for status, _, minute in self.notified(f"{ID}/{rule}")]

    def last(self, rule: str = "down") -> models.Notification:
        """Return the newest notification."""
        return next(entry.notification for entry in self.alerts.history(f"{ID}/{rule}") if entry.notification)

    def describes(self) -> int:
        """Return how often DescribeInstances was asked."""
        return sum(operation == "describe" for operation, _, _ in self.ec2.calls)
