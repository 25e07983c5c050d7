"""Hourly roll-ups on a real server, end to end: exact, bounded, small, and deleted with their worker."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as some

from tests.contract import builders
from tests.contract.builders import NOW, A
from tests.support.commands import A as MONITORED
from tests.support.commands import Ports, one_line
from tests.support.examples import examples
from tests.support.repositories import repository_on_redis
from workermon import collect, config, models, ports, testing, views
from workermon.on_redis import client, keys, rollups, samples, workers

CPU = "cpu_utilization"
HOURS = 4

#: Time, least, mean, greatest, 95th percentile and number.
_Row = tuple[Any, ...]


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client as every process has it."""
    with contextlib.closing(client.connect(redis_url)) as new_connection:
        yield new_connection


def hourly(monitor: testing.Monitor) -> list[_Row]:
    """Return the hours of cpu_utilization, as the command and the API have them."""
    (record,) = monitor.workers.get([A]).values()
    hours = monitor.get(views.HourlyHistoryView).hourly(record, CPU, NOW).datapoints
    return [(hour.at, hour.min, hour.avg, hour.max, hour.p95, hour.count) for hour in hours]


def plain(points: dict[int, float], digits: float) -> list[_Row]:
    """Return the roll-up of each hour, computed plainly, equal except for the last digits."""
    rows = []
    for hour in range(HOURS):
        ordered = sorted(value for after, value in points.items() if after // 3600 == hour)
        if ordered:
            rank = math.ceil(0.95 * len(ordered))
            exact = (ordered[0], sum(ordered) / len(ordered), ordered[-1], ordered[rank - 1])
            least, mean, most, p95 = (pytest.approx(value, rel=digits, abs=digits) for value in exact)
            rows.append((NOW + 3600 * hour, least, mean, most, p95, len(ordered)))
    return rows


_WRITES = some.lists(
    some.tuples(some.integers(0, 60 * HOURS - 1), some.floats(-1e6, 1e6), some.integers(0, 9)), min_size=1, max_size=60
)


@examples(180)
@given(_WRITES, some.integers(1, 7))
def test_hours_are_exact_whatever_comes_late_or_is_revised(writes: list[tuple[int, float, int]], every: int) -> None:
    """In any order of writes and roll-ups they equal the ledger. Later they have six digits."""
    monitor = testing.Monitor(now=float(NOW + 3600 * HOURS))
    monitor.configure(retention=7 * models.DAY)
    monitor.workers.add([builders.worker()])
    points: dict[int, float] = {}
    for number, (minute, value, wait) in enumerate(writes):
        monitor.clock.advance(600 * wait)
        points[60 * minute] = value
        sample = builders.sample(builders.worker(), (60 * minute, value), after=monitor.clock() - NOW)
        builders.write(monitor.samples, sample, force=True)
        if number % every == 0:
            monitor.get(collect.RollingUp).roll_up(3)
        assert hourly(monitor) == plain(points, 1e-9)
    monitor.clock.advance(3600)
    while monitor.get(collect.RollingUp).roll_up(3):
        pass
    monitor.store.ledger.clear()
    monitor.clock.advance(60 * models.DAY)
    assert hourly(monitor) == plain(points, 1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_packed_weeks_come_back(seed: int) -> None:
    """Any hours and values are read as packed."""
    numbers = random.Random(seed)
    packed = {}
    for hour in numbers.sample(range(0, models.WEEK, 3600), numbers.randint(0, 168)):
        least, mean, most, p95 = (numbers.uniform(-1, 1) * 10 ** numbers.randint(-30, 30) for _ in range(4))
        packed[hour] = models.RollUp(hour, least, mean, most, p95, numbers.randint(1, 3600))
    read = models.unpack(0, models.pack(0, packed))
    assert sorted(read) == sorted(packed)
    for hour, rollup in packed.items():
        assert read[hour] == (rollup.at, *(pytest.approx(part, rel=1e-6) for part in rollup[1:5]), rollup.number)


def test_what_no_float_can_be_is_the_greatest() -> None:
    """A value too large for a float becomes the greatest one. An invalid week of roll-ups is refused."""
    big = models.unpack(0, models.pack(0, {0: models.RollUp(0, -1e300, 0.0, 1e300, 1e300, 70_000)}))[0]
    assert [big.least, big.most] == pytest.approx([-3.4e38, 3.4e38], rel=0.01)
    assert big.number == 65_535
    for garbage in (b"", b"x", models.pack(0, {})[:-2]):
        with pytest.raises(ValueError, match=r"."):
            models.unpack(0, garbage)


def test_a_removal_leaves_no_roll_up(connection: redis.Redis) -> None:
    """Neither weeks nor marks remain, whatever was claimed or due."""
    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker()])
    for day in (0, 9, 30):
        at = 86_400 * day
        sample = builders.sample(builders.worker(), (at, 1.0), (at + 3600, 2.0), after=at + 4000)
        builders.write(repository.samples, sample)
        if day < 30:
            now = float(NOW + at + 7000)
            collect.RollingUp(rollups=repository.rollups, now=testing.ManualClock(now)).roll_up(10)
    # Of the first two days the hash has lived its time: it ends by Redis' own clock.
    connection.hset(keys.rollups(A, models.week_of(NOW)), "cpu_utilization", b"x")
    connection.hset(keys.worker(A), "first_week", models.week_of(NOW))
    assert connection.zcard(keys.ROLLUPS_DUE) > 0
    basis = repository.alerts.load([A])[A]
    assert repository.alerts.retire(builders.verdict(basis, at=NOW + 31 * 86_400.0))
    assert not list(connection.scan_iter(match=keys.ROLLUPS + "*"))
    assert not connection.exists(keys.ROLLUPS_DUE)


