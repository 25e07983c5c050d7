"""An installation in one process over real HTTP and Redis, made by the composition root, with a simulated AWS."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.aws import use_aws
from workermon import collect, evaluate, health, models, ports, runtime, settings, testing
from workermon.local.endpoint import Endpoint
from workermon.local.simulation import Simulation

REGIONS = ("us-east-1", "eu-west-1")


def a_clock() -> testing.ManualClock:
    """Return a clock at a whole hour, some hours from now."""
    return testing.ManualClock(time.time() // 3600 * 3600 + 7 * 3600)


class House:
    """An installation in this process over real HTTP and Redis, and the AWS that it asks, both on the test's clock."""

    def __init__(
        self,
        redis_url: str,
        monkeypatch: pytest.MonkeyPatch,
        simulation: Simulation,
        overrides: Mapping[Any, Any] | None = None,
    ) -> None:
        assert isinstance(simulation.now, testing.ManualClock)
        self.clock, self.simulation = simulation.now, simulation
        self.ids = list(simulation.machines)
        self.endpoint = Endpoint(simulation)
        self.endpoint.start()
        use_aws(monkeypatch, self.endpoint.url, AWS_REGION="us-east-1")
        # Waiting between retries is botocore's own business.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        self.schedule = testing.MemorySchedule()
        self.settings = settings.Settings(redis_url=SecretStr(redis_url))
        ours = {
            ports.Clock: self.clock,
            ports.Schedule: self.schedule,
            ports.Dispatcher: testing.MemoryDispatcher(),
            ports.Nodes: testing.MemoryNodes(["here"]),
        }
        self.container = runtime.open(self.settings, overrides={**ours, **(overrides or {})})

    def get(self, kind: Any) -> Any:
        """Return a port, a stage or a view."""
        return self.container.get(kind)

    def close(self) -> None:
        """End it."""
        self.container.close()
        self.endpoint.stop()


class TwoRegions(House):
    """Four workers in each of two regions."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(redis_url, monkeypatch, Simulation(a_clock(), 8, regions=REGIONS))
        fleet = [
            models.Worker(id=machine.id, name=machine.name, region=machine.region, added_at=self.clock(),
                          incarnation=machine.id, detailed=True)
            for machine in self.simulation.machines.values()
        ]  # fmt: skip
        self.get(ports.Workers).add(fleet)
        self.notified: list[str] = []
        self.marked = self.clock() - 600

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
