"""Every kind of record, broken in every way, on a real server: only the broken record is affected."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.support.repositories import install, repository_on_redis
from workermon import collect, config, errors, evaluate, fleet, health, models, notify, testing, views
from workermon.config import export
from workermon.on_redis import client, keys, limiter

pytestmark = pytest.mark.integration

HERE = models.AccountRegion(region="us-east-1")
A, B = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"
NOW = 1_700_000_040.0


def monitor_on(server: Any) -> testing.Monitor:
    """Return a monitor of two instances with all records on a server: one healthy, one firing."""
    monitor = testing.Monitor(now=NOW)
    install(monitor, repository_on_redis(server, config.DEFAULT))
    vars(monitor)["limiter"] = limiter.RedisLimiter(server, lambda _: models.Limit(bucket=10, rate=10))
    for worker_id in (A, B):
        monitor.ec2.put(
            models.Instance(id=worker_id, region="us-east-1", status="running", name=worker_id, detailed=True)
        )
        for minute in range(40):
            load = 97.5 if worker_id == A or minute > 12 else 40.0
            monitor.cloudwatch.put(worker_id, "CPUUtilization", [(int(NOW) // 60 * 60 + 60 * minute, load)])
    return monitor


def minutes(monitor: testing.Monitor, number: int) -> None:
    """Let minutes pass as the parts of an installation do: each worker, each alert, and all signs of life."""
    for _ in range(number):
        monitor.clock.advance(60)
        at = monitor.clock()
        monitor.costs.note(at, HERE.key, "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
        monitor.liveness.beat("listener", at)
        monitor.liveness.evaluation_started(at)
        monitor.liveness.count("message.invalid")
        monitor.limiter.take(HERE.key, "GetMetricData")
        monitor.canary.publish(at, at, 1)
        monitor.canary.reach("received", at, at)
        monitor.get(collect.Collection).collect([A, B])
        monitor.get(collect.RollingUp).roll_up(10)
        monitor.liveness.beat("collect", at)
        monitor.get(evaluate.SilenceExpiry).check()
        monitor.get(evaluate.Evaluation).evaluate([A, B, *monitor.samples.pending(at, 100)])
        monitor.get(notify.Delivery).deliver(monitor.outbox.due(at, 100))


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client as every process has it."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        yield connected


@pytest.fixture
def records(server: Any) -> dict[bytes, bytes]:
    """Give every record of an installation in which one worker fires, is silenced and acknowledged."""
    monitor = monitor_on(server)
    assert monitor.configurations.save(config.DEFAULT.model_copy(update={"revision": 1}))
    monitor.get(fleet.Adding).add([A, B], fleet.AddOptions(scope=HERE, interval=60))
    minutes(monitor, 10)
    assert [
        (notification.rule, notification.worker and notification.worker.id) for notification in monitor.received
    ] == [("cpu-high", A)]
    silence = models.Silence(id="s1", rule="disk-high", begins=0, ends=NOW * 2, reason="new disk", by="me")
    monitor.silences.add(silence)
    monitor.silences.acknowledge(models.Acknowledgement(alert_id=f"{A}/cpu-high", since=None, by="me", at=NOW))
    monitor.throttle.take("log", models.Limit(bucket=10, rate=10), critical=True, now=monitor.clock())
    return {name: server.dump(name) for name in server.keys("workermon:*")}


def put_back(server: Any, records: dict[bytes, bytes]) -> None:
    """Bring the server back to where the installation was."""
    server.flushdb()
    for name, dumped in records.items():
        server.restore(name, 0 if keys.permanent(name) else 86_400_000, dumped)


def go_on(server: Any) -> testing.Monitor:
    """Return a monitor that finds the records as another process does."""
    monitor = monitor_on(server)
    monitor.clock.now = NOW + 600
    monitor.schedule.put([], NOW)
    return monitor


def check(monitor: testing.Monitor) -> None:
    """Continue until the healthy worker fires, and check all views."""
    minutes(monitor, 8)
    firing = [
        (notification.rule, notification.worker.id)
        for notification in monitor.received
        if notification.worker is not None and notification.status == "firing"
    ]
    assert ("cpu-high", B) in firing, firing
    monitor.get(health.StatusCheck).status()
    monitor.get(health.PipelineCheck).fault()
    rows = monitor.get(views.FleetView).list(status=None, labels={}).workers
    assert B in [row.id for row in rows]
    assert f"{B}/cpu-high" in [alert.last.dedup_key for alert in monitor.alerts.open() if alert.last]
    assert monitor.alerts.history(limit=100)
    assert list(monitor.alerts.recorded(f"{B}/cpu-high"))
    list(monitor.alerts.recorded(f"{A}/cpu-high"))
    assert B in [saved.worker.id for saved in monitor.saved_states.load().workers]
    monitor.silences.acknowledged([f"{A}/cpu-high", f"{B}/cpu-high"])
    monitor.outbox.stuck(monitor.clock())
    monitor.outbox.backlog()
    monitor.costs.hours(monitor.clock() - 3600)
    assert "cpu-high" in export.text(
        monitor.configurations.load(), [record.worker for record in monitor.workers.every()], monitor.clock()
    )


#: Types that a key may have, each with how to make one.
OTHER: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "string": lambda server, name: server.set(name, "poison"),
    "list": lambda server, name: server.rpush(name, "poison"),
}


def of_another_type(server: Any, name: bytes) -> Iterator[str]:
    """Make a key one of another type."""
    kind = server.type(name).decode()
    for other_type, make in OTHER.items():
        if other_type != kind:
            server.delete(name)
            make(server, name)
            yield f"is a {other_type}"


def with_text(server: Any, name: bytes, change: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """Change the text of each record under a key, one after the other."""
    kind, dumped = server.type(name).decode(), server.dump(name)
    readers: dict[str, Callable[[], list[tuple[Any, bytes]]]] = {
        "string": lambda: [(None, server.get(name))],
        "hash": lambda: list(server.hgetall(name).items()),
        "list": lambda: list(enumerate(server.lrange(name, 0, -1))),
        "zset": lambda: [(member, member) for member in server.zrange(name, 0, -1)],
        "set": lambda: [(member, member) for member in server.smembers(name)],
    }
    for place, raw in readers[kind]():
        changed = change(raw)
        if changed is None:
            continue
        server.restore(name, 0, dumped, replace=True)
        if kind == "string":
            server.set(name, changed)
        elif kind == "hash":
            server.hset(name, place, changed)
        elif kind == "list":
            server.lset(name, place, changed)
        elif kind == "zset":
            server.zadd(name, {changed: 0})
        else:
            server.sadd(name, changed)
        yield f"{place!r} is {changed[:60]!r}"


def _json(raw: bytes) -> tuple[bytes, Any]:
    """Return the text before a JSON object in a record, and the object, or ``None`` without one."""
    at = raw.find(b"{")
    try:
        return raw[: max(at, 0)], json.loads(raw[at:]) if at >= 0 else None
    except ValueError:
        return raw, None


def garbage(raw: bytes) -> bytes:
    """Return unreadable text."""
    return b"\xff{not json"


def one_field_more(raw: bytes) -> bytes | None:
    """Return a record as a newer version may write it."""
    before, fields = _json(raw)
    return None if not fields else before + json.dumps({**fields, "of_a_newer_version": {"x": 1}}).encode()


def one_field_less(raw: bytes) -> bytes | None:
    """Return a record without its first field."""
    before, fields = _json(raw)
    return None if not fields else before + json.dumps(dict(list(fields.items())[1:])).encode()


def number(text: bytes) -> Callable[[bytes], bytes | None]:
    """Return a function that replaces a record's number, or the first of several, by this text."""

    def changed(raw: bytes) -> bytes | None:
        first, space, rest = raw.partition(b" ")
        try:
            float(first)
        except ValueError:
            return None
        return text + space + rest

    return changed


