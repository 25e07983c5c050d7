"""Many cohorts move at once: how soon a new fleet is in its place, and that no interval has more or fewer runs."""

from __future__ import annotations

import heapq
from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies

from tests.support.present import present
from workermon import config, models, ports, testing
from workermon.collect import PLACED_EVERY, CohortPlacement, lag, placement
from workermon.on_celery import schedule, scheduler

MINUTE = 60
START = 1_700_000_040 // MINUTE * MINUTE
GROUP = f"default/us-east-1/{MINUTE}"
#: Seconds by which beat is late.
TICK = 0.01


class Fleet:
    """Cohorts of one region from a cold start on: beat with its cache of places, placements, and AWS with its delay."""

    def __init__(self, cohorts: int, delay: float, *, begins: float = 0.0, pace: float = 0.054) -> None:
        self.delay, self.pace = delay, pace
        self.monitor = testing.Monitor()
        self.monitor.cohorts.learn(GROUP, {})
        self.now = self._placed_at = START + begins
        self._phases: dict[str, float] = {}
        self._first_cohorts: frozenset[str] = frozenset()
        self._phases_at = 0.0
        #: The next run of each cohort.
        self._next: list[tuple[float, int]] = []
        #: By minute (from 0): how often each cohort ran in it.
        self.runs: dict[int, Counter[int]] = {}
        #: By minute: how long after its datapoint was available each cohort ran.
        self.waits: dict[int, list[float]] = {}
        #: Runs by second.
        self.seconds: Counter[int] = Counter()
        self.add(cohorts)

    def add(self, cohorts: int) -> None:
        """Start so many cohorts, each at the place that it has before anything is learned."""
        numbers = self.monitor.cohorts.numbers.get(GROUP, ())
        added = range(len(numbers), len(numbers) + cohorts)
        self.monitor.cohorts.numbers[GROUP] = (*numbers, *added)
        for number in added:
            heapq.heappush(self._next, (schedule.following(self.now, schedule.phase(number, MINUTE), MINUTE), number))

    def until(self, minute: float) -> None:
        """Let time pass until so many minutes after the first slot began."""
        end = START + MINUTE * minute
        while (at := min(self._next[0][0], self._placed_at + PLACED_EVERY)) < end:
            self.now = at
            if at == self._next[0][0]:
                self._run(self._next[0][1])
            else:
                self._place()
        self.now = end

    def _place(self) -> None:
        self._placed_at = self.now
        self.monitor.clock.now = self.now
        for node in ("collect", "collect-2"):
            self.monitor.cohorts.note_pace(node, ports.Pace(self.pace, self.now))
        self.monitor.get(CohortPlacement).place()

    def _run(self, number: int) -> None:
        if self.now - self._phases_at >= scheduler.PHASES_EVERY:
            self._phases, self._phases_at = self.monitor.cohorts.phases(), self.now
            self._first_cohorts = schedule.first_cohorts(self._phases)
        name = f"{GROUP}#{number}"
        phase = self._phases.get(name, schedule.phase(number, MINUTE))
        later = None
        if name in self._first_cohorts and self.now % MINUTE < phase - scheduler.PLACE_TOLERANCE:
            later = schedule.later_in_slot(self.now, self.now + TICK, phase, MINUTE)
        if later is not None:
            heapq.heapreplace(self._next, (later, number))
            return
        self._collect(number)
        has_moved = abs(self.now % MINUTE - phase) > scheduler.PLACE_TOLERANCE
        follows = schedule.next_run if has_moved else schedule.following
        heapq.heapreplace(self._next, (follows(self.now + TICK, phase, MINUTE), number))

    def _collect(self, number: int) -> None:
        minute = int(self.now - START) // MINUTE
        self.runs.setdefault(minute, Counter())[number] += 1
        self.seconds[int(self.now)] += 1
        self.waits.setdefault(minute, []).append((self.now - self.delay) % MINUTE)
        newest = int((self.now - self.delay) // MINUTE - 1) * MINUTE
        before = lag.Lag.of(present(self.monitor.cohorts.learned(GROUP)).get("cpu_utilization"))
        measured = present(lag.measure([newest], MINUTE, self.now, before))
        after = lag.learn(before, measured, period=MINUTE, at=self.now)
        self.monitor.cohorts.learn(GROUP, {"cpu_utilization": list(after)})

    def check_in_place(self, minute: int) -> None:
        """Check that cohorts ran as close as limits and nodes allow; the first one may try an earlier place."""
        last = len(self.monitor.cohorts.numbers[GROUP]) - 1
        apart = placement.seconds_apart([ports.Pace(self.pace, 0)] * 2)
        calls = placement.Allowance(placement.USED_OF_BUCKET * 100, 20)
        longest = 2 + placement.MARGIN + max(apart * last, calls.wait(last))
        if self.delay % MINUTE + longest > MINUTE - placement.FREE_AT_MOST:
            longest += placement.FREE_AT_MOST
        assert sorted(self.waits[minute])[-2] <= longest, f"minute {minute}"

    def check_runs(self, minutes: range) -> None:
        """Check that each cohort ran once in each of these minutes."""
        cohorts = set(self.monitor.cohorts.numbers[GROUP])
        for minute in minutes:
            assert set(self.runs[minute]) == cohorts, f"minute {minute}"
            assert set(self.runs[minute].values()) == {1}, f"minute {minute}"


@pytest.mark.parametrize("begins", [1.0, 30.0, 59.0])
@pytest.mark.parametrize("delay", [0.0, 5.0, 41.0])
def test_a_new_fleet_of_50_000_is_in_its_place_after_two_minutes(begins: float, delay: float) -> None:
    """No slot is left out or run twice, and no second has many more cohorts than the plan."""
    fleet = Fleet(500, delay, begins=begins)
    fleet.until(8)
    fleet.check_runs(range(1, 8))
    for minute in range(3, 8):
        fleet.check_in_place(minute)
    in_place = max(count for second, count in fleet.seconds.items() if second >= START + 5 * MINUTE)
    assert max(fleet.seconds.values()) <= 2 * in_place


def test_new_workers_of_a_fleet_are_in_their_place_after_two_minutes() -> None:
    """Existing workers stay in their places."""
    fleet = Fleet(200, 5.0)
    fleet.until(6.5)
    before = fleet.monitor.cohorts.phases()
    fleet.add(300)
    fleet.until(11)
    fleet.check_runs(range(7, 11))
    fleet.check_in_place(9)
    after = fleet.monitor.cohorts.phases()
    assert {name: after[name] for name in before} == pytest.approx(before, abs=1.0)


@pytest.mark.parametrize("cohorts", [10, 500])
@pytest.mark.parametrize(("slow", "back"), [(1, 9), (3, 16)])
def test_after_slow_minutes_cohorts_return(cohorts: int, slow: int, back: int) -> None:
    """After one slow minute the next runs notice it. After three, an earlier place is tried five minutes later."""
    fleet = Fleet(cohorts, 5.0)
    fleet.until(6)
    fleet.delay = 25.0
    fleet.until(6 + slow)
    fleet.delay = 5.0
    fleet.until(24)
    fleet.check_runs(range(1, 24))
    for minute in range(back, 24):
        fleet.check_in_place(minute)


@pytest.mark.parametrize("delay", [15.0, 25.0])
def test_all_cohorts_follow_datapoints_that_arrive_later_for_good(delay: float) -> None:
    """They follow after two minutes, and no second has many more than the plan."""
    fleet = Fleet(500, 5.0)
    fleet.until(6)
    fleet.delay = delay
    before = max(fleet.seconds.values())
    fleet.until(20)
    fleet.check_runs(range(1, 20))
    for minute in range(8, 20):
        fleet.check_in_place(minute)
    assert max(fleet.seconds.values()) <= 2 * before


@hypothesis.given(
    strategies.integers(1, 1000),
    strategies.floats(0.002, 0.2),
    strategies.floats(0, 899),
    strategies.integers(1, 20),
    strategies.integers(1, 500),
    strategies.floats(1, 100),
)
def test_calls_never_need_more_than_three_quarters_of_a_bucket(
    cohorts: int, apart: float, delay: float, metrics: int, bucket: int, rate: float
) -> None:
    """A bucket of that size at the limit's rate has a token for each call, and the nodes' pace is kept too."""
    limit = models.Limit(bucket=bucket, rate=rate)
    configuration = config.DEFAULT.model_copy(
        update={"collect": tuple(map(str, range(metrics))), "limits": {"Describe": limit, "GetMetricData": limit}}
    )
    arrives = list(lag.Lag(delay, delay + 0.5, 0, 0.0, START))
    name = "lab/eu-west-1/900"
    groups = placement.groups_of({name: {"0": arrives}}, {name: range(cohorts)}, configuration)
    places = placement.places(groups, apart)
    calls = -(-metrics * 100 // 500)
    full = max(calls, 0.75 * bucket)
    hypothesis.assume(cohorts * calls / rate < 800)
    tokens, previous = full, None
    for number in range(cohorts):
        at = (places[f"{name}#{number}"] - places[f"{name}#0"]) % 900
        if previous is not None:
            assert at - previous >= apart - 1e-6
            tokens = min(full, tokens + (at - previous) * rate)
        tokens -= calls
        assert tokens >= -1e-6, f"cohort {number}"
        previous = at


def test_a_listed_fleet_does_not_wait_for_the_bucket_of_instance_statuses() -> None:
    """Its last cohort is due as soon as GetMetricData's limit allows. By ids it takes AWS 21 s longer."""
    arrives = {"cpu_utilization": list(lag.Lag(4.5, 5.0, 0, 0.0, START))}

    def last(listed: set[str]) -> float:
        groups = placement.groups_of({GROUP: arrives}, {GROUP: range(500)}, config.DEFAULT, listed)
        return max(placement.places(groups, 0.001).values())

    assert last(set()) == pytest.approx(5.3 + (500 - 75) / 20)
    assert last({GROUP}) == pytest.approx(5.3 + (500 - 0.75 * 50) / 50)


@pytest.mark.parametrize(
    ("listing", "listed"),
    [
        (None, False),
        (ports.Listing(START - 60, 4.0, 50, True, (), START), True),
        (ports.Listing(START - 151, 4.0, 50, True, (), START), False),
        (ports.Listing(START - 60, 4.0, 50, False, (), START), False),
        (ports.Listing(START - 60, 4.0, 251, True, (), START), False),
    ],
    ids=["never", "a moment ago", "long ago", "incomplete", "costs more than it saves"],
)
def test_only_a_complete_listing_of_a_moment_ago_counts(listing: ports.Listing | None, listed: bool) -> None:
    """Otherwise the cohorts spread again as far as the limit of DescribeInstanceStatus demands."""
    assert placement.is_listed(GROUP, 500, listing, START) == listed


@pytest.mark.parametrize(("interval", "listed"), [(20, False), (30, True), (120, True), (300, False)])
def test_a_listing_for_another_interval_does_not_place_a_group(interval: int, listed: bool) -> None:
    """A group of this interval asks for ids, although another group of its account and region is listed."""
    listing = ports.Listing(START - 10, 4.0, 50, True, (), START)
    assert placement.is_listed(f"default/us-east-1/{interval}", 500, listing, START) == listed


def test_intervals_of_one_account_and_region_share_its_buckets() -> None:
    """Each has the part of its cohorts. Another region has buckets of its own."""
    arrives = {"cpu_utilization": list(lag.Lag(4.5, 5.0, 0, 0.0, START))}
    sizes = {"lab/eu-west-1/60": range(100), "lab/eu-west-1/300": range(300), "lab/us-east-1/60": range(10)}
    groups = placement.groups_of(dict.fromkeys(sizes, arrives), sizes, config.DEFAULT)
    assert [group.allowances[0] for group in groups] == [(0.25 * 75, 20), (0.75 * 75, 20), (75, 20)]
