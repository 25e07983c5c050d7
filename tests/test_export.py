"""Export of the set-up as a config file, the changes of a file, and their price."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from tests.support.commands import A, B, C, Session, one_line
from tests.support.present import present
from workermon import cli, config, costs, errors, fleet, models, testing
from workermon.config import export, toml

CHECK_RULES = ("status-check-failed", "application-check-failed", "performance-check-failed")

FILE = """
[[workers]]
id = "i-0aaaaaaaaaaaaaaaa"
region = "us-east-1"
name = "a \\"quoted\\" name"
interval = "5m"
labels = { team = "vfx", "odd key" = "x=\\u00e4" }

[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { warning = 80, critical = 90.5 }
clear = { warning = 75 }
breach = "2 of 3"
missing = "ok"
labels = { team = "vfx" }
notify = ["ops"]

[[rules]]
name = "quiet"
metric = "no-data"
intervals = 5
notify = []

[channels.ops]
type = "webhook"
url = "https://example.com/hook"
secret = { env = "OPS_SECRET" }

[[metrics]]
name = "gpu_utilization"
namespace = "CWAgent"
metric_name = "utilization_gpu"
period = "60s"

[[metrics]]
name = "cpu_utilization"
period = "10m"

[collect]
metrics = ["cpu_utilization", "gpu_utilization"]
retention = "48h"
lateness = "1h"

[accounts.lab]
role_arn = "arn:aws:iam::123456789012:role/workermon"
external_id = { env = "LAB_EXTERNAL_ID" }

[discover]
regions = ["us-east-1"]
tags = { Role = "render" }
interval = "2m"

[budget]
dollars_per_day = 5

[limits.describe]
bucket = 10
per_second = 2
"""


#: What has durations and numbers of its own.
CHANNELS = """
[channels.chat]
type = "slack"
url = { env = "SLACK_URL" }
group_wait = "30s"
per_minute = 20

[channels.ops]
type = "webhook"
url = "https://example.com/hook"
repeat = "4h"

[[rules]]
name = "quiet"
metric = "no-data"
flapping = "6 in 1h"
notify = { critical = ["chat", "ops"] }

[[silences]]
rule = "quiet"
reason = "nights"
schedule = "0 2 * * *"
duration = "2h"
timezone = "Europe/Berlin"
"""


def equal(first: Any, second: Any) -> Any:
    """Tell whether two configurations are the same but for their revision."""
    return first.model_copy(update={"revision": 0}) == second.model_copy(update={"revision": 0})


OWN = '[[metrics]]\nname = "gpu"\nnamespace = "CWAgent"\nmetric_name = "utilization_gpu"\n'


@pytest.mark.parametrize("text", [FILE, "", "rules = []\n", "[collect]\nretention = '1h'\n", OWN])
def test_what_is_exported_makes_the_same_configuration(text: Any) -> None:
    """An exported file, applied over any other configuration, gives the exported one."""
    configuration = config.to_configuration(testing.parse(text, "one"), config.DEFAULT)
    exported = export.text(configuration, ())
    assert equal(config.to_configuration(testing.parse(exported, "two"), config.DEFAULT), configuration)
    third = config.to_configuration(testing.parse(FILE, "three"), config.DEFAULT)
    assert equal(config.to_configuration(testing.parse(exported, "two"), third), configuration)


@pytest.mark.parametrize("text", [FILE, "", CHANNELS])
def test_what_is_exported_is_valid_by_the_schema(text: Any) -> None:
    """Exported files are valid by the JSON schema."""
    configuration = config.to_configuration(testing.parse(text, "one"), config.DEFAULT)
    document = tomllib.loads(export.text(configuration, ()))
    jsonschema.Draft202012Validator(testing.parser().schema()).validate(document)
    assert [metric["period"] for metric in document["metrics"]] == (["10m", "1m"] if text == FILE else [])


def test_export_and_apply_are_a_round_trip(ok: Any, run: Any, world: Any, tmp_path: Path) -> None:
    """Applying an export changes nothing at its origin, and creates the same fleet elsewhere."""
    file = tmp_path / "fleet.toml"
    file.write_text(FILE, "utf-8")
    ok("apply", str(file))
    exported = ok("export")
    assert B not in exported  # its tag brings it
    file.write_text(exported, "utf-8")
    reapplied = json.loads(ok("apply", str(file), "--json"))
    assert [reapplied[key] for key in ("added", "updated", "removed", "changed")] == [[], [], [], []]
    assert ok("export") == exported


def test_a_role_given_by_command_becomes_an_account() -> None:
    """A worker's role is exported as an account, its external id by the name of a secret only."""
    worker = models.Worker(
        id=A, name=A, region="us-east-1", account="123456789012:lab/x", added_at=0, incarnation="1",
        role_arn="arn:aws:iam::123456789012:role/lab/x", external_id="hunter2",
    )  # fmt: skip
    exported = export.text(config.DEFAULT, [worker])
    assert "hunter2" not in exported
    file = testing.parse(exported, "x")
    config.to_configuration(file, config.DEFAULT)
    assert present(file.accounts)["123456789012-lab-x"].role_arn == worker.role_arn
    assert present(file.workers)[0].account == "123456789012-lab-x"


def test_a_plan_shows_the_difference_and_changes_nothing(ok: Any, run: Any, world: Any, tmp_path: Path) -> None:
    """plan names added, changed and removed workers, rules, channels and metrics, and the price. apply does too."""
    file = tmp_path / "fleet.toml"
    file.write_text(FILE, "utf-8")
    plan = json.loads(ok("plan", str(file), "--json"))
    assert sorted(plan["added"]) == [A, B]
    assert plan["rule_changes"] == {
        "added": ["quiet"],
        "changed": ["cpu-high"],
        "removed": ["memory-high", "disk-high", *CHECK_RULES, "no-data"],
    }
    assert plan["channels"]["added"] == ["ops"]
    assert plan["collected"]["added"] == ["gpu_utilization"]
    assert plan["settings"] == {
        "added": ["budget", "limits Describe", "account lab", "discover"],
        "changed": ["retention", "lateness"],
        "removed": [],
    }
    # 30 days: cpu each 600 s on both, gpu each 300 s (the interval of one) and each 120 s (of the other)
    month = 30 * 86_400 * (2 / 600 + 1 / 300 + 1 / 120) / 1000 * 0.01
    assert plan["dollars_per_month"] == {"before": 0.0, "after": round(month, 2)}
    assert json.loads(ok("list", "--json"))["workers"] == []
    applied = json.loads(ok("apply", str(file), "--json"))
    assert {key: applied[key] for key in plan} == plan | {"revision": 1}
    text = ok("plan", str(file))
    assert text.splitlines()[0] == "nothing changes"
    assert [line for line in text.splitlines() if line.startswith(("added", "changed", "removed"))] == []
    assert text.splitlines()[-1] == f"CloudWatch: about ${month:.2f} a month, ${month:.2f} before"


def test_a_plan_says_what_changes_of_a_rule(ok: Any, tmp_path: Path) -> None:
    """Each changed key has its value before and after, as in the file. An address is never shown."""
    file = tmp_path / "fleet.toml"
    channel = '[channels.ops]\ntype = "webhook"\nurl = "https://example.com/T0KEN"\nrepeat = "1h"\n'
    rule = '[[rules]]\nname = "hot"\nmetric = "cpu_utilization"\nabove = { critical = 90 }\nnotify = ["ops"]\n'
    file.write_text(rule + channel, "utf-8")
    ok("apply", str(file))
    changed = (
        rule.replace("critical = 90", "warning = 80, critical = 95") + 'breach = "2 of 3"\nlabels = { team = "a" }\n'
    )
    moved = channel.replace("T0KEN", "T1KEN").replace("1h", "2h")
    file.write_text(f'{changed}{moved}[collect]\nretention = "48h"\n', "utf-8")
    lines = ok("plan", str(file)).splitlines()
    assert (
        'changed rule hot: above.critical 90 → 95, above.warning absent → 80, breach "3 of 3" → "2 of 3",'
        ' labels absent → { team = "a" }'
    ) in lines
    assert 'changed channel ops: url, repeat "1h" → "2h"' in lines
    assert 'changed setting retention: "1d" → "2d"' in lines
    assert not any("T0KEN" in line or "T1KEN" in line for line in lines)
    document = json.loads(ok("plan", str(file), "--json"))
    assert document["differences"][0]["changes"][2] == {"key": "breach", "before": '"3 of 3"', "after": '"2 of 3"'}


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('period = "60s"', 'period = "2m"', "changed metric gpu_utilization: period 60 → 120"),
        (
            'tags = { Role = "render" }',
            'tags = { Role = "render", Nobody = "x" }',
            'changed setting discover: tags.Nobody absent → "x"',
        ),
        ("role/workermon", "role/other", "changed setting account lab: role_arn "),
    ],
)
def test_a_plan_shows_definitions_that_change_under_their_names(
    ok: Any, tmp_path: Path, old: str, new: str, line: str
) -> None:
    """A metric of another period, other tags and another role are no silent changes."""
    file = tmp_path / "fleet.toml"
    file.write_text(FILE, "utf-8")
    ok("apply", str(file))
    assert old in FILE
    file.write_text(FILE.replace(old, new), "utf-8")
    lines = ok("plan", str(file)).splitlines()
    assert any(row.startswith(line) for row in lines)
    assert "nothing changes" not in lines


