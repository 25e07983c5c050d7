"""Beat and collection over many intervals: the right number of collections with late ticks and wrong clocks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from celery import Celery
from redbeat import schedulers

from tests.support.beat import NOW, MessageRecorder, at, worker
from tests.support.waiting import eventually
from workermon import config, models, testing
from workermon.on_celery import schedule, scheduler
from workermon.on_redis import cohorts


class Collecting(testing.Monitor):
    """In-memory collections of what beat sends, with a clock of its own."""

    def __init__(self, fleet: Sequence[models.Worker]) -> None:
        super().__init__(config.DEFAULT.model_copy(update={"collect": ("cpu_utilization",)}), NOW)
        for monitored in fleet:
            self.ec2.put(models.Instance(id=monitored.id, region=monitored.region, status="running"))
        self.workers.add(fleet)
        #: How often each worker was collected.
        self.number: Counter[str] = Counter()

    def take(self, post: MessageRecorder, now: float) -> None:
        """Collect what was sent at that time."""
        self.clock.now = now
        for worker_ids in post.worker_ids:
            report = self.collect(*worker_ids)
            self.number.update(report.collected)
        post.sent.clear()


@pytest.mark.parametrize("interval", [10, 60, 90])
def test_a_worker_is_collected_a_hundred_times_in_a_hundred_intervals(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, interval: int
) -> None:
    """The number is right by one, with ticks up to two seconds late and delayed messages."""
    regions = ("us-east-1", "eu-west-1", "eu-north-1")
    fleet = [worker(number, interval=interval, region=region) for number, region in enumerate(regions)]
    planned.put(fleet, NOW)
    collecting, chance = Collecting(fleet), random.Random(interval)
    beat.max_interval = interval / 5
    now = NOW
    while now < NOW + 100 * interval:
        now += at(beat, now) + chance.choice((0.0, 0.01, chance.uniform(0, 2)))
        collecting.take(post, now + chance.uniform(0, interval / 20))
    assert set(collecting.number) == {monitored.id for monitored in fleet}
    assert all(99 <= number <= 101 for number in collecting.number.values()), collecting.number


def real_lock(app: Celery, client: redis.Redis, beat: scheduler.Scheduler) -> Any:
    """Return RedBeat's lock for a beat, a second long and not taken yet."""
    beat.lock_timeout = 1
    lock = client.lock(beat.lock_key, timeout=1, sleep=0.05)
    lock.lua_extend = client.register_script(schedulers.LUA_EXTEND_TO_SCRIPT)
    beat.lock, beat.producer = lock, None
    return lock


@pytest.mark.parametrize("asleep", ["before its tick", "with a chunk in its hand", "after a chunk was sent"])
def test_a_leader_that_slept_sends_the_chunk_in_its_hand_at_most(
    app: Celery,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    asleep: str,
) -> None:
    """If another beat took over, no worker is collected twice, and no next run is set back."""
    monkeypatch.setattr(scheduler, "CHUNK", 100)
    fleet = [worker(number) for number in range(350)]
    planned.put(fleet, NOW)
    collecting = Collecting(fleet)
    first, second = scheduler.Scheduler(app), scheduler.Scheduler(app)
    assert real_lock(app, redis_client, first).acquire()
    second_lock = real_lock(app, redis_client, second)
    due = NOW + 61
    order: list[str] = []

    def sleep() -> None:
        """Let the lock expire, and let the other beat send all that is due."""
        assert eventually(lambda: second_lock.acquire(blocking=False), within=30)
        before = sum(map(len, post.worker_ids))
        at(second, due + 1)
        order.append("other")
        assert sum(map(len, post.worker_ids)) - before >= 250
        collecting.take(post, due + 1)

    if asleep == "before its tick":
        sleep()
    else:
        inner = first._read if asleep == "with a chunk in its hand" else first._mark_run
        reads: list[int] = []

        def sleeping(*arguments: Any) -> Any:
            answer = inner(*arguments)
            reads.append(1)
            if len(reads) == 1:
                sleep()
            return answer

        monkeypatch.setattr(first, inner.__name__, sleeping)
    at(first, due)
    assert not first.lock.owned(), "the other one has it"
    assert order == ["other"]
    late = sum(map(len, post.worker_ids))
    assert late == (100 if asleep == "with a chunk in its hand" else 0)
    collecting.take(post, due + 2)
    assert collecting.number == Counter(monitored.id for monitored in fleet)
    assert all(run > due + 1 for run in planned.next_runs([monitored.id for monitored in fleet]).values())


