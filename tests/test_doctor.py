"""Doctor: each thing that it tries is shown to fail."""

import json

import pytest

from tests.test_cli import REGION, A, ok, run, world  # noqa: F401 - fixtures
from workermon import doctor, errors, models, ports, testing
from workermon.on_redis import server


def checks(**own):
    """Return the checks of a server with these settings, by name."""
    clock = testing.ManualClock(1000)
    memory = testing.MemoryServer(clock, **own)
    return {check.name: check for check in doctor.server(server=memory, now=clock)}


def test_a_server_that_forgets_is_told():
    """Eviction and a lack of persistence are named with what to do; a sound server has neither."""
    assert all(check.ok for check in checks().values())
    evicts = checks(maxmemory_policy="allkeys-lru")["redis eviction"]
    assert (evicts.ok, "noeviction" in evicts.todo) == (False, True)
    assert not checks(aof_enabled="0")["redis persistence"].ok
    snapshots = checks(aof_enabled="0", rdb_last_save_time="5", rdb_last_bgsave_status="ok")["redis persistence"]
    assert (snapshots.ok, snapshots.reason) == (True, "snapshots only")


@pytest.mark.parametrize(("ahead", "well"), [(0, True), (4, True), (-30, False), (6, False)])
def test_clocks_that_differ_are_told(ahead, well):
    """More than 5 s between this machine and the server is not well."""
    clock = testing.ManualClock(1000)
    memory = testing.MemoryServer(clock)
    memory.ahead = ahead
    [found] = [check for check in doctor.server(server=memory, now=clock) if check.name == "clock"]
    assert found.ok is well


class Denied:
    """A CloudWatch that may not be asked for data."""

    def fetch(self, scope, queries, until):
        """Refuse each query."""
        why = errors.AwsDenied("AWS", "not authorized to perform: cloudwatch:GetMetricData", "add it to the policy")
        return ports.Answer({}, dict.fromkeys(range(len(queries)), why))

    def dimensions(self, scope, namespace, metric_name, instance_ids):
        """Answer."""
        return {}


def test_a_missing_permission_is_named():
    """Each permission is tried by itself, so the one that lacks is told by its name."""
    ec2 = testing.MemoryEc2(models.Instance(id=A, region=REGION, status="running"))
    found = list(
        doctor.aws(models.Scope(region=REGION), [A], ec2=ec2, cloudwatch=Denied(), now=testing.ManualClock(9000))
    )
    assert [(check.name.split(" ")[0], check.ok) for check in found] == [
        ("ec2:DescribeInstances", True),
        ("ec2:DescribeInstanceStatus", True),
        ("cloudwatch:ListMetrics", True),
        ("cloudwatch:GetMetricData", False),
    ]
    assert "not authorized" in found[-1].reason


def test_the_command_exits_0_only_if_all_is_well(ok, run, world):  # noqa: F811
    """Nothing runs here, so that it exits 1; its document has every part and every try."""
    ok("add", A)
    done = run("doctor", "--json")
    assert done.exit_code == 1
    found = {check["name"]: check["ok"] for check in json.loads(done.stdout)["checks"]}
    assert found["listener"] is False
    assert found["redis eviction"] is found[f"ec2:DescribeInstances in default/{REGION}"] is True
    assert "BAD" in run("doctor").stdout


def test_a_real_server_tells_of_itself(redis_client):
    """What is looked at is what a server says."""
    real = server.RedisServer(redis_client)
    own = real.settings()
    assert own["maxmemory_policy"] == "noeviction"
    assert {"aof_enabled", "rdb_last_save_time", "rdb_last_bgsave_status"} <= set(own)
    assert real.time() > 1_700_000_000
