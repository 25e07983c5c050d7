"""Rules over an expression, from the collection to the notification."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from workermon import cli, config, errors, models, rules, testing, views
from workermon.notify import channels
from workermon.views import ledger_backtest, recorded_values, rule_cases

ID = "i-0abc0123456789def"
MINUTE = 60
T0 = 1_699_999_200
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)


class Site(testing.Monitor):
    """A monitored worker. A test puts its metrics into CloudWatch minute by minute."""

    def __init__(self, text: str) -> None:
        super().__init__(config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT), T0)
        self.worker = self.add_worker(ID, name="render-07", added_at=T0 - 3600, detailed=True)

    def put(self, metric: str, by_minute: Mapping[int, float]) -> None:
        """Put datapoints into CloudWatch."""
        self.cloudwatch.put(ID, metric, [(T0 + MINUTE * minute, value) for minute, value in by_minute.items()])

    def run(self, minutes: int) -> None:
        """Collect, evaluate and deliver each minute."""
        for _ in range(minutes):
            self.clock.advance(MINUTE)
            self.collect()
            self.evaluate(ID)
            self.deliver()

    def notified(self) -> list[tuple[str, int, float | None]]:
        """Return the notifications: severity or ``resolved``, minute of the slot, and value."""
        return [
            (
                notification.severity if notification.status == "firing" else "resolved",
                round((models.moment(notification.at) - T0) / MINUTE),
                notification.value,
            )
            for notification in self.received
        ]

    def explain(self, metric: str) -> views.RuleExplanation:
        """Return the state of the only rule over a metric."""
        (record,) = self.workers.get([ID]).values()
        (rule,) = self.get(views.Explanation).explain(record, metric).rules
        return rule


NETWORK = """[[rules]]
name = "network-high"
metric = "(network_in + network_out) * 8 / period / 1e6"
unit = "Mbit/s"
above = { warning = 80, critical = 100 }
breach = "2 of 2"
recover = "1 of 1"
"""
BYTES = 60e6 / 8  # one Mbit/s over a minute


def test_it_fires_and_resolves() -> None:
    """A rule over two metrics fires at the slot in which its value breaches, with the value in the rule's unit."""
    site = Site(NETWORK)
    site.put("NetworkIn", {0: 10 * BYTES, 1: 60 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.put("NetworkOut", {0: 10 * BYTES, 1: 50 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.run(8)
    assert site.notified() == [("critical", 2, 120), ("resolved", 3, 10)]
    fired = site.received[0]
    assert (fired.metric, fired.unit) == ("(network_in + network_out) * 8 / period / 1e6", "Mbit/s")
    assert (fired.value, fired.threshold) == (120, 100)
    assert "120 Mbit/s" in fired.summary


def test_a_slot_without_one_operand_is_absent() -> None:
    """If one metric has no datapoint there is no value, however high the other is."""
    site = Site(NETWORK)
    site.put("NetworkIn", dict.fromkeys(range(8), 500 * BYTES))
    site.put("NetworkOut", {0: BYTES, 4: BYTES})
    site.run(12)
    assert site.notified() == []


def test_a_late_operand_corrects() -> None:
    """Slots of a late operand are evaluated again, also those whose window contains it."""
    site = Site(
        '[[rules]]\nname = "r"\nmetric = \'max(network_in, "5m") - network_out\'\n'
        'above = { critical = 50 }\nbreach = "1 of 1"\nrecover = "1 of 1"\n'
    )
    minutes = range(12)
    site.put("NetworkIn", {minute: 10 for minute in minutes if minute != 4})
    site.put("NetworkOut", dict.fromkeys(minutes, 20))
    site.run(12)
    assert site.notified() == []
    site.put("NetworkIn", {4: 95.0})
    site.run(2)
    history = site.alerts.history(f"{ID}/r")
    transitions = [
        ((entry.transition.at - T0) // MINUTE, entry.transition.after, entry.transition.correction) for entry in history
    ]
    assert sorted(transitions) == [(4, "critical", True), (9, None, True)]


def test_why_shows_the_operands() -> None:
    """``why`` of any of its metrics has the rule, and each operand of each slot that decides."""
    site = Site(NETWORK)
    site.put("NetworkIn", {0: 10 * BYTES, 1: 60 * BYTES})
    site.put("NetworkOut", {0: 10 * BYTES, 1: 50 * BYTES})
    site.run(4)
    rule = site.explain("network_out")
    document = rule.to_json()
    assert [point["value"] for point in document["points"]] == [20, 110]
    assert document["points"][1]["operands"] == {"network_in": 60 * BYTES, "network_out": 50 * BYTES}
    assert any("network_in 450 MB" in text for _, text in rule.lines)


def test_the_ledger_is_replayed() -> None:
    """A backtest over the ledger gives the evaluation's episodes, with the peak in the rule's unit."""
    site = Site(NETWORK)
    site.put("NetworkIn", {0: 10 * BYTES, 1: 60 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.put("NetworkOut", {0: 10 * BYTES, 1: 50 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.run(8)
    configuration = site.configurations.load()
    (replay,) = site.get(ledger_backtest.LedgerBacktest).replay(
        list(site.workers.every()), configuration.rules[0], configuration
    )
    [episode] = replay.episodes
    assert (episode.severity, episode.begin, episode.end, episode.peak, episode.unit) == (
        "critical", T0 + 2 * MINUTE, T0 + 3 * MINUTE, 120, "Mbit/s",
    )  # fmt: skip


CASE = """
[[rules.cases]]
name = "both at once"
values = { network_in = [60, nan, 60, 60], network_out = [60, 60, 60, nan] }
turns = [{ at = 3, to = "critical" }]
"""
ONE = """[[rules]]
name = "climbs"
metric = 'delta(cpu_utilization, "2m")'
above = { critical = 20 }
breach = "1 of 1"
recover = "1 of 1"
notify = ["log"]

[[rules.cases]]
name = "by 30 in two minutes"
values = [10, 20, 40, 45, 46]
turns = [{ at = 3, to = "critical" }, { at = 5, to = "ok" }]
"""


def test_cases() -> None:
    """Values of several metrics are a table of lists. Values of one metric are a list."""
    text = NETWORK.replace(" * 8 / period / 1e6", "").replace("breach", 'missing = "keep"\nbreach')
    file = PARSER.parse(text + CASE + ONE, "f.toml")
    results = rule_cases.test(file, config.to_configuration(file, config.DEFAULT), rules.KINDS)
    assert [(case.case, case.passed) for case in results.cases] == [
        ("both at once", True), ("by 30 in two minutes", True),
    ], results  # fmt: skip
    jsonschema.Draft202012Validator(PARSER.schema()).validate(tomllib.loads(text + CASE + ONE))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("{ network_in = [60, nan, 60, 60], network_out = [60, 60, 60, nan] }", "[1]", "write values = { network_in"),
        ("network_out = [", "netwrk_out = [", "did you mean network_out?"),
        (", network_out = [60, 60, 60, nan]", "", "has no values of network_out"),
        ("[60, nan, 60, 60]", "[60]", "lists of different lengths"),
        ("[60, nan, 60, 60]", '[60, "x", 60, 60]', "has for network_in something that is not a number"),
        ("at = 3", "at = 5", "there are 4 values only"),
    ],
)
def test_wrong_cases(old: str, new: str, error: str) -> None:
    """A missing value of a case is named at its position."""
    with pytest.raises(errors.InvalidInput, match=r"line \d+, column \d+: rules\[0\].cases\[0\]") as refused:
        PARSER.parse(NETWORK + CASE.replace(old, new), "f.toml")
    assert error in str(refused.value)


def backtested(tmp_path: Path, text: str, *more: str) -> Result:
    """Run ``rules backtest`` of a file over a trace."""
    (tmp_path / "rules.toml").write_text(text, "utf-8")
    (tmp_path / "trace.csv").write_text("timestamp,value\n0,10\n60,20\n120,40\n180,45\n240,46\n", "utf-8")
    options = ["--csv", str(tmp_path / "trace.csv")]
    return CliRunner().invoke(cli.cli, ["rules", "backtest", str(tmp_path / "rules.toml"), *options, *more])


def test_a_trace_serves_a_rule_over_one_metric(tmp_path: Path) -> None:
    """A trace is replayed by an expression over its metric. A rule over two metrics is skipped with a note."""
    result = backtested(tmp_path, ONE + NETWORK, "--metric", "cpu_utilization", "--json")
    [episode] = json.loads(result.stdout)["episodes"]
    assert (episode["rule"], episode["from"], episode["peak"]) == ("climbs", "1970-01-01T00:02:00Z", 30)
    result = backtested(tmp_path, NETWORK)
    assert result.exit_code == 2
    assert "rule network-high is over network_in and network_out; replay it from the ledger" in result.stderr
    two_rules = ONE.replace("cpu_utilization", "network_in")
    result = backtested(tmp_path, two_rules + NETWORK)
    assert result.exit_code == 0, result.stderr
    assert "rule network-high is over network_in and network_out, so it is left out" in result.stderr


def test_sums_of_a_coarse_history() -> None:
    """Sums of longer slots in CloudWatch's history are scaled to the metric's period, and `period` is that period."""
    rules = PARSER.parse(NETWORK, "f.toml").rules
    assert rules is not None
    series = [models.Series(300, (models.Datapoint(0, BYTES), models.Datapoint(300, BYTES)))]
    compared = recorded_values.compared(
        rules[0], {"network_in": series, "network_out": series}, config.DEFAULT.statistic_of, 60
    )
    assert compared == [models.Series(300, (models.Datapoint(0, 2.0), models.Datapoint(300, 2.0)))]


def test_segments_of_different_periods() -> None:
    """If a metric's period changed, slots before and after the change have their own periods."""
    rule = PARSER.parse(NETWORK.replace(" * 8 / period / 1e6", ""), "f.toml").rules
    assert rule is not None
    recorded_as = {
        "network_in": [
            models.Series(300, tuple(models.Datapoint(at, 5.0) for at in (0, 300, 600))),
            models.Series(60, tuple(models.Datapoint(at, 1.0) for at in range(900, 1500, 60))),
        ],
        "network_out": [models.Series(300, tuple(models.Datapoint(at, 2.0) for at in range(300, 1500, 300)))],
    }
    compared = recorded_values.compared(rule[0], recorded_as, config.DEFAULT.statistic_of)
    assert [(series.period, series.points) for series in compared] == [
        (300, ((300, 7.0), (600, 7.0))), (300, ((900, 7.0), (1200, 7.0))),
    ]  # fmt: skip


def test_members_of_a_group_have_their_own_thresholds() -> None:
    """A rule over groups evaluates an expression for each member and compares it with the member's label."""
    site = Site(
        """[[rules]]
name = "pool-net"
metric = "(network_in + network_out) / period"
over = { by = "pool", count = "2 of 3" }
above = { critical = "label:limit or 5" }
breach = "1 of 1"
recover = "1 of 1"
"""
    )
    ids = [f"i-0abc012345678900{number}" for number in range(3)]
    for number, worker_id in enumerate(ids):
        labels = {"pool": "a", **({"limit": "1000"} if number == 2 else {})}
        site.ec2.put(models.Instance(id=worker_id, region="us-east-1", status="running", detailed=True))
        worker = site.worker.model_copy(update={"id": worker_id, "name": f"r{number}", "labels": labels})
        site.workers.add([worker])
        site.schedule.put([worker], T0)
        for metric in ("NetworkIn", "NetworkOut"):
            points = [(T0 + MINUTE * minute, 6000.0 if minute in (2, 3) else 0.0) for minute in range(6)]
            site.cloudwatch.put(worker_id, metric, points)
    for _ in range(10):
        site.clock.advance(MINUTE)
        site.collect()
        site.evaluate(*ids)
        site.deliver()
    assert [(notification.status, notification.members) for notification in site.received] == [
        ("firing", tuple(ids[:2])),
        ("resolved", ()),
    ]
