"""Placement: cohorts follow the lag of their datapoints. Where each is placed, and which move when."""

from __future__ import annotations

import itertools
import math
import random

import hypothesis
import pytest
from hypothesis import strategies

from tests.support.present import present
from workermon import config, errors, models, ports, testing
from workermon.collect import CohortPlacement, lag, placement
from workermon.on_celery import schedule

T = 1_700_000_040
GROUP = "default/us-east-1/60"


def lag_of(delay: float, absent: float | None = None) -> lag.Lag:
    """Return a lag that is narrow enough by default."""
    return lag.Lag(delay - 0.5 if absent is None else absent, delay, 0, 0.0, T)


class Region:
    """The cohorts of one group at their places, and an AWS with datapoints a lag after their period."""

    def __init__(self, cohorts: int, lag: float) -> None:
        self.lag, self.monitor = lag, testing.Monitor()
        self.cohorts = self.monitor.cohorts
        self.cohorts.numbers[GROUP] = tuple(range(cohorts))
        self.cohorts.learn(GROUP, {})
        #: How long each cohort waited in the last minute after its datapoint could be had.
        self.waits: list[float] = []

    def minute(self) -> None:
        """Collect each cohort once, then place them."""
        start = math.ceil(self.monitor.clock() / 60) * 60
        self.waits = []
        placed = self.cohorts.phases()
        for number in self.cohorts.numbers[GROUP]:
            at = start + placed.get(f"{GROUP}#{number}", schedule.phase(number, 60))
            newest = int((at - self.lag) // 60 - 1) * 60
            self.waits.append((at - self.lag) % 60)
            values = present(self.cohorts.learned(GROUP))
            before = lag.Lag.of(values.get("cpu_utilization"))
            measured = lag.measure([newest], 60, at, before)
            if measured is not None:
                after = lag.learn(before, measured, period=60, at=at)
                self.cohorts.learn(GROUP, {"cpu_utilization": list(after)})
        self.monitor.clock.now = start + 59
        self.cohorts.note_pace("node", ports.Pace(0.1, self.monitor.clock()))
        self.monitor.get(CohortPlacement).place()

    def minutes(self, number: int) -> None:
        """Let some minutes pass."""
        for _ in range(number):
            self.minute()


@pytest.mark.parametrize("cohorts", [1, 10, 40])
@pytest.mark.parametrize("late", [0.0, 5.0, 17.3, 52.0, 56.5, 58.5, 95.0, 117.5, 125.0, 150.0, 179.0])
def test_within_minutes_cohorts_are_collected_right_after_their_datapoints(cohorts: int, late: float) -> None:
    """Then the first cohort waits at most two seconds, and later ones only for those before."""
    region = Region(cohorts, late)
    region.minutes(15)
    apart = placement.seconds_apart([ports.Pace(0.1, 0)])
    assert max(region.waits) <= 2 + placement.MARGIN + apart * cohorts + (late % 60 >= 52) * placement.FREE_AT_MOST
    moved = region.cohorts.phases()
    region.minutes(30)
    assert region.cohorts.phases() == moved, "it does not come to rest"


@pytest.mark.parametrize(("before", "after"), [(5.0, 6.5), (5.0, 40.0), (40.0, 5.0), (20.0, 19.0)])
def test_they_follow_when_datapoints_come_at_another_time(before: float, after: float) -> None:
    """They follow later arrivals at once, and earlier ones at the next try."""
    region = Region(10, before)
    region.minutes(15)
    region.lag = after
    region.minutes(20 if after > before else 12 * 60 + 12)
    assert max(region.waits) <= 3.5 + 10 * placement.seconds_apart([ports.Pace(0.1, 0)])


def test_one_slow_minute_moves_nobody_for_long() -> None:
    """After a slow minute of CloudWatch cohorts soon return."""
    region = Region(10, 5.0)
    region.minutes(15)
    region.lag = 25.0
    region.minute()
    region.lag = 5.0
    region.minutes(15)
    assert max(region.waits) <= 3.5 + 10 * placement.seconds_apart([ports.Pace(0.1, 0)])


def test_a_collection_counts_if_nearly_all_workers_have_the_datapoint() -> None:
    """One straggler of ten is ignored, two are not. Workers without datapoints for long are left out."""
    assert lag.measure([T] * 19 + [T - 60], 60, T + 65, None) == 5
    assert lag.measure([T] * 8 + [T - 60] * 2, 60, T + 65, None) == 65
    assert lag.measure([T] * 5 + [T - 3600] * 5, 60, T + 65, None) == 5
    assert lag.measure([T - 3600], 60, T + 65, None) is None
    assert lag.measure([], 60, T, None) is None
    assert lag.measure([T], 60, T + 30, None) is None, "a period that still runs"


def test_of_metrics_that_come_at_different_times_none_waits_for_a_whole_interval() -> None:
    """The collection is after the largest gap between their arrivals, around the interval."""
    assert present(lag.best([lag_of(5), lag_of(7), lag_of(50)], 60)).present == 7
    assert present(lag.best([lag_of(58), lag_of(63)], 60)).present == 63
    assert lag.best([], 60) is None


def group(name: str, cohorts: int, arrives: lag.Lag | None, interval: int = 60) -> placement.Group:
    """Return a group. AWS allows it twenty requests a second."""
    return placement.Group(f"{name}/{interval}", interval, range(cohorts), arrives, [placement.Allowance(75, 20)])


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.integers(1, 120),
            strategies.none() | strategies.floats(0, 200),
            strategies.sampled_from([60, 300]),
        ),
        min_size=1,
        max_size=6,
    ),
    strategies.floats(0.01, 1.0),
)
def test_every_cohort_has_a_place_that_is_safe(fleet: list[tuple[int, float | None, int]], apart: float) -> None:
    """It is within the usable part of its interval, whatever was learned. Groups without learned values have none."""
    groups = [
        group(f"a{place}/r", cohorts, None if late is None else lag_of(late), interval)
        for place, (cohorts, late, interval) in enumerate(fleet)
    ]
    places = placement.places(groups, apart)
    names = {
        f"{worker_group.name}#{number}": worker_group.interval
        for worker_group in groups
        if worker_group.arrives
        for number in worker_group.numbers
    }
    assert places.keys() == names.keys()
    assert all(0 <= places[name] < interval - placement.FREE_AT_MOST for name, interval in names.items())


