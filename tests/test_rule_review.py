"""What a changed file would have fired: counted, routed, priced, and printed as text, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.commands import A, Ports
from tests.support.grouping import Pools
from tests.support.rules import changed
from workermon import cli, config, models, runtime, settings
from workermon.cli import session
from workermon.models import Count, Levels
from workermon.rules import KINDS, threshold
from workermon.views import backtest, rule_review

MINUTE = 60
T0 = 1_699_999_200
OLD = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
breach = "1 of 1"
recover = "1 of 1"
notify = { warning = ["log"], critical = ["ops"] }

[channels.ops]
type = "log"
"""
NEW = (
    OLD.replace('breach = "1 of 1"', 'breach = "3 of 3"')
    + """
[[rules]]
name = "idle"
metric = "cpu_utilization"
below = { critical = 5 }
"""
)
#: A peak of one minute, one of four above the warning only, and one of four above both.
VALUES = [50, 95, 50, 85, 85, 85, 85, 50, 95, 95, 95, 95, 50, 50]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    """Return the two files and a trace."""
    rows = [f"{T0 + MINUTE * place},{value}" for place, value in enumerate(VALUES)]
    for name, text in (("old.toml", OLD), ("new.toml", NEW), ("cpu.csv", "\n".join(["timestamp,value", *rows]))):
        (tmp_path / name).write_text(text, "utf-8")
    return str(tmp_path / "old.toml"), str(tmp_path / "new.toml"), str(tmp_path / "cpu.csv")


def reviewed(*arguments: str) -> str:
    """Return the output of ``rules review``."""
    result = CliRunner().invoke(cli.cli, ["rules", "review", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_counts(files: tuple[str, str, str]) -> None:
    """Episodes, notified alerts, channels and removed rules equal those of both files over the same trace."""
    old, new, trace = files
    review: dict[str, Any] = json.loads(reviewed(old, new, "--csv", trace, "--json"))
    high, idle = review["rules"]
    assert (high["rule"], high["change"], idle["rule"], idle["change"]) == ("cpu-high", "changed", "idle", "added")
    assert high["fired"] == {"before": 3, "after": 2}
    assert high["keys"] == ['breach "1 of 1" -> "3 of 3"'] or high["keys"]
    [vanished] = high["vanished"]
    assert (vanished["severity"], vanished["from"]) == ("critical", models.rfc3339(T0 + MINUTE))
    assert high["appeared"] == []
    assert review["channels"] == [
        {"channel": "log", "notified": {"before": 1, "after": 1}},
        {"channel": "ops", "notified": {"before": 2, "after": 1}},
    ]
    assert (review["workers"], review["dollars_per_month"]) == (None, None)
    assert (review["since"], review["until"]) == (
        models.rfc3339(T0), models.rfc3339(T0 + MINUTE * len(VALUES) - 1),
    )  # fmt: skip


def test_text_and_markdown(files: tuple[str, str, str]) -> None:
    """A terminal gets a table and the differences. A comment gets Markdown in which names are escaped."""
    old, new, trace = files
    text = reviewed(old, new, "--csv", trace)
    assert "cpu-high  changed  3 → 2" in text
    assert "would no longer fire critical from 2023-11-14T22:01:00Z until 2023-11-14T22:02:00Z" in text
    assert "channel ops: notified of 2 → 1 alerts" in text
    lines = reviewed(old, new, "--csv", trace, "--markdown").splitlines()
    assert lines[0].startswith("### Rules: ")
    assert "| Rule | Change | Fired | Notified | Fired for |" in lines
    assert "- channel ops: notified of 2 → 1 alerts" in lines
    assert next(line for line in lines if line.startswith("| cpu-high | changed | 3 → 2 | 3 → 2 |"))


def test_since(files: tuple[str, str, str]) -> None:
    """Episodes that began before are left out of both."""
    old, new, trace = files
    review = json.loads(reviewed(old, new, "--csv", trace, "--since", "8m", "--json"))
    assert review["rules"][0]["fired"] == {"before": 1, "after": 1}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--period", "1m"], "--period: is only for a trace"),
        (["--csv", "x.csv", "--period", "2d"], "--period: 172800 s is not between 1 s and 24 h"),
        (["--markdown", "--json"], "--markdown: --json is given too"),
    ],
)
def test_options_that_do_not_go_together(files: tuple[str, str, str], options: list[str], error: str) -> None:
    """They are refused in one line, with exit code 2."""
    result = CliRunner().invoke(cli.cli, ["rules", "review", *files[:2], *options])
    assert (result.exit_code, error in result.stderr) == (2, True), result.stderr


