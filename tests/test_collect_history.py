"""Through failures, late and revised datapoints the ledger ends with what CloudWatch has, in time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import hypothesis
import pytest
from hypothesis import strategies

from tests.support.examples import examples
from workermon import collect, config, errors, models, ports, testing
from workermon.collect import polling
from workermon.rules import horizon

ONE = "i-0000000000000001a"
CPU = "cpu_utilization"
#: On a whole hour.
NOW = 1_699_999_200.0
#: Seconds after its period's end that a datapoint appears if it is not late.
LAG = 70


@dataclass
class Served:
    """CloudWatch that knows when each value of a datapoint appeared: ``values`` is [(since when, value), …] by time."""

    clock: testing.ManualClock
    values: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    down: bool = False
    #: Answers only the first so many datapoints, and says so.
    partial: int | None = None
    requested_at: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def at(self, moment: float) -> dict[int, float]:
        """Return CloudWatch's datapoints at a moment."""
        visible = {at: [value for since, value in versions if since <= moment] for at, versions in self.values.items()}
        return {at: versions[-1] for at, versions in visible.items() if versions}

    def fetch(self, scope: models.AccountRegion, queries: Sequence[models.Query], until: float) -> ports.Answer:
        """Answer as CloudWatch would by now."""
        self.requested_at.append(self.clock())
        if self.down:
            raise errors.AwsUnreachable("CloudWatch", "no answer", "wait")
        answer = ports.Answer({}, {})
        for place, query in enumerate(queries):
            visible = sorted(self.at(self.clock()).items())
            points = [models.Datapoint(at, value) for at, value in visible if query.since <= at <= until]
            self.widths.append(until - query.since)
            if self.partial is not None:
                points = points[: self.partial]
                answer.failed[place] = errors.AwsUnreachable("CloudWatch", "came only in part", "wait")
            answer.series[place] = models.Series(query.period, tuple(points))
        return answer

    def dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str, instance_ids: object
    ) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Only EC2's own dimensions exist."""
        return {}

    def foreign_dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str
    ) -> list[tuple[tuple[str, str], ...]]:
        """Nothing is published for no instance."""
        return []


class World(testing.Monitor):
    """One worker with one metric. Its CloudWatch knows when each value appeared."""

    def __init__(
        self, *, interval: int = 60, period: int = 300, phase: float = 0.0, lateness: int = models.LATENESS
    ) -> None:
        cpu = config.DEFAULT.metrics[CPU].model_copy(update={"period": period})
        changes = {"metrics": {CPU: cpu}, "collect": (CPU,), "lateness": lateness}
        super().__init__(config.DEFAULT.model_copy(update=changes), NOW + phase)
        self.interval, self.period = interval, period
        #: Seconds that our clock is ahead of the true one.
        self.skew = 0.0
        self.served = Served(self.clock)
        self.add_worker(ONE, added_at=NOW, interval=interval)
        self.stage = dataclasses.replace(
            self.get(collect.Collection), cloudwatch=self.served, now=lambda: self.clock() + self.skew
        )
        #: When each value of the ledger was first there.
        self.first_seen: dict[tuple[int, float], float] = {}

    def publish(self, number: int, *, late: float = 0.0, value: float | None = None, lag: float = LAG) -> int:
        """Have the datapoint of a slot, counted from the beginning, appear, ``late`` seconds later than usual."""
        at = int(NOW) + number * self.period
        self.served.values.setdefault(at, []).append(
            (at + self.period + lag + late, float(number) if value is None else value)
        )
        self.served.values[at].sort()
        return at

    def look(self, *, force: bool = False) -> collect.Report:
        """Collect once, now."""
        return self.stage.collect([ONE], force=force)

    def ledger(self) -> dict[int, float]:
        """Return the ledger's datapoints."""
        return dict(self.store.ledger.get((ONE, CPU, self.period), {}))

    def tick(self, jitter: float = 0.0) -> None:
        """Advance an interval, and collect ``jitter`` seconds late."""
        self.clock.advance(self.interval)
        self.clock.advance(jitter)
        self.look()
        for point in self.ledger().items():
            self.first_seen.setdefault(point, self.clock())
        self.clock.advance(-jitter)

    def run(self, seconds: float) -> None:
        """Collect at each interval for some time."""
        for _ in range(int(seconds // self.interval)):
            self.tick()


_OUTAGES = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 100),
        strategies.integers(1, 40),
        strategies.sampled_from(["monitor", "aws", "partial", "ec2"]),
    ),
    max_size=4,
)
#: How late is late; and how late datapoints are and are revised, as parts of that.
_LATENESS = strategies.sampled_from([120, 300, models.LATENESS, 3600])
_LATE = strategies.dictionaries(strategies.integers(0, 30), strategies.floats(0, 1), max_size=12)
_REVISED = strategies.dictionaries(strategies.integers(0, 30), strategies.floats(0, 1), max_size=6)


