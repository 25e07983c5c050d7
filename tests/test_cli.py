"""The command line over in-memory ports: output, formats and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.support import delivering, grouping
from tests.support.commands import REGION, A, B, C, Session, fires, one_line
from workermon import cli, errors, models, ports, settings, testing
from workermon.config import positions
from workermon.local import up as local_up
from workermon.on_redis import client, workers

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("silent_log")


def test_add_collects_at_once(ok: Any, world: Any) -> None:
    """An added worker has its first sample, its last hour, and its schedule entry at once."""
    assert ok("add", A, "--label", "team=vfx") == f"added {A} as render-01, every 60 s\n"
    workers = json.loads(ok("list", "--json"))["workers"]
    assert [(worker["id"], worker["name"], worker["status"], worker["monitoring"]) for worker in workers] == [
        (A, "render-01", "running", "active")
    ]
    assert workers[0]["metrics"]["cpu_utilization"]["value"] == 42.5
    assert workers[0]["metrics"]["memory_utilization"] is None
    assert workers[0]["interval"] == 60
    assert workers[0]["labels"] == {"team": "vfx"}
    assert workers[0]["last_collected_at"] == models.rfc3339(world.clock())
    assert workers[0]["alerts"] == []
    assert world.schedule.ids() == {A}


def test_a_first_sample_that_fails_is_a_warning(run: Any, world: Any) -> None:
    """If CloudWatch fails, the worker stays added. Standard error says that the next interval tries again."""
    world.cloudwatch.error = errors.AwsThrottled("CloudWatch", "too many requests", "wait")
    result = run("add", A)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {A}: ")
    assert world.workers.ids() == [A]


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["add", "i-1"], 2, "'i-1' is not an instance id"),
        (["add"], 2, "Missing argument"),
        (["add", A, "--interval", "5s"], 2, "below the shortest allowed, 10 s"),
        (["add", A, "--interval", "25h"], 2, "above the longest allowed"),
        (["add", A, "--interval", "nan"], 2, "'nan' is not a duration"),
        (["add", A, "--interval", "-60"], 2, "'-60' is not a duration"),
        (["add", A, "--interval", "0"], 2, "below the shortest allowed"),
        (["add", A, "--interval", "1.5s"], 2, "not a whole number"),
        (["add", A, "--region", "us-east-11"], 2, "did you mean us-east-1"),
        (["add", A, "--region", "mars"], 2, "AWS has no region of that name"),
        (["add", A, "--name", "a\nb"], 2, "control character"),
        (["add", A, "--name", "\x1b[31mred"], 2, "control character"),
        (["add", A, "--name", ""], 2, "is empty"),
        (["add", A, B, "--name", "x"], 2, "names one worker, not 2"),
        (["add", A, A], 2, "more than once"),
        (["add", A, "--label", "team"], 2, "is not key=value"),
        (["add", A, "--label", "a=1", "--label", "a=2"], 2, "given twice"),
        (["add", A, "--role-arn", "admin"], 2, "is not a role"),
        (["add", A, "--external-id", "x"], 2, "needs a role"),
        (["add", C], 3, f"{C}: unknown to EC2 in us-east-1"),
        (["show", "nobody"], 3, "nobody: not monitored"),
        (["show", "no\nbody"], 2, "control character"),
        (["remove", "nobody"], 3, "not monitored"),
        (["pause", A], 3, "not monitored"),
        (["resume", A], 3, "not monitored"),
        (["refresh", A], 3, "not monitored"),
        (["history", A], 3, "not monitored"),
        (["watch", A], 3, "not monitored"),
        (["list", "--status", "asleep"], 2, "is not one of"),
        (["history", A, "--since", "soon"], 2, "is not a duration"),
        (["lst"], 2, "did you mean list?"),
        (["frobnicate"], 2, "No such command"),
        (["list", "--frobnicate"], 2, "No such option"),
        (["rules"], 2, "Missing command"),
        (["rules", "check", "/no/such.toml"], 2, "No such file"),
        (["rules", "check", "."], 2, "Is a directory"),
        (["apply", "/no/such.toml"], 2, "No such file"),
        (["demo", "--workers", "0"], 2, "not in the range"),
        (["up", "--concurrency", "x"], 2, "not a valid integer"),
    ],
)
def test_bad_input_gives_one_line_and_its_exit_code(run: Any, world: Any, args: Any, code: int, error: str) -> None:
    """Each kind of invalid input gives one line on standard error and its exit code, and changes nothing."""
    assert error in one_line(run(*args), code)
    assert world.workers.ids() == []


def test_a_duplicate_is_refused(run: Any, ok: Any) -> None:
    """Adding a monitored worker is invalid input."""
    ok("add", A)
    assert "is monitored already" in one_line(run("add", A), 2)


@pytest.mark.parametrize(
    ("last_error", "code"),
    [
        (errors.AwsDenied("EC2", "not authorized", "allow it"), 5),
        (errors.AwsUnreachable("EC2", "no answer", "try again"), 5),
        (errors.AwsThrottled("EC2", "too many requests", "wait"), 5),
        (errors.RedisUnavailable("Redis", "no answer", "start it"), 4),
        (errors.WorkermonError("it", "failed", "try again"), 1),
        (RuntimeError("redis://:hunter2@host"), 1),
        (ConnectionError("redis://:hunter2@host"), 1),
    ],
)
def test_whatever_fails_is_one_line_without_secrets(run: Any, world: Any, last_error: Any, code: int) -> None:
    """Failures of AWS, Redis and workermon have their exit codes. The text of an unexpected error is not shown."""
    world.ec2.error = last_error
    assert "hunter2" not in one_line(run("add", A), code)


def test_remove_may_be_repeated(run: Any, ok: Any, world: Any) -> None:
    """Removing by id twice succeeds. The second time it says that there was nothing to remove."""
    ok("add", A)
    assert ok("remove", "render-01") == f"removed {A}, render-01\n"
    result = run("remove", A)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{A} was not monitored\n")


def test_pause_and_resume(ok: Any, world: Any) -> None:
    """The list shows that a worker is paused. A resumed worker is collected at once."""
    ok("add", A)
    ok("pause", A)
    ok("pause", A)
    assert json.loads(ok("list", "--json"))["workers"][0]["monitoring"] == "paused"
    assert "running (paused)" in ok("list")
    world.clock.advance(100)
    ok("resume", A)
    assert json.loads(ok("show", A, "--json"))["last_collected_at"] == models.rfc3339(world.clock())


def test_list_filters(ok: Any) -> None:
    """The list is filtered by status and label, and is plain columns in a pipe."""
    ok("add", A, B, "--label", "team=vfx")
    assert [row["id"] for row in json.loads(ok("list", "--status", "stopped", "--json"))["workers"]] == [B]
    assert json.loads(ok("list", "--label", "team=other", "--json")) == {"workers": []}
    head, first, second = ok("list").splitlines()
    assert head.split()[:4] == ["NAME", "ID", "REGION", "STATUS"]
    assert first.split()[:4] == ["render-01", A, REGION, "running"]
    assert second.split()[:4] == ["render-02", B, REGION, "stopped"]


def test_an_empty_list_is_well(run: Any) -> None:
    """Without workers the document is empty, and an empty table has a note on standard error."""
    assert json.loads(run("list", "--json").stdout) == {"workers": []}
    result = run("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no worker is monitored\n")


def test_show_prints_everything(ok: Any, world: Any) -> None:
    """``show`` prints checks, values with their age, alerts, and the time of the next collection."""
    ok("add", A)
    fires(world, A)
    world.clock.advance(30)
    document = json.loads(ok("show", "render-01", "--json"))
    assert document["status_checks"] == {"system": "ok", "instance": "ok"}
    assert document["next_run"] == models.rfc3339(world.schedule.entries[A][1])
    assert document["alerts"][0]["rule"] == "cpu-high"
    point = document["metrics"]["cpu_utilization"]
    assert point["age"] == round(world.clock() - models.moment(point["at"]))
    text = ok("show", A)
    for part in ("system ok, instance ok", "42.5 %", "critical since", "next run"):
        assert part in text


def test_errors_are_shown(ok: Any, run: Any, world: Any) -> None:
    """A failed collection is shown in the list and in ``show``, with its kind."""
    ok("add", A)
    world.ec2.error = errors.AwsDenied("EC2", "not authorized", "allow it")
    assert "not authorized" in one_line(run("refresh", A), 5)
    assert json.loads(ok("show", A, "--json"))["last_error"]["kind"] == "denied"
    assert "(denied)" in ok("list")


def test_refresh_collects_now(ok: Any, world: Any) -> None:
    """A refresh collects within the same interval."""
    ok("add", A)
    at = int(world.clock()) // 300 * 300
    world.cloudwatch.put(A, "CPUUtilization", [(at - 300, 77.0)])
    world.clock.advance(5)
    ok("refresh", "render-01")
    assert json.loads(ok("show", A, "--json"))["metrics"]["cpu_utilization"]["value"] == 77.0


def test_history_is_by_cloudwatch_s_timestamps(ok: Any, run: Any, world: Any) -> None:
    """History gives datapoints with metric and unit beside, as JSON, as a trace in CSV, and as a table."""
    ok("add", A)
    at = int(world.clock()) // 300 * 300
    document = json.loads(ok("history", "render-01", "cpu_utilization", "--json"))
    assert (document["metric"], document["unit"]) == ("cpu_utilization", "percent")
    assert [(datapoint["at"], datapoint["value"]) for datapoint in document["datapoints"]] == [
        (models.rfc3339(at - 600), 41.0),
        (models.rfc3339(at - 300), 42.5),
    ]
    assert ok("history", A, "cpu_utilization", "--csv").splitlines() == [
        "timestamp,value",
        f"{models.rfc3339(at - 600)},41.0",
        f"{models.rfc3339(at - 300)},42.5",
    ]
    since = int(world.clock()) - (at - 300)
    assert len(json.loads(ok("history", A, "cpu_utilization", "--since", str(since), "--json"))["datapoints"]) == 1
    every = {row["metric"] for row in json.loads(ok("history", A, "--json"))["datapoints"]}
    assert every == {"cpu_utilization", "status_check_failed", "system_check_failed", "instance_check_failed"}
    assert "42.5 %" in ok("history", A)
    assert "metric cpu: is not known" in one_line(run("history", A, "cpu"), 3)


def test_alerts_lists_what_fires_and_what_is_over(ok: Any, world: Any) -> None:
    """Open alerts have the notification's fields. With --all past episodes are listed too, each once."""
    ok("add", A)
    fires(world, A)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert (alert["dedup_key"], alert["status"], alert["schema"]) == (f"{A}/cpu-high", "firing", 1)
    assert (alert["acked_by"], alert["silenced_by"]) == (None, None)
    assert re.search(r"cpu-high  render-01  97 % > 90 %$", ok("alerts"), re.MULTILINE)
    fires(world, A, status="resolved", version=2)
    assert json.loads(ok("alerts", "--json")) == {"alerts": []}
    [over] = json.loads(ok("alerts", "--all", "--json"))["alerts"]
    assert (over["status"], over["version"], over["open"]) == ("resolved", 2, False)


