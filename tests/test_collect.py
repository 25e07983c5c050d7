"""Collection over in-memory ports: its requests, what it writes, and that a failure is never an absence."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import pytest
from rich.console import Console

from tests.support.collecting import CPU, DISK, MEMORY, NOW, ONE, TWO, World
from tests.support.present import present
from workermon import collect, config, errors, models, ports, views
from workermon.cli import live_table, output, watch
from workermon.collect import dimensions, region_listing
from workermon.rules import horizon


@pytest.fixture
def world() -> World:
    """Return a world without workers."""
    return World()


def at(minutes: float) -> int:
    """Return the time so many minutes before the first collection."""
    return int(NOW - 60 * minutes)


def test_datapoints_reach_the_ledger_and_an_event_the_channel(world: World) -> None:
    """A collection writes the datapoints, publishes one event and stores the condition."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(15), 40.0), (at(10), 41.5)])
    report = world.collect()
    assert report == collect.Report(collected=(ONE,))
    assert world.points(CPU) == [(at(15), 40.0), (at(10), 41.5)]
    assert world.points(models.STATUS_CHECK_FAILED, 60) == [(int(NOW), 0.0)]
    assert len(world.events()) == 1
    condition = world.condition()
    assert condition.latest[CPU] == (at(10), 41.5)
    assert condition.periods[CPU] == 300
    assert condition.requested_at[CPU] == condition.succeeded_at == condition.running_since == NOW
    assert world.store.pending == {ONE: NOW}


def test_the_event_is_the_contracts(world: World) -> None:
    """The event has exactly the fields of the contract, values with unit and time, and null for no datapoint."""
    world.clock.now = NOW + 5.123
    world.add(name="render-07")
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(5), 41.2)])
    world.collect()
    assert world.events()[0] == {
        "schema": 1,
        "event": "worker.metrics.collected",
        "id": f"{ONE}:{int(NOW // 60)}",
        "worker_id": ONE,
        "worker_name": "render-07",
        "region": "us-east-1",
        "collected_at": "2023-11-14T22:15:05.123Z",
        "status": "running",
        "status_checks": {"system": "ok", "instance": "ok"},
        "metrics": {
            "cpu_utilization": {"value": 41.2, "unit": "percent", "at": "2023-11-14T22:10:00Z"},
            "memory_utilization": None,
            "disk_utilization": None,
            "network_in": None,
            "network_out": None,
            "status_check_failed": {"value": 0.0, "unit": "count", "at": "2023-11-14T22:15:00Z"},
        },
    }


def test_absent_is_null_and_never_zero(world: World) -> None:
    """A metric without a datapoint writes nothing, yet counts as asked."""
    world.add()
    world.collect()
    assert world.points(CPU) == []
    assert CPU not in world.condition().latest
    assert world.condition().requested_at[CPU] == NOW
    assert world.events()[0]["metrics"][CPU] is None


@pytest.mark.parametrize(
    ("checks", "written"),
    [
        (models.Checks(system="impaired", instance="ok"), [(int(NOW), 1.0)]),
        (models.Checks(system="ok", instance="initializing"), []),
        (models.Checks(system="insufficient-data", instance="ok"), []),
        (None, []),
    ],
)
def test_status_checks_are_a_metric_only_if_ec2_answers(
    world: World, checks: models.Checks | None, written: list[tuple[int, float]]
) -> None:
    """Impaired is 1. A check that is neither ok nor impaired writes nothing and is null in the event."""
    world.add()
    world.ec2.put(models.Instance(id=ONE, region="us-east-1", status="running"), checks)
    world.collect()
    assert world.points(models.STATUS_CHECK_FAILED, 60) == written
    assert (world.events()[0]["metrics"]["status_check_failed"] is None) == (not written)


def test_a_complete_slot_costs_no_call(world: World) -> None:
    """A second message for a slot makes no request. A refresh does."""
    world.add()
    world.collect()
    calls = len(world.ec2.calls)
    world.clock.advance(20)
    assert world.collect() == collect.Report(repeated=(ONE,))
    assert len(world.ec2.calls) == calls
    assert world.collect(force=True).collected == (ONE,)
    assert len(world.events()) == 2


def test_paused_workers_are_left_alone_unless_asked_for(world: World) -> None:
    """A paused worker is collected by refresh only."""
    world.add(monitoring="paused")
    assert world.collect() == collect.Report(paused=(ONE,))
    assert world.ec2.calls == []
    assert world.collect(force=True).collected == (ONE,)


def test_an_unknown_worker_loses_its_schedule(world: World) -> None:
    """A worker that is not monitored is reported and unscheduled. The others are collected."""
    world.add()
    world.schedule.entries[TWO] = (60, NOW)
    report = world.collect(TWO, ONE)
    assert (report.unknown, report.collected) == ((TWO,), (ONE,))
    assert world.schedule.ids() == {ONE}


def test_a_worker_added_meanwhile_keeps_its_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unscheduling an unknown id gives the entry back if it was added in that moment."""
    inner = world.schedule.delete

    def racing(worker_ids: Any) -> None:
        world.add()
        inner(worker_ids)

    monkeypatch.setattr(world.schedule, "delete", racing)
    assert world.collect().unknown == (ONE,)
    assert world.schedule.ids() == {ONE}


def test_a_worker_removed_meanwhile_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of a removed incarnation is dropped."""
    worker = world.add()
    inner = world.ec2.statuses

    def removing(scope: models.AccountRegion, ids: Any) -> Any:
        del world.store.workers[worker.id]
        return inner(scope, ids)

    monkeypatch.setattr(world.ec2, "statuses", removing)
    assert world.collect() == collect.Report()
    assert world.events() == []