def test_cohorts_follow_one_another_at_the_pace_of_the_nodes() -> None:
    """A small fleet's are close together, within AWS's limits. A fleet that fills the interval is spread evenly."""
    small = sorted(placement.places([group("a/r", 10, lag_of(5))], 0.2).values())
    assert small == pytest.approx([5.3 + 0.2 * place for place in range(10)])
    limited = sorted(placement.places([group("a/r", 100, lag_of(5))], 0.01).values())
    assert limited[:75] == pytest.approx([5.3 + 0.01 * place for place in range(75)])
    assert limited[95:] == pytest.approx([5.3 + 0.05 * (place + 1 - 75) for place in range(95, 100)])
    large = sorted(placement.places([group("a/r", 500, lag_of(5))], 0.2).values())
    assert max(later - sooner for sooner, later in itertools.pairwise(large)) <= 2 * 57 / 500


def test_groups_share_the_nodes() -> None:
    """Two regions with datapoints at the same time are collected one after the other."""
    places = placement.places([group("a/r", 10, lag_of(5)), group("b/r", 10, lag_of(5))], 0.2)
    starts = sorted(places.values())
    assert min(later - sooner for sooner, later in itertools.pairwise(starts)) == pytest.approx(0.2)


def test_more_nodes_are_faster() -> None:
    """The nodes' paces add up. A change of a few percent moves no cohort."""
    distance = placement.seconds_apart([ports.Pace(0.1, 0)])
    assert placement.seconds_apart([ports.Pace(0.1, 0)] * 4) <= distance / 2
    assert placement.seconds_apart([]) >= placement.PACE
    chance = random.Random(1)
    assert len({placement.seconds_apart([ports.Pace(0.1 * chance.uniform(0.97, 1.0), 0)]) for _ in range(50)}) == 1


def test_all_cohorts_move_at_once_but_none_for_a_fraction_of_a_second() -> None:
    """A first place counts as a move too."""
    phases = {f"{GROUP}#{number}": 10.0 + number / 10 for number in range(500)}
    assert placement.moved({}, phases) == phases
    assert placement.moved(phases, {name: phase + 0.2 for name, phase in phases.items()}) == {}
    assert placement.moved({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 2.0, "b": 0.5, "c": 1.0}) == {"a": 2.0, "b": 0.5}


