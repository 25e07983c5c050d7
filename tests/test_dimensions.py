"""The dimensions of metrics: found, absent, or not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from workermon import errors, models, testing
from workermon.collect import dimensions, region_listing
from workermon.config import catalogue

NOW = 1_900_000_000.0
HERE = models.AccountRegion(region="us-east-1")
CPU = catalogue.CATALOGUE["cpu_utilization"]
WINDOWS_TOO = catalogue.CATALOGUE["memory_utilization"]
MEMORY = WINDOWS_TOO.model_copy(update={"also": ()})
KEY = MEMORY.key
DENIED = errors.AwsDenied("ListMetrics in us-east-1", "is not allowed", "grant cloudwatch:ListMetrics")


class Fleet(testing.Monitor):
    """Workers of one account and region, and their known dimensions."""

    def __init__(self, number: int) -> None:
        super().__init__(now=NOW)
        self.ids = [f"i-{place:017x}" for place in range(number)]
        for worker_id in self.ids:
            self.add_worker(worker_id, added_at=NOW - 7200)

    def publish(self, worker_id: str, **more: str) -> None:
        """Have an instance's memory be published, under these dimensions beside its id."""
        self.cloudwatch.put(
            worker_id, MEMORY.metric_name, [(int(NOW), 1.0)], namespace=MEMORY.namespace, dimensions=more
        )

    @property
    def listed_ids(self) -> list[tuple[str, ...] | None]:
        """Return the requested instances of each call."""
        return [ids for _, ids in self.cloudwatch.list_requests]

    def find(self, at: float = NOW, metrics: Sequence[models.Metric] = (CPU, MEMORY)) -> dimensions.Published:
        """Look up the published dimensions."""
        self.clock.now = at
        updates: dict[str, Any] = {}
        search = dimensions.Search(
            scope=HERE,
            at=at,
            cloudwatch=self.cloudwatch,
            workers=self.workers,
            learned_delays=self.learned_delays,
            leases=self.leases,
            learned=self.learned_delays.load(HERE),
            updates=updates,
        )
        published = search.find(list(self.workers.get(self.ids).values()), metrics)
        self.learned_delays.save(HERE, updates)
        return published


def of(worker_id: str, *more: tuple[str, str]) -> models.Dimensions:
    """Return the dimensions of a worker."""
    return tuple(sorted([*more, ("InstanceId", worker_id)]))


def test_metrics_of_ec2_need_no_listing() -> None:
    """A metric of EC2 itself has the instance's id and needs no ListMetrics."""
    fleet = Fleet(2)
    published = fleet.find(metrics=[CPU])
    assert published.sets == {worker_id: {CPU.key: [of(worker_id)]} for worker_id in fleet.ids}
    assert not published.failures
    assert fleet.listed_ids == []


@pytest.mark.parametrize("number", [1, dimensions.SMALL_BATCH, dimensions.SMALL_BATCH + 1])
def test_what_is_published_is_found_and_kept(number: int) -> None:
    """A few workers are looked up singly, more are listed together. Each result is kept with its worker."""
    fleet = Fleet(number)
    first, *rest_of_fleet = fleet.ids
    fleet.publish(first, host="a")
    fleet.publish(first, host="b")
    published = fleet.find()
    assert published.sets[first][KEY] == [of(first, ("host", "a")), of(first, ("host", "b"))]
    assert fleet.workers.get([first])[first].dimensions == {KEY: [of(first, ("host", "a")), of(first, ("host", "b"))]}
    assert all(not published.sets[worker_id].get(KEY) for worker_id in rest_of_fleet)
    assert fleet.listed_ids == [None if number > dimensions.SMALL_BATCH else tuple(fleet.ids)]
    assert fleet.find(NOW + 60).sets[first][KEY] == [of(first, ("host", "a")), of(first, ("host", "b"))]
    assert len(fleet.listed_ids) == 1


