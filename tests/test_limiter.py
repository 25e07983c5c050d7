"""``workermon.on_redis.limiter`` on a real server: all processes together keep to the limit."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.support.waiting import eventually
from workermon import errors, models
from workermon.on_redis import client, keys, limiter

SCOPE, API = "default/us-east-1", "DescribeInstances"
BUCKET = keys.limit(f"{SCOPE}:{API}")


class Waits(list[float]):
    """Records the requested waits, without waiting."""

    def __call__(self, seconds: float) -> None:
        """Wait."""
        self.append(seconds)


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client as workermon makes it."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        yield connected


class Stopwatch:
    """Knows how long the requests have taken since it was made. The bucket fills meanwhile, so waits are shorter."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def less(self, *seconds: float) -> list[object]:
        """Return what waits are equal to that would be ``seconds`` if the requests took no time."""
        took = time.monotonic() - self._began
        return [pytest.approx(wait - took / 2, abs=took / 2 + 0.02) for wait in seconds]


def make(
    connection: redis.Redis,
    bucket: float = 10.0,
    rate: float = 20.0,
    patience: float = limiter.PATIENCE,
    wait: Callable[[float], None] | None = None,
) -> tuple[limiter.RedisLimiter, Waits]:
    """Make a limiter like another worker process."""
    waits = Waits()
    limit = models.Limit(bucket=bucket, rate=rate)
    new_limiter = limiter.RedisLimiter(connection, lambda api: limit, wait or waits, patience)
    return new_limiter, waits


def test_a_bucket_lets_its_content_go_at_once_and_then_the_rate(connection: redis.Redis) -> None:
    """With ten tokens the eleventh request waits for the next token, the twelfth for the one after."""
    stopwatch = Stopwatch()
    bucket_limiter, waits = make(connection, bucket=10, rate=0.5)
    for _ in range(12):
        bucket_limiter.take(SCOPE, API)
    assert waits == stopwatch.less(2.0, 4.0)


def test_what_would_take_too_long_is_refused_and_takes_nothing(connection: redis.Redis) -> None:
    """It is an error of kind throttled in one line, and does not delay later requests."""
    stopwatch = Stopwatch()
    bucket_limiter, waits = make(connection, bucket=1, rate=0.1, patience=20.0)
    for _ in range(3):
        bucket_limiter.take(SCOPE, API)
    for _ in range(5):
        with pytest.raises(errors.AwsThrottled, match="shared by all worker processes") as refused:
            bucket_limiter.take(SCOPE, API)
        assert refused.value.retryable
    assert waits == stopwatch.less(10.0, 20.0)
    assert float(connection.hget(BUCKET, "tokens") or 0) > -2.1


def test_one_account_region_and_api_does_not_hold_up_another(connection: redis.Redis) -> None:
    """Each has its own bucket."""
    bucket_limiter, waits = make(connection, bucket=1, rate=0.1, patience=1.0)
    bucket_limiter.take(SCOPE, API)
    with pytest.raises(errors.AwsThrottled):
        bucket_limiter.take(SCOPE, API)
    for scope, api in (("lab/us-east-1", API), ("default/eu-west-1", API), (SCOPE, "GetMetricData")):
        bucket_limiter.take(scope, api)
    assert waits == []


def test_most_requests_need_no_round_trip_while_there_is_plenty(connection: redis.Redis) -> None:
    """A bucket more than half full lends a few tokens for a second."""
    bucket_limiter, _ = make(connection, bucket=100, rate=20)
    before = connection.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    for _ in range(25):
        bucket_limiter.take(SCOPE, API)
    after = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert after - before <= 6


def test_together_processes_never_exceed_the_bucket_and_the_rate(connection: redis.Redis) -> None:
    """Eight processes with borrowed tokens never exceed bucket + rate x time."""
    # Each request was sent between two moments: when it asked, or had waited, and when it was let go.
    sent: list[tuple[float, float]] = []

    def hurry(_number: int) -> None:
        begin = 0.0

        def wait(seconds: float) -> None:
            nonlocal begin
            time.sleep(seconds)  # it is what a caller of the limiter does
            begin = time.monotonic()

        mine, _ = make(connection, bucket=20, rate=50, patience=0.3, wait=wait)
        until = time.monotonic() + 1.0
        while (begin := time.monotonic()) < until:
            with contextlib.suppress(errors.AwsThrottled):
                mine.take(SCOPE, API)
                sent.append((begin, time.monotonic()))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(hurry, range(8)))
    assert len(sent) > 40
    for since, _ in sorted(sent)[::7]:
        for until in sorted(end for _, end in sent)[::7]:
            number = sum(since <= begin and end <= until for begin, end in sent)
            assert number <= 20 + 50 * max(0.0, until - since) + 1