def test_what_is_gone_is_forgotten() -> None:
    """Groups without workers, places of dissolved cohorts, and silent nodes are deleted."""
    monitor = testing.Monitor()
    cohorts, now = monitor.cohorts, monitor.clock()
    cohorts.numbers[GROUP] = (0,)
    cohorts.learn(GROUP, {"cpu_utilization": list(lag_of(5)), "network_in": "nonsense"})
    cohorts.learn("gone/us-east-1/60", {})
    cohorts.place({f"{GROUP}#7": 3.0})
    cohorts.note_pace("here", ports.Pace(0.1, now))
    cohorts.note_pace("gone", ports.Pace(0.1, now - 3600))
    assert monitor.get(CohortPlacement).place() == 1
    assert set(cohorts.all_learned()) == {GROUP}
    assert set(cohorts.phases()) == {f"{GROUP}#0"}
    assert set(cohorts.paces()) == {"here"}


def test_a_collection_learns_the_lag_of_what_comes_once_an_interval() -> None:
    """It learns from detailed metrics at 60 s, not from those at 300 s or from requested collections."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T + 65)
    fleet = [monitor.add_worker(f"i-{number:017x}", added_at=T, detailed=number < 3) for number in range(1, 5)]
    for worker in fleet:
        monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T - 60, 1.0), (T, 1.0)])
    monitor.collect(*(worker.id for worker in fleet), force=True)
    assert monitor.cohorts.learned(GROUP) is None
    monitor.clock.advance(60)
    for worker in fleet:
        monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T + 60, 1.0)])
    monitor.collect(*(worker.id for worker in fleet))
    learned = present(monitor.cohorts.learned(GROUP))
    assert present(lag.Lag.of(learned["cpu_utilization"])).present == pytest.approx(5, abs=0.01)
    assert set(monitor.cohorts.paces()) == {"memory"}


def detailed_worker(monitor: testing.Monitor) -> models.Worker:
    """Return a running worker with detailed monitoring whose CPU datapoints are available 20 s after their period."""
    worker = monitor.add_worker("i-00000000000000001", added_at=T, detailed=True)
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T - 60, 1.0)])
    monitor.clock.now = T + 55.0
    monitor.collect(worker.id)
    return worker


def test_a_collection_that_came_too_early_is_repeated_when_the_datapoint_is_available() -> None:
    """While the lag is narrowed down, a request that comes before the datapoint does not cost a whole interval."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    first = lag.Lag.of(present(monitor.cohorts.learned(GROUP))["cpu_utilization"])
    assert first == lag.Lag(0, 55, 0, 0, T + 55 + lag.RETRIED_EVERY)
    monitor.clock.now = T + 60 + 10.0
    monitor.collect(worker.id)
    assert monitor.dispatcher.collected == [worker.id]
    assert monitor.dispatcher.waits == [pytest.approx(45 + placement.MARGIN)]
    assert present(monitor.workers.get([worker.id])[worker.id].condition.latest.get("cpu_utilization")).at == T - 60
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T, 2.0)])
    monitor.clock.advance(monitor.dispatcher.waits[0])
    assert monitor.collect(worker.id).collected == (worker.id,)
    record = monitor.workers.get([worker.id])[worker.id]
    assert present(record.condition.latest.get("cpu_utilization")).value == 2.0
    assert not record.is_requested
    assert monitor.dispatcher.collected == [worker.id], "it is repeated once"


def test_a_collection_is_repeated_soon_if_its_datapoint_is_later_than_ever() -> None:
    """Its notification is late by seconds then, not by an interval. A repeated collection is not repeated itself."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T, 2.0)])
    monitor.clock.now = T + 60 + 30.0
    monitor.collect(worker.id)
    assert monitor.dispatcher.collected == [], "this one found its datapoint"
    monitor.clock.now = T + 120 + 31.0
    monitor.collect(worker.id)
    assert monitor.dispatcher.waits == [pytest.approx(lag.REPEATED_AFTER + placement.MARGIN)]
    monitor.clock.advance(monitor.dispatcher.waits[0])
    monitor.collect(worker.id)
    assert len(monitor.dispatcher.waits) == 1


def test_a_collection_is_repeated_if_its_cohort_was_due_before_the_lag() -> None:
    """A cohort may be due once more at its old place, earlier than any datapoint can be available."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    monitor.cohorts.learn(GROUP, {"cpu_utilization": [0.5, 5.0, 0, 0.0, T]})
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T, 2.0)])
    monitor.clock.now = T + 60 + 21.0
    monitor.collect(worker.id)
    monitor.clock.now = T + 120 + 0.1
    monitor.collect(worker.id)
    assert monitor.dispatcher.waits == [pytest.approx(4.9 + placement.MARGIN)]


