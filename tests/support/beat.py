"""Beat over a real server, and the messages that it sends. Its fixtures are available to every test."""

from __future__ import annotations

import contextlib
import secrets
import types
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redbeat import schedulers

from workermon import models
from workermon.on_celery import app as ours
from workermon.on_celery import schedule, scheduler
from workermon.on_redis import beat_status, client

NOW = 1_800_000_000.0
KEY = "workermon:redbeat:workermon:collect:"
SCHEDULE = "workermon:redbeat::schedule"


def worker(number: int = 1, **changes: Any) -> models.Worker:
    """Return a worker; ``number`` makes its id."""
    instance_id = f"i-{number:017x}"
    fields = {"id": instance_id, "name": instance_id, "region": "us-east-1", "added_at": NOW, "incarnation": "one"}
    return models.Worker(**(fields | changes))


class MessageRecorder:
    """Receives messages in place of a broker."""

    def __init__(self, app: Celery) -> None:
        self.sent: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.down = False
        app.send_task = self.send_task

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        """Take a message, or fail as a broker that is away."""
        if self.down:
            raise OperationalError("away")
        self.sent.append((name, kwargs, options))

    @property
    def worker_ids(self) -> list[list[str]]:
        """Return the identifiers of each message of a collection."""
        return [kwargs["worker_ids"] for name, kwargs, _ in self.sent if name == "workermon.collect"]


class BeatLock:
    """Beat's lock, taken from any owner. It counts its extensions between two ticks."""

    def __init__(self, app: Celery) -> None:
        self.extended = 0
        self.local = types.SimpleNamespace(token=secrets.token_hex(8))
        schedulers.ensure_conf(app)
        schedulers.get_redis(app).set(app.redbeat_conf.lock_key, self.local.token, ex=3600)

    def extend(self, seconds: int) -> None:
        """Count."""
        self.extended += 1


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """Give a Celery application with our configuration on an empty server."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", redis_url)
    monkeypatch.delenv("WORKERMON_BROKER_URL", raising=False)
    return Celery("test", loader=ours.Loader, set_as_current=False)


@pytest.fixture
def post(app: Celery) -> MessageRecorder:
    """Give the recorder of messages."""
    return MessageRecorder(app)


@pytest.fixture
def planned(app: Celery) -> schedule.RedBeatSchedule:
    """Give the schedule."""
    return schedule.RedBeatSchedule(app)


@pytest.fixture
def signs_of_beat(redis_url: str) -> Iterator[beat_status.RedisBeatStatus]:
    """Give beat's signs of life, as commands read them."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        yield beat_status.RedisBeatStatus(connected)


@pytest.fixture
def beat(app: Celery, post: MessageRecorder) -> scheduler.Scheduler:
    """Give beat, holding its lock."""
    beat_scheduler = scheduler.Scheduler(app)
    beat_scheduler.lock = BeatLock(app)
    beat_scheduler.producer = None
    return beat_scheduler


def at(beat: scheduler.Scheduler, now: float) -> float:
    """Run a tick of beat at a time. Return how long it wants to sleep."""
    beat.clock = lambda: now
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    beat.wait = wait
    sleep_seconds = beat.tick()
    return pauses[0] if pauses else sleep_seconds
