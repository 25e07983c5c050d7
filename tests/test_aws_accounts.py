"""Linked accounts, partitions, chained roles and special endpoints, as docs/how-to/watch-another-account.md lists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from tests.support.aws import made_up_credentials
from workermon import errors, fleet, models, testing
from workermon.config import export
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, ec2, rate_limits, session

A = "i-0aaaaaaaaaaaaaaaa"
REGION = "us-east-1"
SOURCE, MONITORING = "210987654321", "123456789012"
FILE = f"""
[accounts.lab]
role_arn = "arn:aws:iam::{SOURCE}:role/workermon"
external_id = {{ env = "LAB" }}
monitoring = "{MONITORING}"

[discover]
account = "lab"
regions = ["{REGION}"]
tags = {{ Role = "render" }}
"""
VIA = f"""
[accounts.watch]
role_arn = "arn:aws:iam::{MONITORING}:role/metrics"
external_id = {{ env = "WATCH" }}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have boto3's chain find made-up credentials and nothing of this machine's."""
    made_up_credentials(monkeypatch, tmp_path)


@pytest.fixture
def sessions() -> Iterator[session.Sessions]:
    """Give sessions that are closed afterwards."""
    new_sessions = session.Sessions()
    yield new_sessions
    new_sessions.close()


class Served:
    """The simulated AWS, its operations in order, and the role of each AssumeRole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: Seconds that an assumed role lasts.
        self.lasts = 3600.0
        self.server = endpoint.Endpoint(simulation.Simulation(lambda: time.time() + self.lasts - 3600, 2))
        self.operations: list[str] = []
        inner = self.server.api.call

        def call(service: str, action: str, params: dict[str, Any], region: str) -> Any:
            self.operations.append(params["RoleArn"] if action == "AssumeRole" else action)
            return inner(service, action, params, region)

        monkeypatch.setattr(self.server.api, "call", call)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Run the endpoint."""
    new_server = Served(monkeypatch)
    new_server.server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", new_server.server.url)
    yield new_server
    new_server.server.stop()


# --- linked accounts ---------------------------------------------------------------------------------------------


def monitor(text: str) -> testing.Monitor:
    """Return a monitor that applied a file, with one instance in the source account."""
    new_monitor = testing.Monitor()
    new_monitor.secrets = testing.MemorySecrets({"LAB": "x-lab", "WATCH": "x-watch"})
    new_monitor.ec2.put(models.Instance(id=A, region=REGION, status="running", tags={"Role": "render"}), account="lab")
    new_monitor.get(fleet.Application).apply(
        new_monitor.parser.parse(text, "x.toml"), fleet.ApplyOptions(region=REGION)
    )
    return new_monitor


def scope_of(applied: testing.Monitor) -> models.AccountRegion:
    """Return where the worker's calls go."""
    return applied.workers.get([A])[A].worker.scope


def test_cloudwatch_is_read_through_the_monitoring_account() -> None:
    """EC2 is called in the source account, CloudWatch with the own credentials unless a role is configured there."""
    scope = scope_of(monitor(FILE))
    assert (scope.key, scope.role_arn) == (f"lab/{REGION}", f"arn:aws:iam::{SOURCE}:role/workermon")
    assert scope.monitored_by == models.MonitoringAccount(source=SOURCE)
    assert scope.of_cloudwatch == models.AccountRegion(region=REGION)


def test_a_role_in_the_monitoring_account_is_taken() -> None:
    """The account of the file whose role is in it is used, with its external id, in any order."""
    for text in (FILE + VIA, VIA + FILE):
        through = scope_of(monitor(text)).of_cloudwatch
        assert (through.account, through.role_arn, through.external_id) == (
            "watch", f"arn:aws:iam::{MONITORING}:role/metrics", "x-watch",
        )  # fmt: skip


def test_without_monitoring_nothing_changes() -> None:
    """Without ``monitoring`` CloudWatch is read in the worker's account."""
    scope = scope_of(monitor(FILE.replace(f'monitoring = "{MONITORING}"', "")))
    assert scope.of_cloudwatch is scope


