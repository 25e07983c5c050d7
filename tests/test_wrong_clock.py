"""A clock that was wrong for a moment: future times are corrected, and nothing is missed afterwards."""

from __future__ import annotations

import time

import pytest
import redis

from tests.contract import builders
from tests.support.present import present
from tests.support.repositories import install, repository_on_redis
from workermon import collect, config, evaluate, fleet, models, notify, ports, rules, testing
from workermon.on_redis import keys, leases
from workermon.pipeline import sweep

ID = "i-0abc0123456789def"
HERE = models.AccountRegion(region="us-east-1")
FAILING = models.Checks(system="impaired", instance="ok")
#: Two minutes to three days, in both directions.
JUMPS = (120, 1800, 7200, 3 * models.DAY, -120, -1800, -7200, -3 * models.DAY)


@pytest.fixture(params=["memory", "redis"])
def monitor(request: pytest.FixtureRequest) -> testing.Monitor:
    """Give a monitor of one instance that was healthy for a quarter of an hour, in memory and on a real server."""
    new_monitor = testing.Monitor(now=1_700_000_040.0)
    if request.param == "redis":
        server: redis.Redis = request.getfixturevalue("redis_client")
        install(new_monitor, repository_on_redis(server, config.DEFAULT))
    new_monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    new_monitor.get(fleet.Adding).add([ID], fleet.AddOptions(scope=HERE, interval=60))
    minutes(new_monitor, *[40.0] * 15)
    return new_monitor


def run(monitor: testing.Monitor) -> None:
    """Collect, evaluate and deliver."""
    monitor.get(collect.Collection).collect([ID])
    monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))


def minutes(monitor: testing.Monitor, *cpu: float) -> None:
    """Advance minutes with these loads. Each is collected, evaluated and delivered."""
    for value in cpu:
        at = int(monitor.clock()) // 60 * 60
        monitor.cloudwatch.put(ID, "CPUUtilization", [(at, value)])
        monitor.clock.advance(60)
        run(monitor)


def jump(monitor: testing.Monitor, seconds: int) -> None:
    """Have the clock wrong by that much for 40 s, while three rounds run, then right."""
    monitor.clock.advance(seconds)
    for _ in range(3):
        run(monitor)
        monitor.clock.advance(40 / 3)
    monitor.clock.advance(-seconds)


def notified(monitor: testing.Monitor) -> list[tuple[str, str]]:
    """Return rule and status of each notification."""
    return [(notification.rule, notification.status) for notification in monitor.received]


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_breach_after_a_wrong_clock_notifies(monitor: testing.Monitor, seconds: int) -> None:
    """A failing check and a high load notify once, within minutes after the clock is right again."""
    jump(monitor, seconds)
    monitor.received.clear()
    monitor.ec2.put(
        models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True), FAILING
    )
    minutes(monitor, *[97.5] * 6)
    assert sorted(notified(monitor)) == [("cpu-high", "firing"), ("status-check-failed", "firing")]
    critical = next(notification for notification in monitor.received if notification.rule == "cpu-high")
    assert models.moment(critical.at) <= monitor.clock()


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_breach_that_lasts_over_a_wrong_clock_stays(monitor: testing.Monitor, seconds: int) -> None:
    """An alert from before keeps firing, notifies nothing new, and resolves at its end."""
    minutes(monitor, *[97.5] * 6)
    assert notified(monitor) == [("cpu-high", "firing")]
    jump(monitor, seconds)
    minutes(monitor, *[97.5] * 3)
    assert [row for row in notified(monitor) if row[0] == "cpu-high"] == [("cpu-high", "firing")]
    minutes(monitor, *[40.0] * 5)
    assert [row for row in notified(monitor) if row[0] == "cpu-high"] == [
        ("cpu-high", "firing"),
        ("cpu-high", "resolved"),
    ]
    assert monitor.alerts.open() == []


@pytest.mark.parametrize("seconds", JUMPS)
def test_nothing_stored_leads_the_present_afterwards(monitor: testing.Monitor, seconds: int) -> None:
    """After one round with the right clock no time of worker, alert or mark is further ahead than the limit."""
    jump(monitor, seconds)
    minutes(monitor, 40.0)
    record, latest = monitor.workers.get([ID])[ID], monitor.clock() + models.MAX_LEAD
    condition = record.condition
    times = [condition.collected_at, condition.succeeded_at, condition.running_since, *condition.requested_at.values()]
    times += [record.worker.added_at, record.dimensions_at]
    for alert in monitor.alerts.load([ID])[ID].alerts.values():
        state = alert.rule_state
        times += [state.cursor, state.start, alert.since, *(change.at for change in state.trail)]
    assert max(at for at in times if at is not None) <= latest