def test_a_stopped_worker_costs_no_cloudwatch_call(world: World) -> None:
    """A stopped worker has checks only: its CloudWatch metrics are null in the event."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    world.collect()
    world.ec2.become(ONE, "stopped")
    world.clock.advance(60)
    calls = len(world.cloudwatch.calls)
    assert world.collect().collected == (ONE,)
    assert len(world.cloudwatch.calls) == calls
    event = world.events()[-1]
    assert event["status"] == "stopped"
    assert set(event["metrics"].values()) == {None}
    condition = world.condition()
    assert (condition.status, condition.running_since, condition.last_error) == ("stopped", None, None)
    assert condition.requested_at[CPU] == NOW
    assert condition.latest[CPU] == (at(10), 41.5)


def test_running_since_survives_collections_and_starts_anew_after_a_stop(world: World) -> None:
    """It is the first collection that saw the worker running without a break."""
    world.add()
    world.collect()
    world.clock.advance(60)
    world.collect()
    assert world.condition().running_since == NOW
    for status in ("stopped", "running"):
        world.ec2.become(ONE, status)
        world.clock.advance(60)
        world.collect()
    assert world.condition().running_since == NOW + 180


@pytest.mark.parametrize("status", ["terminated", "shutting-down"])
def test_a_terminated_worker_is_retired(world: World, status: models.Status) -> None:
    """It gets a last sample with that status and an event, and its entry is deleted."""
    world.add()
    world.ec2.become(ONE, status)
    report = world.collect()
    assert (report.retired, report.collected) == ((ONE,), (ONE,))
    assert world.schedule.ids() == set()
    assert world.condition().status == status
    assert world.events()[-1]["status"] == status


def test_a_vanished_worker_is_retired_only_when_confirmed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that only DescribeInstanceStatus lacks stays. One that EC2 does not know at all is terminated."""
    world.add()
    monkeypatch.setattr(world.ec2, "statuses", lambda scope, ids: {})
    assert world.collect().retired == ()
    assert world.condition().status == "running"
    world.ec2.forget(ONE)
    world.clock.advance(60)
    assert world.collect().retired == (ONE,)
    assert world.condition().status == "terminated"


def test_a_new_worker_may_be_unknown_to_ec2_for_a_moment(world: World) -> None:
    """A new worker that EC2 has never listed is an error of kind gone for five minutes. It is not terminated."""
    world.add(added_at=NOW - 200)
    world.ec2.forget(ONE)
    report = world.collect()
    assert isinstance(report.failed[ONE], errors.InstanceGone)
    assert world.schedule.ids() == {ONE}
    last_error = world.condition().last_error
    assert last_error is not None
    assert last_error.kind == "gone"
    world.clock.advance(120)
    assert world.collect().retired == (ONE,)


def test_a_worker_that_ec2_knew_is_retired_however_new(world: World) -> None:
    """A worker that EC2 has listed before, and that two answers lack, is retired at once."""
    world.add(added_at=NOW - 5)
    world.collect()
    world.ec2.forget(ONE)
    world.clock.advance(60)
    assert world.collect().retired == (ONE,)


def test_a_failure_to_confirm_retires_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the confirming request fails, it is an error and no worker is retired."""
    world.add()
    monkeypatch.setattr(world.ec2, "statuses", lambda scope, ids: {})
    world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "wait")
    report = world.collect()
    assert report.failed.keys() == {ONE}
    assert report.retired == ()
    assert world.schedule.ids() == {ONE}


def test_ec2_failing_is_an_error_of_its_account_and_region_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of other regions are collected. Those of the failing region keep their condition and get the error."""
    world.add()
    world.add(TWO, region="eu-west-1")
    inner = world.ec2.statuses

    def failing(scope: models.AccountRegion, ids: Any) -> Any:
        if scope.region == "us-east-1":
            raise errors.AwsDenied("EC2 in us-east-1", "UnauthorizedOperation", "allow it")
        return inner(scope, ids)

    monkeypatch.setattr(world.ec2, "statuses", failing)
    report = world.collect(ONE, TWO)
    assert report.collected == (TWO,)
    assert report.failed.keys() == {ONE}
    assert world.condition().last_error == models.CollectionError(
        kind="denied", message="EC2 in us-east-1: UnauthorizedOperation; allow it", at=NOW, since=NOW
    )
    assert world.condition().succeeded_at is None
    assert [event["worker_id"] for event in world.events()] == [TWO]
    monkeypatch.setattr(world.ec2, "statuses", inner)
    world.collect()
    assert world.condition().last_error is None
    assert world.condition().succeeded_at == NOW


def test_an_unusable_account_and_region_is_a_failure_and_not_the_end(world: World) -> None:
    """An invalid region or role is reported for its workers, whatever class of error it is."""
    world.add()
    world.ec2.error = errors.InvalidInput("region us-moon-1", "AWS has no such region", "give another")
    assert world.collect().failed[ONE].kind == "failed"


