"""``rules backtest --cloudwatch`` over HTTP and boto3 gives the result of a trace with the same datapoints."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.integration.aws_house import House
from workermon import cli, models, ports, testing
from workermon.cli import session as command_line
from workermon.local.endpoint import Fault
from workermon.local.simulation import AGENT, Simulation

pytestmark = pytest.mark.integration

FILE = """
[[rules]]
name = "busy"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
clear = { warning = 75, critical = 85 }
breach = "2 of 3"

[[rules]]
name = "idle"
metric = "cpu_utilization"
below = { warning = 12 }
breach = "3 of 4"
missing = "breach"
labels = { team = "vfx" }

[[rules]]
name = "full"
metric = "disk_utilization"
above = { critical = 90 }
breach = "1 of 1"
"""


class Served(House):
    """A simulated AWS with much history, and the command line over a real Redis."""

    def __init__(self, redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = testing.ManualClock(time.time() // 300 * 300)
        super().__init__(redis_url, monkeypatch, Simulation(clock, 2, history=3600))
        monkeypatch.setenv("WORKERMON_REDIS_URL", redis_url)
        self.id, self.second_id = self.ids
        self.file, self.trace = folder / "rules.toml", folder / "trace.csv"
        self.file.write_text(FILE, "utf-8")

    def add(self, **changes: object) -> models.Worker:
        """Monitor the first instance."""
        fields = {"id": self.id, "name": "one", "region": "us-east-1", "added_at": self.clock(), "incarnation": "1"}
        worker = models.Worker.model_validate({**fields, "detailed": True, **changes})
        self.container.get(ports.Workers).add([worker])
        return worker

    def serve(self, days: float, *, period: int = 60, gaps: float = 0.05) -> list[tuple[int, float]]:
        """Have CloudWatch keep datapoints of the CPU of so many days, with plateaus and gaps, calm at the end."""
        chance, points = random.Random(5), []
        at, level, slots_left = int(self.clock() - days * models.DAY) // period * period, 40.0, 0
        while at < self.clock() - 3600:
            if not slots_left:
                level, slots_left = chance.choice([5.0, 40.0, 60.0, 84.0, 96.0]), chance.randint(3, 90)
            slots_left -= 1
            if chance.random() >= gaps:
                points.append((at, round(level + chance.random(), 3)))
            at += period
        points += [(at + period * number, 50.0) for number in range(math.ceil((self.clock() - at) / period))]
        self.simulation.replay(self.id, "CPUUtilization", points)
        return points

    def run(self, *more: str) -> Result:
        """Run ``rules backtest``."""
        session = command_line.Session(self.settings, self.container)
        return CliRunner().invoke(cli.cli, ["rules", "backtest", str(self.file), *more], obj=session)

    def of_trace(self, points: list[tuple[int, float]]) -> list[dict[str, object]]:
        """Return the episodes of the same datapoints in a trace."""
        self.trace.write_text("timestamp,value\n" + "".join(f"{at},{value}\n" for at, value in points), "utf-8")
        metric = ("--metric", "cpu_utilization", "--worker", self.id)
        return list(json.loads(self.run("--csv", str(self.trace), *metric, "--json").stdout)["episodes"])


@pytest.fixture
def house(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Give one and end it."""
    new_house = Served(redis_url, tmp_path, monkeypatch)
    try:
        yield new_house
    finally:
        new_house.close()


def episodes_of(result: Result) -> list[dict[str, object]]:
    """Return the episodes of a run that went well."""
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout)["episodes"])


def test_cloudwatchs_history_says_what_a_trace_says(house: Served) -> None:
    """Two weeks of minutes give exactly the episodes of the same CSV, after the price."""
    worker = house.add(labels={"team": "vfx"})
    points = house.serve(13.5)
    result = house.run("--worker", "one", "--metric", "cpu_utilization", "--cloudwatch", "--yes", "--json")
    episodes = episodes_of(result)
    assert len(episodes) > 30
    assert {episode["worker"] for episode in episodes} == {worker.id}
    assert {episode["rule"] for episode in episodes} == {"busy", "idle"}
    assert episodes == house.of_trace(points)
    assert "This asks CloudWatch for 1 metric of 1 worker since " in result.stderr
    assert "$0.00001 (1 × $0.01 / 1,000)" in result.stderr
    assert house.endpoint.metrics_asked == 1
    [hour] = house.container.get(ports.Costs).hours(house.clock() - 3600)
    assert sum(hour.metrics.values()) == 1


