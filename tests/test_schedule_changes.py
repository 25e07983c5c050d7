"""Beat sleeps until an entry is due or the schedule changes, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery
from redbeat import schedulers

from tests.support.beat import NOW, at, worker
from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon import settings
from workermon.on_celery import changes, schedule, scheduler

#: Seconds. A wait that is longer than a test may take.
LONG = 600.0


@pytest.fixture
def listening(app: Celery) -> Iterator[changes.ScheduleChanges]:
    """Give a subscriber of schedule changes that is connected already."""
    listening_changes = changes.ScheduleChanges(lambda: schedulers.get_redis(app))
    assert listening_changes.wait(LONG)  # until it is subscribed
    yield listening_changes
    listening_changes.close()


def started(action: Callable[[], object]) -> threading.Thread:
    """Start an action beside the test."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_a_new_entry_ends_the_wait(listening: changes.ScheduleChanges, planned: schedule.RedBeatSchedule) -> None:
    """Adding or resuming a worker wakes up beat, because its entry may be due at once."""
    waiting = started(lambda: listening.wait(LONG))
    planned.put([worker()], NOW)
    eventually(lambda: not waiting.is_alive(), within=30)


def test_what_came_before_the_wait_counts(
    listening: changes.ScheduleChanges, planned: schedule.RedBeatSchedule
) -> None:
    """A change while beat works is not missed."""
    for number in range(5):
        planned.put([worker(number)], NOW)
    waiting = started(lambda: listening.wait(LONG))
    eventually(lambda: not waiting.is_alive(), within=30)


def test_an_entry_that_keeps_its_next_run_wakes_nobody(
    redis_client: redis.Redis, planned: schedule.RedBeatSchedule
) -> None:
    """Each reconciliation writes all entries again, and beat sleeps on."""
    planned.put([worker()], NOW)
    with redis_client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(settings.SCHEDULE_CHANGED)
        eventually(lambda: redis_client.pubsub_numsub(settings.SCHEDULE_CHANGED)[0][1] == 1)
        planned.put([worker()], NOW)
        planned.put([worker(2)], NOW)
        messages = [eventually(pubsub.get_message)]
        assert messages[0]["channel"] == settings.SCHEDULE_CHANGED.encode()
        assert pubsub.get_message(timeout=0.1) is None


def test_a_broken_connection_is_made_anew_after_a_while(
    app: Celery, redis_client: redis.Redis, planned: schedule.RedBeatSchedule
) -> None:
    """Until then beat checks every second, as without notifications."""
    elapsed = [0.0]
    listening_changes = changes.ScheduleChanges(lambda: schedulers.get_redis(app), lambda: elapsed[0])
    assert listening_changes.wait(LONG)
    redis_client.client_kill_filter(_type="pubsub")
    assert not listening_changes.wait(LONG)
    assert not listening_changes.wait(LONG)
    elapsed[0] += changes.SUBSCRIBED_AGAIN_AFTER
    assert listening_changes.wait(LONG)
    waiting = started(lambda: listening_changes.wait(LONG))
    planned.put([worker()], NOW)
    eventually(lambda: not waiting.is_alive(), within=30)
    listening_changes.close()


def test_who_may_not_listen_says_so_at_once(redis_client: redis.Redis) -> None:
    """Without a server or the right to the channel, beat works without notifications."""
    assert not changes.ScheduleChanges(lambda: redis.Redis(port=free_port())).wait(LONG)
    redis_client.execute_command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    address = redis_client.connection_pool.connection_kwargs
    try:
        with redis.Redis(port=address["port"], username="mute", password="secret") as mute:
            assert not changes.ScheduleChanges(lambda: mute).wait(LONG)
    finally:
        redis_client.execute_command("ACL", "DELUSER", "mute")


def test_a_beat_with_nothing_to_do_ticks_seldom(
    beat: scheduler.Scheduler, planned: schedule.RedBeatSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps up to two seconds if it can be woken up, and otherwise at most Celery's loop."""
    planned.put([worker()], NOW)
    monkeypatch.setattr(beat, "steady", lambda: 1000.0)
    assert at(beat, planned.next_runs([worker().id])[worker().id] - 30) == scheduler.IDLE_INTERVAL
    monkeypatch.setattr(beat, "steady", lambda: 1000.5)
    assert at(beat, planned.next_runs([worker().id])[worker().id] - 30) == scheduler.IDLE_INTERVAL - 0.5
    monkeypatch.setattr(beat, "wait", lambda seconds: False)
    assert beat.tick() == beat.max_interval == 1.0
