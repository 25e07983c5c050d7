"""The ledger on Redis: a sample that cannot be written affects no other."""

from __future__ import annotations

import contextlib

import pytest
import redis

from tests.contract import builders
from tests.contract.builders import NOW, A, B, C
from tests.support.repositories import repository_on_redis
from workermon.on_redis import client, keys, samples, unreadable_records

LEDGER = keys.ledger(B, int(NOW // 3600) * 3600)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("key", "outcome"), [(LEDGER, "accepted"), (keys.worker(B), "gone")], ids=["its ledger", "the worker"]
)
def test_a_sample_that_cannot_be_written_harms_no_other(
    redis_url: str, redis_client: redis.Redis, key: str, outcome: str, *, alone: bool
) -> None:
    """A key of another type is set aside. If it is the worker's record, the worker is gone. Others are written."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        repository = repository_on_redis(connected)
        members = [builders.worker(worker_id) for worker_id in (A, B, C)]
        repository.workers.add(members)
        redis_client.delete(key)
        redis_client.set(key, "text", ex=60)
        new_samples = [builders.sample(member, (0, 1.0)) for member in members if not alone or member.id == B]
        outcomes = repository.samples.write_many([(sample, builders.condition(sample), "{}") for sample in new_samples])
        expected = {A: "accepted", B: outcome, C: "accepted"}
        assert [written.outcome for written in outcomes] == [expected[sample.worker.id] for sample in new_samples]
        assert unreadable_records.RedisUnreadable(connected).load().keys() == {key}


def test_many_steps_are_one_round_trip(redis_url: str, redis_client: redis.Redis) -> None:
    """More samples than one step takes are all written, in order, and each is published."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        repository = repository_on_redis(connected)
        members = [builders.worker(f"i-{number:017x}") for number in range(2 * samples.STEP + 1)]
        repository.workers.add(members)
        with redis_client.pubsub() as subscription:
            subscription.subscribe("workermon:metrics")
            assert subscription.get_message(timeout=30)
            new_samples = [builders.sample(member, (0, float(number))) for number, member in enumerate(members)]
            outcomes = repository.samples.write_many(
                [(sample, builders.condition(sample), f"{number}") for number, sample in enumerate(new_samples)]
            )
            assert [written.outcome for written in outcomes] == ["accepted"] * len(members)
            announced = [subscription.get_message(timeout=30) for _ in members]
        assert [message["data"] for message in announced] == [b"%d" % number for number in range(len(members))]
        series_keys = [(member.id, "cpu_utilization", 60) for member in members]
        values = [series.points[0].value for series in repository.samples.read(series_keys, NOW, NOW).values()]
        assert values == [float(number) for number in range(len(members))]


@pytest.mark.parametrize("damaged", [None, "of nobody"])
def test_a_worker_whose_incarnation_was_damaged_is_collected_again(
    redis_url: str, redis_client: redis.Redis, damaged: str | None
) -> None:
    """The next claim restores the incarnation. A claim of an earlier worker of that id stays gone."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        repository = repository_on_redis(connected)
        worker = builders.worker(A)
        repository.workers.add([worker])
        if damaged is None:
            redis_client.hdel(keys.worker(A), "incarnation")
        else:
            redis_client.hset(keys.worker(A), "incarnation", damaged)
        assert repository.samples.claim([builders.worker(A, "earlier")], NOW, 30) == ["gone"]
        assert repository.samples.claim([worker], NOW, 30) == ["claimed"]
        assert builders.write(repository.samples, builders.sample(worker, (0, 1.0))) == "accepted"
