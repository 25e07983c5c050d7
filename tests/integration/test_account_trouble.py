"""What AWS is asked, and what becomes of an account that it refuses: the composition root over real HTTP and Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support import stages
from tests.support.aws import use_aws
from workermon import collect, health, models, ports, runtime, settings, testing
from workermon.local.endpoint import Endpoint
from workermon.local.simulation import Simulation
from workermon.on_aws import session

pytestmark = pytest.mark.integration

REGIONS = ("us-east-1", "eu-west-1")


class House:
    """An installation in this process, on a clock of the test's, and the AWS that it asks."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = testing.ManualClock(time.time() // 3600 * 3600 + 7 * 3600)
        self.simulation = Simulation(self.clock, 8, regions=REGIONS)
        self.endpoint = Endpoint(self.simulation)
        self.endpoint.start()
        use_aws(monkeypatch, self.endpoint.url)
        # Waiting between retries is botocore's own business.
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        self.container = runtime.open(
            settings.Settings(redis_url=SecretStr(redis_url)),
            overrides={
                ports.Clock: self.clock,
                ports.Schedule: testing.MemorySchedule(),
                ports.Dispatcher: testing.MemoryDispatcher(),
                ports.Nodes: testing.MemoryNodes(["here"]),
            },
        )
        fleet = [
            models.Worker(id=one.id, name=one.name, region=one.region, added_at=self.clock(), incarnation=one.id,
                          detailed=True)
            for one in self.simulation.machines.values()
        ]  # fmt: skip
        self.ids = [worker.id for worker in fleet]
        self.get(ports.Workers).add(fleet)
        self.told: list[str] = []
        self.marked = self.clock() - 600

    def get(self, port: Any) -> Any:
        """Return a port."""
        return self.container.get(port)

    def collect(self) -> Any:
        """Collect everybody as somebody who asks for it does."""
        return self.container.get(collect.Collection).collect(self.ids, again=True)

    def minute(self) -> None:
        """Let a minute go by, with a collection and the judgements of it."""
        self.clock.advance(60)
        self.collect()
        pulse = self.get(ports.Pulse)
        while self.marked < self.clock():
            self.marked = min(self.marked + 10, self.clock())
            pulse.mark("listener", self.marked)
            pulse.mark("collect", self.marked)
        for _ in range(2):
            self.told += stages.evaluated(
                self.ids, alerts=self.get(ports.Alerts), samples=self.get(ports.Samples),
                configurations=self.get(ports.Configurations), pulse=pulse, now=self.clock,
            )  # fmt: skip
            self.clock.advance(1)

    def status(self) -> health.Status:
        """Look at every part."""
        found: health.Status = self.get(health.StatusCheck).status()
        return found

    def close(self) -> None:
        """End it."""
        self.container.close()
        self.endpoint.stop()


@pytest.fixture
def house(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Give an installation with four workers in each of two regions."""
    made = House(redis_url, monkeypatch)
    try:
        yield made
    finally:
        made.close()


def test_what_is_counted_is_what_aws_was_asked(house: House) -> None:
    """Every call and every metric, of pages, retries and refusals too; a refused call is no metric asked."""
    house.endpoint.fail("error", "GetMetricData", times=1)
    house.endpoint.fail("throttle", "DescribeInstanceStatus", times=2)
    for _ in range(3):
        house.minute()
    house.endpoint.fail("deny", "GetMetricData", times=1)
    house.minute()
    bill = house.status().bill
    counted: dict[str, int] = {}
    for hour in house.get(ports.Costs).hours(house.clock() - models.DAY):
        for (_, operation), number in hour.calls.items():
            counted[operation] = counted.get(operation, 0) + number
    assert counted == {name: number for name, number in house.endpoint.calls.items() if number}
    assert bill.last_24h.calls == sum(house.endpoint.calls.values())
    assert bill.last_24h.metrics == sum(sum(scope.by_metric.values()) for scope in bill.scopes)
    assert bill.last_24h.metrics == house.endpoint.metrics_asked
    assert bill.last_24h.dollars == pytest.approx(house.endpoint.metrics_asked * 1e-5, abs=1e-4)
    assert {(scope.account, scope.region) for scope in bill.scopes} == {("default", region) for region in REGIONS}


@pytest.mark.parametrize(("fault", "kind"), [("deny", "denied"), ("throttle", "throttled"), ("error", "unreachable")])
def test_an_account_that_is_refused_is_one_alert(house: House, fault: Any, kind: str) -> None:
    """Of each region one, none of the workers; it resolves when AWS answers again, and nobody is told of silence."""
    house.minute()
    house.endpoint.fail(fault)
    for _ in range(5):
        house.minute()
    found = house.status()
    assert [(scope.region, scope.state) for scope in found.scopes] == [(one, kind) for one in sorted(REGIONS)]
    fires = {alert.last.dedup_key: alert.last for alert in house.get(ports.Alerts).open()}
    keys = {f"default/{region}/collector" for region in REGIONS}
    assert set(fires) == keys
    assert {told.kind for told in fires.values()} == {"collector"}
    assert all(told.worker is None and told.scope["account"] == "default" for told in fires.values())
    house.endpoint.recover()
    for _ in range(3):
        house.minute()
    assert house.get(ports.Alerts).open() == []
    assert set(house.told) == keys
    assert [scope.state for scope in house.status().scopes] == ["ok", "ok"]


def test_a_role_that_is_refused_is_trouble_and_no_empty_account(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is retired because STS says no; and a session is renewed before its credentials expire."""
    role = "arn:aws:iam::123456789012:role/workermon"
    scope = models.AccountRegion(region="us-east-1", account="lab", role_arn=role, external_id="hush")
    fleet = house.get(ports.Workers)
    lab = house.simulation.machines[house.ids[0]]
    worker = fleet.get([lab.id])[lab.id].worker.model_copy(update={"account": "lab", "role_arn": role,
                                                                  "external_id": "hush"})  # fmt: skip
    assert fleet.update(worker)
    house.endpoint.fail("deny", "AssumeRole")
    report = house.collect()
    assert report.failed[lab.id].kind == "denied"
    assert "hush" not in str(report.failed[lab.id])
    assert report.retired == ()
    states = {f"{each.account}/{each.region}": each.state for each in house.status().scopes}
    assert states == {"default/eu-west-1": "ok", "default/us-east-1": "ok", "lab/us-east-1": "denied"}
    house.endpoint.recover()
    assert house.collect().failed == {}
    before = house.endpoint.calls["AssumeRole"]
    assert house.collect().failed == {}
    assert house.endpoint.calls["AssumeRole"] == before, "one session serves many collections"
    later = datetime.fromtimestamp(house.clock(), UTC) + timedelta(minutes=50)
    monkeypatch.setattr("botocore.credentials._local_now", lambda: later)
    credentials = house.get(session.Sessions).ec2(scope)._request_signer._credentials
    credentials._time_fetcher = lambda: later
    assert house.collect().failed == {}
    assert house.endpoint.calls["AssumeRole"] > before, "ten minutes before its hour is over it is renewed"
