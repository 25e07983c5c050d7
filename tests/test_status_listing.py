"""Listing: when the statuses of a region are listed, and when a collection uses them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from workermon import errors, models, ports, testing
from workermon.collect import Collection, ListingPlan, StatusListing, listing_plan, status_listing

#: Ten seconds into a minute.
NOW = 1_700_000_050.0
GROUP = "default/us-east-1/60"
SCOPE = models.AccountRegion(region="us-east-1")
A, B, C = (f"i-0000000{letter}" for letter in "abc")


class Region(testing.Monitor):
    """Three workers that stand for ten cohorts, the first of which is due 15 s into the minute."""

    def __init__(self) -> None:
        super().__init__(now=NOW)
        self.cohorts.learn(GROUP, {})
        self.cohorts.numbers[GROUP] = tuple(range(10))
        self.cohorts.place({f"{GROUP}#{number}": 15.0 + number / 10 for number in range(10)})
        for worker_id in (A, B, C):
            self.add_worker(worker_id, interval=60)

    def run(self) -> list[tuple[str, tuple[str, ...]]]:
        """Collect all workers in the next minute. Return the calls to EC2 with their ids."""
        before = len(self.ec2.calls)
        self.get(Collection).collect([A, B, C])
        return [(operation, ids) for operation, _, ids in self.ec2.calls[before:]]

    def list_now(self) -> None:
        """List the region."""
        self.get(StatusListing).list_region([A])

    def statuses(self) -> list[str]:
        """Return the workers' statuses."""
        records = self.workers.get([A, B, C])
        return [records[worker_id].condition.status for worker_id in (A, B, C)]


@pytest.fixture
def region() -> Region:
    """Give workers that were collected once. The next collection follows a listing."""
    region = Region()
    assert region.run() == [("statuses", (A, B, C))]
    region.clock.advance(60)
    return region


# --- when a collection uses a listed status ----------------------------------------------------------------------


def test_after_a_listing_no_worker_is_asked_for(region: Region) -> None:
    """The collection uses the listed statuses and checks, and asks EC2 for nothing."""
    checks = models.Checks(system="ok", instance="impaired")
    region.ec2.put(models.Instance(id=B, region="us-east-1", status="running"), checks)
    region.list_now()
    region.clock.advance(5)
    assert region.run() == []
    assert region.workers.get([B])[B].condition.checks == checks
    assert region.workers.get([B])[B].condition.collected_at == region.clock()


def test_a_worker_that_the_listing_lacks_or_changes_is_asked_for(region: Region) -> None:
    """A listing shows the past. So a changed state is confirmed, with EC2's reason if the worker stopped."""
    region.list_now()
    region.ec2.become(A, "stopped", "Client.UserInitiatedShutdown")
    region.clock.advance(5)
    assert region.run() == [], "the listing says that it runs"
    region.clock.advance(55)
    region.ec2.forget(C)
    region.list_now()
    region.clock.advance(5)
    assert region.run() == [("statuses", (A, C)), ("describe", (C,)), ("describe", (A,))]
    assert region.statuses() == ["stopped", "running", "terminated"]


@pytest.mark.parametrize(("age", "used"), [(0, True), (44, True), (45, False), (-5, True), (-6, False)])
def test_an_old_listing_is_not_used(region: Region, age: int, used: bool) -> None:
    """At an interval of a minute a status counts for 45 s. One from a wrong clock does not count."""
    region.clock.advance(60)
    region.list_now()
    region.clock.advance(age)
    assert (region.run() == []) == used


def test_a_status_from_before_the_last_collection_is_not_used(region: Region) -> None:
    """A collection beside the schedule saw more than the listing before it."""
    region.clock.advance(45)
    region.list_now()
    region.ec2.put(
        models.Instance(id=A, region="us-east-1", status="running"), models.Checks(system="ok", instance="impaired")
    )
    region.clock.advance(1)
    region.get(Collection).collect([A], force=True)
    region.clock.advance(10)
    assert region.run() == [("statuses", (A,))]