def test_alerts_are_chosen_and_a_name_that_means_nothing_is_refused(ok: Any, run: Any, world: Any) -> None:
    """--worker, --rule and --since select. An unknown worker or rule exits with 3, --since without --all with 2."""
    ok("add", A)
    fires(world, A)
    fires(world, A, status="resolved", version=2)
    assert "resolved" in ok("alerts", "--all", "--worker", "render-01", "--rule", "cpu-high", "--since", "365d")
    result = run("alerts", "--all", "--worker", A, "--rule", "disk-high")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, "no alert matches")
    assert "did you mean cpu-high" in one_line(run("alerts", "--rule", "cpu-hihg"), 3)
    assert "not monitored" in one_line(run("alerts", "--worker", "render-99"), 3)
    assert "add --all" in one_line(run("alerts", "--since", "7d"), 2)


def test_discover(ok: Any, world: Any) -> None:
    """Instances are discovered by tag. A dry run only lists them."""
    assert f"would add {A}" in ok("discover", "--tag", "Role=render", "--dry-run")
    assert world.workers.ids() == []
    document = json.loads(ok("discover", "--tag", "Role=render", "--region", REGION, "--json"))
    assert [worker["id"] for worker in document["added"]] == [A, B]
    assert json.loads(ok("list", "--status", "running", "--json"))["workers"][0]["metrics"]["cpu_utilization"]


