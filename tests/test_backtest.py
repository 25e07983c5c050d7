"""Backtests of a trace, compared with a loop that shares no code with the evaluation."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.support.present import present
from tests.support.rules import changed
from workermon import cli, config, errors, models, ports, testing, views
from workermon.cli import chart
from workermon.rules import KINDS, horizon, threshold
from workermon.views import backtest, cloudwatch_history, ledger_backtest, trace

TRACES = Path(__file__).parents[2] / "shared" / "data" / "ec2-cpu-traces"
NAMES = [f"ec2_cpu_utilization_{name}.csv" for name in ("77c1ca", "fe7f93", "24ae8d", "53ea38")]

FILE = """
[[rules]]
name = "busy"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
clear = { warning = 75, critical = 85 }
breach = "2 of 3"
recover = "2 of 2"

[[rules]]
name = "hot"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "3 of 3"
missing = "breach"

[[rules]]
name = "idle"
metric = "cpu_utilization"
below = { warning = 1 }
breach = "4 of 5"
recover = "1 of 1"
missing = "ok"
"""

RULES = {
    "busy": {"levels": [(80, 75), (90, 85)], "up": True, "m": 2, "n": 3, "r": (2, 2), "missing": "keep"},
    "hot": {"levels": [None, (90, 90)], "up": True, "m": 3, "n": 3, "r": (2, 2), "missing": "breach"},
    "idle": {"levels": [(1, 1), None], "up": False, "m": 4, "n": 5, "r": (1, 1), "missing": "ok"},
}


def plain_loop(rows: Any, period: Any, rule: Any) -> Any:
    """Evaluate rows of ``(time, value or None)`` slot by slot, as the manual says. Return the episodes."""
    slots = {}
    for at, value in rows:
        if value is not None:
            slots[at // period] = (at, value)
    episodes: list[Any] = []
    peak: list[float] = []
    latched, worst, begin = [False, False], 0, None
    first = min(slots)
    for slot in range(first, max(slots) + 1):

        def window(size: Any, slot: Any = slot) -> Any:
            counted = []
            for place in range(slot, slot - 2 * size, -1):
                if place in slots:
                    counted.append(slots[place][1])
                elif rule["missing"] != "keep" and place >= first:
                    counted.append(None)
                if len(counted) == size:
                    break
            return counted

        if slot not in slots and rule["missing"] == "keep":
            continue
        for place, level in enumerate(rule["levels"]):
            if level is None:
                continue
            out, back = level
            absent = rule["missing"] == "breach"
            bad = [absent if v is None else (v > out if rule["up"] else v < out) for v in window(rule["n"])]
            good = [not absent if v is None else (v <= back if rule["up"] else v >= back) for v in window(rule["r"][1])]
            if sum(bad) >= rule["m"]:
                latched[place] = True
            elif sum(good) >= rule["r"][0]:
                latched[place] = False
        state = 2 if latched[1] else 1 if latched[0] else 0
        at = slots[slot][0] if slot in slots else slot * period
        if state and begin is None:
            begin, worst, peak = at, 0, []
        if not state and begin is not None:
            episodes.append((worst, begin, at, peak))
            begin = None
        if state:
            worst = max(worst, state)
            peak += [slots[slot][1]] if slot in slots else []
    if begin is not None:
        episodes.append((worst, begin, None, peak))
    pick = max if rule["up"] else min
    return [(("warning", "critical")[w - 1], a, z, pick(p) if p else None) for w, a, z, p in episodes]


def generated() -> Any:
    """Return rows with plateaus, spikes, values on the thresholds, gaps and absent values."""
    rows: list[tuple[int, float | None]] = []
    chance, at = random.Random(8), 1_700_000_100
    while len(rows) < 3000:
        level = chance.choice([0.5, 1, 40, 75, 80, 84, 85, 90, 91, 97])
        for _ in range(chance.randint(1, 7)):
            rows.append((at, None if chance.random() < 0.06 else level + chance.choice([0, 0, 0.5, -0.5])))
            at += 300 if chance.random() < 0.97 else 300 * chance.randint(2, 40)
    return rows


def run(tmp_path: Any, trace: Any, *more: Any, text: Any = FILE) -> Any:
    """Run ``rules backtest`` on a trace, and return the result."""
    rules = tmp_path / "rules.toml"
    rules.write_text(text, "utf-8")
    return CliRunner().invoke(cli.cli, ["rules", "backtest", str(rules), "--csv", str(trace), *more])


def episodes_of(result: Any, rule: Any) -> Any:
    """Return a document's episodes of a rule as the plain loop has them."""
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"episodes"}
    return [
        (
            episode["severity"],
            models.moment(episode["from"]),
            episode["to"] and models.moment(episode["to"]),
            episode["peak"],
        )
        for episode in document["episodes"]
        if episode["rule"] == rule and set(episode) == {"rule", "worker", "severity", "from", "to", "peak"}
    ]


