"""The RedBeat entries of the fleet."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from celery import Celery
from redbeat import schedulers

from tests.support.beat import KEY, NOW, worker
from workermon import errors, settings
from workermon.on_celery import app as ours
from workermon.on_celery import nodes, schedule
from workermon.on_redis import beat_status


def names(client: redis.Redis) -> str:
    """Return every key, member, field and value of the server as one text to search."""
    entries: list[Any] = []
    for key in client.scan_iter():
        kind = client.type(key)
        readers: dict[bytes | str, Callable[[Any], object]] = {
            b"hash": client.hgetall, b"zset": lambda k: client.zrange(k, 0, -1), b"set": client.smembers,
            b"list": lambda k: client.lrange(k, 0, -1), b"string": client.get,
        }  # fmt: skip
        entries += [key, readers[kind](key)]
    return repr(entries)


def test_an_entry_holds_the_identifier_and_nothing_else_of_the_worker(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """The hash has task, queue, interval and the worker's id; no name, role, label or credential."""
    secret = worker(7, name="render-07", role_arn="arn:aws:iam::1:role/x", external_id="hush", labels={"team": "vfx"})
    planned.put([secret], NOW)

    raw = redis_client.hgetall(f"{KEY}{secret.id}")
    definition = json.loads(raw[b"definition"])
    assert set(raw) == {b"definition", b"meta"}
    assert (definition["name"], definition["task"]) == (f"workermon:collect:{secret.id}", "workermon.collect")
    assert (definition["args"], definition["kwargs"]) == ([], {"worker_ids": [secret.id]})
    assert definition["schedule"] == {"__type__": "interval", "every": 60.0, "relative": False}
    assert definition["options"] == {
        "queue": "workermon.collect", "expires": 60, "headers": {"cohort": "default/us-east-1/60#0"},
    }  # fmt: skip
    assert not [word for word in ("render", "arn:", "hush", "vfx") if word in repr(raw)]


