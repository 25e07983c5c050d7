"""Doctor: each of its checks can fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest
import redis

from tests.support.aws import use_aws
from tests.support.commands import REGION, A
from workermon import errors, models, ports, testing
from workermon.health import doctor
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, ec2, error_kinds, session
from workermon.on_redis import server


def checks(**changes: Any) -> Any:
    """Return the checks of a server with these settings, by name."""
    monitor = testing.Monitor(now=1000)
    monitor.server = testing.MemoryServer(monitor.clock, **changes)
    return {check.name: check for check in monitor.get(doctor.server.ServerExamination).examine()}


def test_a_server_that_forgets_is_reported() -> None:
    """Eviction and missing persistence are named with what to do. A sound server has neither."""
    assert all(check.ok for check in checks().values())
    evicts = checks(maxmemory_policy="allkeys-lru")["redis eviction"]
    assert (evicts.ok, "noeviction" in evicts.todo) == (False, True)
    assert not checks(aof_enabled="0")["redis persistence"].ok
    snapshots = checks(aof_enabled="0", rdb_last_save_time="5", rdb_last_bgsave_status="ok")["redis persistence"]
    assert (snapshots.ok, snapshots.reason) == (True, "snapshots only")


@pytest.mark.parametrize(("ahead", "well"), [(0, True), (4, True), (-30, False), (6, False)])
def test_clocks_that_differ_are_reported(ahead: int, well: bool) -> None:
    """A difference of more than 5 s between machine and server fails the check."""
    monitor = testing.Monitor(now=1000)
    monitor.server.ahead = ahead
    [clock_check] = [check for check in monitor.get(doctor.server.ServerExamination).examine() if check.name == "clock"]
    assert clock_check.ok is well


class Denied(testing.MemoryCloudWatch):
    """A CloudWatch that may not be asked for data."""

    def fetch(self, scope: Any, queries: Any, until: Any) -> Any:
        """Refuse each query."""
        denied = errors.AwsDenied("AWS", "not authorized to perform: cloudwatch:GetMetricData", "add it to the policy")
        return ports.Answer({}, dict.fromkeys(range(len(queries)), denied))

    def dimensions(self, scope: Any, namespace: Any, metric_name: Any, instance_ids: Any) -> Any:
        """Answer."""
        return {}


def test_a_missing_permission_is_named() -> None:
    """Each permission is checked alone, so the missing one is named."""
    monitor = testing.Monitor(now=9000)
    monitor.ec2.put(models.Instance(id=A, region=REGION, status="running"))
    monitor.cloudwatch = Denied()
    examined = list(monitor.get(doctor.aws.AwsExamination).examine(models.AccountRegion(region=REGION), [A]))
    assert [(check.name.split(" ")[0], check.ok) for check in examined] == [
        ("ec2:DescribeInstances", True),
        ("ec2:DescribeInstanceStatus", True),
        ("cloudwatch:ListMetrics", True),
        ("cloudwatch:GetMetricData", False),
        ("clock", True),
    ]
    assert "not authorized" in examined[-2].reason


@pytest.mark.parametrize(
    ("ahead", "well", "expected"),
    [
        (None, True, "AWS does not say"),
        (0, True, "in step with this machine's clock"),
        (20, True, "AWS is 20.5 s ahead"),
        (-31, False, "AWS is 30.5 s behind, more than 30 s"),
        (40, False, "AWS is 40.5 s ahead, more than 30 s"),
    ],
)
def test_the_clock_of_aws_is_compared(ahead: int | None, well: bool, expected: str) -> None:
    """A difference of half a minute to AWS is too much, because datapoints are evaluated by their time."""
    monitor = testing.Monitor(now=9000)
    monitor.ec2.clock = lambda: None if ahead is None else 9000 + ahead
    *_, clock_check = monitor.get(doctor.aws.AwsExamination).examine(models.AccountRegion(region=REGION), [])
    assert (clock_check.name, clock_check.ok, clock_check.reason) == (
        f"clock of AWS in default/{REGION}",
        well,
        expected,
    )
    assert (clock_check.todo is None) is well


def test_without_a_worker_each_permission_is_tried_all_the_same() -> None:
    """Without workers the checks use an unknown id, because a call without ids would make no request."""
    monitor = testing.Monitor(now=9000)
    list(monitor.get(doctor.aws.AwsExamination).examine(models.AccountRegion(region=REGION), []))
    assert [(call, bool(ids)) for call, _, ids in monitor.ec2.calls] == [
        ("find", False),
        ("statuses", True),
        ("time", False),
    ]


def test_the_command_exits_0_only_if_all_is_well(ok: Any, run: Any, world: Any) -> None:
    """Nothing runs in this test, so it exits with 1. The document has every part and every check."""
    ok("add", A)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    outcomes = {check["name"]: check["ok"] for check in json.loads(result.stdout)["checks"]}
    assert outcomes["listener"] is False
    assert outcomes["redis eviction"] is outcomes[f"ec2:DescribeInstances in default/{REGION}"] is True
    assert "BAD" in run("doctor").stdout


def test_a_real_server_reports_its_settings(redis_client: redis.Redis) -> None:
    """The checks read the settings that a real server reports."""
    real = server.RedisServer(redis_client)
    app_settings = real.settings()
    assert app_settings["maxmemory_policy"] == "noeviction"
    assert {"aof_enabled", "rdb_last_save_time", "rdb_last_bgsave_status"} <= set(app_settings)
    assert real.time() > 1_700_000_000


# --- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, retries_at_once: None) -> Iterator[Any]:
    """Give the simulated AWS, where one call may fail, and its checks."""
    simulated = simulation.Simulation(time.time, 2)
    served = endpoint.Endpoint(simulated)
    served.start()
    use_aws(monkeypatch, served.url)
    sessions = session.Sessions()

    def look(members: Any) -> Any:
        scope = models.AccountRegion(region="us-east-1")
        ids = list(simulated.machines)[:members]
        monitor = testing.Monitor()
        monkeypatch.setattr(monitor, "clock", time.time)
        monkeypatch.setattr(monitor, "ec2", ec2.AwsEc2(sessions))
        monkeypatch.setattr(monitor, "cloudwatch", cloudwatch.AwsCloudWatch(sessions))
        checks = monitor.get(doctor.aws.AwsExamination).examine(scope, ids)
        return {check.name.removesuffix(" in default/us-east-1"): check for check in checks}

    yield served, look
    sessions.close()
    served.stop()


@pytest.mark.parametrize("members", [0, 1])
@pytest.mark.parametrize(
    "permission",
    ["ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "cloudwatch:ListMetrics", "cloudwatch:GetMetricData"],
)
def test_each_permission_that_aws_denies_is_named_alone(aws: Any, permission: str, members: int) -> None:
    """With or without workers, the check of a denied permission fails and says what to allow."""
    served, look = aws
    assert all(check.ok for check in look(members).values())
    served.fail("deny", permission.partition(":")[2])
    examined = look(members)
    assert [name for name, check in examined.items() if not check.ok] == [permission]
    assert f"allow {permission} in the IAM policy" in examined[permission].todo


@pytest.mark.parametrize("ahead", [45, -50])
def test_the_date_of_an_answer_is_the_clock_of_aws(aws: Any, ahead: int) -> None:
    """A clock difference that AWS accepts is shown in seconds, before it makes datapoints late or early."""
    served, look = aws
    assert look(1)["clock of AWS"].ok
    served.ahead = ahead
    examined = look(1)
    assert [name for name, check in examined.items() if not check.ok] == ["clock of AWS"]
    seconds = float(examined["clock of AWS"].reason.split()[2])
    assert abs(seconds - abs(ahead)) < 2
    assert ("ahead" if ahead > 0 else "behind") in examined["clock of AWS"].reason


@pytest.mark.parametrize("ahead", [400, -3600])
def test_signatures_that_aws_refuses_for_the_clock_name_it(aws: Any, ahead: int) -> None:
    """EC2 calls it AuthFailure and CloudWatch an invalid signature: both lines say by how much the clock is off."""
    served, look = aws
    served.ahead = ahead
    examined = look(1)
    assert not any(check.ok for check in examined.values())
    for name in ("ec2:DescribeInstances", "cloudwatch:GetMetricData"):
        assert "this machine's clock is " in examined[name].reason
        seconds_apart = int(examined[name].reason.partition("clock is ")[2].split()[0])
        assert abs(seconds_apart - abs(ahead)) < 3
        assert ("behind" if ahead > 0 else "ahead of") in examined[name].reason
        assert "set the clock" in examined[name].todo
    seconds = float(examined["clock of AWS"].reason.split()[2])
    assert abs(seconds - abs(ahead)) < 3


def test_wrong_credentials_are_not_blamed_on_a_clock_that_is_right(aws: Any) -> None:
    """The same codes with a Date that agrees are about the credentials."""
    served, look = aws
    served.fail("invalid")
    examined = look(1)
    assert "clock" not in examined["ec2:DescribeInstances"].reason
    assert "give boto3 valid credentials" in examined["ec2:DescribeInstances"].todo


@pytest.mark.parametrize(
    ("code", "message", "clock"),
    [
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", True),
        ("RequestInTheFuture", "", True),
        ("InvalidSignatureException", "Signature expired: 20131008T001036Z is now earlier than 20131008T001112Z", True),
        ("InvalidSignatureException", "Signature not yet current: 20131008T001036Z is still later than", True),
        ("InvalidSignatureException", "The request signature we calculated does not match", False),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", False),
        ("AuthFailure", "AWS was not able to validate the provided access credentials", False),
    ],
)
def test_what_names_the_clock_without_a_date(code: str, message: str, clock: bool) -> None:
    """Codes and messages about time alone name the clock. Others leave both causes open."""
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    refusal = botocore.exceptions.ClientError(response, "DescribeInstances")
    error = error_kinds.translate(refusal, "EC2", models.AccountRegion(region="us-east-1"), time.time())
    assert isinstance(error, errors.AwsDenied)
    assert ("this machine's clock is wrong" in error.reason) is clock
    assert "clock" in error.todo
    assert "\n" not in str(error)