def test_rules_that_a_file_leaves_without_their_metric_are_warned_of(ok: Any, run: Any, tmp_path: Path) -> None:
    """If a file ends the collection of a metric that rules use, plan and apply warn and name them."""
    ok("add", A)
    file = tmp_path / "fleet.toml"
    file.write_text('[collect]\nmetrics = ["cpu_utilization", "disk_utilization"]\n', "utf-8")
    for command in ("plan", "apply"):
        result = run(command, str(file))
        assert result.exit_code == 0
        assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" rule memory-high"]
    file.write_text("[collect]\n", "utf-8")
    assert run("plan", str(file)).stderr == ""


COVERED = f"""
[[workers]]
id = "{A}"
region = "us-east-1"
labels = {{ team = "vfx" }}
[[workers]]
id = "{B}"
region = "us-east-1"
[[rules]]
name = "every"
metric = "cpu_utilization"
above = {{ critical = 90 }}
[[rules]]
name = "one"
metric = "cpu_utilization"
above = {{ critical = 95 }}
labels = {{ team = "vfx" }}
[[rules]]
name = "nobody"
metric = "cpu_utilization"
above = {{ critical = 99 }}
labels = {{ team = "vfxx" }}
"""


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_how_many_workers_each_rule_applies_to_is_said(ok: Any, run: Any, tmp_path: Path, command: str) -> None:
    """A rule with labels that no worker has is a warning: the label is often misspelt."""
    file = tmp_path / "fleet.toml"
    file.write_text(COVERED, "utf-8")
    result = run(command, str(file))
    assert "rule every applies to 2 workers\nrule one applies to 1 worker\n" in result.stdout
    assert result.stderr == "warning: rule nobody: applies to no worker; none has team=vfxx\n"
    report = json.loads(run(command, str(file), "--json").stdout)
    assert report["rules"] == [
        {"name": "every", "workers": 2}, {"name": "one", "workers": 1}, {"name": "nobody", "workers": 0},
    ]  # fmt: skip
    assert report["warnings"] == ["rule nobody: applies to no worker; none has team=vfxx"]


