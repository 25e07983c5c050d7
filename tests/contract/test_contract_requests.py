"""What every store of idempotency keys promises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import fakeredis
import pytest
import redis

from workermon import ports, testing
from workermon.on_redis import client, idempotency_keys, keys

KEY = "a" * 64


class Implementation(NamedTuple):
    """The port, and a way to let its time go by."""

    keys: ports.IdempotencyKeys
    pass_by: Callable[[int], object]


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Give the port, once for each implementation."""
    if request.param == "memory":
        clock = testing.ManualClock(0.0)
        yield Implementation(
            testing.MemoryIdempotencyKeys(testing.MemoryStore(clock)), lambda seconds: clock.advance(seconds)
        )
        return
    with contextlib.ExitStack() as stack:
        connection: redis.Redis
        if request.param == "fakeredis":
            connection = fakeredis.FakeRedis()
        else:
            connection = stack.enter_context(contextlib.closing(client.connect(request.getfixturevalue("redis_url"))))

        def pass_by(seconds: int) -> None:
            for name in (keys.idempotency_key(KEY), keys.idempotency_key("b")):
                lifetime = connection.ttl(name)
                if lifetime > seconds:
                    connection.expire(name, lifetime - seconds)
                elif lifetime >= 0:
                    connection.delete(name)

        yield Implementation(idempotency_keys.RedisIdempotencyKeys(connection), pass_by)


def test_the_first_request_is_kept_with_its_answer(implementation: Implementation) -> None:
    """A second request gets "in progress", then the first one's answer. Another key is free."""
    assert implementation.keys.claim(KEY, "one") is None
    assert implementation.keys.claim(KEY, "two") == ports.FirstRequest("one", None, "")
    implementation.keys.answer(KEY, ports.FirstRequest("one", 201, '{"name": "größe"}'))
    assert implementation.keys.claim(KEY, "one") == ports.FirstRequest("one", 201, '{"name": "größe"}')
    assert implementation.keys.claim("b", "one") is None


def test_a_released_key_is_free(implementation: Implementation) -> None:
    """A failed request may be tried again. Releasing a free key is not an error."""
    assert implementation.keys.claim(KEY, "one") is None
    implementation.keys.release(KEY)
    implementation.keys.release(KEY)
    assert implementation.keys.claim(KEY, "two") is None


def test_keys_are_kept_for_a_bounded_time(implementation: Implementation) -> None:
    """If a request's process dies, its key is soon free. An answer is kept for an hour."""
    assert implementation.keys.claim(KEY, "one") is None
    implementation.pass_by(ports.REQUEST_AGE - 5)
    assert implementation.keys.claim(KEY, "one") is not None
    implementation.pass_by(5)
    assert implementation.keys.claim(KEY, "two") is None
    implementation.keys.answer(KEY, ports.FirstRequest("two", 204))
    implementation.pass_by(ports.ANSWER_AGE - 5)
    assert implementation.keys.claim(KEY, "two") == ports.FirstRequest("two", 204, "")
    implementation.pass_by(5)
    assert implementation.keys.claim(KEY, "three") is None


def test_one_of_many_gets_a_key(implementation: Implementation) -> None:
    """Of concurrent requests one is handled."""
    start, claimed = threading.Barrier(8), list[bool]()

    def claim(number: int) -> None:
        start.wait(10)
        claimed.append(implementation.keys.claim(KEY, str(number)) is None)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(claimed) == [False] * 7 + [True]