def test_a_collection_of_a_short_interval_may_wait_longer_than_that(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """At an interval of a second, a node that is two seconds late does not drop every message."""
    planned.put([worker(interval=1)], NOW)
    definition = json.loads(redis_client.hget(f"{KEY}{worker().id}", "definition") or "")
    assert definition["options"]["expires"] == 10


def test_stock_redbeat_reads_the_entry(planned: schedule.RedBeatSchedule, app: Celery) -> None:
    """RedBeat's own class loads it, and finds it due."""
    planned.put([worker()], NOW)
    entry = schedulers.RedBeatSchedulerEntry.from_key(f"{KEY}{worker().id}", app=app)
    assert entry.task == "workermon.collect"
    assert entry.kwargs == {"worker_ids": [worker().id]}
    assert entry.schedule.run_every.total_seconds() == 60
    assert entry.is_due().is_due


def test_the_first_run_is_within_an_interval(planned: schedule.RedBeatSchedule) -> None:
    """A new entry is due at the next point of its cohort's grid."""
    planned.put([worker()], NOW + 1)
    assert NOW + 1 < planned.next_runs([worker().id])[worker().id] <= NOW + 61


def test_workers_of_one_place_and_interval_are_due_together_up_to_a_hundred(planned: schedule.RedBeatSchedule) -> None:
    """250 workers make three cohorts of at most a hundred, each with one time."""
    fleet = [worker(number) for number in range(250)]
    planned.put(fleet, NOW)
    times = Counter(planned.next_runs([monitored.id for monitored in fleet]).values())
    assert sorted(times.values()) == [50, 100, 100]


def test_cohorts_spread_and_leave_the_last_tenth_free(planned: schedule.RedBeatSchedule) -> None:
    """Many cohorts are spread over the first nine tenths of the interval."""
    phases = sorted(schedule.phase(number, 60) for number in range(100))
    assert phases[0] >= 0
    assert phases[-1] < 54
    assert max(later - sooner for sooner, later in itertools.pairwise(phases)) < 60 * 0.9 / 50


def test_other_regions_accounts_and_intervals_are_other_cohorts(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """A cohort has only workers that one AWS call can cover."""
    fleet = [worker(1), worker(2, region="eu-west-1"), worker(3, account="lab"), worker(4, interval=300)]
    planned.put(fleet, NOW)
    assert len(set(redis_client.hvals(settings.SCHEDULE_COHORTS))) == 4


def test_putting_again_keeps_the_cadence(planned: schedule.RedBeatSchedule) -> None:
    """The time of the next run does not move when an entry is put again, even near its end."""
    planned.put([worker()], NOW)
    before = planned.next_runs([worker().id])
    planned.put([worker(labels={"team": "vfx"})], NOW + 30)
    assert planned.next_runs([worker().id]) == before


def test_another_interval_moves_the_worker_to_another_cohort(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """Its old cohort loses the member, and the entry has the new interval."""
    planned.put([worker()], NOW)
    planned.put([worker(interval=300)], NOW)
    definition = json.loads(redis_client.hget(f"{KEY}{worker().id}", "definition") or "")
    assert definition["schedule"]["every"] == 300
    assert definition["options"]["expires"] == 300
    assert redis_client.keys(f"{settings.SCHEDULE_COHORT}*") == [b"workermon:schedule:cohort:default/us-east-1/300"]
    assert NOW < planned.next_runs([worker().id])[worker().id] <= NOW + 300


def test_a_gap_in_a_cohort_is_filled_again(planned: schedule.RedBeatSchedule, redis_client: redis.Redis) -> None:
    """A new worker takes the place of a removed one instead of starting another cohort."""
    fleet = [worker(number) for number in range(200)]
    planned.put(fleet, NOW)
    planned.delete([fleet[3].id])
    planned.put([worker(999)], NOW)
    counts: Any = redis_client.zrange(f"{settings.SCHEDULE_COHORT}default/us-east-1/60", 0, -1, withscores=True)
    assert dict(counts) == {b"0": 100.0, b"1": 100.0}


@pytest.mark.parametrize("times", [1, 2])
def test_nothing_of_a_deleted_worker_is_left(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis, times: int
) -> None:
    """After a deletion, or two, no key, member, field or value names the worker. Others stay."""
    fleet = [worker(number) for number in range(3)]
    planned.put(fleet, NOW)
    for _ in range(times):
        planned.delete([fleet[0].id])
    assert fleet[0].id not in names(redis_client)
    assert planned.ids() == {fleet[1].id, fleet[2].id}
    planned.delete([monitored.id for monitored in fleet])
    assert redis_client.keys("*") == []


def test_what_a_crossing_dispatch_leaves_is_found_and_deleted(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """A hash with only its meta and without a schedule is a broken entry. A deletion removes it."""
    redis_client.hset(f"{KEY}{worker().id}", "meta", "{}")
    assert planned.ids() == {worker().id}
    assert worker().id in planned.quarantined()
    planned.delete([worker().id])
    assert planned.ids() == set()


def test_a_deletion_that_does_not_last_is_an_error(
    planned: schedule.RedBeatSchedule, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another beat keeps writing the entry, the caller gets an error."""
    monkeypatch.setattr(schedule.RedBeatSchedule, "_existing", lambda self, ids: list(ids))
    with pytest.raises(errors.WorkermonError, match="comes back"):
        planned.delete([worker().id])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client, key: client.hset(key, "definition", "{nonsense"),
        lambda client, key: (client.delete(key), client.lpush(key, "a list")),
        lambda client, key: client.delete(key),
        lambda client, key: client.zrem("workermon:redbeat::schedule", key),
        lambda client, key: client.zadd("workermon:redbeat::schedule", {key: NOW * 2}),
        lambda client, key: client.zadd("workermon:redbeat::schedule", {key: -1}),
    ],
    ids=["bad JSON", "wrong type", "no hash", "not scheduled", "far ahead", "never"],
)
def test_putting_mends_what_was_spoilt(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis, spoil: Callable[[redis.Redis, str], object]
) -> None:
    """A damaged entry that is written again is valid and due within an interval."""
    planned.put([worker()], NOW)
    sound = redis_client.hget(f"{KEY}{worker().id}", "definition")
    spoil(redis_client, f"{KEY}{worker().id}")
    planned.put([worker()], NOW)
    assert redis_client.hget(f"{KEY}{worker().id}", "definition") == sound
    assert NOW <= planned.next_runs([worker().id])[worker().id] <= NOW + 60


def test_redis_out_of_reach_is_one_line_without_the_password(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback and no password reaches the caller."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://:hush@127.0.0.1:1/1")
    lost = Celery("test", loader=ours.Loader, set_as_current=False)
    with pytest.raises(errors.RedisUnavailable) as refused:
        schedule.RedBeatSchedule(lost).ids()
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_with_bytes_that_are_no_text_hurts_nobody(
    planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """Members that are not UTF-8 are skipped."""
    planned.put([worker()], NOW)
    redis_client.zadd("workermon:redbeat::schedule", {b"workermon:redbeat:\xff\xfe": 1})
    redis_client.zadd("workermon:redbeat::schedule", {f"{KEY}".encode() + b"\xff": 1})
    scheduled_ids: Sequence[str] = sorted(planned.ids())
    assert worker().id in scheduled_ids


def test_a_stock_beat_shows_by_its_lock(signs_of_beat: beat_status.RedisBeatStatus, redis_client: redis.Redis) -> None:
    """RedBeat's own scheduler is alive if it extends its lock. A lock without an end does not count."""
    assert signs_of_beat.last_tick() is None
    redis_client.set("workermon:redbeat::lock", "x")
    assert signs_of_beat.last_tick() is None
    redis_client.set("workermon:redbeat::lock", "x", px=4000)
    at = redis_client.time()
    assert signs_of_beat.last_tick() == pytest.approx(at[0] + at[1] / 1e6 - 1, abs=0.5)
    redis_client.set(settings.SCHEDULE_TICK, at[0] + 100)
    assert signs_of_beat.last_tick() == at[0] + 100


@pytest.mark.parametrize("unreadable", ["x", "-inf", "nan", ""])
def test_a_tick_that_is_no_time_is_none(
    signs_of_beat: beat_status.RedisBeatStatus, redis_client: redis.Redis, unreadable: str
) -> None:
    """With invalid times beat has not ticked and sent no canary, until it writes both again."""
    redis_client.set(settings.SCHEDULE_TICK, unreadable)
    redis_client.hset(settings.SCHEDULE_CANARY, mapping={"at": unreadable, "times": 1})
    assert signs_of_beat.last_tick() is None
    assert signs_of_beat.canaries() is None


def test_what_waits_in_the_queues_is_counted(app: Celery, redis_client: redis.Redis, redis_url: str) -> None:
    """Messages of each queue and priority are counted, and those that nodes hold."""
    celery_nodes = nodes.CeleryNodes(app)
    assert celery_nodes.queues(1) == {
        "workermon.collect": 0, "workermon.deliver": 0, "workermon.evaluate": 0, "unacked": 0,
    }  # fmt: skip
    with redis.Redis.from_url(redis_url.removesuffix("/1") + "/0") as broker:
        broker.lpush("workermon.collect", "a", "b")
        broker.lpush("workermon.evaluate\x06\x163", "c")
        broker.hset("workermon:unacked", "tag", "d")
    assert celery_nodes.queues(1) == {
        "workermon.collect": 2, "workermon.deliver": 0, "workermon.evaluate": 1, "unacked": 1,
    }  # fmt: skip


def test_a_broker_out_of_reach_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the broker is unreachable, that is an error, not a count of zero."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://127.0.0.1:1/1")
    with pytest.raises(errors.RedisUnavailable, match="broker"):
        nodes.CeleryNodes(Celery("gone", loader=ours.Loader, set_as_current=False)).queues(1)