def test_rules_check_counts_the_workers_of_the_file_and_those_that_are_monitored(
    ok: Any, run: Any, tmp_path: Path
) -> None:
    """Without Redis the file's workers count. A rule for workers of [discover] is not warned of."""
    file = tmp_path / "fleet.toml"
    file.write_text(COVERED, "utf-8")
    alone = CliRunner().invoke(cli.cli, ["rules", "check", str(file), "--json"], obj=Session())
    assert json.loads(alone.stdout)["coverage"][1] == {"name": "one", "workers": 1}
    assert alone.stderr == "warning: rule nobody: applies to no worker; none has team=vfxx\n"
    ok("add", C, "--no-verify", "--label", "team=vfxx")
    assert "rule nobody applies to 1 worker\n" in ok("rules", "check", str(file))
    discover = '[discover]\ntags = { Role = "render" }\nlabels = { team = "vfxx" }\n'
    file.write_text(discover + COVERED, "utf-8")
    assert CliRunner().invoke(cli.cli, ["rules", "check", str(file)], obj=Session()).stderr == ""


GROUPS = f"""
[[workers]]
id = "{A}"
labels = {{ pool = "a" }}
[[workers]]
id = "{B}"
labels = {{ pool = "b" }}
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
above = {{ critical = 90 }}
over = {{ by = "pool", share = 0.5 }}
[[rules]]
name = "rack-hot"
metric = "cpu_utilization"
above = {{ critical = 90 }}
over = {{ by = "rack", share = 0.5 }}
[[rules]]
name = "two-hot"
metric = "cpu_utilization"
above = {{ critical = 90 }}
over = {{ by = "pool", count = "2 of 3" }}
[[rules]]
name = "odd"
metric = "cpu_utilization"
outlier = {{ by = "pool", beyond = 4 }}
"""


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_how_many_groups_each_rule_applies_to_is_said(run: Any, tmp_path: Path, command: str) -> None:
    """A label that no worker has is named, and so is a rule whose groups are all too small."""
    file = tmp_path / "fleet.toml"
    file.write_text(GROUPS, "utf-8")
    report = json.loads(run(command, str(file), "--json").stdout)
    assert report["rules"] == [
        {"name": "pool-hot", "workers": 2, "groups": 2},
        {"name": "rack-hot", "workers": 0, "groups": 0},
        {"name": "two-hot", "workers": 2, "groups": 2},
        {"name": "odd", "workers": 2, "groups": 2},
    ]
    assert report["warnings"] == [
        "rule rack-hot: applies to no worker; none has a label rack, by whose values it makes groups",
        "rule two-hot: no group has 2 workers, as many as it takes to fire; the largest has 1",
        "rule odd: no group has 5 workers, as many as it takes to fire; the largest has 1",
    ]
    result = run(command, str(file))
    assert "rule pool-hot applies to 2 workers in 2 groups\nrule rack-hot applies to 0 workers in 0 groups\n" in (
        result.stdout
    )