def test_redis_out_of_reach_is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be noted then, so the task fails."""
    world.add()

    def broken(*_: Any, **__: Any) -> Any:
        raise errors.RedisUnavailable("Redis", "gone", "start it")

    monkeypatch.setattr(world.samples, "write_many", broken)
    with pytest.raises(errors.RedisUnavailable):
        world.collect()


def test_cloudwatch_failing_keeps_the_status_and_asks_again_from_where_it_was(world: World) -> None:
    """If CloudWatch fails, the sample has no metrics and has the error. Later no datapoint is missing."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    world.collect()
    world.cloudwatch.error = errors.AwsThrottled("CloudWatch", "Throttling", "wait")
    world.clock.advance(3 * 3600)
    report = world.collect()
    assert report.collected == (ONE,)
    assert report.failed[ONE].kind == "throttled"
    condition = world.condition()
    assert condition.last_error is not None
    assert (condition.status, condition.last_error.kind) == ("running", "throttled")
    assert condition.requested_at[CPU] == condition.succeeded_at == NOW
    assert condition.collected_at == NOW + 3 * 3600
    assert world.events()[-1]["metrics"][CPU]["value"] == 41.5
    world.cloudwatch.error = None
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(-5 * n), 50.0 + n) for n in range(36)])
    world.clock.advance(60)
    world.collect()
    assert len(world.points(CPU)) == 37
    assert world.condition().last_error is None


def test_one_failed_metric_does_not_hide_the_others(world: World) -> None:
    """Datapoints of the other metrics are written. The error names the failed metric."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    world.cloudwatch.failing["NetworkIn"] = errors.AwsDenied("CloudWatch", "Forbidden", "allow it")
    report = world.collect()
    condition = world.condition()
    assert report.failed.keys() == {ONE}
    assert world.points(CPU) == [(at(10), 41.5)]
    assert condition.last_error is not None
    assert condition.last_error.message.startswith("network_in: ")
    assert "network_in" not in condition.requested_at
    assert condition.requested_at[CPU] == NOW
    assert condition.succeeded_at == NOW


@pytest.mark.parametrize("age", [0, 10_000])
@pytest.mark.parametrize("checks", [None, models.Checks(system="ok", instance="impaired", attached_ebs="ok")])
@pytest.mark.parametrize("status", ["running", "stopped"])
def test_the_event_is_made_at_once_as_its_model_would_write_it(
    status: models.Status, checks: models.Checks | None, age: int
) -> None:
    """The direct JSON equals the model's for old and absent values, any names, and unanswered checks."""
    worker = models.Worker(id=ONE, name='Zoë "1"', region="us-east-1", added_at=NOW, incarnation="1", interval=60)
    latest = {CPU: models.Datapoint(int(NOW) - age, 12.5), "network_in": models.Datapoint(int(NOW), 1e21)}
    condition = models.Condition(
        status=status, checks=checks, collected_at=NOW + 1.25, latest=latest, periods={CPU: 60}, delays={CPU: 70.0}
    )
    event = models.Event.of(worker, condition, config.DEFAULT)
    assert models.Event.json_of(worker, condition, config.DEFAULT) == event.model_dump_json(by_alias=True)
    cpu = event.metrics[CPU]
    assert (cpu.old if cpu else None) == ((age > 0) if status == "running" else None)
    assert event.metrics["memory_utilization"] is None


def test_what_came_of_a_partial_result_is_kept_and_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datapoints beside a failure are written, but the metric does not count as asked."""
    world.add()

    def partial(scope: models.AccountRegion, queries: Any, until: float) -> ports.Answer:
        reason = errors.AwsUnreachable("CloudWatch", "came only in part", "wait")
        series = {n: models.Series(query.period, (models.Datapoint(at(10), 1.0),)) for n, query in enumerate(queries)}
        return ports.Answer(series, dict.fromkeys(range(len(queries)), reason))

    monkeypatch.setattr(world.cloudwatch, "fetch", partial)
    world.collect()
    assert world.points(CPU) == [(at(10), 1.0)]
    assert CPU not in world.condition().requested_at


def test_the_window_is_the_last_hour_first_and_then_the_watermark_less_the_lateness(world: World) -> None:
    """A new worker's request covers its last hour. Later ones begin before its newest datapoint, for late ones."""
    world.add(added_at=NOW)
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(70), 1.0), (at(60), 2.0), (at(10), 3.0)])
    world.collect()
    assert world.queries(CPU)[0].since == NOW - horizon.BACKFILL
    assert world.points(CPU) == [(at(60), 2.0), (at(10), 3.0)]
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(20), 2.5), (at(5), 4.0), (at(10), 3.5)])
    world.clock.advance(60)
    world.collect()
    assert world.queries(CPU)[0].since == at(10) - models.LATENESS - 300
    assert world.points(CPU) == [(at(60), 2.0), (at(20), 2.5), (at(10), 3.5), (at(5), 4.0)]