def test_a_change_of_the_monitoring_account_reaches_the_workers() -> None:
    """plan and apply show it, export writes it, and applying the export changes nothing."""
    applied = monitor(FILE)
    application = applied.get(fleet.Application)
    changed = application.apply(applied.parser.parse(FILE + VIA, "x.toml"), fleet.ApplyOptions(region=REGION))
    assert changed.updated == (A,)
    assert scope_of(applied).of_cloudwatch.account == "watch"
    text = export.text(applied.configurations.load(), [])
    assert f'monitoring = "{MONITORING}"' in text
    reapplied = application.apply(applied.parser.parse(text, "x.toml"), fleet.ApplyOptions(region=REGION))
    assert (reapplied.updated, reapplied.settings.changed) == ((), ())


def test_a_backup_has_no_external_id_of_either_account() -> None:
    """After a restore both come back from the configuration."""
    applied = monitor(FILE + VIA)
    document = applied.get(fleet.BackingUp).back_up()
    assert "x-lab" not in document
    assert "x-watch" not in document
    restored = testing.Monitor()
    restored.secrets = applied.secrets
    restored.get(fleet.Restoring).restore(document, "x.json")
    assert scope_of(restored) == scope_of(applied)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("123", "is not the id of an account"),
        (SOURCE, "is the account of role_arn itself"),
        ("١" * 12, "is not the id"),
    ],
)
def test_what_is_no_monitoring_account_is_refused(table: str, expected: str) -> None:
    """An invalid monitoring account is refused with line and column."""
    with pytest.raises(errors.InvalidInput, match="line") as caught:
        monitor(FILE.replace(MONITORING, table))
    assert expected in str(caught.value)


def test_queries_and_listings_name_the_source_account(sessions: session.Sessions) -> None:
    """``AccountId`` on each query, the linked account in ListMetrics, both with the monitoring account's client."""
    scope = models.AccountRegion(
        region=REGION, account="lab", role_arn=f"arn:aws:iam::{SOURCE}:role/workermon",
        monitored_by=models.MonitoringAccount(source=SOURCE),
    )  # fmt: skip
    until = int(time.time())
    query = models.Query(
        worker_id=A, metric="cpu_utilization", namespace="AWS/EC2", metric_name="CPUUtilization",
        dimensions=(("InstanceId", A),), statistic="Average", period=60, since=until - 600,
    )  # fmt: skip
    metric = {"Namespace": "CWAgent", "MetricName": "mem_used_percent"}
    published = {**metric, "Dimensions": [{"Name": "InstanceId", "Value": A}]}
    parameters: list[dict[str, Any]] = []
    client = sessions.cloudwatch(models.AccountRegion(region=REGION))
    client.meta.events.register(
        "before-parameter-build.cloudwatch", lambda params, **_: parameters.append(dict(params))
    )
    with Stubber(client) as stub:
        stub.add_response("get_metric_data", {"MetricDataResults": []})
        stub.add_response("list_metrics", {"Metrics": [published], "OwningAccounts": [SOURCE]})
        read = cloudwatch.AwsCloudWatch(sessions)
        read.fetch(scope, [query], until)
        sets = read.dimensions(scope, "CWAgent", "mem_used_percent", [A])
    data, listing = parameters[0], parameters[-1]
    assert [query["AccountId"] for query in data["MetricDataQueries"]] == [SOURCE]
    assert (listing["IncludeLinkedAccounts"], listing["OwningAccount"]) == (True, SOURCE)
    assert sets == {A: [(("InstanceId", A),)]}