def test_discover_over_two_regions_does_what_it_can(run: Any, world: Any) -> None:
    """If one region fails, instances of the other are added. The exit code is 5, with the reason, in JSON too."""
    usual = world.ec2.find

    def find(scope: Any, tags: Any) -> Any:
        if scope.region == "eu-west-1":
            raise errors.CredentialsRejected("EC2 in eu-west-1", "DescribeInstances: AuthFailure", "see the account")
        return usual(scope, tags)

    world.ec2.find = find
    arguments = ("discover", "--tag", "Role=render", "--region", "eu-west-1", "--region", REGION)
    dry = run(*arguments, "--dry-run", "--json")
    assert dry.exit_code == 5
    assert list(json.loads(dry.stdout)["failed"]) == ["default/eu-west-1"]
    result = run(*arguments)
    assert (result.exit_code, sorted(world.workers.ids())) == (5, [A, B])
    assert f"added {A}" in result.stdout
    assert "error: EC2 in eu-west-1: DescribeInstances: AuthFailure; the region may not be enabled" in result.stderr


def test_reconcile(ok: Any, run: Any, world: Any) -> None:
    """Differences are repaired; a dry run only lists them.

    If AWS is unreachable, the exit code is 5 after the repair.
    """
    ok("add", A)
    world.schedule.delete([A])
    assert ok("reconcile", "--dry-run") == f"would schedule {A}: it had no entry\n"
    world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "try again")
    result = run("reconcile")
    assert result.exit_code == 5
    assert world.schedule.ids() == {A}
    world.ec2.error = None
    assert json.loads(ok("reconcile", "--json"))["steps"] == []


FILE = f"""
[[workers]]
id = "{A}"
region = "{REGION}"
[[rules]]
name = "hot"
metric = "cpu_utilization"
above = {{ critical = 50 }}
"""


def test_apply_makes_it_so(ok: Any, world: Any, tmp_path: Path) -> None:
    """A file is applied, and its workers are collected at once. Applying it again changes nothing."""
    place = tmp_path / "fleet.toml"
    place.write_text(FILE)
    plan = json.loads(ok("apply", str(place), "--json"))
    assert (plan["added"], plan["changed"], plan["revision"]) == ([A], ["rules"], 1)
    assert json.loads(ok("show", A, "--json"))["metrics"]["cpu_utilization"]["value"] == 42.5
    assert "unchanged" in ok("apply", str(place))
    assert "unchanged" in ok("apply", "-", input=FILE)


def test_apply_refuses_a_region_that_aws_does_not_have(run: Any, world: Any, tmp_path: Path) -> None:
    """A region is looked up before anything is written, and named by its place in the file."""
    place = tmp_path / "fleet.toml"
    place.write_text(FILE.replace(REGION, "mars-central-1"))
    assert "workers[0]: region mars-central-1" in run("apply", str(place)).stderr
    assert "workers[0]: region mars-central-1" in run("rules", "check", str(place)).stderr
    assert world.workers.ids() == []


def test_rules_check_needs_neither_redis_nor_aws(tmp_path: Path) -> None:
    """A file is validated offline. A valid one exits with 0 and a summary, an invalid one with 2 and the position."""
    place = tmp_path / "fleet.toml"
    place.write_text(FILE)
    cli_session = Session(settings.Settings(_env_file=None), None)
    result = CliRunner().invoke(cli.cli, ["rules", "check", str(place), "--json"], obj=cli_session)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rules"] == ["hot"]
    assert "container" not in cli_session.__dict__
    place.write_text(FILE.replace("50", "nan"))
    assert "rules[0].above.critical" in one_line(
        CliRunner().invoke(cli.cli, ["rules", "check", str(place)], obj=cli_session), 2
    )
    place.write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in one_line(
        CliRunner().invoke(cli.cli, ["rules", "check", str(place)], obj=cli_session), 2
    )