def test_the_window_ends_at_the_retention(world: World) -> None:
    """After a long outage a request covers no more than the retention, aligned to the period."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 3.0)])
    world.collect()
    world.clock.advance(3 * models.DAY + 17)
    world.collect()
    assert world.queries(CPU)[0].since == int(NOW) + 2 * models.DAY
    assert world.queries(CPU)[0].since % 300 == 0


def test_a_metric_never_seen_is_looked_for_since_it_was_last_asked_for(world: World) -> None:
    """A failure of five hours from the start leaves no gap."""
    world.add(added_at=NOW)
    world.cloudwatch.error = errors.AwsUnreachable("CloudWatch", "no answer", "wait")
    world.collect()
    world.cloudwatch.error = None
    world.clock.advance(5 * 3600)
    world.collect()
    assert world.queries(CPU)[0].since == NOW - horizon.BACKFILL


def test_detailed_monitoring_is_asked_for_by_the_minute(world: World) -> None:
    """The period follows the worker's monitoring, but not that of the agent's metrics."""
    world.add(detailed=True)
    world.cloudwatch.put(ONE, "mem_used_percent", [(at(1), 1.0)], namespace="CWAgent")
    world.collect()
    assert [world.queries(name)[0].period for name in (CPU, MEMORY)] == [60, 60]
    assert world.condition().periods[CPU] == 60


def disk(world: World, path: str, fstype: str, *values: float) -> None:
    """Put a filesystem's use in, a datapoint a minute."""
    world.cloudwatch.put(
        ONE, "disk_used_percent", [(at(5 - n), value) for n, value in enumerate(values)], namespace="CWAgent",
        dimensions={"path": path, "fstype": fstype, "device": path},
    )  # fmt: skip


def test_disk_utilization_is_that_of_the_fullest_real_filesystem(world: World) -> None:
    """The fullest filesystem counts, slot by slot. Pseudo filesystems and aggregates do not count."""
    world.add()
    disk(world, "/", "xfs", 40.0, 41.0)
    disk(world, "/data", "ext4", 80.0, 39.0)
    disk(world, "/snap", "squashfs", 100.0, 100.0)
    world.cloudwatch.put(ONE, "disk_used_percent", [(at(5), 99.0)], namespace="CWAgent")
    world.collect()
    assert world.points(DISK, 60) == [(at(5), 80.0), (at(4), 41.0)]
    assert len(world.queries(DISK)) == 2


def test_the_fullest_of_some_filesystems_is_not_the_fullest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the query of one filesystem fails, the metric fails."""
    world.add()
    disk(world, "/", "xfs", 40.0)
    disk(world, "/data", "ext4", 80.0)
    inner = world.cloudwatch.fetch

    def failing(scope: models.AccountRegion, queries: Any, until: float) -> ports.Answer:
        answer = inner(scope, queries, until)
        place = next(n for n, query in enumerate(queries) if ("path", "/data") in query.dimensions)
        del answer.series[place]
        answer.failed[place] = errors.AwsUnreachable("CloudWatch", "no answer", "wait")
        return answer

    monkeypatch.setattr(world.cloudwatch, "fetch", failing)
    world.collect()
    assert world.points(DISK, 60) == []
    assert DISK not in world.condition().requested_at


def test_dimensions_are_listed_once_an_hour_and_after_five_minutes_where_there_were_none(world: World) -> None:
    """ListMetrics is requested for whole batches, and its answers are kept."""
    world.add()
    world.add(TWO)
    disk(world, "/", "xfs", 40.0)
    world.collect(ONE, TWO)
    assert listings(world) == [("mem_used_percent", (ONE, TWO)), ("disk_used_percent", (ONE, TWO))]
    world.clock.advance(240)
    world.collect(ONE, TWO)
    assert len(listings(world)) == 2
    for worker_id in (ONE, TWO):
        minutes = [(at(-n), 1.0) for n in range(4, 70)]
        world.cloudwatch.put(worker_id, "mem_used_percent", minutes, namespace="CWAgent")
        world.cloudwatch.put(
            worker_id, "disk_used_percent", minutes, namespace="CWAgent",
            dimensions={"path": "/", "fstype": "xfs", "device": "/"},
        )  # fmt: skip
    world.clock.advance(60)
    world.collect(ONE, TWO)
    assert len(listings(world)) == 4
    assert world.points(MEMORY, 60) == [(at(-4), 1.0)], "the minute after it is running"
    world.clock.advance(3540)
    world.collect(ONE)
    assert len(listings(world)) == 4
    world.clock.advance(60)
    world.collect(ONE)
    assert listings(world)[4:] == [("mem_used_percent", (ONE,)), ("disk_used_percent", (ONE,))]


def test_a_failed_listing_is_an_error_unless_the_dimensions_are_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dimensions the metric fails. With those of an hour ago it continues."""
    world.add()
    disk(world, "/", "xfs", 40.0)
    world.cloudwatch.put(ONE, "mem_used_percent", [(at(1), 1.0)], namespace="CWAgent")
    inner = world.cloudwatch.dimensions

    def denied(*_: Any) -> Any:
        raise errors.AwsDenied("CloudWatch", "ListMetrics: AccessDenied", "allow it")

    monkeypatch.setattr(world.cloudwatch, "dimensions", denied)
    world.collect()
    last_error = world.condition().last_error
    assert last_error is not None
    assert last_error.message.startswith("disk_utilization, memory_utilization: ")
    assert DISK not in world.condition().requested_at
    monkeypatch.setattr(world.cloudwatch, "dimensions", inner)
    world.clock.advance(60)
    world.collect()
    assert world.condition().last_error is None
    monkeypatch.setattr(world.cloudwatch, "dimensions", denied)
    world.clock.advance(3600)
    disk(world, "/", "xfs", *[50.0] * 60)
    report = world.collect()
    assert report.failed == {}
    assert world.condition().requested_at[DISK] == NOW + 3660