@pytest.mark.parametrize("step", [-models.DAY, -7200, -45, 45, 7200, models.DAY])
def test_a_clock_that_is_set_starves_and_floods_nobody(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, step: int
) -> None:
    """After any clock change a worker is collected once in each interval of the new clock."""
    fleet = [worker(number, region=region) for number, region in ((1, "us-east-1"), (2, "eu-west-1"))]
    planned.put(fleet, NOW)
    collecting = Collecting(fleet)
    now = NOW
    for _ in range(600):
        now += max(at(beat, now), 0.2)
        collecting.take(post, now)
    before, now = collecting.number.copy(), now + step
    begin = now
    while now < begin + 20 * 60:
        now += max(at(beat, now), 0.2)
        collecting.take(post, now)
    for monitored in fleet:
        # A step back by less than two minutes is taken for somebody slow: what was complete stays so.
        assert 20 - 3 <= collecting.number[monitored.id] - before[monitored.id] <= 20 + 2
    times = planned.next_runs([monitored.id for monitored in fleet]).values()
    assert all(now - 1 < run <= now + 60 for run in times)


def test_two_beats_at_once_collect_nobody_twice(
    app: Celery, post: MessageRecorder, planned: schedule.RedBeatSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two beats send everything, a slot is still collected once."""
    fleet = [worker(number) for number in range(5)]
    planned.put(fleet, NOW)
    collecting = Collecting(fleet)
    beats = [scheduler.Scheduler(app), scheduler.Scheduler(app)]
    for beat in beats:
        beat.lock_key, beat.producer = None, None
        # Neither marks what it sent, as if both had read it at the same moment.
        monkeypatch.setattr(beat, "_mark_run", lambda entries, now: [])
    for beat in beats:
        at(beat, NOW + 61)
    assert sum(map(len, post.worker_ids)) == 10
    collecting.take(post, NOW + 61)
    assert collecting.number == Counter(monitored.id for monitored in fleet)
    assert schedule.TASK == "workermon.collect"


@pytest.mark.parametrize("seed", range(3))
def test_a_cohort_that_moves_misses_no_slot_and_has_none_twice(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """However often it moves within the interval, there is one message each interval, at the new place from then on."""
    placed, chance = cohorts.RedisCohorts(redis_client), random.Random(seed)
    planned.put([worker()], NOW)
    monkeypatch.setattr(scheduler, "IDLE_INTERVAL", 5.0)
    now, runs = NOW, list[float]()
    phase = schedule.phase(0, 60)
    while now < NOW + 60 * 60:
        if chance.random() < 0.1:
            phase = round(chance.uniform(0, 57), 3)
            placed.place({"default/us-east-1/60#0": phase})
        pause = at(beat, now)
        runs += [now] * len(post.worker_ids)
        post.sent.clear()
        now += max(pause, 0.001)
    assert [int(run // 60 - NOW // 60) for run in runs] == list(range(int(runs[0] // 60 - NOW // 60), 60))
    at_rest = NOW + 63 * 60
    while now < at_rest:
        now += max(at(beat, now), 0.001)
    assert planned.next_runs([worker().id])[worker().id] % 60 == pytest.approx(phase, abs=0.001)


def test_a_new_member_begins_at_the_place_of_its_cohort(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """An invalid place is ignored."""
    placed = cohorts.RedisCohorts(redis_client)
    placed.place({"default/us-east-1/60#0": 17.5, "default/eu-west-1/60#0": 99.0})
    fleet = [worker(1), worker(2, region="eu-west-1")]
    planned.put(fleet, NOW)
    runs = planned.next_runs([monitored.id for monitored in fleet])
    assert [runs[monitored.id] % 60 for monitored in fleet] == pytest.approx([17.5, schedule.phase(0, 60)])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client: client.set("workermon:schedule:phases", "nonsense"),
        lambda client: client.hset("workermon:schedule:phases", "default/us-east-1/60#0", "soon"),
        lambda client: client.hset("workermon:schedule:phases", "default/us-east-1/60#0", "-1"),
    ],
    ids=["wrong type", "no number", "before it begins"],
)
def test_places_that_cannot_be_read_stop_nobody(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    spoil: Callable[[redis.Redis], object],
) -> None:
    """A cohort with unreadable places stays where it was."""
    planned.put([worker()], NOW)
    spoil(redis_client)
    at(beat, NOW + 61)
    assert len(post.worker_ids) == 1
    assert planned.next_runs([worker().id])[worker().id] % 60 == pytest.approx(schedule.phase(0, 60))