POISONS: dict[str, Callable[[redis.Redis, bytes], Iterator[str]]] = {
    "another type": of_another_type,
    "garbage": lambda server, name: with_text(server, name, garbage),
    "one field more": lambda server, name: with_text(server, name, one_field_more),
    "one field less": lambda server, name: with_text(server, name, one_field_less),
    "an infinite number": lambda server, name: with_text(server, name, number(b"inf")),
    "no number": lambda server, name: with_text(server, name, number(b"nan")),
    "a huge number": lambda server, name: with_text(server, name, number(b"1e300")),
}


def is_of_b(name: bytes) -> bool:
    """Return whether a record belongs to the worker that must continue. A corrupted one may stop itself."""
    return B.encode() in name


@pytest.mark.parametrize("poison", POISONS)
def test_one_unreadable_record_stops_nobody_else(server: Any, records: dict[bytes, bytes], poison: str) -> None:
    """Whatever a key contains, the other worker is collected, evaluated and notified, and every view answers."""
    wrong, cases = [], 0
    for name in sorted(records):
        if is_of_b(name):
            continue
        put_back(server, records)
        for poisoned in POISONS[poison](server, name):
            cases += 1
            monitor = go_on(server)
            try:
                check(monitor)
            except Exception as why:
                wrong.append(f"{name.decode()} {poisoned}: {type(why).__name__}: {str(why)[:300]}")
            put_back(server, records)
    assert not wrong, "\n".join(wrong)
    assert cases >= 10


