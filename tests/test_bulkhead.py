"""The bulkhead: one slow account and region leaves threads to the others, and every collection runs."""

from __future__ import annotations

import threading

import hypothesis
import pytest
from hypothesis import strategies

from tests.support import collecting
from tests.support.present import present
from workermon import errors, testing
from workermon.collect import bulkhead

SLOW, WELL, THIRD = "default/eu-west-1", "default/us-east-1", "lab/us-east-1"
THREADS = 8
#: What an account and region may take of them while nothing is slow.
SHARE = THREADS - bulkhead.LEFT_FREE


class Places:
    """A bulkhead on a test's clock, and the collections that run."""

    def __init__(self, threads: int = THREADS, *, settled: bool = True) -> None:
        self.clock = testing.ManualClock(1000.0)
        self.bulkhead = bulkhead.Bulkhead(threads, self.clock)
        self.number = 0
        self.places: list[bulkhead.Place] = []
        self.ran: list[str] = []
        if settled:
            for scope in (SLOW, WELL):
                self.enter(scope)
            self.finish()

    def enter(self, scope: str, size: int = 1) -> bulkhead.Place | None:
        """Come with workers that were never there before."""
        ids = [f"{scope}:{self.number + place}" for place in range(size)]
        self.number += size
        return self.took(self.bulkhead.enter(scope, ids))

    def took(self, place: bulkhead.Place | None) -> bulkhead.Place | None:
        """Record a collection as running."""
        if place is not None:
            self.places.append(place)
            self.ran += place.worker_ids
        return place

    def leave(self, place: bulkhead.Place | None) -> bulkhead.Place | None:
        """End a collection. The next one of its thread runs then."""
        assert place is not None
        self.places.remove(place)
        return self.took(self.bulkhead.leave(place))

    def finish(self) -> None:
        """End all collections, and the next ones of their threads."""
        while self.places:
            self.leave(self.places[0])


def test_where_there_is_one_account_and_region_nobody_waits() -> None:
    """A single account and region gets all threads, however slow it is."""
    world = Places(settled=False)
    for _ in range(THREADS):
        assert world.enter(SLOW)
        world.clock.advance(60)
    assert len(world.ran) == THREADS


def test_threads_are_left_to_the_others_and_to_a_reconciliation() -> None:
    """This is so before anything is slow. A waiting collection gets the first free thread."""
    assert SHARE == THREADS - 2
    world = Places()
    for _ in range(SHARE):
        assert world.enter(SLOW)
    assert world.enter(SLOW, 2) is None
    assert world.enter(WELL)
    after = world.leave(world.places[0])
    assert after is not None
    assert [worker_id.partition(":")[0] for worker_id in after.worker_ids] == [SLOW] * 2


def test_who_is_slow_has_half_of_the_threads() -> None:
    """All slow ones together have half, until a minute after the last slow collection."""
    world = Places()
    first = [world.enter(SLOW) for _ in range(6)]
    world.clock.advance(bulkhead.SLOW_AFTER + 1)
    assert world.enter(SLOW) is None
    assert world.enter(WELL)
    for place in first:
        world.leave(place)
    world.finish()
    assert [bool(world.enter(SLOW)) for _ in range(5)] == [True] * 4 + [False]
    assert [bool(world.enter(WELL)) for _ in range(4)] == [True] * 4
    world.finish()
    world.enter(THIRD)
    world.clock.advance(bulkhead.SLOW_AFTER + 1)
    assert [bool(world.enter(SLOW)) for _ in range(4)] == [True] * 3 + [False]
    world.finish()
    world.clock.advance(bulkhead.SLOW_FOR + 1)
    assert [bool(world.enter(SLOW)) for _ in range(7)] == [True] * SHARE + [False]


def test_a_thread_does_not_go_on_for_ever() -> None:
    """Its task ends in time. Workers that still wait are collected with the next ones, and before them."""
    world = Places()
    places = [world.enter(SLOW) for _ in range(SHARE)]
    assert world.enter(SLOW) is None
    waiting = f"{SLOW}:{world.number - 1}"
    world.clock.advance(bulkhead.GO_ON_FOR + 1)
    for place in places:
        assert world.leave(place) is None
    assert waiting not in world.ran
    after = world.enter(SLOW)
    assert after is not None
    assert after.worker_ids[0] == waiting