def test_roll_ups_live_as_long_as_the_setting_says(connection: redis.Redis) -> None:
    """A week's lifetime counts from its last hour. Without the setting none is made, and no mark is left."""
    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker()])

    def roll_up_with(lifetime: int, after: int) -> None:
        ledger = samples.RedisSamples(connection, "c", lambda: models.DAY, lambda: lifetime)
        builders.write(ledger, builders.sample(builders.worker(), (after, 1.0), after=after + 60))
        redis_rollups = rollups.RedisRollUps(connection, lambda: lifetime)
        collect.RollingUp(rollups=redis_rollups, now=testing.ManualClock(NOW + after + 7000.0)).roll_up(10)

    roll_up_with(30 * models.DAY, 0)
    week = models.week_of(NOW)
    lifetime_left = connection.ttl(keys.rollups(A, week))
    assert lifetime_left == pytest.approx(week + models.WEEK + 30 * models.DAY - (NOW + 7000), abs=60)
    roll_up_with(0, 3600)
    assert [hour - NOW for hour in repository.rollups.read(A, CPU, NOW, NOW + 9000)] == [0]
    assert connection.zcard(keys.ROLLUPS_DUE) == 0


def test_a_roll_up_takes_about_fifteen_bytes(connection: redis.Redis) -> None:
    """This is measured for a week of five metrics with noisy values, with everything."""
    fleet = [builders.worker(f"i-{number:017x}") for number in range(10)]
    workers.RedisWorkers(connection).add(fleet)
    names, numbers = config.DEFAULT.collect, random.Random(5)
    redis_rollups = rollups.RedisRollUps(connection)
    week = models.week_of(NOW)
    for hour in range(week, week + models.WEEK, models.HOUR):
        rolled = []
        for worker in fleet:
            series = {}
            for name in names:
                least, mean, p95, most = sorted(numbers.uniform(0, 100) for _ in range(4))
                series[name] = models.RollUp(hour, least, mean, most, p95, 60)
            rolled.append((ports.LedgerHour(worker.id, "first", hour, 0.0, {}), series))
        redis_rollups.save(rolled, float(NOW))
    memory = sum(int(connection.memory_usage(keys.rollups(worker.id, week), samples=0) or 0) for worker in fleet)
    bytes_per_hour = memory / (len(fleet) * len(names) * 168)
    assert len(redis_rollups.read(fleet[0].id, names[0], week, week + models.WEEK)) == 168
    print(f"{bytes_per_hour:.1f} bytes a series and hour")
    assert bytes_per_hour <= 16


def test_the_command_shows_hours(run: Callable[..., Result], ok: Callable[..., str], world: Ports) -> None:
    """``--step 1h`` prints a table, CSV and JSON. Another step is refused."""
    at = _hour(ok, world)
    document = json.loads(ok("history", MONITORED, CPU, "--since", "30d", "--step", "1h", "--json"))
    assert (document["metric"], document["unit"], document["step"]) == (CPU, "percent", 3600)
    first, *_ = document["datapoints"]
    assert first == (
        {"at": models.rfc3339(at), "min": 0.0, "avg": 14.75, "max": 29.5, "p95": 28.0, "count": 60, "metric": CPU,
         "unit": "percent"}
    )  # fmt: skip
    assert "MIN" in ok("history", MONITORED, CPU, "--step", "1h", "--since", "1d")
    lines = ok("history", MONITORED, CPU, "--step", "1h", "--since", "1d", "--csv").splitlines()[:2]
    assert lines == ["timestamp,min,avg,max,p95,count", f"{models.rfc3339(at)},0.0,14.75,29.5,28.0,60"]
    assert "use 1h" in one_line(run("history", MONITORED, CPU, "--step", "5m"), 2)


def _hour(ok: Callable[..., str], world: Ports) -> int:
    """Have an hour of a monitored worker."""
    ok("add", MONITORED)
    record = world.workers.get([MONITORED])[MONITORED]
    at = int(world.clock()) // 3600 * 3600 - 7200
    series = {CPU: models.Series(60, tuple(models.Datapoint(at + 60 * number, number / 2) for number in range(60)))}
    sample = models.Sample(worker=record.worker, collected_at=world.clock(), status="running", series=series)
    builders.write(world.samples, sample, force=True)
    return at