def test_a_sum_counts_nothing_twice(world: World) -> None:
    """Where an agent publishes an aggregate beside its parts, the parts are summed."""
    world.add()
    entry = models.Metric(
        name="written", namespace="CWAgent", metric_name="diskio_write", statistic="Sum", unit="bytes", period=60,
        merge="sum",
    )  # fmt: skip
    world.configurations.save(
        config.DEFAULT.model_copy(update={"revision": 1, "metrics": {"written": entry}, "collect": ("written",)})
    )
    for name, value in (("a", 10.0), ("b", 5.0)):
        world.cloudwatch.put(ONE, "diskio_write", [(at(1), value)], namespace="CWAgent", dimensions={"name": name})
    world.cloudwatch.put(ONE, "diskio_write", [(at(1), 15.0)], namespace="CWAgent")
    world.collect()
    assert world.points("written", 60) == [(at(1), 15.0)]


def test_two_metrics_of_one_name_are_distinguished(world: World) -> None:
    """The same CloudWatch metric may be collected under two names."""
    world.add()
    memory = config.DEFAULT.metrics[MEMORY]
    peak = memory.model_copy(update={"name": "memory_peak", "statistic": "Maximum"})
    world.configurations.save(
        config.DEFAULT.model_copy(
            update={"revision": 1, "metrics": {MEMORY: memory, "memory_peak": peak}, "collect": (MEMORY, "memory_peak")}
        )
    )
    world.cloudwatch.put(ONE, "mem_used_percent", [(at(1), 7.0)], namespace="CWAgent")
    world.collect()
    assert world.points("memory_peak", 60) == world.points(MEMORY, 60) == [(at(1), 7.0)]
    assert world.cloudwatch.list_requests == [("mem_used_percent", (ONE,))]


def test_a_batch_takes_one_call_of_each_kind(world: World) -> None:
    """Forty workers of a region take one DescribeInstanceStatus and one fetch."""
    ids = [f"i-{n:017x}" for n in range(40)]
    for worker_id in ids:
        world.add(worker_id)
    assert set(world.collect(*ids, ids[0]).collected) == set(ids)
    assert [name for name, _, _ in world.ec2.calls] == ["statuses"]
    assert len(world.cloudwatch.calls) == 1
    assert len(world.events()) == 40


def test_nothing_to_do_asks_nothing(world: World) -> None:
    """An empty message succeeds without a request."""
    assert collect.Report() == dataclasses.replace(world.collect("i-0000000000000000f"), unknown=())
    assert world.ec2.calls == []


def listings(world: World) -> list[tuple[str, tuple[str, ...] | None]]:
    """Return the requests of ListMetrics, except those for Windows's memory counter."""
    return [listing for listing in world.cloudwatch.list_requests if listing[0] != "Memory % Committed Bytes In Use"]


def many(world: World, number: int = 8, **fields: Any) -> list[str]:
    """Add workers that publish their memory use. Leases run by the real clock."""
    world.store.clock = world.clock
    ids = [f"i-{n:017x}" for n in range(1, number + 1)]
    for worker_id in ids:
        world.add(worker_id, **fields)
        minutes = [(at(-n), 1.0) for n in range(-5, 200)]
        world.cloudwatch.put(worker_id, "mem_used_percent", minutes, namespace="CWAgent")
    only(world, MEMORY)
    return ids


def only(world: World, *names: str) -> None:
    """Have only these metrics collected."""
    before = world.configurations.load()
    assert world.configurations.save(before.model_copy(update={"revision": before.revision + 1, "collect": names}))


def test_a_slot_dispatched_twice_is_collected_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one node collects a slot, another makes no request. There is one event."""
    world.add()
    inner = world.ec2.statuses
    reports: list[collect.Report] = []

    def meanwhile(scope: models.AccountRegion, ids: Any) -> Any:
        monkeypatch.setattr(world.ec2, "statuses", inner)
        reports.append(world.collect())
        return inner(scope, ids)

    monkeypatch.setattr(world.ec2, "statuses", meanwhile)
    assert world.collect().collected == (ONE,)
    assert reports == [collect.Report(repeated=(ONE,))]
    assert len(world.events()) == 1


def test_a_crash_after_the_claim_leaves_no_hole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the lease a later run within the slot collects it."""
    world.store.clock = world.clock
    world.add()

    class Killed(BaseException):
        """Nothing can be done about it."""

    def dying(*_: Any) -> Any:
        raise Killed

    inner = world.ec2.statuses
    monkeypatch.setattr(world.ec2, "statuses", dying)
    with pytest.raises(Killed):
        world.collect()
    monkeypatch.setattr(world.ec2, "statuses", inner)
    world.clock.advance(20)
    assert world.collect().repeated == (ONE,)
    world.clock.advance(11)
    assert world.collect().collected == (ONE,)
    assert world.points(models.STATUS_CHECK_FAILED, 60) == [(int(NOW), 0.0)]


def test_a_slow_collection_does_not_overwrite_the_next_slot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its datapoints count. Condition and event are those of the later collection."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    inner = world.cloudwatch.fetch

    def slow(scope: models.AccountRegion, queries: Any, until: float) -> ports.Answer:
        monkeypatch.setattr(world.cloudwatch, "fetch", inner)
        world.clock.advance(60)
        assert world.collect().collected == (ONE,)
        return inner(scope, queries, until)

    monkeypatch.setattr(world.cloudwatch, "fetch", slow)
    assert world.collect().repeated == (ONE,)
    assert len(world.events()) == 1
    assert world.condition().collected_at == NOW + 60