@hypothesis.given(
    interval=strategies.sampled_from([20, 60, 90, 600]),
    period=strategies.sampled_from([60, 300]),
    outages=_OUTAGES,
    late=_LATE,
    revised=_REVISED,
    missing=strategies.sets(strategies.integers(0, 30), max_size=12),
    phase=strategies.integers(0, 59),
    lateness=_LATENESS,
)
@examples(60)
def test_in_the_end_the_ledger_is_what_cloudwatch_held(
    interval: int,
    period: int,
    outages: list[tuple[int, int, str]],
    late: dict[int, float],
    revised: dict[int, float],
    missing: set[int],
    phase: int,
    lateness: int,
) -> None:
    """Outages of the monitor, AWS and EC2, partial answers, late, revised and missing datapoints in any order."""
    world = World(interval=interval, period=period, phase=phase, lateness=lateness)
    for number in range(31):
        if number not in missing:
            first = late.get(number, 0) * lateness
            world.publish(number, late=first)
            if number in revised:
                world.publish(number, late=max(revised[number] * lateness, first), value=number + 0.5)
    ticks = (31 * period + lateness + 2 * period) // interval + 2
    for tick in range(ticks):
        kinds = {kind for start, length, kind in outages if start <= tick * 100 // ticks < start + length}
        if "monitor" in kinds:
            world.clock.advance(interval)
            continue
        world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "wait") if "ec2" in kinds else None
        world.served.down = "aws" in kinds
        world.served.partial = 2 if "partial" in kinds else None
        world.tick()
    world.ec2.error, world.served.down, world.served.partial = None, False, None
    world.run(2 * period + (2 + horizon.FULL_LOOK_EVERY) * interval)
    assert world.ledger() == world.served.at(world.clock())