def test_a_worker_without_a_name_is_said_once(ok: Any, world: Any) -> None:
    """If the name is the id, it is printed once."""
    ok("add", A, "--name", A)
    assert ok("pause", A) == f"paused {A}\n"
    assert ok("resume", A) == f"resumed {A}\n"
    assert ok("remove", A) == f"removed {A}\n"


def test_periods_in_force_count_where_a_file_says_none(ok: Any, run: Any, tmp_path: Path) -> None:
    """``rules check`` and ``plan`` warn from the period of the metrics in force, until a file has metrics itself."""
    metrics, rules = tmp_path / "metrics.toml", tmp_path / "rules.toml"
    metrics.write_text('[[metrics]]\nname = "memory_utilization"\nperiod = "5m"\n')
    rule = '[[rules]]\nname = "full"\nmetric = "memory_utilization"\nabove = { critical = 90 }\nfor = "2m"\n'
    rules.write_text(rule)
    warning = "for 2m is shorter than a slot, 5m"
    assert warning not in run("plan", str(rules)).stderr
    ok("apply", str(metrics))
    for command in (["plan"], ["rules", "check"]):
        assert warning in run(*command, str(rules)).stderr
    rules.write_text(f"metrics = []\n{rule}")
    for command in (["plan"], ["rules", "check"]):
        assert warning not in run(*command, str(rules)).stderr


@pytest.mark.parametrize("group", ["rules", "config"])
def test_a_group_has_an_example_too(group: str) -> None:
    """The help of a command with subcommands has an example of one."""
    assert "Example: workermon" in CliRunner().invoke(cli.cli, [group, "--help"]).stdout