@pytest.mark.parametrize("name", NAMES)
def test_recorded_traces_give_what_a_plain_loop_gives(tmp_path: Path, name: Any) -> None:
    """On a real EC2 trace each rule has the episodes of the plain loop, with their times and peaks."""
    if not (TRACES / name).exists():
        pytest.skip(f"{name} is not there: recorded traces are not part of the project")
    with (TRACES / name).open(newline="") as file:
        rows = [
            (int(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp()), float(row["value"]))
            for row in csv.DictReader(file)
        ]
    result = run(tmp_path, TRACES / name, "--json")
    for rule, plain in RULES.items():
        assert episodes_of(result, rule) == plain_loop(rows, 300, plain), rule


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_generated_trace_gives_what_a_plain_loop_gives(tmp_path: Path, shuffled: bool) -> None:
    """Gaps, absent and boundary values give the loop's episodes, in any order of rows."""
    rows = generated()
    lines = [f"{at if at % 2 else models.rfc3339(at)},{'NaN' if value is None else value}" for at, value in rows]
    if shuffled:
        random.Random(3).shuffle(lines)
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join(["timestamp,value", *lines]), "utf-8")
    result = run(tmp_path, trace, "--json")
    for rule, plain in RULES.items():
        expected = plain_loop(rows, 300, plain)
        assert expected
        assert episodes_of(result, rule) == expected, rule


def test_the_last_of_rows_with_the_same_time_counts() -> None:
    """A repeated timestamp has its last value. If that is absent, the slot is absent."""
    points = trace.read(["timestamp,value", "0,1", "60,2", "0,3", "120,4", "60,"], "t")
    assert points == models.Series(60, (models.Datapoint(0, 3.0), models.Datapoint(120, 4.0)))