def test_a_user_who_refreshes_gets_the_present_status(region: Region) -> None:
    """A requested collection asks EC2, whatever was listed."""
    region.list_now()
    region.ec2.become(A, "stopped")
    region.get(Collection).collect([A], force=True)
    assert region.statuses()[0] == "stopped"


def test_if_ec2_refuses_the_others_the_listed_ones_are_collected(region: Region) -> None:
    """Only the workers that the listing lacks keep the failure."""
    region.list_now()
    region.ec2.become(A, "stopped")
    region.clock.advance(55)
    region.list_now()
    region.clock.advance(5)
    region.ec2.error = errors.AwsThrottled("EC2", "too fast", "wait")
    report = region.get(Collection).collect([A, B, C])
    assert (set(report.collected), set(report.failed)) == ({B, C}, {A})


def test_a_listing_does_not_hide_that_the_credentials_are_of_another_account(region: Region) -> None:
    """EC2 does not know the one worker that it is asked for. So it is asked for all, and none is retired."""
    region.clock.advance(45)
    region.list_now()
    region.clock.advance(1)
    region.get(Collection).collect([A], force=True)
    for worker_id in (A, B, C):
        region.ec2.forget(worker_id)
    region.clock.advance(10)
    report = region.get(Collection).collect([A, B, C])
    assert (report.retired, set(report.failed)) == ((), {A, B, C})


# --- when it is listed -------------------------------------------------------------------------------------------


def test_the_next_listing_begins_before_the_first_cohort_is_due() -> None:
    """Ten seconds before if no listing was measured, then as long before as the last one took, and some more."""
    region = Region()
    region.run()
    # It is 10 s into the minute. The first cohort is due at 15.1 (that of number 0 may try an earlier time).
    [(worker_ids, wait)] = region.dispatcher.listings
    assert worker_ids == (A, B, C)
    assert wait == pytest.approx(55.1)
    region.status_listings.note("default/us-east-1", ports.Listing(NOW, 8.0, 5, True, (), NOW))
    region.clock.advance(60)
    region.run()
    # It is 10 s into the minute again, and 14 s are needed.
    assert region.dispatcher.listings[1][1] == pytest.approx(60 + 15.1 - 14 - 10)


def test_one_process_plans_each_listing_once() -> None:
    """Neither a later batch nor another process plans the same one again, but the next cycle plans its own."""
    region = Region()
    other = ListingPlan(
        cohorts=region.cohorts,
        listings=region.status_listings,
        leases=region.leases,
        dispatcher=region.dispatcher,
        now=region.clock,
        node="other",
    )
    for _ in range(3):
        for plan in (region.listing_plan, other):
            assert plan.plan(SCOPE, 60, [A])
            region.clock.advance(0.1)
    assert len(region.dispatcher.listings) == 1
    region.clock.advance(60)
    for plan in (other, region.listing_plan):
        assert plan.plan(SCOPE, 60, [A])
    assert len(region.dispatcher.listings) == 2


@pytest.mark.parametrize("interval", [10, 20, 300, 3600])
def test_short_and_long_intervals_are_not_listed(interval: int) -> None:
    """Listed statuses would be too old, or there is time enough to ask for ids."""
    region = Region()
    group = f"default/us-east-1/{interval}"
    region.cohorts.learn(group, {})
    region.cohorts.numbers[group] = tuple(range(50))
    region.cohorts.place({f"{group}#{number}": number / 10 for number in range(50)})
    assert not region.listing_plan.plan(SCOPE, interval, [A])
    assert region.dispatcher.listings == []


def test_a_small_or_unplaced_group_is_not_listed() -> None:
    """Nine cohorts are asked for by ids. So are cohorts whose datapoints' arrival is not known yet."""
    region = Region()
    region.cohorts.numbers[GROUP] = tuple(range(9))
    assert not region.listing_plan.plan(SCOPE, 60, [A])
    region.cohorts.numbers[GROUP] = tuple(range(10))
    region.cohorts.forget([], [f"{GROUP}#{number}" for number in range(10)], [])
    region.clock.advance(listing_plan.CHECK_EVERY)
    assert not region.listing_plan.plan(SCOPE, 60, [A])
    assert region.dispatcher.listings == []
    region.cohorts.place({f"{GROUP}#{number}": 15.0 for number in range(10)})
    region.clock.advance(listing_plan.CHECK_EVERY)
    assert region.listing_plan.plan(SCOPE, 60, [A])