def test_an_account_in_which_nobody_is_known_retires_nobody(world: World) -> None:
    """If EC2 knows no worker, the credentials may be another account's: an error of kind denied, for an hour."""
    ids = many(world)
    world.collect(*ids)
    for worker_id in ids:
        world.ec2.forget(worker_id)
    for _ in range(60):
        world.clock.advance(60)
        report = world.collect(*ids)
        assert report.retired == ()
        assert {error.kind for error in report.failed.values()} == {"denied"}
    last_error = world.condition(ids[0]).last_error
    assert last_error is not None
    assert (last_error.kind, last_error.since) == ("denied", NOW + 60)
    assert "another account" in last_error.message
    assert world.schedule.ids() == set(ids)
    world.clock.advance(60)
    assert set(world.collect(*ids).retired) == set(ids)
    assert world.schedule.ids() == set()


def test_an_hour_of_strangeness_is_without_a_break(world: World) -> None:
    """A success or another failure in between restarts the hour. One known worker ends it."""
    ids = many(world, 3)
    unknown = [models.Instance(id=worker_id, region="us-east-1", status="running") for worker_id in ids]

    def have_ec2_know(*instances: models.Instance) -> None:
        for instance in unknown:
            world.ec2.forget(instance.id)
        for instance in instances:
            world.ec2.put(instance)

    for minute in range(150):
        have_ec2_know(*(unknown if minute % 50 == 0 else ()))
        assert world.collect(*ids).retired == ()
        world.clock.advance(60)
    have_ec2_know(unknown[0])
    assert set(world.collect(*ids).retired) == set(ids[1:])


def test_one_listing_serves_every_batch_for_an_hour(world: World) -> None:
    """One ListMetrics covers the whole region. Other batches read it from the repository."""
    ids = many(world, 24)
    for _ in range(60):
        for start in range(0, 24, 8):
            world.collect(*ids[start : start + 8])
        world.clock.advance(60)
    assert world.cloudwatch.list_requests == [("mem_used_percent", None)]
    assert all(world.points(MEMORY, 60, worker_id) for worker_id in ids)
    world.collect(*ids[:8])
    assert len(world.cloudwatch.list_requests) == 2


def test_a_batch_that_came_second_knows_that_it_does_not_know(world: World) -> None:
    """While another batch lists a metric, the metric is not requested, and is neither absent nor an error."""
    ids = many(world)
    assert world.leases.hold("listing:default/us-east-1::CWAgent/mem_used_percent", "another", 60)
    assert world.collect(*ids).failed == {}
    assert world.cloudwatch.list_requests == []
    assert MEMORY not in world.condition(ids[0]).requested_at
    assert world.condition(ids[0]).succeeded_at == NOW


def test_who_joins_after_the_listing_is_looked_up(world: World) -> None:
    """A new worker is looked up at once and alone, not an hour later."""
    ids = many(world)
    world.collect(*ids)
    world.clock.advance(60)
    world.add(TWO, added_at=world.clock())
    world.cloudwatch.put(TWO, "mem_used_percent", [(at(1), 9.0)], namespace="CWAgent")
    world.collect(*ids, TWO)
    assert world.cloudwatch.list_requests[1:] == [("mem_used_percent", (TWO,))]
    assert world.points(MEMORY, 60, TWO) == [(at(1), 9.0)]


def test_those_without_an_agent_cost_few_calls(world: World) -> None:
    """Two of them are looked up in five minutes, however many they are."""
    ids = many(world)
    without = [f"i-{n:017x}" for n in range(100, 130)]
    for worker_id in without:
        world.add(worker_id)
    for _ in range(55):
        world.collect(*ids, *without)
        world.clock.advance(60)
    assert [ids for _, ids in listings(world)].count(None) == 1
    assert sum(len(ids) for _, ids in listings(world) if ids is not None) <= 22
    assert world.condition(without[0]).requested_at[MEMORY] == NOW + 54 * 60


def rolled_out(world: World, ids: list[str], minute: int) -> None:
    """Make the agents publish with one dimension more from a minute on, and no longer as before."""
    for worker_id in ids:
        world.cloudwatch.forget(worker_id, "mem_used_percent", since=at(-minute))
        minutes = [(at(-n), 2.0) for n in range(minute, 200)]
        world.cloudwatch.put(
            worker_id, "mem_used_percent", minutes, namespace="CWAgent", dimensions={"AutoScalingGroupName": "a"}
        )


def test_a_new_configuration_of_all_agents_is_found_by_one_listing(world: World) -> None:
    """40 workers get one more dimension. Two intervals after their old series ended, all are collected again."""
    ids = many(world, 40)
    for minute in range(20):
        if minute == 10:
            rolled_out(world, ids, 10)
        world.collect(*ids[:25])
        world.collect(*ids[25:])
        world.clock.advance(60)
        if minute == 15:
            # The last old value is of minute 9. Minute 10 counts as absent three minutes after its end at the latest.
            assert all(world.condition(worker_id).latest[MEMORY].value == 2.0 for worker_id in ids)
    assert world.cloudwatch.list_requests == [("mem_used_percent", None)] * 2
    for worker_id in ids:
        assert [when for when, _ in world.points(MEMORY, 60, worker_id)][-19:] == [at(-n) for n in range(19)]