def test_groups_that_discover_may_bring_are_not_warned_of(tmp_path: Path) -> None:
    """Tags may set the label. Another label that nothing sets is still a warning."""
    file = tmp_path / "fleet.toml"
    discover = '[discover]\ntags = { Role = "render" }\nlabels_from_tags = ["pool"]\n'
    file.write_text(discover + GROUPS, "utf-8")
    result = CliRunner().invoke(cli.cli, ["rules", "check", str(file)], obj=Session())
    assert result.stderr == (
        "warning: rule rack-hot: applies to no worker; none has a label rack, by whose values it makes groups\n"
    )


def test_a_fleet_without_workers_is_warned_of_once(run: Any, tmp_path: Path) -> None:
    """A first file with rules only gives one warning, not a list."""
    file = tmp_path / "fleet.toml"
    file.write_text("[collect]\n", "utf-8")
    assert run("plan", str(file)).stderr == "warning: no worker is monitored, so no rule applies to any\n"


def test_a_file_is_not_applied_over_a_revision_that_its_author_did_not_see(world: Any) -> None:
    """With an expected revision a file is refused if another one is in force. Nothing is written."""
    stage = world.get(fleet.Application)
    file = testing.parse("[budget]\ndollars_per_day = 5\n")
    options = fleet.ApplyOptions(region="us-east-1", revision=0)
    assert stage.apply(file, options).revision == 1
    with pytest.raises(errors.RevisionChanged, match="the current revision of the set-up is 1, not 0"):
        stage.apply(testing.parse("[budget]\ndollars_per_day = 6\n"), options)
    assert world.configurations.load().budget == 5


def test_a_plan_refuses_what_apply_refuses(run: Any, tmp_path: Path) -> None:
    """An instance that EC2 does not have is exit code 3 in a plan too."""
    file = tmp_path / "fleet.toml"
    file.write_text('[[workers]]\nid = "i-0dddddddddddddddd"\nregion = "us-east-1"\n', "utf-8")
    assert "i-0dddddddddddddddd" in one_line(run("plan", str(file)), 3)


NODE = f"""
[[workers]]
id = "{A}"
region = "us-east-1"
[collect]
metrics = ["disk_utilization"]
[[rules]]
name = "disk"
metric = "disk_utilization"
above = {{ critical = 90 }}
"""


def test_a_plan_prices_each_series(ok: Any, run: Any, world: Any, tmp_path: Path) -> None:
    """A worker with 120 mounts is priced for 120 series. Pseudo filesystems do not count."""
    for mount in range(120):
        dimensions = {"path": f"/mnt/{mount}", "fstype": "ext4"}
        world.cloudwatch.put(A, "disk_used_percent", [(60, 1.0)], namespace="CWAgent", dimensions=dimensions)
    tmpfs = {"path": "/run", "fstype": "tmpfs"}
    world.cloudwatch.put(A, "disk_used_percent", [(60, 1.0)], namespace="CWAgent", dimensions=tmpfs)
    file = tmp_path / "fleet.toml"
    file.write_text(NODE, "utf-8")
    report = json.loads(ok("plan", str(file), "--json"))
    assert report["dollars_per_month"] == {"before": 0.0, "after": 51.84}
    assert report["series"] == {"disk_utilization": 120}
    assert report["dollars_by_cadence"] == {"fixed": 51.84, "adaptive": 14.52}
    lines = ok("plan", str(file)).splitlines()
    assert lines[-3] == "a month by cadence: fixed $51.84, adaptive about $14.52"
    assert lines[-2:] == ["disk_utilization: 120 series", "CloudWatch: about $51.84 a month, $0.00 before"]
    ok("apply", str(file))
    assert json.loads(ok("plan", str(file), "--json"))["dollars_per_month"] == {"before": 51.84, "after": 51.84}