@pytest.mark.parametrize(
    ("last", "listed"),
    [
        (ports.Listing(NOW, 1.0, 5, True, (), NOW), True),
        (ports.Listing(NOW, 1.0, 6, True, (), NOW), False),
        (ports.Listing(NOW, 18.0, 5, True, (), NOW), True),
        (ports.Listing(NOW, 19.0, 5, True, (), NOW), False),
        (ports.Listing(NOW - 299, 45.0, 0, False, (), NOW), False),
        (ports.Listing(NOW - 300, 45.0, 0, False, (), NOW), True),
        (ports.Listing(NOW - 300, 1.0, 6, False, (), NOW), False),
        (ports.Listing(NOW, 37.0, 5, True, ("a", "b"), NOW), True),
        (ports.Listing(NOW, 38.0, 5, True, ("a", "b"), NOW), False),
        (ports.Listing(NOW, 37.0, 5, True, ("a", "b"), NOW - 60), False),
    ],
)
def test_a_listing_that_costs_more_than_it_saves_is_not_repeated(last: ports.Listing, listed: bool) -> None:
    """The region may have many other instances, or EC2 may be slow. It is tried again when this is forgotten.

    A listing that failed is tried again five minutes later, unless it had too many pages already. After one of the
    whole region, its zones are listed at the same time.
    """
    region = Region()
    region.status_listings.note("default/us-east-1", last)
    assert region.listing_plan.plan(SCOPE, 60, [A]) == listed


def test_without_the_broker_workers_are_collected_all_the_same() -> None:
    """The listing is planned again in the next cycle."""
    region = Region()

    class Away(testing.MemoryDispatcher):
        def list_statuses(self, worker_ids: object, *, after: float = 0.0) -> None:
            raise errors.RedisUnavailable("broker", "it is away", "start it")

    plan = region.listing_plan
    region.listing_plan = dataclasses.replace(plan, dispatcher=Away())
    assert region.run() == [("statuses", (A, B, C))]
    region.listing_plan = plan
    region.clock.advance(60)
    region.run()
    assert len(region.dispatcher.listings) == 1


def test_a_clock_that_was_set_back_delays_no_listing() -> None:
    """What was planned by a clock that was ahead is planned anew."""
    region = Region()
    region.clock.advance(86_400)
    region.run()
    region.clock.advance(-86_400)
    region.store.clock = region.clock
    assert region.listing_plan.plan(SCOPE, 60, [A])
    assert len(region.dispatcher.listings) == 2


# --- how it is listed --------------------------------------------------------------------------------------------


def listed(region: Region) -> list[str]:
    """List the region. Return the calls, one for each page."""
    before = len(region.ec2.calls)
    region.list_now()
    return sorted(operation for operation, _, _ in region.ec2.calls[before:])


def test_a_region_of_many_pages_is_listed_by_zones() -> None:
    """Pages follow one another, so the zones of the last listing are listed at the same time."""
    region = Region()
    for number in range(4500):
        instance_id = f"i-{number:017x}"
        region.ec2.put(models.Instance(id=instance_id, region="us-east-1", status="running"))
        region.ec2.zones[instance_id] = "us-east-1b" if number < 1500 else "us-east-1a"
    assert listed(region) == ["list_statuses"] * 5
    last = region.status_listings.last("default/us-east-1")
    assert last is not None
    assert (last.pages, last.complete, last.zones) == (5, True, ("us-east-1a", "us-east-1b"))
    region.clock.advance(60)
    assert listed(region) == ["list_statuses us-east-1a"] * 4 + ["list_statuses us-east-1b"] * 2
    assert set(region.status_listings.get([A, B, C])) == {A, B, C}
    region.clock.advance(status_listing.ZONES_KEPT)
    assert listed(region) == ["list_statuses"] * 5, "a new zone would never be found"


