"""Beat over the same entries: what is due together is sent together, and nothing stops it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from celery.schedules import crontab
from redbeat import schedulers

from tests.support.beat import KEY, NOW, SCHEDULE, BeatLock, MessageRecorder, at, worker
from tests.support.present import present
from workermon import errors, models, settings
from workermon.on_celery import schedule, scheduler
from workermon.on_redis import beat_status


def test_a_cohort_travels_in_one_message(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """A hundred workers due together are one message with identifiers only, and an expiry."""
    fleet = [worker(number) for number in range(100)]
    planned.put(fleet, NOW)
    at(beat, NOW + 61)
    (message,) = post.sent
    assert message[0] == "workermon.collect"
    assert sorted(message[1]["worker_ids"]) == [monitored.id for monitored in fleet]
    assert (message[2]["queue"], message[2]["expires"]) == ("workermon.collect", 60)
    assert message[2]["headers"] == {"cohort": "default/us-east-1/60#0", "celery_beat_task": True}


def test_another_cohort_is_another_message(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """Workers of two regions due at once are two messages."""
    planned.put([worker(1), worker(2, region="eu-west-1")], NOW)
    at(beat, NOW + 61)
    assert sorted(post.worker_ids) == [[worker(1).id], [worker(2).id]]


def test_nothing_is_sent_before_it_is_due(
    monkeypatch: pytest.MonkeyPatch,
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
) -> None:
    """Beat wakes when the next entry is due, or at a multiple of two seconds of the monotonic clock before that."""
    planned.put([worker()], NOW)
    due = planned.next_runs([worker().id])[worker().id]
    monkeypatch.setattr(beat, "steady", lambda: 1000.0)
    assert at(beat, due - 0.4) == pytest.approx(0.4, abs=0.01)
    monkeypatch.setattr(beat, "steady", lambda: 1001.7)
    assert at(beat, due - 0.4) == pytest.approx(0.3, abs=0.01)
    assert post.sent == []
    at(beat, due)
    assert post.worker_ids == [[worker().id]]


def test_the_cadence_does_not_drift(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """With ticks up to a second late every run keeps to its grid, once an interval."""
    planned.put([worker()], NOW)
    due = planned.next_runs([worker().id])[worker().id]
    for number in range(20):
        at(beat, due + 60 * number + (number * 0.37) % 1)
        assert planned.next_runs([worker().id])[worker().id] == pytest.approx(due + 60 * (number + 1), abs=1e-5)
    assert len(post.worker_ids) == 20


def test_overdue_runs_become_one(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """After an hour without beat a worker is collected once, and then at its next place on the grid."""
    planned.put([worker()], NOW)
    due = planned.next_runs([worker().id])[worker().id]
    at(beat, due + 3600 + 5)
    assert post.worker_ids == [[worker().id]]
    assert planned.next_runs([worker().id])[worker().id] == pytest.approx(due + 3660)


def test_what_could_not_be_sent_is_sent_at_the_next_tick(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """If the broker is unreachable, no run is lost and beat continues."""
    planned.put([worker()], NOW)
    post.down = True
    at(beat, NOW + 61)
    post.down = False
    at(beat, NOW + 62)
    assert post.worker_ids == [[worker().id]]


def test_the_lock_is_extended_between_chunks(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long tick keeps the lock. If it lost the lock, it stops within one chunk."""
    monkeypatch.setattr(scheduler, "CHUNK", 100)
    planned.put([worker(number) for number in range(350)], NOW)
    at(beat, NOW + 61)
    assert beat.lock.extended == 3  # the look itself extends it for the first one

    def lost(seconds: int) -> None:
        if post.sent:
            raise RuntimeError("lost")

    post.sent.clear()
    beat.lock.extend = lost
    with pytest.raises(RuntimeError, match="lost"):
        at(beat, NOW + 200)
    assert 1 <= len(post.sent) <= 2