def test_a_failure_gives_its_place_back_and_takes_nobody_over() -> None:
    """A failed collection frees its place, and its thread starts no waiting one."""
    world = Places()
    places = [world.enter(SLOW) for _ in range(SHARE)]
    assert world.enter(SLOW) is None
    assert world.bulkhead.leave(present(places[0]), onward=False) is None
    assert world.enter(SLOW) is not None


@pytest.mark.parametrize("threads", [0, 1])
def test_a_process_that_does_one_thing_at_a_time_stops_nobody(threads: int) -> None:
    """The bulkhead has no effect in a process with one thread, such as a prefork child."""
    world = Places(threads)
    for _ in range(3):
        world.clock.advance(60)
        assert world.enter(SLOW)
        assert world.enter(WELL)


@hypothesis.given(
    threads=strategies.integers(2, 9),
    steps=strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["enter", "leave", "wait"]),
            strategies.sampled_from([SLOW, WELL, THIRD]),
            strategies.integers(0, 250),
        ),
        max_size=60,
    ),
)
def test_nobody_is_lost_and_no_share_is_exceeded(threads: int, steps: list[tuple[str, str, int]]) -> None:
    """In any order of arrivals, slow ones and ends, each runs once and no account and region has all threads."""
    world = Places(threads)
    for operation, scope, number in steps:
        if operation == "enter":
            if len(world.places) < threads:  # there is a thread that could take the message
                world.enter(scope, number)
        elif operation == "leave":
            if world.places:
                world.leave(world.places[number % len(world.places)])
        else:
            world.clock.advance(number)
        for region in (SLOW, WELL, THIRD):
            assert sum(place.scope == region for place in world.places) <= threads - (2 if threads > 3 else 1)
    world.finish()
    for scope in (SLOW, WELL, THIRD):  # the next messages take over what waits
        while world.enter(scope):
            before = len(world.ran)
            world.finish()
            if len(world.ran) == before:
                break
    assert sorted(world.ran) == sorted(set(world.ran))
    assert len(world.ran) == world.number


def test_threads_at_once_keep_to_it() -> None:
    """With many concurrent threads the share is never exceeded, and each runs."""
    gate = bulkhead.Bulkhead(4)
    gate.leave(present(gate.enter(WELL, ["first"])))
    lock, inside, most = threading.Lock(), [0], [0]
    ran: list[str] = []

    def run(name: str) -> None:
        for number in range(50):
            place = gate.enter(SLOW, [f"{name}-{number}"])
            while place is not None:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    ran.extend(place.worker_ids)
                with lock:
                    inside[0] -= 1
                place = gate.leave(place)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 2
    assert sorted(ran) == sorted(f"{name}-{number}" for name in range(8) for number in range(50))


def test_a_collection_that_has_to_wait_is_made_by_a_later_one() -> None:
    """While it waits it makes no request and no claim. Workers that are removed in the meantime are skipped."""
    gate = bulkhead.Bulkhead(2)
    fleet = collecting.World()
    fleet.bulkhead = gate
    first, second, third = (f"i-0000000000000000{letter}" for letter in "abc")
    for worker_id in (first, second, third):
        fleet.add(worker_id)
    gate.leave(present(gate.enter("default/eu-west-1", ["i-0000000000000000d"])))
    waiting = gate.enter("default/us-east-1", [])

    def collect(worker_id: str) -> tuple[str, ...]:
        return fleet.collect(worker_id).collected

    assert waiting is not None
    assert collect(first) == collect(third) == ()
    assert fleet.condition(first).collected_at is None
    gate.leave(waiting, onward=False)
    del fleet.store.workers[third]
    assert collect(second) == (first, second)
    assert collect(first) == ()  # its slot is complete


def test_a_collection_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed collection frees its place, even if Redis fails during it."""
    gate = bulkhead.Bulkhead(2)
    fleet = collecting.World()
    fleet.bulkhead = gate
    worker = fleet.add()
    gate.leave(present(gate.enter("default/eu-west-1", ["i-0000000000000000d"])))
    monkeypatch.setattr(fleet.samples, "write_many", broken)
    for _ in range(3):
        fleet.clock.advance(60)
        with pytest.raises(errors.RedisUnavailable):
            fleet.collect(worker.id)


def broken(*_: object, **__: object) -> None:
    """Fail as Redis does that is gone."""
    raise errors.RedisUnavailable("Redis", "gone", "wait")