@hypothesis.given(
    interval=strategies.sampled_from([10, 30, 60, 90]),
    period=strategies.sampled_from([60, 300]),
    late=_LATE,
    missing=strategies.sets(strategies.integers(5, 40), max_size=5),
    phase=strategies.floats(0, 0.8),
    lag=strategies.integers(-50, 200),
    seed=strategies.integers(0, 99),
    lateness=_LATENESS,
)
@examples(60, phases=(hypothesis.Phase.generate,))
def test_a_datapoint_is_there_an_interval_and_half_a_minute_after_it_is_served(
    interval: int,
    period: int,
    late: dict[int, float],
    missing: set[int],
    phase: float,
    lag: int,
    seed: int,
    lateness: int,
) -> None:
    """A published datapoint is in the ledger within an interval and half a minute, whatever was learned.

    A datapoint later than usual, or before the first one that was found, may take until the next full request.
    """
    # As the schedule has it: no look is so near the end of its slot that a late start takes it into the next.
    phase *= interval
    world = World(interval=interval, period=period, phase=phase, lateness=lateness)
    chance = random.Random(seed)
    for number in range(40):
        if number not in missing:
            world.publish(number, late=late.get(number, 0) * lateness + chance.uniform(0, 15), lag=lag)
    for _ in range((42 * period + lateness) // interval):
        world.tick(jitter=chance.uniform(0, min(3.0, interval / 5)))
    first_found, _ = min(world.first_seen, key=lambda point: world.first_seen[point])
    for at, [(served, value)] in world.served.values.items():
        full_look = horizon.FULL_LOOK_EVERY * interval + period
        is_awaited = served - at - period <= models.LATENESS and at >= first_found
        wait = interval if is_awaited else interval + full_look
        # A period that still runs is not taken, though AWS serves it.
        final = max(served, at + period, NOW + phase)
        assert world.first_seen[at, value] <= final + wait + 30, (at - NOW) / period


#: Slots, and how many seconds after the usual their datapoint is revised.
_REVISED_LATE = [(50, 60), (60, 900), (70, 1800)]


@pytest.mark.parametrize("phase", range(0, 300, 60))
def test_a_revised_datapoint_is_found_within_five_collections(phase: int) -> None:
    """A revised datapoint within the lateness is found, and so is a late one that is no longer expected."""
    world = World(period=60, phase=phase, lateness=1800)
    for number in range(120):
        if number != 40:
            world.publish(number)
    revised = {number: world.publish(number, late=late, value=0.5) for number, late in _REVISED_LATE}
    late = world.publish(40, late=1790)
    world.run(120 * 60)
    for number, seconds in _REVISED_LATE:
        served = revised[number] + 60 + LAG + seconds
        assert world.first_seen[revised[number], 0.5] <= served + horizon.FULL_LOOK_EVERY * 60
    assert world.first_seen[late, 40.0] <= late + 60 + LAG + 1790 + horizon.FULL_LOOK_EVERY * 60
    assert world.ledger() == world.served.at(world.clock())


def test_four_of_five_collections_request_only_what_is_new() -> None:
    """Every fifth request covers the whole lateness, and so does the one after a revised value."""
    world = World(period=60)
    for number in range(80):
        world.publish(number)
    world.run(40 * 60)
    world.served.widths.clear()
    world.run(10 * 60)
    full = [width > models.LATENESS for width in world.served.widths]
    assert full.count(True) == 2
    assert [width for width in world.served.widths if width <= models.LATENESS] == [pytest.approx(180, abs=60)] * 8
    world.tick()
    world.served.values[max(world.ledger())].append((world.clock(), -1.0))
    world.served.widths.clear()
    world.run(2 * 60)
    assert [width > models.LATENESS for width in world.served.widths] == [False, True]


@pytest.mark.parametrize("by_user", [False, True])
def test_a_repeated_collection_requests_only_what_is_new(by_user: bool) -> None:
    """One that a user asked for requests everything that may have arrived late."""
    world = World(period=60)
    for number in range(80):
        world.publish(number)
    world.run(40 * 60)
    while world.workers.get([ONE])[ONE].condition.full_at == world.clock():
        world.tick()
    world.clock.advance(5)
    if not by_user:
        world.workers.request_collection([ONE], world.clock())
    world.served.widths.clear()
    world.look(force=by_user)
    assert [width > models.LATENESS for width in world.served.widths] == [by_user]


def test_what_fails_in_a_full_request_is_fully_requested_at_the_next() -> None:
    """Each metric has its own full requests, because others of the worker may have succeeded."""
    world = World(period=60)
    for number in range(80):
        world.publish(number)
    world.run(41 * 60)
    turn = 60 * polling.turn_of([ONE])
    while world.workers.get([ONE])[ONE].condition.full_at != world.clock():
        world.served.down = (world.clock() + 60 - turn) % 300 == 0
        world.tick()
    world.served.down = False
    world.served.widths.clear()
    world.run(2 * 60)
    assert [width > models.LATENESS for width in world.served.widths] == [True, False]


def test_basic_monitoring_costs_about_one_ask_in_five_minutes() -> None:
    """After some periods nothing is requested before it can exist, except for occasional tries."""
    world = World()
    for number in range(48):
        world.publish(number)
    world.run(45 * 60)
    before = len(world.served.requested_at)
    assert before > 25
    world.run(2 * 3600)
    assert len(world.served.requested_at) - before <= 24 * 1.25
    assert world.ledger() == world.served.at(world.clock())


def test_what_is_learnt_serves_others_of_the_same_place() -> None:
    """A second worker in the account and region uses the learned delay."""
    world = World()
    for number in range(48):
        world.publish(number)
    world.run(45 * 60)
    worker = world.workers.get([ONE])[ONE].worker
    learned = world.learned_delays.load(worker.scope)
    assert learned
    assert not [name for name in learned if ONE in name]
    second_world = World()
    second_world.learned_delays.save(worker.scope, learned)
    second_world.served.values = world.served.values
    second_world.clock.now = world.clock.now
    second_world.run(30 * 60)
    assert len(second_world.served.requested_at) <= 12


def test_datapoints_that_come_earlier_than_before_are_asked_for_earlier_again() -> None:
    """Occasional early tries correct a learned delay."""
    world = World(phase=10)
    for number in range(72):
        world.publish(number, lag=250 if number < 24 else 20)
    world.run(24 * 300 + 9 * 300)
    world.first_seen.clear()
    world.run(30 * 300)
    for number in range(40, 60):
        at = int(NOW) + number * 300
        assert world.first_seen[at, float(number)] <= at + 320 + 60 + 30


def test_a_metric_that_fell_silent_is_not_asked_for_all_of_its_silence() -> None:
    """Its last hour is requested. When it returns, everything missed is requested."""
    world = World(period=60)
    for number in range(10):
        world.publish(number)
    for number in range(100, 110):
        # An agent that was cut off, and hands in what it gathered in one go.
        world.publish(number, late=(200 - number) * 60)
    world.publish(200)
    world.run(190 * 60)
    assert max(world.served.widths) <= horizon.BACKFILL + 2 * models.LATENESS + 300
    world.run(20 * 60)
    assert len([width for width in world.served.widths if width > 7200]) == 1
    assert world.ledger() == world.served.at(world.clock())
    assert len(world.ledger()) == 21


@pytest.mark.parametrize("step", [-7200, -100, -30, 100, 7200])
def test_a_clock_that_is_set_loses_nothing(step: int) -> None:
    """After any clock change the ledger soon has what CloudWatch has."""
    world = World()
    for number in range(-30, 80):
        world.publish(number)
    world.run(3600)
    world.skew = step
    world.run(1800)
    world.skew = 0.0
    world.run(1800)
    begin = NOW - horizon.BACKFILL
    expected = {at: value for at, value in world.served.at(world.clock()).items() if at >= begin}
    assert {at: value for at, value in world.ledger().items() if at >= begin} == expected


def test_timestamps_of_the_future_stop_nothing() -> None:
    """A datapoint ahead of our clock is stored, and later ones are still requested."""
    world = World(period=60)
    ahead = int(NOW) + 1200
    world.served.values[ahead] = [(NOW, 99.0)]
    for number in range(60):
        world.publish(number)
    world.served.values[ahead] = [(NOW, 99.0)]
    world.run(3600)
    assert world.ledger() == world.served.at(world.clock())
