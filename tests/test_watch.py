"""The live feed: nothing published during the snapshot is missed, nothing is shown twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workermon import models, ports, testing, views
from workermon.views import watch

A, B = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"


def event(worker_id: Any, at: Any, **fields: Any) -> Any:
    """Return an event of the channel."""
    plain_event = models.Event(
        id=f"{worker_id}:{at // 60}", worker_id=worker_id, worker_name="x", region="us-east-1",
        collected_at=models.rfc3339(at), status="running", status_checks=None, metrics={},
    )  # fmt: skip
    return json.dumps({**models.to_json(plain_event), **fields})


def notification_of(worker_id: Any, version: Any, status: str = "firing") -> Any:
    """Return a notification."""
    return models.Notification(
        id=f"n{version}", version=version, dedup_key=f"{worker_id}/r", kind="threshold", status=status,
        severity="critical", rule="r", metric=None, value=None, threshold=None,
        since="2023-11-14T22:13:20Z", at="2023-11-14T22:13:20Z",
        worker=models.NotifiedWorker(id=worker_id, name="x", region="us-east-1"), summary="x",
    )  # fmt: skip


class World(testing.Monitor):
    """A monitor with two workers that were collected."""

    def __init__(self) -> None:
        super().__init__(now=1000.0)
        for worker_id in (A, B):
            worker = self.add_worker(worker_id)
            sample = models.Sample(worker=worker, collected_at=1000, status="running")
            self.samples.write(sample, models.Condition(status="running", collected_at=1000), "{}")

    def watch(self, ids: Any = None) -> Any:
        """Start to watch."""
        return self.get(views.Watch).watch(ids, timeout=0.01)

    def publish(self, text: str) -> None:
        """Publish a text on the channel of events."""
        self.store.publish(self.store.channel, text)


@pytest.fixture
def world() -> World:
    """Give a fresh world."""
    return World()


def coming(watched: Any) -> Any:
    """Return the next messages, until none comes."""
    items: list[Any] = []
    for item in watched:
        if item is None:
            return items
        items.append(item)
    return items


def test_the_present_comes_first(world: World) -> None:
    """The snapshot has the last sample of each worker and the alerts that fire."""
    world.record(notification_of(A, 1))
    items = coming(world.watch())
    assert [item.worker_id for item in items[:2]] == [A, B]
    assert items[0].id == f"{A}:16"
    assert items[2] == notification_of(A, 1)
    assert len(items) == 3


def test_what_comes_during_the_snapshot_is_shown_once(world: World) -> None:
    """A sample and an alert that come between subscription and snapshot are neither missed nor shown twice."""

    class Busy(testing.MemoryWorkers):
        def every(self, chunk: int = 500) -> Any:
            world.publish(event(A, 1000))  # in the snapshot already
            world.publish(event(B, 1060))  # newer than the snapshot
            world.record(notification_of(A, 1))  # published, and in the snapshot of the alerts
            return super().every(chunk)

    world.workers = Busy(world.store)
    live = world.watch()
    assert [getattr(item, "id", None) for item in coming(live)] == [f"{A}:16", f"{B}:16", "n1"]
    assert [item.id for item in coming(live)] == [f"{B}:17"]


def test_then_each_as_it_comes_but_nothing_older(world: World) -> None:
    """New samples and alerts are shown, repeated and older ones dropped. Milliseconds are compared as time."""
    live = world.watch()
    coming(live)
    world.publish(event(A, 1060))
    world.publish(event(A, 1060))
    world.publish(event(A, 1000))
    world.publish(event(A, 1060.5))
    world.store.publish(ports.alerts_channel(world.store.channel), notification_of(A, 2).model_dump_json(by_alias=True))
    world.store.publish(ports.alerts_channel(world.store.channel), notification_of(A, 1).model_dump_json(by_alias=True))
    items = coming(live)
    assert [getattr(item, "collected_at", None) or item.version for item in items] == [
        models.rfc3339(1060),
        models.rfc3339(1060.5),
        2,
    ]


def test_only_the_workers_that_were_asked_for(world: World) -> None:
    """Samples and alerts of other workers are not shown, neither in the snapshot nor later."""
    world.record(notification_of(B, 1))
    live = world.watch({A})
    assert [item.worker_id for item in coming(live)] == [A]
    world.publish(event(B, 1060))
    world.record(notification_of(B, 2))
    world.publish(event(A, 1060))
    assert [item.id for item in coming(live)] == [f"{A}:17"]


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "null",
        '{"schema": 2}',
        event(A, 1060, schema=2),
        event("i-0aaaaaaaaaaaaaaaa", 1060).replace("i-0", "i-"),
        event(A, 1060, collected_at="soon"),
        event(A, 1060, extra="x" * 70_000),
        '{"dedup_key": 1}',
        "[" * 60_000,
    ],
)
def test_what_is_none_of_ours_is_dropped(world: World, text: Any) -> None:
    """Invalid JSON, another schema, a wrong field and a too long message are dropped."""
    live = world.watch()
    coming(live)
    world.publish(text)
    world.publish(event(A, 1120))
    assert [item.id for item in coming(live)] == [f"{A}:18"]


def test_fields_of_a_later_version_do_not_disturb(world: World) -> None:
    """A message of schema 1 with unknown fields is shown."""
    read_event = watch.read(event(A, 1060, colour="red"))
    assert isinstance(read_event, models.Event)
    assert read_event.worker_id == A