def test_many_who_join_are_found_by_listing_the_region(world: World) -> None:
    """40 workers join, and their agents start ten minutes later: two intervals after that all are seen."""
    ids = many(world)
    world.collect(*ids)
    world.clock.advance(600)
    joined = [f"i-{n:017x}" for n in range(100, 140)]
    for worker_id in joined:
        world.add(worker_id, added_at=world.clock())
    for minute in range(20):
        if minute == 10:
            for worker_id in joined:
                minutes = [(at(-n), 2.0) for n in range(20, 100)]
                world.cloudwatch.put(worker_id, "mem_used_percent", minutes, namespace="CWAgent")
        world.collect(*ids, *joined)
        world.clock.advance(60)
        if minute == 12:
            assert all(MEMORY in world.condition(worker_id).latest for worker_id in joined)
    calls = [ids for _, ids in listings(world)]
    assert calls.count(None) <= 2 + 12 / 2, "one listing each two minutes while they lack it"
    assert len(calls) - calls.count(None) <= 2


def test_a_fleet_that_stays_silent_costs_few_calls(world: World) -> None:
    """If a listing brings nothing new for many, it is made each two minutes at most, and after a while once an hour."""
    ids = many(world, 40)
    for worker_id in ids:
        world.cloudwatch.forget(worker_id, "mem_used_percent", since=at(-5))
    for _ in range(59):
        world.collect(*ids)
        world.clock.advance(60)
    calls = [ids for _, ids in listings(world)]
    assert calls.count(None) <= 1 + dimensions.RECENT / region_listing.LISTING_LEASE
    assert sum(len(ids) for ids in calls if ids is not None) <= 22


def test_dimensions_that_change_are_found(world: World) -> None:
    """An agent that publishes under other dimensions is looked up when a metric stops arriving, and nothing is lost."""
    world.add()
    only(world, DISK)
    disk(world, "/", "xfs", *[40.0] * 10)
    for _ in range(5):
        world.collect()
        world.clock.advance(60)
    world.cloudwatch.put(
        ONE, "disk_used_percent", [(at(-n), 60.0) for n in range(5, 40)], namespace="CWAgent",
        dimensions={"path": "/", "fstype": "xfs", "device": "nvme1n1", "InstanceType": "m7i.large"},
    )  # fmt: skip
    for _ in range(30):
        world.collect()
        world.clock.advance(60)
    assert [when for when, value in world.points(DISK, 60) if value == 60.0] == [
        at(-n) for n in range(5, 34)
    ]  # the next is running


def test_a_denied_listing_is_an_error_of_its_metrics_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the other metrics the collection succeeds. ListMetrics is not requested in each collection."""
    ids = many(world)
    only(world, CPU, MEMORY)
    tried = []

    def denied(*arguments: Any) -> Any:
        tried.append(arguments)
        raise errors.AwsDenied("CloudWatch", "ListMetrics: AccessDenied", "allow it")

    monkeypatch.setattr(world.cloudwatch, "dimensions", denied)
    for _ in range(10):
        report = world.collect(*ids)
        world.clock.advance(60)
    condition = world.condition(ids[-1])
    assert condition.succeeded_at == condition.collected_at == NOW + 540
    assert condition.last_error is not None
    assert (condition.last_error.kind, condition.last_error.since) == ("denied", NOW)
    assert condition.last_error.message.startswith("memory_utilization: ")
    assert report.failed.keys() == set(ids)
    assert MEMORY not in condition.requested_at
    assert len(tried) == 2


def test_where_no_metric_came_the_collection_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If CloudWatch refused, the collection fails even if nothing else was due."""
    world.add()
    only(world, CPU)
    world.cloudwatch.failing["CPUUtilization"] = errors.AwsThrottled("CloudWatch", "Throttling", "wait")
    world.collect()
    assert world.condition().succeeded_at is None
    only(world, MEMORY)
    monkeypatch.setattr(world.cloudwatch, "dimensions", lambda *_: {})
    world.clock.advance(60)
    world.collect()
    assert world.condition().succeeded_at == NOW + 60


def test_a_metric_of_ones_own_is_like_any_other(world: World) -> None:
    """A custom metric's dimensions are found, it is requested by its period, and the event has it."""
    world.add()
    own_metric = models.Metric(name="gpu", namespace="Render", metric_name="utilization_gpu", period=120)
    before = world.configurations.load()
    world.configurations.save(
        before.model_copy(
            update={"revision": 1, "metrics": {**before.metrics, "gpu": own_metric}, "collect": (CPU, "gpu")}
        )
    )
    world.cloudwatch.put(
        ONE, "utilization_gpu", [(at(4), 71.0), (at(2), 72.0)], namespace="Render", dimensions={"index": "0"}
    )
    world.collect()
    assert world.points("gpu", 120) == [(at(4), 71.0), (at(2), 72.0)]
    assert world.queries("gpu")[0].period == 120
    assert world.events()[0]["metrics"]["gpu"]["value"] == 72.0