def test_what_cannot_be_read_is_named_and_reported(server: Any, records: dict[bytes, bytes]) -> None:
    """Status and an alert name the key, and the record stays. Both end when it can be read again."""
    put_back(server, records)
    sound = server.hget(keys.worker(A), "spec") or b""
    server.hset(keys.worker(A), "spec", b"{")
    monitor = go_on(server)
    minutes(monitor, 1)
    status = monitor.get(health.StatusCheck).status()
    name = f"{keys.worker(A)} spec"
    assert name in status.unreadable
    part = next(part for part in status.parts if part.name == "records")
    assert not part.ok
    assert name in part.reason
    (alert,) = [notification for notification in monitor.received if notification.rule == models.RECORDS]
    assert (alert.status, alert.dedup_key) == ("firing", "*/*/records")
    assert name in str(alert.reason)
    assert server.hget(keys.worker(A), "spec") == b"{"

    server.hset(keys.worker(A), "spec", sound)
    server.delete(keys.UNREADABLE)  # as after a quarter of an hour
    minutes(monitor, 1)
    assert [notification.status for notification in monitor.received if notification.rule == models.RECORDS] == [
        "firing",
        "resolved",
    ]


def test_a_key_of_another_type_is_kept(server: Any, records: dict[bytes, bytes]) -> None:
    """It is renamed, kept for a month, and named. The list of the fleet is rebuilt from the workers' records."""
    put_back(server, records)
    server.delete(keys.WORKERS)
    server.set(keys.WORKERS, "poison")
    monitor = go_on(server)
    assert monitor.workers.ids() == [A, B]
    assert server.get(f"{keys.SET_ASIDE}{keys.WORKERS}") == b"poison"
    assert 0 < server.ttl(f"{keys.SET_ASIDE}{keys.WORKERS}") <= keys.HISTORY
    assert keys.WORKERS in monitor.unreadable.load()


@pytest.mark.parametrize("spec", [b"{", None])
def test_a_worker_whose_record_cannot_be_read_can_be_removed(
    server: Any, records: dict[bytes, bytes], spec: bytes | None
) -> None:
    """Its alert resolves and nothing of it is left. Until then every command says what to do."""
    put_back(server, records)
    server.hdel(keys.worker(A), "spec")
    if spec is not None:
        server.hset(keys.worker(A), "spec", spec)
    monitor = go_on(server)
    with pytest.raises(errors.UnknownWorker, match="cannot be read; remove and add it again"):
        monitor.get(fleet.Lookup).resolve([A])
    assert [worker.id for worker in monitor.get(fleet.Removing).remove([A]).workers] == [A]
    monitor.deliver()
    assert [(notification.status, notification.reason) for notification in monitor.received] == [
        ("resolved", "removed")
    ]
    left = {name for name in server.keys("*") if A.encode() in name}
    assert not {name for name in left if not name.startswith((b"workermon:outbox:", b"workermon:alert-history:"))}
    assert monitor.workers.ids() == [B]
    assert monitor.get(fleet.Removing).remove([A]).unknown == (A,)


@pytest.mark.parametrize("name", [keys.HISTORY_NUMBERS, keys.FENCE])
@pytest.mark.parametrize("make", [*OTHER.values(), lambda server, name: server.hset(name, "a", "b")])
def test_a_counter_of_another_type_leaves_a_restore_whole(
    server: Any, records: dict[bytes, bytes], name: str, make: Callable[[redis.Redis, bytes], object]
) -> None:
    """A transaction cannot set it aside, so that is done before: all is restored, and counts from the beginning."""
    put_back(server, records)
    monitor = go_on(server)
    state = monitor.saved_states.load()
    server.delete(name)
    make(server, name.encode())
    assert monitor.saved_states.replace(state, NOW, force=True)
    assert monitor.saved_states.load().histories == state.histories