@pytest.mark.parametrize("number", [1, dimensions.SMALL_BATCH + 1])
def test_a_refusal_is_no_absence(number: int) -> None:
    """If AWS refuses, the metric is an error with the reason for each worker, and absent for none."""
    fleet = Fleet(number)
    fleet.cloudwatch.error = DENIED
    published = fleet.find()
    assert {
        worker_id: str(failures[MEMORY.name]) for worker_id, failures in published.failures.items()
    } == dict.fromkeys(fleet.ids, str(DENIED))
    assert all(KEY not in sets for sets in published.sets.values())
    assert all(CPU.key in sets for sets in published.sets.values())


def test_what_was_known_outlives_a_refusal() -> None:
    """A later refusal removes no known dimensions."""
    fleet = Fleet(dimensions.SMALL_BATCH + 1)
    for worker_id in fleet.ids:
        fleet.publish(worker_id)
    fleet.find()
    fleet.cloudwatch.error = DENIED
    later = fleet.find(NOW + region_listing.DIMENSIONS_KEPT + 1)
    assert len(fleet.listed_ids) == 2
    assert {worker_id: sets[KEY] for worker_id, sets in later.sets.items()} == {
        worker_id: [of(worker_id)] for worker_id in fleet.ids
    }
    assert not later.failures


def test_redis_out_of_reach_is_raised() -> None:
    """An unreachable Redis is raised. It is not an error of AWS."""
    fleet = Fleet(1)
    fleet.cloudwatch.error = errors.RedisUnavailable("Redis", "is out of reach", "start it")
    with pytest.raises(errors.RedisUnavailable):
        fleet.find()


def test_the_name_of_another_agent_is_looked_for_only_where_the_first_is_absent() -> None:
    """Windows's memory counter is looked up only for workers without the one of Linux."""
    fleet = Fleet(3)
    linux, windows, _ = fleet.ids
    fleet.publish(linux)
    windows_name = WINDOWS_TOO.variants[1]
    fleet.cloudwatch.put(
        windows, windows_name.metric_name, [(int(NOW), 1.0)], namespace="CWAgent", dimensions={"objectname": "Memory"}
    )
    fleet.find(metrics=[WINDOWS_TOO])
    assert fleet.cloudwatch.list_requests == [(MEMORY.metric_name, tuple(fleet.ids))]
    published = fleet.find(NOW + 60, metrics=[WINDOWS_TOO])
    assert fleet.cloudwatch.list_requests[1:] == [(windows_name.metric_name, tuple(fleet.ids[1:]))]
    series = {worker_id: catalogue.published(WINDOWS_TOO, sets) for worker_id, sets in published.sets.items()}
    assert series[linux] == [(WINDOWS_TOO, of(linux))]
    assert series[windows] == [(windows_name, of(windows, ("objectname", "Memory")))]
    assert series[fleet.ids[2]] == []
    assert not published.failures
    fleet.find(NOW + 120, metrics=[WINDOWS_TOO])
    assert len(fleet.cloudwatch.list_requests) == 2


def test_windows_memory_of_a_large_fleet_is_found_by_one_listing() -> None:
    """Many that lack the first name are looked for under the second by listing the region, in the next collection."""
    fleet = Fleet(20)
    windows_name = WINDOWS_TOO.variants[1]
    for worker_id in fleet.ids:
        fleet.cloudwatch.put(worker_id, windows_name.metric_name, [(int(NOW), 1.0)], namespace="CWAgent")
    fleet.find(metrics=[WINDOWS_TOO])
    published = fleet.find(NOW + 60, metrics=[WINDOWS_TOO])
    assert fleet.cloudwatch.list_requests == [(MEMORY.metric_name, None), (windows_name.metric_name, None)]
    assert all(
        catalogue.published(WINDOWS_TOO, sets) == [(windows_name, of(worker_id))]
        for worker_id, sets in published.sets.items()
    )


def test_a_refusal_under_the_second_name_takes_nothing_from_the_first() -> None:
    """Where the first name is published, it does not matter that the second cannot be listed."""
    fleet = Fleet(3)
    fleet.publish(fleet.ids[0])
    fleet.find(metrics=[WINDOWS_TOO])
    fleet.cloudwatch.error = DENIED
    published = fleet.find(NOW + 60, metrics=[WINDOWS_TOO])
    assert set(published.failures) == set(fleet.ids[1:])