def test_each_tick_extends_the_lock(beat: scheduler.Scheduler, app: Celery, redis_client: redis.Redis) -> None:
    """Each tick extends the lock by its whole time, so another beat takes over that long after the last one."""
    redis_client.expire(app.redbeat_conf.lock_key, 1)
    at(beat, NOW)
    assert 4000 < redis_client.pttl(app.redbeat_conf.lock_key) <= 5000


@pytest.mark.parametrize("lock", ["another's", "gone", "without an end"])
def test_a_beat_without_its_lock_sends_nothing(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    app: Celery,
    redis_client: redis.Redis,
    lock: str,
) -> None:
    """It does not report a tick either. When it has the lock again, it continues."""
    planned.put([worker()], NOW)
    key, beat_lock = app.redbeat_conf.lock_key, beat.lock
    beat_lock.acquire = lambda blocking: redis_client.set(key, beat_lock.local.token, ex=3600)
    if lock == "gone":
        redis_client.delete(key)
    else:
        redis_client.set(key, beat_lock.local.token if lock == "without an end" else "another's")
    assert at(beat, NOW + 61) <= 1
    assert (post.sent, redis_client.exists(settings.SCHEDULE_TICK)) == ([], 0)
    at(beat, NOW + 61)
    assert (post.worker_ids, redis_client.exists(settings.SCHEDULE_TICK)) == ([[worker().id]], 1)


