"""What every store of cohorts promises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import fakeredis
import pytest
import redis

from workermon import ports, settings, testing
from workermon.on_redis import client, cohorts, keys

GROUP = "default/us-east-1/60"


class Implementation(NamedTuple):
    """Cohorts of one implementation, and how the schedule gives a group cohorts with these numbers."""

    cohorts: ports.Cohorts
    schedule_cohorts: Callable[[str, tuple[int, ...]], object]


def implementation_on(connection: redis.Redis) -> Implementation:
    """Return cohorts on a server."""

    def schedule_cohorts(group: str, numbers: tuple[int, ...]) -> object:
        return connection.zadd(settings.SCHEDULE_COHORT + group, {str(number): 100 for number in numbers})

    return Implementation(cohorts.RedisCohorts(connection), schedule_cohorts)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Give cohorts, once for each implementation."""
    if request.param == "memory":
        memory = testing.MemoryCohorts()
        yield Implementation(memory, memory.numbers.__setitem__)
    elif request.param == "fakeredis":
        yield implementation_on(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield implementation_on(connection)


def test_a_group_is_known_from_what_is_learned_of_it(implementation: Implementation) -> None:
    """A group's cohorts are ordered by number. A group that was never collected has none."""
    implementation.schedule_cohorts(GROUP, (10, 2, 0))
    assert implementation.cohorts.learned(GROUP) is None
    assert implementation.cohorts.sizes() == {}
    implementation.cohorts.learn(GROUP, {"cpu_utilization": [1.5, 2]})
    implementation.cohorts.learn("lab/eu-west-1/300", {})
    assert implementation.cohorts.learned(GROUP) == {"cpu_utilization": [1.5, 2]}
    assert implementation.cohorts.all_learned() == {GROUP: {"cpu_utilization": [1.5, 2]}, "lab/eu-west-1/300": {}}
    assert implementation.cohorts.sizes() == {GROUP: (0, 2, 10), "lab/eu-west-1/300": ()}


def test_places_and_paces_stay_until_they_are_forgotten(implementation: Implementation) -> None:
    """A later place of a cohort replaces the earlier one. Only named ones are forgotten."""
    implementation.cohorts.place({})
    implementation.cohorts.place({f"{GROUP}#0": 5.25, f"{GROUP}#1": 6.0})
    implementation.cohorts.place({f"{GROUP}#1": 7.0})
    implementation.cohorts.note_pace("one", ports.Pace(0.25, 1_700_000_000.5))
    implementation.cohorts.note_pace("two", ports.Pace(0.5, 1_700_000_001.0))
    implementation.cohorts.learn(GROUP, {})
    assert implementation.cohorts.phases() == {f"{GROUP}#0": 5.25, f"{GROUP}#1": 7.0}
    assert implementation.cohorts.paces()["one"] == ports.Pace(0.25, 1_700_000_000.5)
    implementation.cohorts.forget([], [], [])
    implementation.cohorts.forget([GROUP], [f"{GROUP}#0"], ["one"])
    assert implementation.cohorts.phases() == {f"{GROUP}#1": 7.0}
    assert set(implementation.cohorts.paces()) == {"two"}
    assert implementation.cohorts.learned(GROUP) is None


def test_what_cannot_be_read_is_learned_again(redis_client: redis.Redis) -> None:
    """Malformed data causes no failure."""
    spoilt = cohorts.RedisCohorts(redis_client)
    redis_client.hset(keys.COHORTS_LEARNED, mapping={GROUP: "{nonsense", "other": "[1]"})
    redis_client.hset(keys.COHORTS_PACES, mapping={"one": "fast", "two": "1"})
    redis_client.hset(settings.SCHEDULE_PHASES, mapping={f"{GROUP}#0": "soon", f"{GROUP}#1": ""})
    redis_client.zadd(settings.SCHEDULE_COHORT + GROUP, {"first": 1, "3": 1})
    assert spoilt.all_learned() == {GROUP: {}, "other": {}}
    assert spoilt.learned(GROUP) == {}
    assert (spoilt.paces(), spoilt.phases()) == ({}, {})
    assert spoilt.sizes() == {GROUP: (3,), "other": ()}
