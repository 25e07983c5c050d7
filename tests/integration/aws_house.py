"""An installation in one process over real HTTP and Redis, made by the composition root, with a simulated AWS."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.aws import use_aws
from workermon import collect, evaluate, health, models, ports, runtime, settings, testing
from workermon.local.endpoint import Endpoint
from workermon.local.simulation import Simulation

REGIONS = ("us-east-1", "eu-west-1")


class House:
    """An installation in this process, on a clock of the test's, and the AWS that it asks."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = testing.ManualClock(time.time() // 3600 * 3600 + 7 * 3600)
        self.simulation = Simulation(self.clock, 8, regions=REGIONS)
        self.endpoint = Endpoint(self.simulation)
        self.endpoint.start()
        use_aws(monkeypatch, self.endpoint.url)
        # Waiting between retries is botocore's own business.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        self.container = runtime.open(
            settings.Settings(redis_url=SecretStr(redis_url)),
            overrides={
                ports.Clock: self.clock,
                ports.Schedule: testing.MemorySchedule(),
                ports.Dispatcher: testing.MemoryDispatcher(),
                ports.Nodes: testing.MemoryNodes(["here"]),
            },
        )
        fleet = [
            models.Worker(id=machine.id, name=machine.name, region=machine.region, added_at=self.clock(),
                          incarnation=machine.id, detailed=True)
            for machine in self.simulation.machines.values()
        ]  # fmt: skip
        self.ids = [worker.id for worker in fleet]
        self.get(ports.Workers).add(fleet)
        self.notified: list[str] = []
        self.marked = self.clock() - 600

    def get(self, port: Any) -> Any:
        """Return a port."""
        return self.container.get(port)

    def collect(self) -> Any:
        """Collect all workers as a refresh does."""
        return self.container.get(collect.Collection).collect(self.ids, force=True)

    def minute(self) -> None:
        """Let a minute go by, with a collection and the judgements of it."""
        self.clock.advance(60)
        self.collect()
        liveness = self.get(ports.Liveness)
        while self.marked < self.clock():
            self.marked = min(self.marked + 10, self.clock())
            liveness.beat("listener", self.marked)
            liveness.beat("collect", self.marked)
        for _ in range(2):
            self.notified += self.get(evaluate.Evaluation).evaluate(self.ids)
            self.clock.advance(1)

    def status(self) -> health.Status:
        """Look at every part."""
        status: health.Status = self.get(health.StatusCheck).status()
        return status

    def close(self) -> None:
        """End it."""
        self.container.close()
        self.endpoint.stop()