def test_times_are_read_in_every_form_that_is_promised() -> None:
    """RFC 3339 with any offset, a plain UTC time and epoch seconds name the same moment."""
    forms = ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20", "1700000000", "2023-11-14T23:13:20+01:00", "1700000000.7"]
    for form in forms:
        assert trace.read(["value,timestamp", f"5,{form}"], "t").points == (models.Datapoint(1700000000, 5),)


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["timestamp,value", "0,1", "60,abc"], "t: line 3: 'abc' is not a number"),
        (["timestamp,value", "yesterday,1"], "t: line 2: 'yesterday' is not a time"),
        (["timestamp,value", "", "0,1,2"], "t: line 3: has 3 cells, not 2"),
        (["timestamp,value", "-5,1"], "t: line 2: '-5' is not a time"),
        (["timestamp,value", "999999999999,1"], "t: line 2: '999999999999' is not a time"),
        (["timestamp,value", "9999-12-31T23:59:59-14:00,1"], "t: line 2: '9999-12-31T23:59:59-14:00' is not a time"),
        (["0,1", "60,2"], "t: line 1: does not have the columns timestamp and value"),
        (["timestamp,value", '"0,1'], "t: line 2: has 1 cells, not 2"),
        (["timestamp,value", "0,1_0"], "t: line 2: '1_0' is not a number"),
        (["timestamp,value"], "t: has no datapoint"),
        ([], "t: has no datapoint"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(lines: Any, place: str) -> None:
    """An unreadable row is one line of error with its position. It is not guessed."""
    with pytest.raises(errors.InvalidInput) as caught:
        trace.read(lines, "t")
    assert str(caught.value).startswith(place)


def test_an_open_episode_has_no_end(tmp_path: Path) -> None:
    """An episode that fires at the end of a trace has a null end, and the given worker."""
    trace = tmp_path / "t.csv"
    trace.write_text("timestamp,value\n" + "".join(f"{at},95\n" for at in range(0, 3000, 300)), "utf-8")
    [busy, hot] = json.loads(run(tmp_path, trace, "--json", "--worker", "render-07").stdout)["episodes"]
    assert (hot["to"], hot["worker"], hot["from"], hot["peak"]) == (None, "render-07", "1970-01-01T00:10:00Z", 95.0)
    assert (busy["from"], busy["severity"]) == ("1970-01-01T00:05:00Z", "critical")


def test_people_get_a_table_and_a_chart(tmp_path: Path) -> None:
    """Without --json there is a chart with the time that it fired marked, and a row for each episode."""
    trace = tmp_path / "t.csv"
    values = [10] * 20 + [95] * 5 + [10] * 20
    trace.write_text("timestamp,value\n" + "".join(f"{60 * at},{v}\n" for at, v in enumerate(values)), "utf-8")
    result = run(tmp_path, trace)
    assert "└" in result.stdout
    assert "c" * 5 in result.stdout
    assert "hot   -       critical  1970-01-01T00:22:00Z  1970-01-01T00:26:00Z  240 min" not in result.stdout
    [row] = [line for line in result.stdout.splitlines() if line.startswith("hot ") and "critical" in line]
    assert row.split()[:3] == ["hot", "-", "critical"]
    assert row.split()[3:] == ["1970-01-01T00:22:00Z", "1970-01-01T00:26:00Z", "4", "min", "95.0", "%"]


def test_of_several_metrics_one_has_to_be_named(tmp_path: Path) -> None:
    """Rules over two metrics need --metric, or a trace named after one. An unknown metric exits with 3."""
    two = FILE + '\n[[rules]]\nname = "net"\nmetric = "network_in"\nabove = { warning = 5 }\n'
    trace = tmp_path / "t.csv"
    trace.write_text("timestamp,value\n0,1\n", "utf-8")
    result = run(tmp_path, trace, text=two)
    assert result.exit_code == 2
    assert "--metric" in result.stderr
    assert run(tmp_path, trace, "--metric", "network_in", text=two).exit_code == 0
    result = run(tmp_path, trace, "--metric", "network_im", text=two)
    assert (result.exit_code, "did you mean network_in?" in result.stderr) == (3, True)
    renamed = tmp_path / "of_network_in.csv"
    renamed.write_text("timestamp,value\n0,9\n60,9\n120,9\n", "utf-8")
    assert [row["rule"] for row in json.loads(run(tmp_path, renamed, "--json", text=two).stdout)["episodes"]] == ["net"]


# --- the ledger --------------------------------------------------------------------------------------------------


def charted(points: Any, period: Any, width: int = 90) -> Any:
    """Return the lines of the chart of datapoints, below a rule over CPU."""
    rule = config.DEFAULT.rules[0]
    replay = backtest.replay(rule, [models.Series(period, tuple(points))], config.DEFAULT, KINDS)
    return chart.draw(replay, width)


def test_a_chart_has_no_holes_that_the_data_has_not() -> None:
    """Fewer datapoints than columns fill all columns. Only absent datapoints leave gaps."""
    points = [models.Datapoint(300 * place, 50.0) for place in range(12)]
    bottom = charted(points, 300)[7]
    assert " " not in bottom.partition("┤")[2]
    assert len(bottom) > 80
    holes = charted([point for point in points if point.at != 1500], 300)[7].partition("┤")[2].split()
    assert len(holes) == 2


def test_a_chart_has_units() -> None:
    """The highest and the lowest value are written as everywhere else."""
    assert charted([models.Datapoint(0, 50.0), models.Datapoint(60, 97.5)], 60)[0].startswith("97.5 % ┤")


def test_many_charts_come_after_the_table_and_only_where_something_fired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a fleet the table comes first. Workers without an episode are counted, not drawn."""
    from workermon.cli import rules as command

    high = models.Series(300, tuple(models.Datapoint(300 * place, 95.0) for place in range(6)))
    low = models.Series(300, tuple(models.Datapoint(300 * place, 5.0) for place in range(6)))
    rule = config.DEFAULT.rules[0]
    replays = tuple(
        backtest.replay(
            rule,
            [high if place == 7 else low],
            config.DEFAULT,
            KINDS,
            worker=views.WorkerName(id=f"i-{place}", name=f"r-{place}"),
        )
        for place in range(30)
    )
    monkeypatch.setattr(command, "_on_ledger", lambda *_: replays)
    file = tmp_path / "rules.toml"
    file.write_text("", "utf-8")
    result = CliRunner().invoke(cli.cli, ["rules", "backtest", str(file)])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["RULE", "WORKER", "SEVERITY", "FROM", "TO", "LASTED", "PEAK"]
    assert lines[1].split()[1] == "r-7"
    assert lines[1].endswith("95.0 %")
    assert [line for line in lines if "episode" in line] == ["cpu-high, r-7: 1 episode"]
    assert "29 more in which nothing would have fired are not drawn" in result.stderr


def test_the_ledger_is_evaluated_by_worker_and_rule() -> None:
    """Each worker with the rule's labels has its episodes, also if its period changed midway."""
    monitor = testing.Monitor(now=1_700_000_000)
    workers, samples = monitor.workers, monitor.samples
    ids = ["i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"]
    definitions = [
        models.Worker(
            id=worker_id,
            name=worker_id,
            region="us-east-1",
            added_at=0,
            incarnation=worker_id,
            labels={"n": str(place)},
        )
        for place, worker_id in enumerate(ids)
    ]
    workers.add(definitions)
    slow = [models.Datapoint(1_699_990_200 + 300 * place, 95.0) for place in range(4)]
    fast = [models.Datapoint(1_699_992_000 + 60 * place, 10.0) for place in range(4)]
    for worker in definitions:
        for period, points in ((300, slow), (60, fast)):
            sample = models.Sample(
                worker=worker,
                collected_at=points[-1].at + 500,
                status="running",
                series={"cpu_utilization": models.Series(period, tuple(points))},
            )
            samples.write(
                sample, models.Condition(requested_at={"cpu_utilization": points[-1].at + 500}), "{}", force=True
            )
    rule = config.DEFAULT.rules[0].model_copy(update={"labels": {"n": "1"}})
    replays = monitor.get(ledger_backtest.LedgerBacktest).replay(list(workers.get(ids).values()), rule, config.DEFAULT)
    [replay] = replays
    [episode] = replay.episodes
    assert (present(replay.worker).id, [series.period for series in replay.segments]) == (ids[1], [300, 60])
    assert (episode.rule, episode.worker, episode.severity) == ("cpu-high", ids[1], "critical")
    assert (episode.begin, episode.end, episode.peak, episode.unit) == (slow[2].at, fast[1].at, 95.0, "percent")
    assert horizon.DELAY < 500


# --- cases -------------------------------------------------------------------------------------------------------

CASES = """
[[rules]]
name = "busy"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }

[[rules.cases]]
name = "an absent value is skipped"
values = [50, 95, nan, 95, 95, 40, 40]
turns = [{ at = 5, to = "critical" }, { at = 7, to = "ok" }]

[[rules.cases]]
name = "exactly at the threshold is well"
values = [80, 80, 80, 80]
period = "5m"
"""


def try_cases(tmp_path: Any, text: Any, *more: Any) -> Any:
    """Run ``rules test``."""
    file = tmp_path / "cases.toml"
    file.write_text(text, "utf-8")
    return CliRunner().invoke(cli.cli, ["rules", "test", str(file), *more])


def test_cases_of_a_file_are_run(tmp_path: Path) -> None:
    """Passing cases exit with 0 and are reported one by one."""
    result = try_cases(tmp_path, CASES)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "ok busy: an absent value is skipped",
        "ok busy: exactly at the threshold is well",
    ]


