"""What every keeper of cohorts promises."""

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


class Kept(NamedTuple):
    """Cohorts of one implementation, and how the schedule gives a group cohorts of these numbers."""

    cohorts: ports.Cohorts
    found: Callable[[str, tuple[int, ...]], object]


def kept_on(connection: redis.Redis) -> Kept:
    """Return cohorts on a server."""

    def found(group: str, numbers: tuple[int, ...]) -> object:
        return connection.zadd(settings.SCHEDULE_COHORT + group, {str(number): 100 for number in numbers})

    return Kept(cohorts.RedisCohorts(connection), found)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Give cohorts of each implementation in turn."""
    if request.param == "memory":
        memory = testing.MemoryCohorts()
        yield Kept(memory, memory.numbers.__setitem__)
    elif request.param == "fakeredis":
        yield kept_on(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield kept_on(connection)


def test_a_group_is_known_from_what_is_learned_of_it(kept: Kept) -> None:
    """Its cohorts come in the order of their numbers; a group that nobody collected has none."""
    kept.found(GROUP, (10, 2, 0))
    assert kept.cohorts.learned(GROUP) is None
    assert kept.cohorts.sizes() == {}
    kept.cohorts.learn(GROUP, {"cpu_utilization": [1.5, 2]})
    kept.cohorts.learn("lab/eu-west-1/300", {})
    assert kept.cohorts.learned(GROUP) == {"cpu_utilization": [1.5, 2]}
    assert kept.cohorts.all_learned() == {GROUP: {"cpu_utilization": [1.5, 2]}, "lab/eu-west-1/300": {}}
    assert kept.cohorts.sizes() == {GROUP: (0, 2, 10), "lab/eu-west-1/300": ()}


def test_places_and_paces_stay_until_they_are_forgotten(kept: Kept) -> None:
    """A later place of a cohort replaces the earlier one, and only what is named is forgotten."""
    kept.cohorts.place({})
    kept.cohorts.place({f"{GROUP}#0": 5.25, f"{GROUP}#1": 6.0})
    kept.cohorts.place({f"{GROUP}#1": 7.0})
    kept.cohorts.note_pace("one", ports.Pace(0.25, 1_700_000_000.5))
    kept.cohorts.note_pace("two", ports.Pace(0.5, 1_700_000_001.0))
    kept.cohorts.learn(GROUP, {})
    assert kept.cohorts.phases() == {f"{GROUP}#0": 5.25, f"{GROUP}#1": 7.0}
    assert kept.cohorts.paces()["one"] == ports.Pace(0.25, 1_700_000_000.5)
    kept.cohorts.forget([], [], [])
    kept.cohorts.forget([GROUP], [f"{GROUP}#0"], ["one"])
    assert kept.cohorts.phases() == {f"{GROUP}#1": 7.0}
    assert set(kept.cohorts.paces()) == {"two"}
    assert kept.cohorts.learned(GROUP) is None


def test_what_cannot_be_read_is_learned_again(redis_client: redis.Redis) -> None:
    """Whatever stands there, nobody fails for it."""
    spoilt = cohorts.RedisCohorts(redis_client)
    redis_client.hset(keys.COHORTS_LEARNED, mapping={GROUP: "{nonsense", "other": "[1]"})
    redis_client.hset(keys.COHORTS_PACES, mapping={"one": "fast", "two": "1"})
    redis_client.hset(settings.SCHEDULE_PHASES, mapping={f"{GROUP}#0": "soon", f"{GROUP}#1": ""})
    redis_client.zadd(settings.SCHEDULE_COHORT + GROUP, {"first": 1, "3": 1})
    assert spoilt.all_learned() == {GROUP: {}, "other": {}}
    assert spoilt.learned(GROUP) == {}
    assert (spoilt.paces(), spoilt.phases()) == ({}, {})
    assert spoilt.sizes() == {GROUP: (3,), "other": ()}