def test_rules_check_says_what_apply_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval below the minimum is refused. A missing secret is a warning, and the file is valid."""
    place = tmp_path / "fleet.toml"
    cli_session = Session(settings.Settings(_env_file=None), None)
    place.write_text('[[workers]]\nid = "i-0aaaaaaaaaaaaaaaa"\ninterval = "5s"\n')
    assert "below the shortest allowed" in one_line(
        CliRunner().invoke(cli.cli, ["rules", "check", str(place)], obj=cli_session), 2
    )
    monkeypatch.delenv("OPS_SECRET", raising=False)
    place.write_text('[channels.ops]\ntype = "webhook"\nurl = "https://a.example"\nsecret = { env = "OPS_SECRET" }\n')
    result = CliRunner().invoke(cli.cli, ["rules", "check", str(place)], obj=cli_session)
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: channels.ops.secret: OPS_SECRET is not set here; the process that delivers needs it\n"
    )


def test_status_is_0_only_if_every_part_is_alive(run: Any, world: Any) -> None:
    """If all parts run and there is no worker, status is healthy.

    A part that is down is named, and the exit code is 1.
    """
    world.schedule.ticked = world.clock()
    world.liveness.beat("listener", world.clock())
    result = run("status", "--json")
    assert result.exit_code == 0, result.stdout
    assert json.loads(result.stdout)["ok"] is True
    world.nodes.names = []
    result = run("status")
    assert result.exit_code == 1
    assert re.search(r"DOWN +worker processes", result.stdout)


def test_status_shows_accounts_and_costs(ok: Any, run: Any, world: Any) -> None:
    """It shows calls and dollars a day, longer intervals by the budget, and the account and region that AWS refuses."""
    ok("add", A)
    world.schedule.ticked = world.clock()
    world.liveness.beat("listener", world.clock())
    last_error = models.CollectionError(
        kind="denied", message="EC2 in us-east-1: no\x1b[31m; allow it", at=world.clock()
    )
    accounts, costs, limits = (world.get(port) for port in (ports.Accounts, ports.Costs, ports.Limiter))
    accounts.note(f"default/{REGION}", world.clock() + 1, 60, last_error)
    limits.throttled(f"default/{REGION}", "GetMetricData")
    limits.silent(f"default/{REGION}", "ListMetrics")
    costs.note(world.clock() - 900, f"default/{REGION}", "GetMetricData", {"AWS/EC2/NetworkOut": 30_000})
    budget_decision = models.BudgetDecision(
        at=world.clock(), period_multipliers={"network_out": 15}, projected=7.25, budget=5.0
    )
    costs.decide(budget_decision, models.BudgetDecision())
    configurations = world.get(ports.Configurations)
    configurations.save(configurations.load().model_copy(update={"revision": 1, "budget": 5.0}))
    output = run("status").stdout
    assert (
        "AWS in 24 h: 1 calls, 30000 metrics requested, $0.30; at the current rate 96 calls and $28.80 a day" in output
    )
    assert "budget: $5.00 a day, $7.25 projected for today: over budget" in output
    assert "longer periods to stay within it: network_out ×15" in output
    assert f"account default in {REGION}: denied since " in output
    assert "EC2 in us-east-1: no\\x1b[31m; allow it" in output
    assert f"account default in {REGION}: GetMetricData limited to 50% of its rate, because AWS refused more" in output
    assert f"account default in {REGION}: ListMetrics does not answer" in output
    document = json.loads(run("status", "--json").stdout)
    assert document["scopes"][0]["slowed"] == {"GetMetricData": 0.5, "ListMetrics": 0.0}
    assert document["bill"]["last_24h"] == {"calls": 1, "metrics": 30_000, "dollars": 0.3}
    assert document["bill"]["stretched"] == {"network_out": 15}


def test_watch_shows_the_present_first(ok: Any, world: Any) -> None:
    """``watch`` begins with the last sample of each worker and the open alerts, one JSON object a line."""
    ok("add", A)
    fires(world, A)

    class Ending(testing.MemoryFeed):
        def listen(self, **options: Any) -> Generator[str | None, None, None]:
            for text in super().listen(**options | {"timeout": 0.001}):
                yield text
                world.clock.advance(1)

    world.feed = Ending(world.store)
    event, alert = (json.loads(line) for line in ok("watch", "--json", "--seconds", "2").splitlines())
    assert (event["event"], event["worker_id"], event["schema"]) == ("worker.metrics.collected", A, 1)
    assert (alert["dedup_key"], alert["status"]) == (f"{A}/cpu-high", "firing")
    lines = ok("watch", A, "--seconds", "2").splitlines()
    assert "render-01 running cpu_utilization=42.5%" in lines[0]
    assert "firing cpu-high critical: render-01: 97 % > 90 %" in lines[1]


DOWN = "warning: the pipeline is down, so this may be old: beat last ticked 60 s ago; see 'workermon status'"


@pytest.mark.parametrize(
    "command",
    [("alerts",), ("alerts", "--all"), ("list",), ("list", "--json"), ("show", A), ("why", A), ("history", A)],
    ids=" ".join,
)
def test_what_is_shown_says_that_the_pipeline_is_down(ok: Any, run: Any, world: Any, command: Any) -> None:
    """While beat and listener run there is no warning. If beat is down, standard error has one line."""
    ok("add", A)
    world.schedule.ticked = world.clock()
    world.liveness.beat("listener", world.clock())
    assert "pipeline" not in run(*command).stderr
    world.clock.advance(60)
    world.liveness.beat("listener", world.clock())
    result = run(*command)
    assert (result.exit_code, [line for line in result.stderr.splitlines() if "pipeline" in line]) == (0, [DOWN])
    assert "pipeline" not in result.stdout


def test_watch_says_once_that_the_pipeline_went_down(ok: Any, run: Any, world: Any) -> None:
    """``watch`` warns once when a part stops, and again if it stops after it was back."""
    ok("add", A)

    class Living(testing.MemoryFeed):
        def listen(self, **options: Any) -> Generator[str | None, None, None]:
            started = world.clock()
            for text in super().listen(**options | {"timeout": 0.001}):
                yield text
                world.clock.advance(1)
                passed = world.clock() - started
                if passed < 20 or 100 < passed < 120:
                    world.schedule.ticked = world.clock()
                world.liveness.beat("listener", world.clock())

    world.schedule.ticked = world.clock()
    world.liveness.beat("listener", world.clock())
    world.feed = Living(world.store)
    result = run("watch", "--json", "--seconds", "200")
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: the pipeline is down")]
    assert (result.exit_code, len(warnings)) == (0, 2), result.stderr


@pytest.fixture
def up(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Give a function that runs the hooks of ``up`` with a config file, but no processes, and returns the result."""

    def call(text: Any, *args: Any) -> Any:
        place = tmp_path / "fleet.toml"
        place.write_text(text)
        monkeypatch.setenv("WORKERMON_CONFIG", str(place))
        ran = []

        def prepare(_: Any, *, hooks: local_up.Hooks, **options: Any) -> None:
            hooks.prepare()
            hooks.reconcile()
            ran.append(options)

        monkeypatch.setattr("workermon.local.up.run", prepare)
        result = run("up", *args)
        return result, ran

    return call


def test_up_applies_its_file_and_reconciles(up: Any, world: Any) -> None:
    """The file's workers are added, collected and scheduled, and the options are passed on."""
    result, [options] = up(FILE, "--concurrency", "3", "--no-beat")
    assert result.exit_code == 0
    assert options == {"chosen": local_up.Parts(concurrency=3, beat=False)}
    assert world.schedule.ids() == {A}
    assert world.workers.get([A])[A].condition.status == "running"


def test_up_starts_although_aws_is_out_of_reach(up: Any, world: Any) -> None:
    """If AWS is down, ``up`` applies the workers and rules of the file.

    If one worker is unknown, it applies the others.
    """
    world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "try again")
    result, _ = up(FILE)
    assert result.exit_code == 0, result.output
    assert world.workers.ids() == [A]
    world.ec2.error = None
    result, _ = up(f'{FILE}[[workers]]\nid = "{C}"\nregion = "{REGION}"\n')
    assert result.exit_code == 0, result.output
    assert world.workers.ids() == [A]
    assert world.workers.get([A])[A].worker.name == "render-01"


def test_up_refuses_a_wrong_file_before_anything_runs(up: Any, world: Any) -> None:
    """An invalid file ends ``up`` at once, with its line and exit code 2."""
    result, ran = up(FILE.replace("50", '"much"'))
    assert "rules[0].above.critical: must be a number" in one_line(result, 2)
    result, ran = up(FILE.replace(REGION, "mars-central-1"))
    assert "mars-central-1" in result.stderr
    assert (result.exit_code, ran) == (2, [])