def test_the_account_id_goes_over_the_wire(
    sessions: session.Sessions, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short cut around botocore's serializer sends it too, and requests count for the monitoring account."""
    requests: list[Any] = []
    inner = served.server.api.call

    def call(service: str, action: str, params: dict[str, Any], region: str) -> Any:
        requests.extend(params.get("MetricDataQueries", ()))
        return inner(service, action, params, region)

    monkeypatch.setattr(served.server.api, "call", call)
    spent = testing.MemoryCosts()
    counted = session.Sessions(rate_limits.Limited(testing.MemoryLimiter(), spent, time.time))
    scope = models.AccountRegion(
        region=REGION, account="lab", role_arn=f"arn:aws:iam::{SOURCE}:role/workermon",
        monitored_by=models.MonitoringAccount(source=SOURCE),
    )  # fmt: skip
    instance = next(iter(served.server.simulation.machines))
    until = int(time.time())
    query = models.Query(
        worker_id=instance, metric="cpu_utilization", namespace="AWS/EC2", metric_name="CPUUtilization",
        dimensions=(("InstanceId", instance),), statistic="Average", period=60, since=until - 600,
    )  # fmt: skip
    answer = cloudwatch.AwsCloudWatch(counted).fetch(scope, [query], until)
    counted.close()
    assert answer.failed == {}
    assert [request["AccountId"] for request in requests] == [SOURCE]
    assert set(spent.totals().metrics) == {(f"default/{REGION}", "AWS/EC2/CPUUtilization")}


# --- partitions, endpoints, roles --------------------------------------------------------------------------------


SERVICES = ("ec2", "monitoring", "sqs", "events")


def hosts(sessions: session.Sessions, region: str) -> list[str]:
    """Return where EC2, CloudWatch, SQS and EventBridge are asked."""
    scope = models.AccountRegion(region=region)
    clients: list[Any] = [
        make_client(scope) for make_client in (sessions.ec2, sessions.cloudwatch, sessions.sqs, sessions.events)
    ]
    return [client.meta.endpoint_url.removeprefix("https://") for client in clients]


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-east-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("ap-east-1", "amazonaws.com"),
    ],
)
def test_each_partition_has_its_own_endpoints(sessions: session.Sessions, region: str, domain: str) -> None:
    """The commercial partition, GovCloud, China, and an opt-in region each have their endpoints."""
    assert hosts(sessions, region) == [f"{service}.{region}.{domain}" for service in SERVICES]


@pytest.mark.parametrize(
    ("variable", "host"),
    [
        ("AWS_USE_FIPS_ENDPOINT", "{}-fips.us-east-1.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "{}.us-east-1.api.aws"),
    ],
)
def test_fips_and_dual_stack_are_boto3s_own_settings(
    sessions: session.Sessions, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    """The environment or profile sets them, as for every program with boto3."""
    monkeypatch.setenv(variable, "true")
    assert hosts(sessions, "us-east-1") == [host.format(service) for service in SERVICES]


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_roles_of_every_partition_are_taken(partition: str) -> None:
    """Roles of every partition are valid in [accounts], and the account's id is read from them."""
    file = testing.parse(f'[accounts.x]\nrole_arn = "arn:{partition}:iam::{SOURCE}:role/path/workermon"\n', "x.toml")
    assert file.accounts is not None
    assert file.accounts["x"].id == SOURCE


def test_a_role_is_assumed_by_way_of_another(
    sessions: session.Sessions, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the profile itself assumes a role, the account's role is assumed with that role's credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "hop")
    hop, last = f"arn:aws:iam::{MONITORING}:role/hop", f"arn:aws:iam::{SOURCE}:role/workermon"
    (tmp_path / "config").write_text(
        f"[profile hop]\nrole_arn = {hop}\nsource_profile = base\nregion = {REGION}\n", "utf-8"
    )
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id = x\naws_secret_access_key = y\n", "utf-8")
    scope = models.AccountRegion(region=REGION, account="lab", role_arn=last)
    assert len(ec2.AwsEc2(sessions).find(scope, {})) == 2
    assert served.operations == [hop, last, "DescribeInstances"]


def test_a_session_is_renewed_before_it_ends(sessions: session.Sessions, served: Served) -> None:
    """A long session is reused. One with less than ten minutes left is renewed at the next call."""
    role = f"arn:aws:iam::{SOURCE}:role/workermon"
    scope = models.AccountRegion(region=REGION, account="lab", role_arn=role)
    served.lasts = 300.0
    reader = ec2.AwsEc2(sessions)
    reader.find(scope, {})
    before = served.operations.count(role)
    served.lasts = 3600.0
    reader.find(scope, {})
    assert served.operations.count(role) == before + 1
    reader.find(scope, {})
    assert served.operations.count(role) == before + 1


def test_a_region_that_is_not_enabled_says_so(
    sessions: session.Sessions, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the credentials work in another region, EC2's refusal means a region that is not enabled."""
    served.server.fail("invalid", "DescribeInstances", region="ap-east-1")
    denied = testing.Monitor()
    monkeypatch.setattr(denied, "ec2", ec2.AwsEc2(sessions))
    scopes = [models.AccountRegion(region=name) for name in ("ap-east-1", REGION)]
    search = denied.get(fleet.TagSearch).search({}, scopes)
    assert "enable" in search.failed["default/ap-east-1"].todo
    assert [scope.region for scope, _ in search.instances] == [REGION]