@pytest.mark.parametrize("seconds", [1800, 7200, models.DAY])
def test_the_sweep_finds_what_was_marked_by_a_clock_ahead(monitor: testing.Monitor, seconds: int) -> None:
    """A mark or notification with a future time is found at once."""
    monitor.samples.mark_pending([ID], monitor.clock() + seconds)
    assert monitor.samples.pending(monitor.clock() - 3, 10) == [ID]
    finder = sweep.Sweep(
        samples=monitor.samples,
        outbox=monitor.outbox,
        workers=monitor.workers,
        dispatcher=monitor.dispatcher,
        now=monitor.clock,
    )
    claim = ports.LeaseClaim("listener", "me", 60)
    finder.sweep(0.0, {ID: 0.0}, present(monitor.sweep_backlog.look(claim, monitor.clock(), 3.0, works=True)))
    assert monitor.dispatcher.evaluated == [ID]


def test_silence_of_a_worker_is_seen_after_a_wrong_clock(monitor: testing.Monitor) -> None:
    """If no collection succeeds after the clock was ahead, ``no-data`` fires as always."""
    monitor.liveness.beat("listener", monitor.clock())
    jump(monitor, 7200)
    monitor.liveness.beat("listener", monitor.clock())
    monitor.received.clear()
    for _ in range(60):
        monitor.liveness.beat("listener", monitor.clock())
        monitor.clock.advance(5)
        monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))
    assert ("no-data", "firing") in notified(monitor)


def test_leases_of_a_server_whose_clock_was_set_back_are_free(redis_client: redis.Redis) -> None:
    """Leases that would last for hours are free: of the listener, of queues and of slots."""
    two_hours = 7_200_000
    redis_leases = leases.RedisLeases(redis_client)
    redis_client.set(keys.lease("listener"), "dead", px=two_hours)
    assert redis_leases.hold("listener", "living", 3.0)
    assert not redis_leases.hold("listener", "other", 3.0)

    repository = repository_on_redis(redis_client)
    worker = builders.worker()
    repository.workers.add([worker])
    basis = repository.alerts.load([worker.id])[worker.id]
    assert repository.alerts.commit(builders.verdict(basis, builders.AlertChange()))
    alert_id = f"{worker.id}/cpu-high"
    redis_client.set(f"{keys.LEASE}{keys.queue(alert_id, 'ops')}", "dead", px=two_hours)
    assert repository.outbox.due(builders.NOW, 10) == [alert_id]
    assert [claimed.alert_id for claimed in repository.outbox.claim(alert_id, builders.NOW, 15)] == [alert_id]
    assert repository.outbox.due(builders.NOW, 10) == []

    slot = f"{worker.interval}:{int(builders.NOW // worker.interval)}"
    redis_client.hset(keys.worker(worker.id), "claim", f"{slot} {int(time.time() * 1000) + two_hours}")
    assert repository.samples.claim([worker], builders.NOW, 30) == ["claimed"]
    assert repository.samples.claim([worker], builders.NOW, 30) == ["held"]


def test_a_check_that_was_written_ahead_of_time_does_not_count_when_its_time_has_come(monitor: testing.Monitor) -> None:
    """The first write of a slot stays, unless a clock ahead wrote it."""
    monitor.ec2.put(
        models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True), FAILING
    )
    jump(monitor, 7200)
    monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    until = monitor.clock() + 7320
    while monitor.clock() < until:
        minutes(monitor, 40.0)
    points = monitor.samples.read([(ID, models.STATUS_CHECK_FAILED, 60)], until - 600, until)
    assert {value for _, value in points[ID, models.STATUS_CHECK_FAILED].points} == {0.0}


def test_a_state_without_a_time_ahead_is_the_same_object() -> None:
    """Without a future time the same object is returned."""
    rule = config.DEFAULT.rules[0]
    state = models.RuleState(cursor=600, trail=(models.SeverityChange(540, "critical", 2),), period=60, metric="x")
    kind = rules.KINDS[rule.kind]
    assert kind.clamped(state, 600) is state
    assert kind.clamped(state, 600 - models.MAX_LEAD) is state
    assert kind.clamped(state, 400).cursor == 360