def test_a_case_that_does_not_hold_fails(tmp_path: Path) -> None:
    """A failing case exits with 1 and prints the actual result."""
    result = try_cases(tmp_path, CASES.replace("at = 5", "at = 4"))
    assert result.exit_code == 1
    assert "expected critical at value 4, ok at value 7; got critical at value 5, ok at value 7" in result.stdout
    [first, second] = json.loads(try_cases(tmp_path, CASES.replace("at = 5", "at = 4"), "--json").stdout)["cases"]
    assert (first["passed"], second["passed"]) == (False, True)
    assert first["got"] == [{"at": 5, "to": "critical"}, {"at": 7, "to": "ok"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CASES.replace("at = 7", "at = 8"), "there are 7 values only"),
        (CASES.replace("at = 7", "at = 5"), "comes before the turn above it"),
        (CASES.replace("[80, 80, 80, 80]", "[]"), "rules[0].cases[1].values"),
        (CASES.replace('to = "ok"', 'to = "well"'), "none of ok, warning, critical"),
        (CASES.replace("exactly at the threshold is well", "an absent value is skipped"), "already"),
        (CASES.split("[[rules.cases]]")[0], "has no [[rules.cases]]"),
    ],
)
def test_a_case_that_cannot_be_meant_is_refused(tmp_path: Path, text: Any, expected: str) -> None:
    """An invalid case is reported with its position and exit code 2."""
    result = try_cases(tmp_path, text)
    assert (result.exit_code, expected in result.stderr) == (2, True), result.stderr


