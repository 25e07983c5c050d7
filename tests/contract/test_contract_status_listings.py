"""What every store of listed statuses promises."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import fakeredis
import pytest
import redis

from workermon import models, ports, testing
from workermon.on_redis import client, keys, status_listings, workers

A, B, C = (f"i-0000000{letter}" for letter in "abc")
AT = 1_700_000_000.25
LISTING = ports.Listing(AT, 4.5, 50, True, ("us-east-1a", "us-east-1b"), AT - 60)


class Implementation(NamedTuple):
    """The listings and the fleet of one implementation, over the same store."""

    listings: ports.StatusListings
    workers: ports.Workers


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Give listings, once for each implementation."""
    if request.param == "memory":
        store = testing.MemoryStore(lambda: AT)
        yield Implementation(testing.MemoryStatusListings(store), testing.MemoryWorkers(store))
        return
    with contextlib.ExitStack() as stack:
        connection: redis.Redis = fakeredis.FakeRedis()
        if request.param == "redis":
            connection = stack.enter_context(contextlib.closing(client.connect(request.getfixturevalue("redis_url"))))
        yield Implementation(status_listings.RedisStatusListings(connection), workers.RedisWorkers(connection))


def add(implementation: Implementation, *worker_ids: str) -> None:
    """Monitor these workers."""
    implementation.workers.add(
        [
            models.Worker(id=worker_id, name=worker_id, region="us-east-1", added_at=AT, incarnation="x")
            for worker_id in worker_ids
        ]
    )


def test_the_status_of_a_worker_is_read_as_it_was_listed(implementation: Implementation) -> None:
    """All of it but the zone, with the time of the request. Checks, details and events are kept."""
    add(implementation, A, B)
    ill = models.InstanceStatus(
        id=A,
        status="running",
        zone="us-east-1a",
        checks=models.Checks(system="ok", instance="impaired", attached_ebs="ok"),
        impairments={"instance": models.Impairment(since=7, remediation="Stop & start")},
        events=(models.ScheduledEvent(id="e", code="system-reboot", not_before=9),),
    )
    implementation.listings.put(AT, [ill, models.InstanceStatus(id=B, status="stopped")])
    assert implementation.listings.get([A, B]) == {
        A: ports.ListedStatus(AT, ill.model_copy(update={"zone": ""})),
        B: ports.ListedStatus(AT, models.InstanceStatus(id=B, status="stopped")),
    }
    implementation.listings.put(AT + 60, [models.InstanceStatus(id=A, status="stopping")])
    assert implementation.listings.get([A])[A] == ports.ListedStatus(
        AT + 60, models.InstanceStatus(id=A, status="stopping")
    )


def test_of_an_instance_that_is_not_monitored_nothing_is_kept(implementation: Implementation) -> None:
    """A region lists all its instances. A worker that is added later was never listed."""
    add(implementation, A)
    implementation.listings.put(AT, [models.InstanceStatus(id=worker_id, status="running") for worker_id in (A, B)])
    assert set(implementation.listings.get([A, B])) == {A}
    add(implementation, B)
    assert set(implementation.listings.get([A, B, C])) == {A}
    assert implementation.listings.get([]) == {}
    implementation.listings.put(AT, [])


def test_how_a_listing_went_is_known_by_account_and_region(implementation: Implementation) -> None:
    """The newest one counts."""
    assert implementation.listings.last("default/us-east-1") is None
    implementation.listings.note("default/us-east-1", LISTING._replace(complete=False, zones=()))
    implementation.listings.note("default/us-east-1", LISTING)
    assert implementation.listings.last("default/us-east-1") == LISTING
    assert implementation.listings.last("default/eu-west-1") is None


def test_more_instances_than_one_command_takes(implementation: Implementation) -> None:
    """A page of a thousand is stored."""
    worker_ids = [f"i-{number:017x}" for number in range(workers.CHUNK + 5)]
    add(implementation, *worker_ids)
    statuses = [models.InstanceStatus(id=worker_id, status="running") for worker_id in worker_ids]
    implementation.listings.put(AT, statuses)
    assert len(implementation.listings.get(worker_ids)) == len(worker_ids)


@pytest.mark.parametrize(
    "text",
    ["", "x", "1 ", "1 {", "nan {}", '1 {"status":"?"}', "1 []", '{"status":"running"}', "1 " + "[" * 100_000],
    ids=itertools.count(),
)
def test_an_unreadable_status_is_as_if_it_was_never_listed(redis_client: redis.Redis, text: str) -> None:
    """Then EC2 is asked for that worker."""
    redis_client.hset(keys.worker(A), "listed", text)
    assert status_listings.RedisStatusListings(redis_client).get([A]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "1",
        "[1,2]",
        '["x",1,1,true,[],1]',
        "[1e300,1,1,true,[],1]",
        "[1,1,1e400,true,[],1]",
        "[1,1,1,1,1,1]",
        "[" * 100_000,
    ],
    ids=itertools.count(),
)
def test_an_unreadable_outcome_is_as_if_nothing_was_listed(redis_client: redis.Redis, text: str) -> None:
    """The next listing replaces it. It has a lifetime."""
    listings = status_listings.RedisStatusListings(redis_client)
    redis_client.set(keys.status_listing("default/us-east-1"), text)
    assert listings.last("default/us-east-1") is None
    listings.note("default/us-east-1", LISTING)
    assert 0 < redis_client.ttl(keys.status_listing("default/us-east-1")) <= status_listings.KEPT


def test_a_record_of_another_type_costs_no_other_worker_its_status(redis_client: redis.Redis) -> None:
    """Such a record is set aside elsewhere. It must not stop a listing."""
    redis_client.set(keys.worker(A), "broken")
    redis_client.hset(keys.worker(B), "spec", "{}")
    listings = status_listings.RedisStatusListings(redis_client)
    listings.put(AT, [models.InstanceStatus(id=worker_id, status="running") for worker_id in (A, B)])
    assert set(listings.get([B])) == {B}