def test_a_listing_that_failed_does_not_tell_the_zones() -> None:
    """It did not see all of them. The others would not be listed for an hour."""
    region = Region()

    class Failing(testing.MemoryEc2):
        def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
            for letter in "abaab":
                yield [models.InstanceStatus(id=A, status="running", zone=f"us-east-1{letter}")]
            raise errors.AwsThrottled("EC2", "too fast", "wait")

    ec2, region.ec2 = region.ec2, Failing()
    region.list_now()
    region.ec2 = ec2
    assert listed_after_a_minute(region) == ["list_statuses"]


@pytest.mark.parametrize(("zones", "by_zones"), [(1, False), (2, True), (5, True), (6, False)])
def test_a_region_of_more_zones_than_pages_is_listed_as_a_whole(zones: int, by_zones: bool) -> None:
    """By its zones it would take more than twice the requests, and would not be worth listing."""
    region = Region()
    names = tuple(f"us-east-1{letter}" for letter in "abcdef"[:zones])
    region.status_listings.note("default/us-east-1", ports.Listing(NOW - 60, 4.0, 5, True, names, NOW - 60))
    assert listed(region) == ([f"list_statuses {name}" for name in names] if by_zones else ["list_statuses"])


def test_few_pages_are_not_listed_by_zones() -> None:
    """Each zone takes a request, however few its instances are."""
    region = Region()
    region.ec2.zones[A] = "us-east-1b"
    assert listed(region) == listed_after_a_minute(region) == ["list_statuses"]


def listed_after_a_minute(region: Region) -> list[str]:
    """Let a minute pass, then list the region."""
    region.clock.advance(60)
    return listed(region)


def test_a_message_that_arrives_twice_lists_once() -> None:
    """Messages are delivered at least once."""
    region = Region()
    assert listed(region) == ["list_statuses"]
    assert listed(region) == []


def test_a_region_is_listed_by_one_process_at_a_time() -> None:
    """Two groups of it, of 60 s and 120 s, are due at the same time. The second listing would bring nothing new."""
    region = Region()

    class Slow(testing.MemoryEc2):
        def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
            region.clock.advance(status_listing.MIN_APART)
            for page in super().list_statuses(scope, zone):
                if len(self.calls) == 1:
                    region.get(StatusListing).list_region([B])
                yield page

    region.ec2 = Slow(models.Instance(id=A, region="us-east-1", status="running"))
    assert listed(region) == ["list_statuses"]
    assert listed_after_a_minute(region) == ["list_statuses"]


def test_nobody_lists_for_workers_that_are_gone() -> None:
    """The first worker that still exists names the account and region."""
    region = Region()
    region.get(StatusListing).list_region(["i-0000000d"])
    assert region.ec2.calls == []
    region.get(StatusListing).list_region(["i-0000000d", C])
    assert [operation for operation, _, _ in region.ec2.calls] == ["list_statuses"]


def test_a_listing_without_an_end_is_stopped() -> None:
    """EC2 may have a next page for ever. The region is not listed again for an hour, as one that takes too long."""
    region = Region()

    class Endless(testing.MemoryEc2):
        def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
            for _ in range(1000):
                region.clock.advance(1)
                yield next(iter(super().list_statuses(scope, zone)))

    region.ec2 = Endless(models.Instance(id=A, region="us-east-1", status="running"))
    region.list_now()
    last = region.status_listings.last("default/us-east-1")
    assert last is not None
    assert last.seconds == last.pages == status_listing.MAX_SECONDS
    assert not region.listing_plan.plan(SCOPE, 60, [A])


def test_what_was_listed_before_a_failure_counts() -> None:
    """The listing is incomplete, which the placement of cohorts needs to know."""
    region = Region()

    class Failing(testing.MemoryEc2):
        def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
            yield next(iter(super().list_statuses(scope, zone)))
            raise errors.AwsThrottled("EC2", "too fast", "wait")

    region.ec2 = Failing(models.Instance(id=A, region="us-east-1", status="running"))
    region.list_now()
    last = region.status_listings.last("default/us-east-1")
    assert last is not None
    assert (last.pages, last.complete) == (1, False)
    assert set(region.status_listings.get([A, B, C])) == {A}
