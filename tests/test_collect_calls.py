"""AWS calls of a collection, counted at a real HTTP endpoint."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.aws import forget_aws
from workermon import collect, config, models, testing
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, ec2, session

NOW = 1_699_999_200.0
#: One series of each for each worker, one of them of the CloudWatch agent.
FIVE = ("cpu_utilization", "memory_utilization", "network_in", "network_out", "disk_read_bytes")


class Fleet(testing.Monitor):
    """Workers of a simulated AWS, collected in batches of a hundred by real boto3 clients."""

    def __init__(
        self, workers: int, names: tuple[str, ...] = FIVE, *, detailed: bool = True, history: int = 300
    ) -> None:
        super().__init__(config.DEFAULT.model_copy(update={"collect": names}), NOW)
        self.simulation = simulation.Simulation(self.clock, workers, history=history, detailed=detailed)
        self.endpoint = endpoint.Endpoint(self.simulation)
        self.sessions = session.Sessions()
        self.stage = dataclasses.replace(
            self.get(collect.Collection),
            ec2=ec2.AwsEc2(self.sessions),
            cloudwatch=cloudwatch.AwsCloudWatch(self.sessions),
        )
        self.ids = sorted(self.simulation.machines)
        for worker_id in self.ids:
            self.add_worker(worker_id, added_at=NOW - history, detailed=detailed)

    def cycle(self) -> Counter[str]:
        """Collect all workers once, in batches. Return the number of calls."""
        before = Counter(self.endpoint.calls)
        for start in range(0, len(self.ids), 100):
            self.stage.collect(self.ids[start : start + 100])
        self.clock.advance(60)
        return self.endpoint.calls - before


@pytest.fixture
def fleets(monkeypatch: pytest.MonkeyPatch, retries_at_once: None) -> Iterator[Any]:
    """Make fleets whose endpoint boto3 uses."""
    forget_aws(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    new_fleets: list[Fleet] = []

    def make(*arguments: Any, **options: Any) -> Fleet:
        fleet = Fleet(*arguments, **options)
        fleet.endpoint.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", fleet.endpoint.url)
        new_fleets.append(fleet)
        return fleet

    yield make
    for fleet in new_fleets:
        fleet.sessions.close()
        fleet.endpoint.stop()


def test_hundreds_of_workers_take_two_calls_a_hundred(fleets: Any) -> None:
    """With five metrics at most 0.022 calls for each worker and cycle, the listing of dimensions included."""
    fleet = fleets(600)
    total: Counter[str] = sum((fleet.cycle() for _ in range(2)), Counter())
    assert total["DescribeInstanceStatus"] == total["GetMetricData"] == 12
    # Two pages of up to 500, once.
    assert total["ListMetrics"] == 2
    assert total.total() / 1200 <= 0.022
    written = fleet.samples.read([(worker_id, "memory_utilization", 60) for worker_id in fleet.ids], 0, NOW * 2)
    assert all(series.points for series in written.values())


def test_only_more_than_five_hundred_series_take_a_second_call(fleets: Any) -> None:
    """If every other of a hundred workers has a second filesystem, one more call is made."""
    fleet = fleets(100, ("cpu_utilization", "memory_utilization", "network_in", "network_out", "disk_utilization"))
    fleet.cycle()
    assert fleet.cycle() == Counter(DescribeInstanceStatus=1, GetMetricData=2)


def test_basic_monitoring_takes_no_call_where_nothing_can_be_new(fleets: Any) -> None:
    """Until the next datapoint can exist, only EC2's checks are requested."""
    fleet = fleets(4, ("cpu_utilization", "network_in"), detailed=False)
    fleet.simulation.period, fleet.simulation.delay = 300, 45
    for _ in range(45):
        fleet.cycle()
    calls: Counter[str] = sum((fleet.cycle() for _ in range(40)), Counter())
    assert calls["DescribeInstanceStatus"] == 40
    assert 8 <= calls["GetMetricData"] <= 10


def test_a_bad_id_is_found_within_its_batch(fleets: Any) -> None:
    """EC2 refuses the batch, is asked again without that id, and has to confirm it: the others are not asked twice."""
    fleet = fleets(100)
    fleet.cycle()
    fleet.simulation.forget(fleet.ids[7])
    fleet.clock.advance(300)
    calls = fleet.cycle()
    assert calls == Counter(DescribeInstanceStatus=2, DescribeInstances=1, GetMetricData=1)
    assert fleet.schedule.ids() == set(fleet.ids) - {fleet.ids[7]}
    assert fleet.workers.get([fleet.ids[7]])[fleet.ids[7]].condition.status == "terminated"


def test_a_day_is_caught_up_within_the_limits_of_a_call(fleets: Any) -> None:
    """After a day without CloudWatch each datapoint of it comes, in as few calls as its limits allow."""
    fleet = fleets(15, history=models.DAY + 3600)
    calls = fleet.cycle()
    # 75 series of 1,440 datapoints, at most 100,800 of them in a call.
    assert calls == Counter(DescribeInstanceStatus=1, GetMetricData=2, ListMetrics=1)
    series_keys = [(worker_id, name, 60) for worker_id in fleet.ids for name in FIVE]
    read = fleet.samples.read(series_keys, NOW - models.DAY, NOW)
    assert {len(series.points) for series in read.values()} == {1440}
    fleet.cycle()
    assert {len(series.points) for series in fleet.samples.read(series_keys, NOW - models.DAY, NOW).values()} == {1441}


def test_a_retry_of_a_part_does_not_repeat_the_rest(fleets: Any) -> None:
    """If one of two calls fails, only its series are requested again in the next collection."""
    fleet = fleets(15, history=models.DAY + 3600)
    fleet.endpoint.fail("throttle", "GetMetricData", times=3)  # as often as boto3 tries
    assert fleet.cycle()["GetMetricData"] == 4
    requested = fleet.endpoint.metrics_asked
    read = fleet.samples.read(
        [(worker_id, name, 60) for worker_id in fleet.ids for name in FIVE], NOW - models.DAY, NOW
    )
    lacking = len([series for series in read.values() if not series.points])
    assert 0 < lacking < 75
    assert requested == 75 - lacking
    fleet.cycle()
    assert all(
        series.points
        for series in fleet.samples.read(
            [(worker_id, name, 60) for worker_id in fleet.ids for name in FIVE], NOW - models.DAY, NOW
        ).values()
    )
