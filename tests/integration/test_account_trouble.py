"""Counts of AWS requests, and alerts about an account that AWS refuses, over real HTTP and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.aws_house import REGIONS, TwoRegions
from workermon import models, ports, runtime

pytestmark = pytest.mark.integration


@pytest.fixture
def house(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoRegions]:
    """Give an installation with four workers in each of two regions."""
    new_house = TwoRegions(redis_url, monkeypatch)
    try:
        yield new_house
    finally:
        new_house.close()


def test_what_is_counted_is_what_aws_was_asked(house: TwoRegions) -> None:
    """Every call and metric is counted, with pages, retries and refusals. A refused call requests no metric."""
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
def test_an_account_that_is_refused_is_one_alert(house: TwoRegions, fault: Any, kind: str) -> None:
    """Each region has one alert, and workers have none. It resolves when AWS answers again, without ``no-data``."""
    house.minute()
    house.endpoint.fail(fault)
    for _ in range(5):
        house.minute()
    status = house.status()
    assert [(scope.region, scope.state) for scope in status.scopes] == [(region, kind) for region in sorted(REGIONS)]
    fires = {alert.last.dedup_key: alert.last for alert in house.get(ports.Alerts).open()}
    keys = {f"default/{region}/collector" for region in REGIONS}
    assert set(fires) == keys
    assert {notification.kind for notification in fires.values()} == {"collector"}
    assert all(
        notification.worker is None and notification.scope["account"] == "default" for notification in fires.values()
    )
    house.endpoint.recover()
    for _ in range(3):
        house.minute()
    assert house.get(ports.Alerts).open() == []
    assert set(house.notified) == keys
    assert [scope.state for scope in house.status().scopes] == ["ok", "ok"]


def test_a_role_that_is_refused_is_an_error_and_no_empty_account(
    house: TwoRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If STS refuses a role, no worker is retired. A session is renewed before its credentials expire."""
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
    states = {f"{scope.account}/{scope.region}": scope.state for scope in house.status().scopes}
    assert states == {"default/eu-west-1": "ok", "default/us-east-1": "ok", "lab/us-east-1": "denied"}
    house.endpoint.recover()
    assert house.collect().failed == {}
    before = house.endpoint.calls["AssumeRole"]
    assert house.collect().failed == {}
    assert house.endpoint.calls["AssumeRole"] == before, "one session serves many collections"
    later = datetime.fromtimestamp(house.clock(), UTC) + timedelta(minutes=50)
    monkeypatch.setattr("botocore.credentials._local_now", lambda: later)
    credentials = house.get(runtime.Aws).sessions.ec2(scope)._request_signer._credentials
    credentials._time_fetcher = lambda: later
    assert house.collect().failed == {}
    assert house.endpoint.calls["AssumeRole"] > before, "ten minutes before its hour is over it is renewed"