def test_a_beat_that_uses_no_lock_works(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """Beat works if RedBeat's lock is switched off."""
    planned.put([worker()], NOW)
    beat.lock_key, beat.lock = None, None
    at(beat, NOW + 61)
    assert post.worker_ids == [[worker().id]]


def test_an_entry_deleted_while_it_is_sent_stays_deleted(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """Marking a run writes nothing of a deleted entry."""
    planned.put([worker()], NOW)
    send = post.send_task

    def remove_meanwhile(*args: Any, **kwargs: Any) -> None:
        send(*args, **kwargs)
        planned.delete([worker().id])

    beat.app.send_task = remove_meanwhile
    at(beat, NOW + 61)
    assert len(post.sent) == 1
    assert redis_client.keys(f"{KEY}*") == []
    assert redis_client.zcard(SCHEDULE) == 0


def test_an_entry_changed_while_it_is_sent_keeps_its_change(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """Marking a run does not overwrite a changed interval."""
    planned.put([worker()], NOW)
    send = post.send_task

    def change_meanwhile(*args: Any, **kwargs: Any) -> None:
        send(*args, **kwargs)
        planned.put([worker(interval=3600)], NOW + 61)

    beat.app.send_task = change_meanwhile
    at(beat, NOW + 61)
    changed = planned.next_runs([worker().id])[worker().id]
    assert changed % 3600 == pytest.approx(schedule.phase(0, 3600), abs=1e-5)


def test_stock_redbeat_runs_the_entries_and_keeps_the_schedule(
    app: Celery, post: MessageRecorder, planned: schedule.RedBeatSchedule
) -> None:
    """RedBeat's own scheduler sends each worker's collection when it is due, and once an interval."""
    planned.put([worker(number) for number in range(3)], time.time() - 100)
    stock = schedulers.RedBeatScheduler(app)
    stock.lock = BeatLock(app)
    stock.producer = None
    stock.tick()
    assert sorted(ids for ids in post.worker_ids) == [[worker(number).id] for number in range(3)]
    stock.tick()
    assert len(post.sent) == 3
    assert all(when > time.time() + 50 for when in planned.next_runs([worker(0).id]).values())


def test_after_our_beat_stock_redbeat_runs_the_next_one_in_time(
    app: Celery,
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
) -> None:
    """With the meta that workermon writes, stock RedBeat has the same next run."""
    planned.put([worker()], time.time() - 100)
    at(beat, time.time())
    entry = schedulers.RedBeatSchedulerEntry.from_key(f"{KEY}{worker().id}", app=app)
    ready = entry.is_due()
    assert not ready.is_due
    assert time.time() + ready.next == pytest.approx(planned.next_runs([worker().id])[worker().id], abs=0.1)
    assert json.loads(redis_client.hget(f"{KEY}{worker().id}", "meta") or "")["total_run_count"] == 1


def sound(**changes: Any) -> str:
    """Return the definition of the entry named ``bad``, with changes."""
    definition = {
        "name": "workermon:collect:bad", "task": "workermon.collect", "args": [], "kwargs": {"worker_ids": ["x"]},
        "options": {}, "schedule": {"__type__": "interval", "every": 60, "relative": False}, "enabled": True,
    }  # fmt: skip
    return json.dumps(definition | changes)


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("{nonsense", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[1, 2]", "not a JSON object"),
        (sound(colour="red"), "unknown field 'colour'"),
        (sound(schedule={"__type__": "lunar", "every": 1}), "unknown type"),
        (sound(schedule={"__type__": "interval"}), "cannot be read"),
        (sound(schedule={"__type__": "interval", "every": 0, "relative": False}), "not above zero"),
        (sound(schedule={"__type__": "interval", "every": -5, "relative": False}), "not above zero"),
        (sound(schedule={"__type__": "interval", "every": float("nan"), "relative": False}), "cannot be read"),
        (sound(schedule=60), "unknown type"),
        (sound(schedule={"__type__": "rrule", "freq": 6, "dtstart": 0, "interval": 1}), "unknown type, 'rrule'"),
        (sound(schedule={"__type__": "solar", "event": "sunset", "lat": 1, "lon": 1}), "unknown type, 'solar'"),
        (sound(name="another"), "not that of its key"),
        (sound(task=None), "names no task"),
        (sound(kwargs=[1]), "wrong type"),
        (sound(options={"headers": 3}), "wrong type"),
        (None, "holds no entry"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "other",
)
def test_a_malformed_entry_is_set_aside_and_the_others_run(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    definition: Any,
    reason: str,
) -> None:
    """It leaves the schedule with its reason, at once and for good."""
    planned.put([worker()], NOW)
    key = f"{KEY}bad"
    if definition is None:
        redis_client.lpush(key, "no hash")
    else:
        redis_client.hset(key, "definition", definition)
    redis_client.zadd(SCHEDULE, {key: 1})
    at(beat, NOW + 61)
    assert post.worker_ids == [[worker().id]]
    assert reason in planned.quarantined()["bad"]
    assert redis_client.zscore(SCHEDULE, key) is None


def test_a_message_that_cannot_be_made_sets_its_entry_aside(
    app: Celery, planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """An entry with an option that Celery refuses is set aside, not tried for ever."""
    beat = scheduler.Scheduler(app)
    beat.lock = BeatLock(app)
    for name, options in (("bad", {"queue": "no-such-queue"}), ("worse", {"expires": "soon"})):
        entry = sound(name=f"workermon:collect:{name}", options=options)
        redis_client.hset(f"{KEY}{name}", "definition", entry)
        redis_client.zadd(SCHEDULE, {f"{KEY}{name}": 1})
    at(beat, NOW)
    assert set(planned.quarantined()) == {"bad", "worse"}
    assert redis_client.zcard(SCHEDULE) == 0


def test_a_name_that_is_no_text_is_set_aside(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, redis_client: redis.Redis
) -> None:
    """Members that are not UTF-8 are set aside."""
    planned.put([worker()], NOW)
    redis_client.hset(b"workermon:redbeat:\xff\xfe", "definition", sound())
    redis_client.zadd(SCHEDULE, {b"workermon:redbeat:\xff\xfe": 1, b"gone": 2})
    at(beat, NOW + 61)
    assert post.worker_ids == [[worker().id]]
    assert redis_client.zcard(SCHEDULE) == 1


@pytest.mark.parametrize("meta", ["{nonsense", "[]", '"text"', b"\xff", '{"last_run_at": {"__type__": "datetime"}}'])
def test_a_broken_meta_is_written_anew(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    meta: str | bytes,
) -> None:
    """An entry with a broken meta still runs."""
    planned.put([worker()], NOW)
    redis_client.hset(f"{KEY}{worker().id}", "meta", meta)
    at(beat, NOW + 61)
    assert post.worker_ids == [[worker().id]]
    assert json.loads(redis_client.hget(f"{KEY}{worker().id}", "meta") or "")["total_run_count"] == 1


def test_a_last_run_in_the_future_starves_no_entry(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    planned: schedule.RedBeatSchedule,
    redis_client: redis.Redis,
    app: Celery,
) -> None:
    """A meta or score from a wrong clock does not delay a worker's next run."""
    planned.put([worker()], NOW)
    entry = schedulers.RedBeatSchedulerEntry.from_key(f"{KEY}{worker().id}", app=app)
    entry.reschedule(datetime.fromtimestamp(NOW, UTC) + timedelta(days=30))
    at(beat, NOW)
    assert NOW < planned.next_runs([worker().id])[worker().id] <= NOW + 60
    at(beat, NOW + 60)
    assert post.worker_ids == [[worker().id]]


def test_a_first_cohort_runs_at_its_later_place_in_the_same_slot(
    beat: scheduler.Scheduler, planned: schedule.RedBeatSchedule, redis_client: redis.Redis, post: MessageRecorder
) -> None:
    """It tried too early and would try in vain once more. It runs once in each slot, and nothing is repaired."""
    slot = NOW - NOW % 60
    planned.put([worker()], slot)
    cohort = redis_client.hget(settings.SCHEDULE_COHORTS, worker().id)
    places = {60: "5.0", 125: "12.5", 200: "20.0", 300: "3.0"}
    ran = []
    for second in range(60, 400, 5):
        if second in places:
            redis_client.hset(settings.SCHEDULE_PHASES, cohort, places[second])
        before = len(post.worker_ids)
        at(beat, slot + second)
        ran += [second] * (len(post.worker_ids) - before)
    assert ran == [65, 135, 195, 260, 320, 365]
    assert planned.next_runs([worker().id]) == {worker().id: slot + 423}


def in_two_cohorts(planned: schedule.RedBeatSchedule, redis_client: redis.Redis, slot: float) -> list[tuple[str, Any]]:
    """Schedule one worker more than a cohort holds; return the id of the first and of the last, with its cohort."""
    fleet = [worker(number) for number in range(1, schedule.COHORT_SIZE + 2)]
    planned.put(fleet, slot)
    return [(member.id, redis_client.hget(settings.SCHEDULE_COHORTS, member.id)) for member in (fleet[0], fleet[-1])]


def test_other_cohorts_run_once_more_at_their_old_places(
    beat: scheduler.Scheduler, planned: schedule.RedBeatSchedule, redis_client: redis.Redis, post: MessageRecorder
) -> None:
    """If CloudWatch was slow for a minute only, they notice that."""
    slot = NOW - NOW % 60
    (first_id, first), (last_id, second) = in_two_cohorts(planned, redis_client, slot)
    redis_client.hset(settings.SCHEDULE_PHASES, first, "5.0")
    redis_client.hset(settings.SCHEDULE_PHASES, second, "6.0")
    at(beat, slot + 59)
    at(beat, slot + 66)
    assert planned.next_runs([first_id, last_id]) == {first_id: slot + 125, last_id: slot + 126}
    redis_client.hset(settings.SCHEDULE_PHASES, first, "25.0")
    redis_client.hset(settings.SCHEDULE_PHASES, second, "26.0")
    at(beat, slot + 126)
    assert planned.next_runs([first_id, last_id]) == {first_id: slot + 145, last_id: slot + 206}


def test_a_cohort_that_is_placed_again_before_it_runs_keeps_its_next_run(
    beat: scheduler.Scheduler, planned: schedule.RedBeatSchedule, redis_client: redis.Redis, post: MessageRecorder
) -> None:
    """A next run at an earlier place of the cohort is not a mistake: repairing it could run twice in one slot."""
    slot = NOW - NOW % 60
    (_, first), (other, second) = in_two_cohorts(planned, redis_client, slot)
    # Beat reads the places when something is due.
    planned.put([worker(200, interval=15)], slot)
    redis_client.hset(settings.SCHEDULE_PHASES, first, "2.0")
    redis_client.hset(settings.SCHEDULE_PHASES, second, "50.0")
    at(beat, slot + 34)
    assert planned.next_runs([other]) == {other: slot + 110}
    redis_client.hset(settings.SCHEDULE_PHASES, second, "5.0")
    at(beat, slot + 45)
    assert planned.next_runs([other]) == {other: slot + 110}
    at(beat, slot + 110)
    assert planned.next_runs([other]) == {other: slot + 125}
    assert sum(other in worker_ids for worker_ids in post.worker_ids) == 2


def test_entries_of_other_tasks_run_as_redbeat_runs_them(
    app: Celery, post: MessageRecorder, redis_client: redis.Redis
) -> None:
    """A user's own entries, from the configuration or written with RedBeat, keep their arguments and schedules."""
    app.conf.beat_schedule = {"tidy": {"task": "theirs.tidy", "schedule": 5.0, "kwargs": {"deep": True}}}
    schedulers.RedBeatSchedulerEntry(
        "nightly", "theirs.nightly", crontab(), args=[1], app=app, last_run_at=datetime.now(UTC) - timedelta(days=1)
    ).save()
    beat = scheduler.Scheduler(app)
    beat.lock = BeatLock(app)
    beat.producer = None
    redis_client.zadd(SCHEDULE, {"workermon:redbeat:tidy": 1})
    redis_client.hset("workermon:redbeat:tidy", "meta", '{"last_run_at": null}')
    at(beat, time.time())
    assert {(name, str(kwargs)) for name, kwargs, _ in post.sent} == {
        ("theirs.tidy", "{'deep': True}"), ("theirs.nightly", "{}"),
    }  # fmt: skip
    at(beat, time.time())
    assert len(post.sent) == 2


def test_a_broken_entry_of_the_configuration_is_written_anew(
    app: Celery, post: MessageRecorder, redis_client: redis.Redis
) -> None:
    """Beat starts in spite of a broken static entry."""
    app.conf.beat_schedule = {"tidy": {"task": "theirs.tidy", "schedule": 5.0}}
    redis_client.lpush("workermon:redbeat:tidy", "no hash")
    scheduler.Scheduler(app)
    assert json.loads(redis_client.hget("workermon:redbeat:tidy", "definition") or "")["task"] == "theirs.tidy"


def test_the_time_of_the_last_tick_is_recorded(
    beat: scheduler.Scheduler, signs_of_beat: beat_status.RedisBeatStatus, app: Celery, redis_client: redis.Redis
) -> None:
    """It shows from outside that beat works, beside its lock."""
    at(beat, NOW)
    redis_client.delete(app.redbeat_conf.lock_key)
    assert signs_of_beat.last_tick() == NOW
    redis_client.delete(settings.SCHEDULE_TICK)
    assert signs_of_beat.last_tick() is None


def test_a_disabled_entry_does_not_run(
    beat: scheduler.Scheduler, post: MessageRecorder, redis_client: redis.Redis
) -> None:
    """RedBeat's own switch is respected."""
    redis_client.hset(f"{KEY}bad", "definition", sound(enabled=False))
    redis_client.zadd(SCHEDULE, {f"{KEY}bad": 1})
    at(beat, NOW)
    assert post.sent == []


# --- the canary --------------------------------------------------------------------------------------------------


def canaries(post: MessageRecorder) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the sent canaries."""
    return [(kwargs, options) for name, kwargs, options in post.sent if name == "workermon.canary"]


def test_a_canary_is_sent_each_minute(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    signs_of_beat: beat_status.RedisBeatStatus,
    app: Celery,
    redis_client: redis.Redis,
) -> None:
    """The first is sent a minute after the first start, then one a minute. It is counted, and is not an entry."""
    assert signs_of_beat.canaries() is None
    at(beat, NOW)
    assert (canaries(post), signs_of_beat.canaries()) == ([], models.Sent(NOW, 0))
    at(beat, NOW + 59)
    assert canaries(post) == []
    at(beat, NOW + 60.5)
    [(kwargs, options)] = canaries(post)
    assert (kwargs, options["queue"], options["expires"]) == ({"stages": ["collect"]}, "workermon.collect", 60)
    for after in (70, 119, 121, 122, 200):
        at(beat, NOW + after)
    assert (len(canaries(post)), signs_of_beat.canaries()) == (3, models.Sent(NOW + 200, 3))
    assert redis_client.zcard(SCHEDULE) == 0


def test_the_canarys_minute_outlives_beat(beat: scheduler.Scheduler, post: MessageRecorder, app: Celery) -> None:
    """Another beat continues the canary's schedule and sends overdue entries at once."""
    at(beat, NOW)
    second_beat = scheduler.Scheduler(app)
    second_beat.lock, second_beat.producer = BeatLock(app), None
    at(second_beat, NOW + 30)
    assert canaries(post) == []
    at(second_beat, NOW + 90)
    assert len(canaries(post)) == 1
    last = scheduler.Scheduler(app)
    last.lock, last.producer = BeatLock(app), None
    at(last, NOW + 100_000)
    assert len(canaries(post)) == 2


def test_a_canary_that_cannot_be_sent_stops_nothing(
    beat: scheduler.Scheduler, post: MessageRecorder, signs_of_beat: beat_status.RedisBeatStatus
) -> None:
    """Collections of that tick are marked as they are, and it is not counted as sent."""
    at(beat, NOW)
    post.down = True
    at(beat, NOW + 60)
    assert signs_of_beat.canaries() == models.Sent(NOW, 0)
    post.down = False
    at(beat, NOW + 121)
    assert signs_of_beat.canaries() == models.Sent(NOW + 121, 1)


@pytest.mark.parametrize("broken", ["future", "text", "string", "inf", "nan"])
def test_a_broken_account_of_canaries_is_written_anew(
    beat: scheduler.Scheduler,
    post: MessageRecorder,
    signs_of_beat: beat_status.RedisBeatStatus,
    redis_client: redis.Redis,
    broken: str,
) -> None:
    """Invalid text, another type of key and a future time do not stop beat."""
    if broken == "string":
        redis_client.set(settings.SCHEDULE_CANARY, "x")
    else:
        sent_at = NOW + 9e9 if broken == "future" else broken
        redis_client.hset(settings.SCHEDULE_CANARY, mapping={"at": sent_at, "times": 4})
    at(beat, NOW)
    at(beat, NOW + 60)
    assert len(canaries(post)) == 1
    assert present(signs_of_beat.canaries()).at == NOW + 60


def test_beat_survives_a_failure_and_ends_after_a_minute_of_them(
    beat: scheduler.Scheduler, post: MessageRecorder, planned: schedule.RedBeatSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reconnects and keeps its lock. Continuous failures end it with the exit code of Redis."""
    planned.put([worker()], NOW)
    exits: list[int] = []
    elapsed = [0.0]
    monkeypatch.setattr(beat, "end", exits.append)
    monkeypatch.setattr(beat, "steady", lambda: elapsed[0])
    lock = beat.lock

    def refused(*_: Any, **__: Any) -> None:
        raise redis.exceptions.ReadOnlyError("You can't write against a read only replica.")

    at(beat, NOW)
    lock.acquire = lambda blocking: not blocking
    with monkeypatch.context() as patched:
        patched.setattr(scheduler.LookAtSchedule, "run", refused)
        for seconds in (1, 30, 59):
            elapsed[0] = seconds
            assert at(beat, NOW + 61) <= 1
    assert (exits, post.sent) == ([], [])
    at(beat, NOW + 61)
    assert post.worker_ids == [[worker().id]]
    elapsed[0] += 61
    monkeypatch.setattr(scheduler.LookAtSchedule, "run", refused)
    at(beat, NOW + 122)
    assert exits == [errors.RedisUnavailable.exit_code]