def test_ledger_and_price(ok: Callable[..., str], world: Ports, tmp_path: Path) -> None:
    """Over the ledger the fleet is priced before and after, without asking AWS."""
    ok("add", A)
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text('[collect]\nmetrics = ["cpu_utilization"]\n' + OLD, "utf-8")
    new.write_text('[collect]\nmetrics = ["cpu_utilization", "network_in"]\n' + NEW, "utf-8")
    document = json.loads(ok("rules", "review", str(old), str(new), "--json"))
    price = document["dollars_per_month"]
    assert 0 < price["before"] < price["after"]
    assert document["workers"] == 1
    assert [rule["rule"] for rule in document["rules"]] == ["cpu-high", "idle"]
    assert "CloudWatch: about $" in ok("rules", "review", str(old), str(new), "--since", "1h")


def test_inhibited_episodes_notify_nobody() -> None:
    """An episode that is inhibited to its end notifies nobody. One that lasts longer does."""
    single_slot = {"breach": Count(m=1, n=1), "recover": Count(m=1, n=1)}
    cause = threshold.KIND.rule(name="cause", metric="cpu_utilization", above=Levels(critical=70), **single_slot)
    follows = threshold.KIND.rule(name="follows", metric="cpu_utilization", above=Levels(critical=80), **single_slot)
    points = tuple(models.Datapoint(T0 + MINUTE * place, value) for place, value in enumerate(map(float, VALUES)))
    sides = []
    for rule in (follows, changed(follows, inhibited_by=("cause",))):
        configuration = config.DEFAULT.model_copy(update={"rules": (cause, rule)})
        replays = backtest.over_trace(configuration, KINDS, "cpu_utilization", models.Series(MINUTE, points))
        sides.append(rule_review.Side(source="f", configuration=configuration, replays=replays))
    by_name = {rule.rule: rule for rule in rule_review.compare(sides[0], sides[1], KINDS, since=None).rules}
    assert (by_name["follows"].fired.after, by_name["follows"].notified) == (3, rule_review.Counts(before=3, after=0))
    assert by_name["cause"].change == "unchanged"


GROUPS = """
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
notify = []
above = { critical = 90 }
breach = "1 of 1"
recover = "1 of 1"
over = { by = "pool", count = "2 of 5" }

[[rules]]
name = "odd"
metric = "cpu_utilization"
notify = []
outlier = { by = "pool", beyond = 4 }
breach = "1 of 1"
recover = "1 of 1"
"""


def test_groups_and_outliers_are_compared_over_the_ledger(silent_log: None, tmp_path: Path) -> None:
    """Episodes that stricter group and outlier rules would no longer fire are counted and named."""
    pools = Pools()
    for number in range(5):
        pools.add(number)
    for slot in range(1, 5):
        hot = {0: 97.0 if slot >= 2 else 10.0, 1: 97.0 if slot == 3 else 10.0}
        pools.slot(T0 + slot * MINUTE, {**dict.fromkeys(range(5), 10.0), **hot})
    (tmp_path / "old.toml").write_text(GROUPS, "utf-8")
    (tmp_path / "new.toml").write_text(
        GROUPS.replace("2 of 5", "3 of 5").replace("beyond = 4", "beyond = 900"), "utf-8"
    )
    arguments = ["rules", "review", str(tmp_path / "old.toml"), str(tmp_path / "new.toml"), "--json"]
    app_settings = settings.Settings(_env_file=None)
    container = runtime.open(app_settings, pools.overrides())
    result = CliRunner().invoke(cli.cli, arguments, obj=session.Session(app_settings, container))
    container.close()
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    by_rule = {rule["rule"]: rule for rule in document["rules"]}
    assert document["not_replayed"] == []
    assert (by_rule["pool-hot"]["recorded"], by_rule["pool-hot"]["fired"]) == (True, {"before": 1, "after": 0})
    assert [episode["worker"] for episode in by_rule["pool-hot"]["vanished"]] == ["group:pool=a"]
    assert by_rule["odd"]["fired"]["before"] > by_rule["odd"]["fired"]["after"] == 0


def test_cloudwatch_s_history_is_not_asked_for_groups(run: Callable[..., Any], tmp_path: Path) -> None:
    """Rules that several workers decide are named, and refused where there is nothing else to replay."""
    file = tmp_path / "fleet.toml"
    file.write_text(GROUPS, "utf-8")
    refused = run("rules", "backtest", str(file), "--cloudwatch", "--yes")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "error: --cloudwatch: several workers decide pool-hot and odd, and CloudWatch is read one worker at a time;"
        " leave it out: the ledger has whole groups\n"
    )
    file.write_text(GROUPS + OLD, "utf-8")
    result = run("rules", "backtest", str(file), "--cloudwatch", "--yes")
    assert "warning: rule odd: several workers decide it, so it is left out; replay it from the ledger" in result.stderr