def commands() -> Any:
    """Return every command with its path, groups aside."""
    context = click.Context(cli.cli)
    named_commands: list[tuple[str, click.Command | None]] = []
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        if isinstance(command, click.Group):
            named_commands += [
                (f"{name} {inner}", inner_command) for inner, inner_command in sorted(command.commands.items())
            ]
        else:
            named_commands.append((name, command))
    return named_commands


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_the_page_says_what_help_says(name: Any, command: Any) -> None:
    """docs/reference/commands.md lists each command with every option of its --help. Each help has an example."""
    page = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}") and "`" in line]
    assert rows, f"no row for {name}"
    result = CliRunner().invoke(cli.cli, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.stdout
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in rows[0], f"{name}: {option} is not in its row"
            assert option in result.stdout


def test_the_page_names_no_option_that_is_not_there() -> None:
    """Each option in a row of docs/reference/commands.md exists."""
    page = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    for name, command in commands():
        [row] = [line for line in page.splitlines() if re.match(rf"\| `{name}[ `]", line)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", row.split("|")[1])) <= options, name


def loaded_by(*command: str, redis_url: str = "redis://127.0.0.1:1/1") -> list[str]:
    """Return which of the large libraries a command loads."""
    program = "import sys; from workermon import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    program += "names = ('boto3', 'botocore', 'celery', 'dishka', 'kombu', 'redbeat', 'redis')\n"
    program += "print(*[name for name in names if name in sys.modules])"
    completed = subprocess.run(
        [sys.executable, "-c", program, *command],
        env={**os.environ, "WORKERMON_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=True,
    )
    return completed.stdout.splitlines()[-1].split()


@pytest.mark.integration
def test_help_is_quick() -> None:
    """--help loads neither boto3 nor Celery nor a client of Redis."""
    assert loaded_by("--help") == []


@pytest.mark.integration
@pytest.mark.parametrize(
    "command", [["list"], ["alerts"], ["silences"], ["history", A], ["why", A], ["watch", A, "--seconds", "1"]]
)
def test_commands_that_read_are_quick(command: list[str], redis_url: str) -> None:
    """They load neither boto3 nor Celery, which take a fifth of the time that such a command needs."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        workers.RedisWorkers(connected).add(
            [models.Worker(id=A, name="a", region=REGION, added_at=0, incarnation="first")]
        )
    assert loaded_by(*command, redis_url=redis_url) == ["dishka", "redis"]


@pytest.mark.integration
def test_a_closed_standard_output_is_no_error() -> None:
    """Whoever closes standard output wants none."""
    command = f"{shlex.quote(sys.executable)} -m workermon config schema >&-"
    completed = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=60, cwd=ROOT, text=True)
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.integration
def test_a_reader_that_had_enough_is_no_error() -> None:
    """A closed pipe ends the command silently."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        completed = subprocess.run(
            [sys.executable, "-m", "workermon", "config", "schema"],
            stdout=closed, stderr=subprocess.PIPE, timeout=60, cwd=ROOT, text=True,
        )  # fmt: skip
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://host/", 2),
        ("redis://:hunter2@127.0.0.1:1/1", 4),
        ("redis://:hunter2@no-such-host.invalid:6379/1", 4),
        ("redis://:hunter2@host:6379/one", 2),
    ],
)
def test_a_wrong_redis_is_one_line_without_its_password(url: str, code: int, tmp_path: Path) -> None:
    """An invalid URL is invalid input, a missing server is exit code 4. No password is shown."""
    began = time.monotonic()
    completed = subprocess.run(
        [sys.executable, "-m", "workermon", "list"],
        capture_output=True, text=True, timeout=100, cwd=tmp_path,
        env={**os.environ, "WORKERMON_REDIS_URL": url, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == code, completed.stderr
    assert len(completed.stderr.splitlines()) == 1, completed.stderr
    assert completed.stderr.startswith("error: ")
    assert "hunter2" not in completed.stderr
    assert time.monotonic() - began < 30


@pytest.mark.integration
def test_up_without_its_redis_says_what_every_command_says(tmp_path: Path) -> None:
    """The error names the server's address and what to do."""
    completed = subprocess.run(
        [sys.executable, "-m", "workermon", "up", "--no-web"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={**os.environ, "WORKERMON_REDIS_URL": "redis://:hunter2@127.0.0.1:1/1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == 4
    assert completed.stderr == (
        "error: Redis at 127.0.0.1:1: connection refused; start it, or correct WORKERMON_REDIS_URL\n"
    )


def test_why_is_printed_as_text_and_as_a_document(ok: Any, run: Any, world: Any) -> None:
    """why shows rule, datapoints and recorded changes. A metric or worker that does not exist exits with 3."""
    ok("add", A)
    fires(world, A)
    text = ok("why", "render-01", "cpu_utilization")
    assert "cpu-high: " in text
    assert "rule      cpu_utilization above warning 80 % critical 90 %, breach 3 of 3, recover 2 of 2," in text
    assert "cpu-high: not firing; the last notification says that it fires\n" in text
    assert "no attempt to deliver it yet" in text
    [rule] = json.loads(ok("why", A, "cpu_utilization", "--json"))["rules"]
    assert (rule["rule"], rule["notified"], rule["history"][0]["after"]) == ("cpu-high", "critical", "critical")
    assert "did you mean" in one_line(run("why", A, "cpu_utilisation"), 3)
    assert "not monitored" in one_line(run("why", "render-99", "cpu_utilization"), 3)


def test_why_of_a_worker_explains_every_rule(ok: Any, run: Any, world: Any) -> None:
    """Without a metric every rule has its lines. A rule for other workers has only one line."""
    ok("add", A)
    configurations = world.get(ports.Configurations)
    configuration = configurations.load()
    only = configuration.rules[0].model_copy(update={"name": "theirs", "labels": {"team": "x"}})
    configurations.save(
        configuration.model_copy(update={"revision": configuration.revision + 1, "rules": (*configuration.rules, only)})
    )
    lines = ok("why", "render-01").splitlines()
    assert [line.partition(":")[0] for line in lines[1:] if line and not line.startswith(" ")] == [
        *(rule.name for rule in configuration.rules),
        "theirs",
    ]
    assert lines[-1].startswith("theirs: does not apply: ")
    assert len(json.loads(ok("why", A, "--json"))["rules"]) == len(configuration.rules) + 1
    assert ok("why", f"{A}/cpu-high") == ok("why", "render-01", "cpu-high")
    assert "did you mean cpu-high" in one_line(run("why", f"{A}/cpu-hihg"), 3)


def test_why_of_an_account_and_region(ok: Any, run: Any, world: Any) -> None:
    """ACCOUNT/REGION collector shows how collection goes there, AWS's reason, and how far the alert is from firing."""
    ok("add", A)
    assert ok("why", f"default/{REGION}", "collector").splitlines()[:2] == [
        f"account default in {REGION}, collector: not firing",
        "  now       collection succeeds",
    ]
    world.accounts.note(
        f"default/{REGION}", world.clock() + 60, 60,
        models.CollectionError(kind="denied", message="no permission", at=world.clock() + 60),
    )  # fmt: skip
    world.clock.advance(90)
    document = json.loads(ok("why", f"default/{REGION}", "collector", "--json"))
    assert (document["account"], document["region"], document["rule"], document["workers"]) == (
        "default",
        REGION,
        "collector",
        1,
    )
    assert document["last_error"] == {"kind": "denied", "message": "no permission"}
    assert "for 90 s" in document["now"]
    text = ok("why", f"default/{REGION}")
    assert "  error     denied: no permission\n" in text
    assert "nothing is collected there" in one_line(run("why", "lab/eu-west-1", "collector"), 3)


def test_why_of_a_group_that_nobody_belongs_to(run: Any, world: Any) -> None:
    """The error names the group as it was given, with and without a rule."""
    for group in (["group:team=nope"], ["group:team=nope", "pool-hot"]):
        assert one_line(run("why", *group), 3).startswith("error: group team=nope: no worker")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["group:pool"], 2, "error: group pool: it has no value; write group:pool=VALUE"),
        (["group:pool", "pool-hot"], 2, "error: group pool: it has no value; write group:pool=VALUE"),
        (["group:"], 2, "error: group LABEL: it has no value; write group:LABEL=VALUE"),
        (
            ["channel:ops", "cpu"],
            3,
            "error: channel ops: a channel has the rule delivery alone, not cpu; write channel:ops delivery",
        ),
    ],
)
def test_why_says_what_is_wrong_about_a_subject(run: Any, arguments: list[str], code: int, expected: str) -> None:
    """A mistyped subject is not mistaken for a worker that is not monitored."""
    assert one_line(run("why", *arguments), code) == expected


def test_why_of_a_group() -> None:
    """Its lines name the members that are beyond the condition, the last evaluated time, and the next escalation."""
    pools = grouping.Pools(grouping.rule(escalate=(models.EscalationStep(after=900, notify=("pager",)),)))
    for number in range(3):
        pools.add(number)
    pools.slot(grouping.T0, dict.fromkeys(range(3), 20.0))
    pools.slot(grouping.T0 + grouping.MINUTE, {0: 95, 1: 95, 2: 20})
    container: Any = pools
    session = Session(settings.Settings(_env_file=None), container)
    result = CliRunner().invoke(cli.cli, ["why", "group:pool=a", "pool-hot"], obj=session)
    assert result.exit_code == 0, result.output
    head, _, firing, requested, *lines = result.stdout.splitlines()
    assert head == "group pool=a: 3 workers are known"
    assert firing == "pool-hot: critical since 2023-11-14T22:01:00Z; notified"
    assert requested.startswith("  rule      cpu_utilization over pool, count 2 of 3, above critical 90 %")
    assert lines == [
        "  now       2 of 3 workers are at critical, critical fires at 2",
        "  escalate  at 2023-11-14T22:17:00Z to pager: pending",
        "  members   web-0, web-1",
        "  evaluated up to 2023-11-14T22:01:59Z, when every member that counts was known",
        "  2023-11-14T22:01:00Z ok → critical: 2 of 3 workers: web-0, web-1; critical fires at 2",
        "    no attempt to deliver it yet",
    ]


def test_why_of_the_budget(ok: Any, run: Any, world: Any) -> None:
    """The budget's alert is explained by its dedup_key."""
    assert ok("why", "*/*", "budget").startswith(
        "the installation, budget: not firing\n  now       there is no budget\n"
    )
    assert ok("why", "*/*/budget") == ok("why", "*/*", "budget")
    assert "  now       every record can be read\n" in ok("why", "*/*", "records")


def test_why_of_lost_metrics(ok: Any) -> None:
    """The lost-metrics alert is explained by both of its names."""
    ok("add", A)
    output = ok("why", f"default/{REGION}", "lost-metrics")
    assert output.splitlines()[:2] == [
        f"account default in {REGION}, lost-metrics: not firing",
        "  now       no metric stopped arriving from much of the fleet",
    ]
    assert ok("why", f"default/{REGION}/lost-metrics") == output


def test_the_history_has_the_deliveries(ok: Any, world: Any) -> None:
    """alerts --all has each attempt to deliver. An open alert is listed without attempts."""
    ok("add", A)
    fires(world, A)
    [alert] = json.loads(ok("alerts", "--all", "--json"))["alerts"]
    assert alert["deliveries"] == []


def test_a_channel_is_tried_by_command(ok: Any, run: Any, world: Any) -> None:
    """notify-test sends through the channel. An unknown one exits with 3, a failing one with 1."""
    node_name, world.nodes.names = platform.node(), []
    assert ok("notify-test", "log") == f"log: accepted, sent by this command on {node_name}, because no node runs\n"
    assert json.loads(ok("notify-test", "log", "--json")) == {
        "channel": "log", "accepted": True, "messages": 1, "sent_by": "command", "host": node_name
    }  # fmt: skip
    assert run("notify-test", "lgo").exit_code == 3
    configurations = world.get(ports.Configurations)
    configuration = configurations.load()
    dead = models.Channel(name="dead", type="webhook", url="http://127.0.0.1:1/T0KEN", allow_private=True)
    unsigned = models.Channel(name="unsigned", type="pagerduty", secret=models.SecretRef(env="MISSING"))
    channels = {**configuration.channels, "dead": dead, "unsigned": unsigned}
    configurations.save(configuration.model_copy(update={"revision": configuration.revision + 1, "channels": channels}))
    refused = run("notify-test", "dead")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: channel dead: ")
    assert "T0KEN" not in refused.stderr
    assert run("notify-test", "unsigned").exit_code == 2


def test_the_alert_about_a_channel_is_listed_and_acknowledged(world: Any, ok: Any) -> None:
    """A channel alert is like any other: listed with its scope, acknowledged, and kept in the history."""
    delivering.give_up(world, "ops")
    (alert,) = json.loads(ok("alerts", "--json"))["alerts"]
    assert (alert["worker"], alert["scope"]["channel"], alert["open"]) == (None, "ops", True)
    assert "404" in alert["reason"]
    assert "channel ops" in ok("alerts")
    ok("ack", "channel:ops/delivery", "--by", "me")
    assert json.loads(ok("alerts", "--json"))["alerts"][0]["acked_by"] == "me"
    assert [row["dedup_key"] for row in json.loads(ok("alerts", "--all", "--json"))["alerts"]] == [
        "channel:ops/delivery"
    ]
    explanation = json.loads(ok("why", "channel:ops", "delivery", "--json"))
    assert (explanation["channel"], explanation["state"], explanation["type"], explanation["waiting"]) == (
        "ops",
        "critical",
        None,
        [],
    )
    assert [transition["after"] for transition in explanation["history"]] == ["critical"]
    lines = ok("why", "channel:ops", "delivery").splitlines()
    assert lines[0] == f"channel ops (removed), delivery: critical since {models.rfc3339(world.clock())}"
    assert "404" in lines[1]


def test_why_of_a_channel_that_is_not_there(run: Any, ok: Any) -> None:
    """For an unknown channel the nearest name is suggested. A working channel is shown as such."""
    assert "channel lgo" in one_line(run("why", "channel:lgo", "delivery"), 3)
    assert ok("why", "channel:log", "delivery") == "channel log (log), delivery: not firing\n"


def test_a_backup_into_a_pipe_leaves_it_a_pipe(ok: Any, tmp_path: Path) -> None:
    """A device or a pipe gets the backup, and is not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ok("backup", str(pipe))
        assert pipe.is_fifo()
        assert json.loads(os.read(reader, 1 << 20))
    finally:
        os.close(reader)


def test_a_backup_through_a_link_replaces_what_it_leads_to(ok: Any, tmp_path: Path) -> None:
    """A link stays a link. The file that it leads to is for its owner only, and no other file is left."""
    folder, link = tmp_path / "kept", tmp_path / "latest"
    folder.mkdir()
    link.symlink_to(folder / "backup.json")
    ok("backup", str(link))
    assert link.is_symlink()
    (written,) = folder.iterdir()
    assert json.loads(written.read_text(encoding="utf-8"))
    assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("file", ["", "no/such/folder", "folder", "x" * 300, "a\0b"])
def test_a_backup_that_cannot_be_written_names_the_file(run: Any, tmp_path: Path, file: str) -> None:
    """An error names the file that the user gave, not a temporary one."""
    (tmp_path / "folder").mkdir()
    path = file and str(tmp_path / file)
    assert one_line(run("backup", path), 1).startswith(f"error: {errors.printable(path) or 'FILE'}: ")


def test_places_of_a_valid_file_are_not_looked_up(
    ok: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an error needs a place. To find one reads the whole file, so one a worker made large files slow."""
    file = tmp_path / "fleet.toml"
    text = "".join(f'[[workers]]\nid = "{worker_id}"\ninterval = "60s"\n' for worker_id in (A, B))
    text += '[[silences]]\nworker = "render-01"\nreason = "x"\nends = 2024-01-01T00:00:00Z\n'
    file.write_text(text, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(positions, "find", lambda _text: pytest.fail("a place was looked up"))
        assert f"added {A}" in ok("plan", str(file))
        ok("apply", str(file))
    file.write_text(text.replace("60s", "5s"), encoding="utf-8")
    assert "line 3, column 1: workers[0].interval" in one_line(run("plan", str(file)), 2)