def test_a_refusal_of_aws_makes_it_slower_and_time_makes_it_faster(connection: redis.Redis) -> None:
    """A refusal halves the rate, once for concurrent requests, to no less than one request in four seconds."""
    bucket_limiter, waits = make(connection, bucket=10, rate=1)
    bucket_limiter.take(SCOPE, API)
    stopwatch = Stopwatch()
    for _ in range(3):
        bucket_limiter.throttled(SCOPE, API)
    assert bucket_limiter.slowed() == {(SCOPE, API): pytest.approx(0.5, abs=0.03)}
    bucket_limiter.take(SCOPE, API)
    assert waits == stopwatch.less(2.0), "the bucket is empty, whatever was thought to be in it"
    bucket_limiter, waits = make(connection, bucket=10, rate=20)
    for _ in range(20):
        connection.hset(BUCKET, "slowed", 0)
        bucket_limiter.throttled(SCOPE, API)
    assert bucket_limiter.slowed()[SCOPE, API] < 0.02
    connection.hset(BUCKET, "tokens", 0)
    bucket_limiter.take(SCOPE, API)
    assert waits[-1] <= 1 / limiter.MIN_RATE + 0.1
    # As if 300 s had gone by.
    connection.hset(BUCKET, "at", float(connection.hget(BUCKET, "at") or 0) - 300)
    bucket_limiter.take(SCOPE, API)
    assert bucket_limiter.slowed() == {}


def test_a_slowed_rate_is_shared(connection: redis.Redis) -> None:
    """A refusal in one process slows all processes."""
    first, _ = make(connection, bucket=100, rate=1)
    second, waits = make(connection, bucket=100, rate=1)
    first.take(SCOPE, API)
    first.throttled(SCOPE, API)
    second.take(SCOPE, API)
    first.take(SCOPE, API)
    assert waits


def test_two_silences_shut_an_api_and_one_tries_it(connection: redis.Redis) -> None:
    """Other requests fail at once, so that a silent region holds no thread. The first answer opens the API to all."""
    first, _ = make(connection)
    second, _ = make(connection)
    first.take(SCOPE, API)
    first.silent(SCOPE, API)
    second.take(SCOPE, API)
    second.silent(SCOPE, API)
    for each_limiter in (first, second):
        with pytest.raises(errors.AwsUnreachable, match="it did not answer a moment ago"):
            each_limiter.take(SCOPE, API)
    assert first.slowed() == {(SCOPE, API): 0.0}
    connection.hset(BUCKET, "silent_until", 1)
    first.take(SCOPE, API)
    with pytest.raises(errors.AwsUnreachable):
        second.take(SCOPE, API)
    second.answered(SCOPE, API)
    with pytest.raises(errors.AwsUnreachable):
        second.take(SCOPE, API)
    first.answered(SCOPE, API)
    second.take(SCOPE, API)
    assert first.slowed() == {}


def test_a_bucket_is_not_kept_for_ever(connection: redis.Redis) -> None:
    """An hour after the last request its key is gone."""
    bucket_limiter, _ = make(connection)
    bucket_limiter.take(SCOPE, API)
    bucket_limiter.throttled(SCOPE, API)
    bucket_limiter.silent(SCOPE, API)
    assert eventually(lambda: 0 < connection.ttl(BUCKET) <= limiter.LIFETIME)
    assert 0 < connection.ttl(keys.LIMITS) <= limiter.LIFETIME


def test_a_server_whose_clock_was_set_back_stops_nobody(connection: redis.Redis) -> None:
    """State from a clock hours ahead lasts no longer than present state."""
    later = f"{time.time() + 7200:.6f}"
    for field in ("at", "silent_until", "silent_at", "slowed", "lent_until"):
        connection.hset(BUCKET, field, later)
    connection.hset(BUCKET, "lent", "5")
    bucket_limiter, _ = make(connection, bucket=10, rate=20)
    bucket_limiter.take(SCOPE, API)
    bucket_limiter.answered(SCOPE, API)
    bucket_limiter.take(SCOPE, API)
    bucket_limiter.throttled(SCOPE, API)
    assert bucket_limiter.slowed()[SCOPE, API] < 1
