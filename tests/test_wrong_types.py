"""A schedule key of another Redis type stops neither beat nor a command. It is set aside and kept."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from celery import Celery

from tests.support.beat import NOW, SCHEDULE, MessageRecorder, at, worker
from workermon import errors, settings
from workermon.on_celery import schedule, scheduler
from workermon.on_redis import beat_status

KEYS = [
    settings.SCHEDULE_COHORTS,
    f"{settings.SCHEDULE_COHORT}default/us-east-1/60",
    settings.SCHEDULE_PHASES,
    settings.SCHEDULE_QUARANTINE,
    settings.SCHEDULE_TICK,
    settings.SCHEDULE_CANARY,
    SCHEDULE,
]


def poison(client: redis.Redis, key: str) -> None:
    """Make a key a list."""
    client.delete(key)
    client.rpush(key, "poison")


@pytest.mark.parametrize("key", KEYS)
def test_workers_are_scheduled_and_sent_all_the_same(
    key: str,
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    signs_of_beat: beat_status.RedisBeatStatus,
    redis_client: redis.Redis,
) -> None:
    """Whatever the key was, an added worker is sent when due. The old key is kept under another name."""
    planned.put([worker(1)], NOW)
    poison(redis_client, key)
    planned.put([worker(1), worker(2)], NOW)
    redis_client.hset("workermon:redbeat:workermon:collect:broken", "definition", "{")
    redis_client.zadd(SCHEDULE, {"workermon:redbeat:workermon:collect:broken": NOW})
    at(beat, NOW + 61)
    assert sorted(worker_id for worker_ids in post.worker_ids for worker_id in worker_ids) == [
        worker(1).id,
        worker(2).id,
    ]
    assert planned.ids() >= {worker(1).id, worker(2).id}
    planned.quarantined()
    signs_of_beat.last_tick()
    signs_of_beat.canaries()
    planned.delete([worker(1).id, worker(2).id])
    set_aside = f"{settings.SET_ASIDE}{key}"
    if redis_client.exists(set_aside):
        assert redis_client.lrange(set_aside, 0, -1) == [b"poison"]
        assert redis_client.ttl(set_aside) > 0
    assert redis_client.type(key) != b"list"


@pytest.mark.parametrize("key", KEYS)
def test_beat_goes_on_at_the_same_tick(
    key: str,
    beat: scheduler.Scheduler,
    planned: schedule.RedBeatSchedule,
    signs_of_beat: beat_status.RedisBeatStatus,
    redis_client: redis.Redis,
    app: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beat itself sets such keys aside, with an entry to quarantine, and does not fail."""
    planned.put([worker(1)], NOW)
    poison(redis_client, key)
    redis_client.hset("workermon:redbeat:workermon:collect:broken", "definition", "{")
    if key != SCHEDULE:
        redis_client.zadd(SCHEDULE, {"workermon:redbeat:workermon:collect:broken": NOW})
    failed: list[Any] = []
    monkeypatch.setattr(beat, "_failed", failed.append)
    at(beat, NOW + 61)
    assert failed == []


def test_another_error_is_what_it_was(planned: schedule.RedBeatSchedule, redis_client: redis.Redis) -> None:
    """Another error, such as that of a read-only server, is raised unchanged."""
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(errors.RedisUnavailable):
            planned.put([worker(1)], NOW)
    finally:
        redis_client.config_set("min-replicas-to-write", 0)