def test_an_instance_that_ends_between_two_calls_keeps_what_came(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metrics are still requested. The next collection retires it."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    inner = world.ec2.statuses

    def ending(scope: models.AccountRegion, ids: Any) -> Any:
        answer = inner(scope, ids)
        world.ec2.become(ONE, "terminated")
        return answer

    monkeypatch.setattr(world.ec2, "statuses", ending)
    assert world.collect().retired == ()
    assert world.points(CPU) == [(at(10), 41.5)]
    world.clock.advance(60)
    assert world.collect().retired == (ONE,)


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_event_watch_list_and_show_agree(world: World, status: models.Status) -> None:
    """They show the same values. A worker that does not run has no CloudWatch values, but keeps its datapoints."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    world.collect()
    world.ec2.become(ONE, status)
    world.clock.advance(60)
    world.collect()
    event = world.events()[-1]
    assert (event["metrics"][CPU] is None) is (status == "stopped")
    assert (event["metrics"]["status_check_failed"] is None) is (status == "stopped")
    first = next(world.get(views.Watch).watch(None))
    assert isinstance(first, models.Event)
    assert models.to_json(first) == event
    (row,) = world.get(views.FleetView).list().workers
    assert {name: reading and models.to_json(reading) for name, reading in row.metrics.items()} == event["metrics"]
    metrics = world.get(views.WorkerView).show(world.workers.get([ONE])[ONE]).metrics
    assert {name: reading and reading.value for name, reading in metrics.items()} == {
        name: reading and reading["value"] for name, reading in event["metrics"].items()
    }
    assert world.points(CPU) == [(at(10), 41.5)]


def test_a_value_older_than_two_periods_is_marked_wherever_it_is_shown(world: World) -> None:
    """Two datapoints later than it should be, a value is old: in the event, in list, show, watch and the live table."""
    world.add()
    only(world, MEMORY)
    world.cloudwatch.put(ONE, "mem_used_percent", [(at(n), 41.5) for n in range(1, 30)], namespace="CWAgent")
    marked = []
    for _ in range(8):
        world.collect()
        event = world.events()[-1]
        [row] = world.get(views.FleetView).list().workers
        detail = world.get(views.WorkerView).show(world.workers.get([ONE])[ONE])
        [first] = [next(world.get(views.Watch).watch(None))]
        assert isinstance(first, models.Event)
        board = live_table.Board(world.clock, title="test")
        board.take(first)
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(board)
        says_old = [
            event["metrics"][MEMORY].get("old", False),
            models.to_json(present(row.metrics[MEMORY])).get("old", False),
            models.to_json(present(detail.metrics[MEMORY])).get("old", False),
            "(old)" in output.reading(row.metrics[MEMORY]),
            "(old)" in watch.line(first),
            " old" in console.export_text(),
        ]
        assert len(set(says_old)) == 1, says_old
        marked.append(says_old[0])
        world.clock.advance(60)
    # The newest is of the minute before the first collection. It was due a minute and the delay of 2 minutes later.
    assert marked == [False] * 5 + [True] * 3


@pytest.mark.parametrize(("period", "interval"), [(60, 60), (60, 600), (300, 60), (300, 300)])
def test_a_value_that_comes_as_it_should_is_never_old(world: World, period: int, interval: int) -> None:
    """A healthy value is never marked as old: not with basic metrics, a long interval or the usual delay."""
    world.add(interval=interval, detailed=period == 60)
    only(world, CPU)
    for _ in range(2 * 3600 // interval):
        now = int(world.clock())
        arrived = [(moment, 41.5) for moment in range(now - 7200, now - period - 100) if moment % period == 0]
        world.cloudwatch.put(ONE, "CPUUtilization", arrived)
        world.collect()
        for later in (0, interval - 1):
            world.clock.advance(later)
            [row] = world.get(views.FleetView).list().workers
            reading = row.metrics[CPU]
            assert reading is not None
            assert not reading.old
            world.clock.advance(-later)
        world.clock.advance(interval)


def test_the_values_of_a_fleet_that_nobody_collects_are_old(world: World) -> None:
    """Without collections, values are marked as old an hour later."""
    world.add()
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    world.collect()
    world.clock.advance(3600)
    [row] = world.get(views.FleetView).list().workers
    assert {name for name, reading in row.metrics.items() if reading and reading.old} == {CPU, "status_check_failed"}


@pytest.mark.integration
def test_on_a_real_server_it_is_the_same(world: World, redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Condition, datapoints and dimensions come back from Redis as written."""
    from workermon.on_redis import samples, workers

    monkeypatch.setattr(world, "workers", workers.RedisWorkers(redis_client))
    monkeypatch.setattr(world, "samples", samples.RedisSamples(redis_client, "workermon:metrics", lambda: models.DAY))
    world.add()
    disk(world, "/", "xfs", 40.0)
    world.cloudwatch.put(ONE, "CPUUtilization", [(at(10), 41.5)])
    subscription = redis_client.pubsub()
    subscription.subscribe("workermon:metrics")
    assert subscription.get_message(timeout=30)["type"] == "subscribe"
    assert world.collect() == collect.Report(collected=(ONE,))
    assert json.loads(subscription.get_message(timeout=30)["data"])["worker_id"] == ONE
    subscription.close()
    assert world.points(CPU) == [(at(10), 41.5)]
    assert world.points(DISK, 60) == [(at(5), 40.0)]
    record = world.workers.get([ONE])[ONE]
    assert record.condition.latest[CPU] == (at(10), 41.5)
    assert len(record.dimensions["CWAgent/disk_used_percent"][0]) == 4
    assert world.collect() == collect.Report(repeated=(ONE,))
    world.clock.advance(60)
    world.collect()
    assert world.condition().running_since == NOW
    world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "wait")
    world.clock.advance(60)
    assert world.collect().failed.keys() == {ONE}
    last_error = world.condition().last_error
    assert last_error is not None
    assert last_error.kind == "unreachable"