def test_a_cohort_that_is_always_due_before_the_lag_is_not_collected_twice_each_time() -> None:
    """A large fleet spreads over its interval, so some cohorts always find the datapoint of the period before."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    monitor.cohorts.learn(GROUP, {"cpu_utilization": [4.5, 5.0, 0, 0.0, T]})
    for minute in (1, 2, 3):
        monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T + 60 * (minute - 1), 2.0)])
        monitor.clock.now = T + 60 * (minute + 1) + 1.0
        monitor.collect(worker.id)
    assert monitor.dispatcher.waits == []


def test_a_collection_whose_datapoint_comes_with_the_next_one_is_not_repeated() -> None:
    """Each repeated collection would leave nothing new for the one right after it, and so on in each interval."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    monitor.cohorts.learn(GROUP, {"cpu_utilization": [56.0, 56.5, 0, 0.0, T + 3600]})
    monitor.clock.now = T + 60 + 0.1
    monitor.collect(worker.id)
    assert monitor.dispatcher.waits == []


def test_a_lag_of_minutes_is_narrowed_down() -> None:
    """A request too early finds a datapoint of four minutes ago then. That is as new as can be."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)
    monitor.cohorts.learn(GROUP, {"cpu_utilization": [120.0, 135.0, 0, 0.0, T + 3600]})
    monitor.clock.now = T + 60 + 127.5
    monitor.collect(worker.id)
    learned = present(monitor.cohorts.learned(GROUP))["cpu_utilization"]
    assert lag.Lag.of(learned) == lag.Lag(127.5, 135, 0, 0, T + 3600)
    assert monitor.dispatcher.waits == [pytest.approx(7.5 + placement.MARGIN)]


@pytest.mark.parametrize(
    ("absent", "available", "tried"),
    [
        (50.0, 62.0, 56.0),
        (56.0, 63.0, 56.7),
        (56.7, 63.0, 0.0),
        (56.7, 60.0, None),
        (116.7, 121.0, 0.0),
        (56.7, 75.0, 5.85),
    ],
)
def test_no_cohort_tries_a_place_twice_because_the_end_of_the_interval_is_not_used(
    absent: float, available: float, tried: float | None
) -> None:
    """It tries the place before the end or after it. If both are known, it is in its place."""
    arrives = lag.Lag(absent, available, 0, 0.0, T)
    place = placement.places([group("a/r", 2, arrives)], 0.2)["a/r/60#0"]
    in_place = placement.places([group("a/r", 2, lag_of(available))], 0.2)["a/r/60#0"]
    assert place == pytest.approx(in_place if tried is None else tried)


@pytest.mark.parametrize("requested", [0.0, 3.0, 4.999])
def test_a_request_is_repeated_when_the_datapoint_becomes_available(requested: float) -> None:
    """A request that found nothing new before the lag is sent again at the lag."""
    before = lag.Lag(0.5, 5.0, 0, 0.0, T)
    after = lag.learn(before, requested + 60, period=60, at=T)
    seconds = lag.again_in(before, after, requested + 60, period=60, found_new=False)
    assert requested + present(seconds) == pytest.approx(5.0)


def test_cohorts_that_find_nothing_are_repeated_where_the_next_minute_will_ask() -> None:
    """The second one in a row moves the lag, and later ones wait for that place."""
    after, again_at = lag.Lag(4.5, 5.0, 0, 0.0, T), []
    for requested in (5.3, 5.4, 5.5, 5.6):
        before, after = after, lag.learn(after, requested + 60, period=60, at=T)
        seconds = present(lag.again_in(before, after, requested + 60, period=60, found_new=False))
        again_at.append(round(requested + seconds, 3))
    assert again_at == [5.3 + lag.REPEATED_AFTER, 7.4, 7.4, 7.4]
    assert after.present == pytest.approx(7.4)


def test_a_request_that_found_its_datapoint_is_not_repeated() -> None:
    """Neither is one between two datapoints, if a user asked a moment before."""
    before = lag.Lag(4.5, 5.0, 0, 0.0, T)
    assert lag.again_in(before, before, 5.3, period=60, found_new=True) is None
    assert lag.again_in(before, before, 20.0, period=60, found_new=False) is None
    assert lag.again_in(None, before, 65.3, period=60, found_new=False) is None


def test_a_collection_succeeds_if_the_broker_takes_no_request_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is written, and the next slot fetches the datapoint."""
    monitor = testing.Monitor(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), T)
    worker = detailed_worker(monitor)

    def refuse(*_: object, **__: object) -> None:
        raise errors.RedisUnavailable("broker", "it takes no messages", "check that it runs")

    monkeypatch.setattr(monitor.dispatcher, "collect", refuse)
    monitor.clock.now = T + 60 + 10.0
    assert monitor.collect(worker.id).collected == (worker.id,)
