"""A monitor in memory: every stage, with ports from ``workermon.testing`` and a clock that the story moves."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.stages import stage
from workermon import collect, config, evaluate, fleet, models, testing


class Desk:
    """Somebody who reads what a channel delivers."""

    def __init__(self) -> None:
        self.read: list[models.Notification] = []

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Take part as a channel."""
        self.read.extend(notifications)


class Monitor:
    """Every stage, and its ports by the names that the stages give them."""

    def __init__(self) -> None:
        self.now = testing.ManualClock(1_700_000_040.0)
        self.store = testing.MemoryStore(self.now)
        self.ec2 = testing.MemoryEc2()
        self.cloudwatch = testing.MemoryCloudWatch()
        self.workers = testing.MemoryWorkers(self.store)
        self.samples = testing.MemorySamples(self.store)
        self.alerts = testing.MemoryAlerts(self.store)
        self.outbox = testing.MemoryOutbox(self.store)
        self.configurations = testing.MemoryConfigurations(self.store, config.DEFAULT)
        self.pulse = testing.MemoryPulse(self.store)
        self.feed = testing.MemoryFeed(self.store)
        self.schedule = testing.MemorySchedule()
        self.desk = Desk()
        self.delivery = testing.MemoryDelivery(self.store, self.configurations, {"log": self.desk}, self.now)
        self.learned_delays = testing.MemoryLearnedDelays(self.store)
        self.accounts = testing.MemoryAccounts(self.store)
        self.costs = testing.MemoryCosts()
        self.leases = testing.MemoryLeases(self.store)

        self.collection = collect.Collection(
            ec2=self.ec2,
            cloudwatch=self.cloudwatch,
            workers=self.workers,
            samples=self.samples,
            schedule=self.schedule,
            configurations=self.configurations,
            learned_delays=self.learned_delays,
            leases=self.leases,
            costs=self.costs,
            accounts=self.accounts,
            bulkhead=collect.Bulkhead(),
            now=self.now,
        )

        self.evaluation = stage(evaluate.Evaluation, self)
        self.members = stage(fleet.Members, self)