def test_a_plan_without_an_answer_of_cloudwatch_says_so(ok: Any, run: Any, world: Any, tmp_path: Path) -> None:
    """If ListMetrics is refused, each metric is priced as one series, with a warning. The file is applied."""
    world.cloudwatch.error = errors.AwsDenied("CloudWatch in us-east-1", "ListMetrics is not allowed", "allow it")
    file = tmp_path / "fleet.toml"
    file.write_text(NODE, "utf-8")
    result = run("plan", str(file))
    assert result.exit_code == 0
    assert "CloudWatch: about $0.43 a month" in result.stdout
    assert "warning: the series in default/us-east-1 could not be counted" in result.stderr
    assert "applied, revision 1" in ok("apply", str(file))


def test_a_price_counts_what_comes_less_often_than_its_period_as_often_as_it_is_asked(world: Any) -> None:
    """A metric of an agent that was learned to come each 300 s is asked for each 300 s."""
    worker = models.Worker(id=A, name=A, region="us-east-1", added_at=0, incarnation="1")
    configuration = config.DEFAULT.model_copy(update={"collect": ("memory_utilization",)})
    each_minute = costs.monthly_dollars([costs.PricedWorker(worker)], configuration)
    learned = costs.PricedWorker(worker, learned_periods={"memory_utilization": 300})
    assert costs.monthly_dollars([learned], configuration) == pytest.approx(each_minute / 5)


def test_a_budget_bounds_the_price() -> None:
    """A month costs at most thirty days of the budget. Paused workers cost nothing."""
    worker = models.Worker(id=A, name=A, region="us-east-1", added_at=0, incarnation="1", detailed=True)
    plain = costs.monthly_dollars([costs.PricedWorker(worker)], config.DEFAULT)
    assert plain == pytest.approx(5 * 30 * 1440 / 1000 * 0.01)
    three = costs.PricedWorker(worker, {"disk_utilization": 3})
    assert costs.monthly_dollars([three], config.DEFAULT) == pytest.approx(plain * 7 / 5)
    bounded = config.DEFAULT.model_copy(update={"budget": 0.01})
    assert costs.monthly_dollars([costs.PricedWorker(worker)], bounded) == pytest.approx(0.3)
    paused = costs.PricedWorker(worker.model_copy(update={"monitoring": "paused"}))
    assert costs.monthly_dollars([paused], config.DEFAULT) == 0


def test_quotes_are_written_as_people_write_them() -> None:
    """A text with quotes and backslashes stays readable. A control character is written as a number."""
    assert toml.value_text('avg(m, "30m") \\ \x1b') == r'"avg(m, \"30m\") \\ \u001B"'
    assert tomllib.loads(toml.write({"budget": {"a": 'x "y" \\ \n'}})) == {"budget": {"a": 'x "y" \\ \n'}}


def test_durations_are_written_in_the_largest_whole_unit() -> None:
    """All durations of the file are written alike."""
    text = """
        [[workers]]
        id = "i-0abc0123456789def"
        region = "us-east-1"
        interval = "300s"
        [discover]
        regions = ["us-east-1"]
        tags = { Role = "render" }
        interval = "120s"
        [[metrics]]
        name = "cpu_utilization"
        period = "3600s"
        [channels.ops]
        type = "slack"
        url = { env = "OPS_URL" }
        group_wait = "120s"
        repeat = "7200s"
        alert_after = "90s"
        [[rules]]
        name = "hot"
        metric = "cpu_utilization"
        above = { critical = 90 }
        flapping = "4 in 7200s"
        warmup = "600s"
        [[rules]]
        name = "soon"
        metric = "event"
        ahead = "172800s"
        [[silences]]
        all = true
        schedule = "0 2 * * *"
        duration = "10800s"
        reason = "backup"
        [collect]
        retention = "172800s"
        lateness = "1800s"
        rollups = "34560000s"
        [alerts]
        history = "34560000s"
        """
    file = testing.Monitor().parser.parse(text, "f.toml")
    assert file.workers is not None
    worker = models.Worker(
        id=file.workers[0].id, name="a", region="us-east-1", added_at=0.0, interval=300, incarnation="1"
    )
    written = export.text(config.to_configuration(file, config.DEFAULT), [worker])
    lines = set(written.splitlines())
    expected = {
        'interval = "5m"', 'interval = "2m"', 'period = "1h"', 'group_wait = "2m"', 'repeat = "2h"',
        'alert_after = "90s"', 'flapping = "4 in 2h"', 'warmup = "10m"', 'ahead = "2d"', 'duration = "3h"',
        'retention = "2d"', 'lateness = "30m"', 'rollups = "400d"', 'history = "400d"',
    }  # fmt: skip
    assert expected <= lines, expected - lines
