"""Under which dimensions metrics are published: what is found, what is absent, what could not be looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from workermon import errors, models, ports, testing
from workermon.collect import dimensions
from workermon.config import catalogue

NOW = 1_900_000_000.0
HERE = models.AccountRegion(region="us-east-1")
CPU, MEMORY = catalogue.CATALOGUE["cpu_utilization"], catalogue.CATALOGUE["memory_utilization"]
KEY = dimensions.key_of(MEMORY)
DENIED = errors.AwsDenied("ListMetrics in us-east-1", "is not allowed", "grant cloudwatch:ListMetrics")


@dataclass
class Aws:
    """ListMetrics alone: what each instance publishes, and who was asked for."""

    published: dict[str, list[dimensions.Dimensions]] = field(default_factory=dict)
    refusal: errors.WorkermonError | None = None
    asked: list[tuple[str, ...] | None] = field(default_factory=list)

    def dimensions(self, scope: Any, namespace: str, name: str, ids: Sequence[str] | None) -> Any:
        self.asked.append(None if ids is None else tuple(ids))
        if self.refusal is not None:
            raise self.refusal
        return {each: sets for each, sets in self.published.items() if ids is None or each in ids}


class World:
    """Workers of one account and region, and what is known of their dimensions."""

    def __init__(self, number: int) -> None:
        self.clock = testing.ManualClock(NOW)
        store = testing.MemoryStore(self.clock)
        self.aws, self.workers = Aws(), testing.MemoryWorkers(store)
        self.learned_delays, self.leases = testing.MemoryLearnedDelays(store), testing.MemoryLeases(store)
        self.ids = [f"i-{each:017x}" for each in range(number)]
        self.workers.add(
            [
                models.Worker(id=each, name=each, region=HERE.region, added_at=NOW - 7200, incarnation=each)
                for each in self.ids
            ]
        )

    def find(self, at: float = NOW, asked: Sequence[models.Metric] = (CPU, MEMORY)) -> dimensions.Published:
        self.clock.now = at
        records: list[ports.Record] = list(self.workers.get(self.ids).values())
        updates: dict[str, Any] = {}
        known = self.learned_delays.load(HERE)
        search = dimensions.Search(
            scope=HERE,
            at=at,
            cloudwatch=self.aws,  # type: ignore[arg-type]
            workers=self.workers,
            learned_delays=self.learned_delays,
            leases=self.leases,
            known=known,
            updates=updates,
        )
        found = search.find(records, asked)
        self.learned_delays.save(HERE, updates)
        return found


def of(worker_id: str, *more: tuple[str, str]) -> dimensions.Dimensions:
    """Return the dimensions of a worker."""
    return (*more, ("InstanceId", worker_id))


def test_metrics_of_ec2_need_no_look() -> None:
    """A metric of EC2 itself has the instance's id, and nobody is asked."""
    world = World(2)
    found = world.find(asked=[CPU])
    assert found.sets == {each: {dimensions.key_of(CPU): [of(each)]} for each in world.ids}
    assert not found.failures
    assert world.aws.asked == []


@pytest.mark.parametrize("number", [1, dimensions.SMALL_BATCH, dimensions.SMALL_BATCH + 1])
def test_what_is_published_is_found_and_kept(number: int) -> None:
    """Few are looked up by themselves, more are listed together; either way it is asked once and kept with each."""
    world = World(number)
    first, *others = world.ids
    world.aws.published = {first: [of(first, ("host", "a")), of(first, ("host", "b"))]}
    found = world.find()
    assert found.sets[first][KEY] == world.aws.published[first]
    assert world.workers.get([first])[first].dimensions == {KEY: world.aws.published[first]}
    assert all(not found.sets[each].get(KEY) for each in others)
    assert world.aws.asked == [None if number > dimensions.SMALL_BATCH else tuple(world.ids)]
    assert world.find(NOW + 60).sets[first][KEY] == world.aws.published[first]
    assert len(world.aws.asked) == 1


@pytest.mark.parametrize("number", [1, dimensions.SMALL_BATCH + 1])
def test_a_refusal_is_no_absence(number: int) -> None:
    """Where AWS refuses, the metric is wrong with the reason for each worker, and not absent for any."""
    world = World(number)
    world.aws.refusal = DENIED
    found = world.find()
    assert {each: str(why[MEMORY.name]) for each, why in found.failures.items()} == dict.fromkeys(
        world.ids, str(DENIED)
    )
    assert all(KEY not in sets for sets in found.sets.values())
    assert all(dimensions.key_of(CPU) in sets for sets in found.sets.values())


def test_what_was_known_outlives_a_refusal() -> None:
    """A refusal later takes nothing from who was found before."""
    world = World(dimensions.SMALL_BATCH + 1)
    world.aws.published = {each: [of(each)] for each in world.ids}
    world.find()
    world.aws.refusal = DENIED
    later = world.find(NOW + dimensions.DIMENSIONS_KEPT + 1)
    assert len(world.aws.asked) == 2
    assert {each: sets[KEY] for each, sets in later.sets.items()} == world.aws.published
    assert not later.failures


def test_redis_out_of_reach_is_raised() -> None:
    """That Redis is out of reach is not trouble of AWS, and not swallowed."""
    world = World(1)
    world.aws.refusal = errors.RedisUnavailable("Redis", "is out of reach", "start it")
    with pytest.raises(errors.RedisUnavailable):
        world.find()