def test_nothing_is_asked_before_its_price_is_agreed_to(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal it needs --yes. On a terminal it asks, and after a no it requests nothing."""
    house.add()
    house.serve(1)
    result = house.run("--worker", "one", "--cloudwatch")
    assert result.exit_code == 2
    assert "$0.00002 (2 × $0.01 / 1,000)" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: --cloudwatch: it costs money, and there is no terminal to confirm it; add --yes"
    )
    monkeypatch.setattr("workermon.cli.rules._is_interactive", lambda: True)
    session = command_line.Session(house.settings, house.container)
    command = ["rules", "backtest", str(house.file), "--worker", "one", "--cloudwatch", "--json"]
    result = CliRunner().invoke(cli.cli, command, obj=session, input="n\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the price was not confirmed" in result.stderr
    assert house.endpoint.metrics_asked == 0
    assert episodes_of(CliRunner().invoke(cli.cli, command, obj=session, input="y\n"))
    assert house.endpoint.metrics_asked == 2


def test_what_is_older_than_is_kept_comes_in_longer_periods(house: Served) -> None:
    """Before 15 days only five-minute averages exist. They are evaluated, and requested separately."""
    house.add(labels={"team": "vfx"})
    points = house.serve(25)
    result = house.run(
        "--worker", "one", "--metric", "cpu_utilization", "--cloudwatch", "--since", "20d", "--yes", "--json"
    )
    episodes = episodes_of(result)
    assert "averages of up to 300 s" in result.stderr
    assert house.endpoint.metrics_asked == 2
    minutes = house.clock() - 14.5 * models.DAY
    recent = [episode for episode in episodes if models.moment(str(episode["from"])) > minutes]
    assert recent == [episode for episode in house.of_trace(points) if models.moment(str(episode["from"])) > minutes]
    old = [episode for episode in episodes if models.moment(str(episode["from"])) < minutes - models.DAY]
    assert old
    assert all(models.moment(str(episode["from"])) % 300 == 0 for episode in old)
    assert models.moment(str(episodes[0]["from"])) >= house.clock() - 20 * models.DAY - 300


def test_dimensions_are_those_that_are_really_published(house: Served) -> None:
    """Each published series of a disk is requested and billed, and the fullest one is evaluated."""
    house.add()
    disks = [
        stream for key, stream in house.simulation.streams.items()
        if stream.machine.id == house.id and key[1] == "disk_used_percent"
    ]  # fmt: skip
    fullest = next(stream for stream in disks if dict(stream.dimensions)["fstype"] == "xfs")
    at = int(house.clock()) // 60 * 60 - 3000
    points = [(at + 60 * number, 95.0 if 10 <= number < 20 else 20.0) for number in range(50)]
    house.simulation.replay(house.id, "disk_used_percent", points, namespace=AGENT, dimensions=fullest.dimensions)
    result = house.run(
        "--worker", "one", "--metric", "disk_utilization", "--cloudwatch", "--since", "2h", "--yes", "--json"
    )
    [episode] = episodes_of(result)
    begin, end = models.moment(str(episode["from"])), models.moment(str(episode["to"]))
    assert (episode["rule"], episode["peak"], begin) == ("full", 95.0, at + 600)
    assert at + 1200 <= end <= at + 1260
    real = [disk for disk in disks if dict(disk.dimensions)["fstype"] not in ("tmpfs", "squashfs")]
    assert house.endpoint.metrics_asked == len(real)


def test_an_instance_that_is_not_monitored_is_evaluated_by_every_rule(house: Served) -> None:
    """Its region is --region or the configured one. Rules apply to it whatever labels they need."""
    points = house.serve(3)
    result = house.run(
        "--worker", house.id, "--metric", "cpu_utilization", "--cloudwatch", "--since", "4d", "--yes", "--json"
    )
    assert episodes_of(result) == house.of_trace(points)
    elsewhere = house.run(
        "--worker", house.id, "--region", "eu-west-1", "--metric", "cpu_utilization", "--cloudwatch", "--yes", "--json"
    )
    assert episodes_of(elsewhere) == []
    assert "EC2 in eu-west-1 does not know it" in elsewhere.stderr
    assert "CloudWatch has no cpu_utilization since then" in elsewhere.stderr
    assert list(house.container.get(ports.Workers).every()) == []
    assert house.run("--worker", "nobody", "--cloudwatch", "--yes").exit_code == 3


def test_the_role_of_a_worker_asks(house: Served) -> None:
    """Its history is requested with its role and external id, and counted for its account."""
    role = "arn:aws:iam::123456789012:role/workermon"
    house.endpoint.api.roles = {role: "secret-id"}
    house.add(role_arn=role, external_id="secret-id", account="lab")
    points = house.serve(2)
    result = house.run(
        "--worker", "one", "--metric", "cpu_utilization", "--cloudwatch", "--since", "3d", "--yes", "--json"
    )
    assert episodes_of(result) == [episode for episode in house.of_trace(points) if episode["rule"] == "busy"]
    assert house.endpoint.calls["AssumeRole"] >= 1
    [hour] = house.container.get(ports.Costs).hours(house.clock() - 3600)
    assert {scope for scope, _ in hour.metrics} == {"lab/us-east-1"}


@pytest.mark.parametrize("fault", ["deny", "error"])
def test_what_aws_refuses_is_one_line(house: Served, retries_at_once: None, fault: Fault) -> None:
    """With half of a history the command exits with 5 and prints no episodes."""
    house.add()
    house.endpoint.fail(fault, "GetMetricData")
    result = house.run("--worker", "one", "--cloudwatch", "--yes", "--json")
    assert (result.exit_code, result.stdout) == (5, "")
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "GetMetricData" in line