def test_the_peak_is_the_furthest_value() -> None:
    """For a rule that fires below, the peak is the lowest value. Absent slots alone have none."""
    low = threshold.KIND.rule(name="low", metric="m", below=models.Levels(warning=10), breach=models.Count(m=1, n=1))
    points = tuple(models.Datapoint(60 * place, value) for place, value in enumerate([20, 5, 3, 7, 20, 20]))
    fired = backtest.episodes(low, [models.Series(60, points)], threshold.KIND)
    assert [episode.peak for episode in fired] == [3]
    silent = changed(low, missing="breach")
    ends = (models.Datapoint(0, 20.0), models.Datapoint(600, 20.0), models.Datapoint(660, 20.0))
    [only] = backtest.episodes(silent, [models.Series(60, ends)], threshold.KIND)
    assert (only.begin, only.end, only.peak) == (60, 660, 20.0)
    assert not math.isnan(present(only.peak))


# --- CloudWatch's own history ------------------------------------------------------------------------------------


@given(
    period=st.sampled_from([1, 5, 10, 30, 60, 90, 300, 420, 3600, 86_400]),
    back=st.integers(300, 454 * models.DAY),
    until=st.integers(1_700_000_000, 1_800_000_000),
)
def test_spans_follow_one_another_within_what_is_kept(period: Any, back: Any, until: Any) -> None:
    """They cover all of the time, each part with the shortest period that CloudWatch still has."""
    spans = cloudwatch_history.spans(period, until - back, until)
    assert (spans[0].begin, spans[-1].end) == (until - back, until)
    assert all(before.end == after.begin for before, after in itertools.pairwise(spans))
    retention = {1: 3 / 24, 60: 15, 300: 63, 3600: 455}
    for span in spans:
        base = max(period for period in retention if span.period % period == 0)
        assert until - span.begin <= retention[base] * models.DAY
        assert span.period >= period
    assert spans[-1].period == period or spans[-1].period - period < 60 or back > 2 * 3600
    assert [span.period for span in spans] == sorted({span.period for span in spans}, reverse=True)


def test_a_minute_is_kept_for_fifteen_days() -> None:
    """CloudWatch keeps minutes for 15 days, five minutes for 63, then hours. Five-minute metrics have nothing finer."""
    until = 1_700_002_800
    days = [
        (span.period, (until - span.begin) / models.DAY)
        for span in cloudwatch_history.spans(60, until - 90 * 86_400, until)
    ]
    assert [period for period, _ in days] == [3600, 300, 60]
    assert days[0][1] == 90
    assert 62.9 < days[1][1] < 63
    assert 14.9 < days[2][1] < 15
    assert [span.period for span in cloudwatch_history.spans(300, until - 40 * 86_400, until)] == [300]


