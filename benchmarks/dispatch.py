"""Measure one tick of a scheduler with every entry due: ``dispatch.py ours|redbeat|apscheduler NUMBER``.

``workermon add`` writes the entries, and they are sent to the broker's real queue. The program prints as JSON the CPU
seconds of this process, the elapsed seconds, and how many worker ids and messages arrived in the queue.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import house
import redis
from redbeat import schedulers

from workermon.on_celery import schedule, scheduler
from workermon.on_celery.app import app

QUEUE = "workermon.collect"


def write_due_entries(number: int, connected: Any) -> None:
    """Write the entries, and set their times back so that all are due."""
    now = time.time()
    schedule.RedBeatSchedule(app).put(house.fleet(number, now), now)
    ran = json.dumps(
        {
            "last_run_at": {"__type__": "datetime", **_parts(datetime.now(UTC) - timedelta(minutes=2))},
            "total_run_count": 1,
        }
    )
    due = connected.zrange("workermon:redbeat::schedule", 0, -1, withscores=True)
    pipe = connected.pipeline(transaction=False)
    for key, score in due:
        pipe.zadd("workermon:redbeat::schedule", {key: score - 2 * house.INTERVAL})
        pipe.hset(key, "meta", ran)
    pipe.execute()


def _parts(at: datetime) -> dict[str, Any]:
    fields = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {**{name: getattr(at, name) for name in fields}, "timezone": "UTC"}


def beat_tick(kind: Any) -> Callable[[], object]:
    """Return a function that runs one tick of a beat scheduler. The scheduler holds its lock."""
    beat_scheduler = kind(app, lazy=True)
    lock = schedulers.get_redis(app).lock(beat_scheduler.lock_key, timeout=3600)
    lock.acquire()
    beat_scheduler.lock = lock
    beat_scheduler.lock_timeout = 3600
    return lambda: beat_scheduler.tick()


def send(worker_id: str) -> None:
    """Send the message that beat would send. APScheduler runs this as a job."""
    app.send_task("workermon.collect", kwargs={"worker_ids": [worker_id]}, queue=QUEUE, expires=house.INTERVAL)


def apscheduler_tick(number: int, connected: Any) -> Callable[[], object]:
    """Return a function that runs all jobs that are due, by APScheduler with its RedisJobStore."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.redis import RedisJobStore
    from apscheduler.schedulers import base
    from apscheduler.schedulers.background import BackgroundScheduler

    connection_options = connected.connection_pool.connection_kwargs
    options = {"unix_socket_path": connection_options["path"], "password": connection_options["password"]}
    executor = ThreadPoolExecutor(10)
    job_scheduler = BackgroundScheduler(
        jobstores={"default": RedisJobStore(db=1, **options)}, executors={"default": executor}, timezone=UTC
    )
    job_scheduler.start(paused=True)
    due = datetime.now(UTC)
    for worker in house.fleet(number, time.time()):
        job_scheduler.add_job(
            "dispatch:send",
            "interval",
            seconds=house.INTERVAL,
            args=[worker.id],
            id=worker.id,
            next_run_time=due,
            misfire_grace_time=None,
            coalesce=True,
        )

    def tick() -> None:
        job_scheduler.state = base.STATE_RUNNING  # like resume(), but the tick runs in this thread
        job_scheduler._process_jobs()
        executor.shutdown(wait=True)

    return tick


def main() -> None:
    """Run one tick, and print its cost."""
    kind, number = sys.argv[1], int(sys.argv[2])
    connected = redis.Redis.from_url(os.environ["WORKERMON_REDIS_URL"])
    if kind == "apscheduler":
        tick = apscheduler_tick(number, connected)
    else:
        write_due_entries(number, connected)
        tick = beat_tick(scheduler.Scheduler if kind == "ours" else schedulers.RedBeatScheduler)
    send("i-00000000000000000")  # opens the connection to the broker
    server = int(os.environ["BENCH_SERVER"])
    began, before, theirs = time.monotonic(), time.process_time(), house.cpu(server)
    tick()
    spent, wall, served = time.process_time() - before, time.monotonic() - began, house.cpu(server) - theirs
    address = house.broker(os.environ["WORKERMON_REDIS_URL"])
    broker = redis.Redis(unix_socket_path=address.path, password=address.password, db=address.database)
    messages = [json.loads(text) for text in broker.lrange(QUEUE, 0, -1)][:-1]
    ids = {
        worker_id
        for message in messages
        for worker_id in json.loads(base64.b64decode(message["body"]))[1]["worker_ids"]
    }
    print(json.dumps({"cpu": spent, "server": served, "wall": wall, "ids": len(ids), "messages": len(messages)}))


if __name__ == "__main__":
    main()
