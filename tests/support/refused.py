"""Workers of an account and region that AWS refuses. The fixture is available to every test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from tests.support.repositories import install, repository_on_redis
from workermon import models, testing
from workermon.config import catalogue
from workermon.on_redis import client

T0 = 1_699_999_200
SCOPE = "lab/eu-west-1"
IDS = tuple(f"i-0000000{number}" for number in range(3))
CONFIGURATION = models.Configuration(
    rules=(models.Rule(name="silence", kind="no-data", notify=("ops",)),),
    channels={},
    metrics=catalogue.CATALOGUE,
    collect=("cpu_utilization",),
    revision=1,
)


def last_error(kind: str, at: float) -> models.CollectionError:
    """Say why a collection failed."""
    return models.CollectionError(kind=kind, message=f"EC2 in eu-west-1: it is {kind}; wait", at=at)


class Fleet(testing.Monitor):
    """Three workers of one account and region, and one elsewhere, over one implementation of the ports."""

    def __init__(self, connection: redis.Redis | None = None) -> None:
        super().__init__(now=T0)
        if connection is not None:
            install(self, repository_on_redis(connection))
        self.configurations.save(CONFIGURATION)
        self.notified: list[str] = []
        self.marked = T0 - 100.0
        self.elsewhere = self.add("i-0000000f", region="us-east-1")
        self.ours = [self.add(worker_id) for worker_id in IDS]
        for worker in (self.elsewhere, *self.ours):
            self.collected(worker, 0)

    def add(self, worker_id: str, **changes: Any) -> models.Worker:
        """Monitor one worker."""
        return self.add_worker(worker_id, **{"region": "eu-west-1", "account": "lab", **changes})

    def collected(self, worker: models.Worker, after: float) -> None:
        """Write a collection that succeeded."""
        at = T0 + after
        sample = models.Sample(worker=worker, collected_at=at, status="running")
        condition = models.Condition(status="running", collected_at=at, succeeded_at=at, slot=sample.slot)
        self.samples.write(sample, condition, "{}")
        self.accounts.note(worker.scope.key, at, worker.interval, None)

    def refused(self, after: float, kind: str = "denied") -> None:
        """Have a collection of all three fail."""
        for worker in self.ours:
            self.samples.failed(worker, last_error(kind, T0 + after))
        self.accounts.note(SCOPE, T0 + after, 60, last_error(kind, T0 + after))

    def evaluate_at(self, after: float, *, away: bool = False) -> list[str]:
        """Evaluate all workers at a time. Return the notifications. ``away``: the listener did not run before."""
        self.clock.now = T0 + after
        while not away and self.marked < self.clock.now:
            self.liveness.beat("listener", self.marked)
            self.liveness.beat("collect", self.marked)
            self.marked += 10
        self.marked = self.clock.now
        self.liveness.beat("listener", self.marked)
        self.liveness.beat("collect", self.marked)
        alert_ids = self.evaluate(*(worker.id for worker in (self.elsewhere, *self.ours)))
        self.notified += alert_ids
        return alert_ids

    def minutes(self, first: int, last: int, kind: str | None = "denied") -> None:
        """Let minutes go by, each with a collection that fails (or succeeds, without a kind), evaluated as they go."""
        for minute in range(first, last + 1):
            self.collected(self.elsewhere, 60 * minute)
            if kind is not None:
                self.refused(60 * minute, kind)
            else:
                for worker in self.ours:
                    self.collected(worker, 60 * minute)
            for second in (1, 11, 31, 51):
                self.evaluate_at(60 * minute + second)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Give the fleet, once for each implementation."""
    if request.param == "memory":
        yield Fleet()
    elif request.param == "fakeredis":
        yield Fleet(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield Fleet(connection)