def history(metric: Any, points: Any, since: Any) -> Any:
    """Request a metric from an in-memory CloudWatch. Return the requests and the series."""
    monitor = testing.Monitor(now=1_700_000_000)
    worker = models.Worker(id=W, name="w", region="us-east-1", added_at=0, incarnation="1", detailed=True)
    monitor.cloudwatch.put(W, metric.metric_name, points, namespace=metric.namespace)
    configuration = config.DEFAULT.model_copy(update={"metrics": {**config.DEFAULT.metrics, metric.name: metric}})
    rule = threshold.KIND.rule(name="r", metric=metric.name, above=models.Levels(warning=1))
    record = ports.Record(worker, models.Condition(status="running"), {}, 0.0, None, 0)
    requests = monitor.get(cloudwatch_history.CloudWatchRequests).requests_for([record], [rule], configuration, since)
    return requests, monitor.get(cloudwatch_history.CloudWatchFetch).fetch(requests)


W = "i-0aaaaaaaaaaaaaaaa"


def test_the_status_checks_are_asked_of_cloudwatch() -> None:
    """EC2 keeps no history, so CloudWatch's metric of the checks is requested, by the minute."""
    points = [(1_699_999_200 + 60 * number, float(number > 3)) for number in range(10)]
    metric = cloudwatch_history.CHECKS[models.STATUS_CHECK_FAILED]
    requests, series = history(metric, points, 1_699_999_000)
    assert [(request.metric.metric_name, request.queries) for request in requests] == [("StatusCheckFailed", 1)]
    [only] = series[W, "status_check_failed"]
    assert (only.period, [point.value for point in only.points]) == (60, [value for _, value in points])


def test_each_check_that_cloudwatch_has_is_asked_under_its_own_name() -> None:
    """System, instance and attached EBS have their own metrics in CloudWatch. Application and performance have none."""
    names = {name: metric.metric_name for name, metric in cloudwatch_history.CHECKS.items()}
    assert names == {
        "status_check_failed": "StatusCheckFailed",
        "system_check_failed": "StatusCheckFailed_System",
        "instance_check_failed": "StatusCheckFailed_Instance",
        "ebs_check_failed": "StatusCheckFailed_AttachedEBS",
    }


def test_a_price_is_that_of_every_query() -> None:
    """Each span and each dimension set is a metric of its own, a thousandth of a cent each."""
    worker = models.Worker(id=W, name="w", region="us-east-1", added_at=0, incarnation="1")
    two = (cloudwatch_history.Span(300, 0, 60), cloudwatch_history.Span(60, 60, 120))
    metric = cloudwatch_history.CHECKS[models.STATUS_CHECK_FAILED]
    requests = [cloudwatch_history.HistoryRequest(worker, metric, two, ((("a", "b"),),) * 3)]
    metrics, dollars = cloudwatch_history.price(requests)
    assert (metrics, round(dollars, 9)) == (6, 0.00006)
    assert cloudwatch_history.price([]) == (0, 0.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "3d"], "--since: is only for CloudWatch's history; add --cloudwatch"),
        (["--yes"], "--yes: is only for CloudWatch's history; add --cloudwatch"),
        (["--region", "us-east-1"], "--region: is only for CloudWatch's history; add --cloudwatch"),
        (["--cloudwatch", "--csv", "x.csv"], "--cloudwatch: a trace is given too; leave one of them out"),
        (["--cloudwatch", "--period", "5m"], "--period: is only for a trace"),
        (["--csv", "x.csv", "--period", "99d"], "--period: 8553600 s is not between 1 s and 24 h; choose the trace's"),
        (["--csv", "x.csv", "--period", "0s"], "--period: 0 s is not between 1 s and 24 h; choose the trace's period"),
        (["--cloudwatch", "--since", "1s"], "--since: 1 s is not within what CloudWatch keeps, 5 minutes to 454 days"),
        (["--cloudwatch", "--since", "455d"], "is not within what CloudWatch keeps"),
        (["--cloudwatch", "--since", "soon"], "is not a duration"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, expected: str
) -> None:
    """Each invalid option gives one line and exit code 2, before any request or connection."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://127.0.0.1:1/1")
    rules = tmp_path / "rules.toml"
    rules.write_text(FILE, "utf-8")
    result = CliRunner().invoke(cli.cli, ["rules", "backtest", str(rules), *options])
    assert (result.exit_code, expected in result.stderr) == (2, True), result.stderr
