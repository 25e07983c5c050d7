"""EC2's five status checks: read, stored, evaluated and described."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workermon import collect, evaluate, fleet, models, notify, ports, testing, views
from workermon.web import compression, prometheus

ID = "i-0abc0123456789def"
HERE = models.AccountRegion(region="us-east-1")
#: Since when a check is impaired, by EC2's word.
SINCE = 1_700_000_100
WORDS = "Stop and start the instance."


@pytest.fixture
def monitor() -> testing.Monitor:
    """Give a monitor of one instance with checks that a test sets."""
    new_monitor = testing.Monitor(now=1_700_000_040.0)
    new_monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    new_monitor.get(fleet.Adding).add([ID], fleet.AddOptions(scope=HERE, interval=60))
    return new_monitor


def minutes(monitor: testing.Monitor, number: int, **checks: Any) -> None:
    """Have EC2 answer these checks, beside the first two that are ok, for so many collections a minute apart."""
    instance = models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True)
    monitor.ec2.put(instance, models.Checks(**{"system": "ok", "instance": "ok", **checks}))
    for _ in range(number):
        monitor.clock.advance(60)
        monitor.get(collect.Collection).collect([ID])
        monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))


def record(monitor: testing.Monitor) -> Any:
    """Return the worker's record."""
    return monitor.workers.get([ID])[ID]


def event(monitor: testing.Monitor) -> dict[str, Any]:
    """Return the worker's event as the channel has it."""
    stored = record(monitor)
    document: dict[str, Any] = json.loads(
        models.Event.of(stored.worker, stored.condition, monitor.configurations.load()).model_dump_json(by_alias=True)
    )
    return document


@pytest.mark.parametrize(
    ("checks", "values"),
    [
        ({}, {"status_check_failed": 0.0, "system_check_failed": 0.0, "instance_check_failed": 0.0}),
        (
            {"attached_ebs": "impaired"},
            {
                "status_check_failed": 1.0, "system_check_failed": 0.0, "instance_check_failed": 0.0,
                "ebs_check_failed": 1.0,
            },
        ),
        (
            {"system": "impaired", "attached_ebs": "ok", "application": "ok", "performance": "impaired"},
            {
                "status_check_failed": 1.0, "system_check_failed": 1.0, "instance_check_failed": 0.0,
                "ebs_check_failed": 0.0, "application_check_failed": 0.0, "performance_check_failed": 1.0,
            },
        ),
        (
            {"attached_ebs": "initializing", "application": "insufficient-data", "performance": "ok"},
            {"system_check_failed": 0.0, "instance_check_failed": 0.0, "performance_check_failed": 0.0},
        ),
    ],
)  # fmt: skip
def test_each_check_is_a_metric_where_ec2_answers_it(
    monitor: testing.Monitor, checks: dict[str, str], values: dict[str, float]
) -> None:
    """Impaired is 1, ok 0, anything else nothing. Attached EBS counts in status_check_failed, the last two do not."""
    minutes(monitor, 1, **checks)
    at = int(monitor.clock()) // 60 * 60
    series_keys = [(ID, metric, 60) for metric in models.CHECK_METRICS]
    read = monitor.samples.read(series_keys, at, at)
    stored_values = {metric: series.points[0].value for (_, metric), series in read.items() if series.points}
    assert stored_values == values
    assert event(monitor)["status_checks"] == {"system": "ok", "instance": "ok", **checks}
    failed = event(monitor)["metrics"]["status_check_failed"]
    assert (failed and failed["value"]) == values.get("status_check_failed")


def test_a_failed_performance_check_warns_after_three_with_what_ec2_recommends(monitor: testing.Monitor) -> None:
    """The default rule fires at the third, with time and recommendation, and resolves after two that are ok."""
    monitor.ec2.impairments[ID] = {"performance": models.Impairment(since=SINCE, remediation=WORDS)}
    minutes(monitor, 2, performance="impaired")
    assert monitor.received == []
    minutes(monitor, 2, performance="impaired")
    [fired] = monitor.received
    reason = f"EC2: performance impaired since {models.rfc3339(SINCE)}; remediation: {WORDS}"
    assert (fired.rule, fired.severity, fired.metric) == (
        "performance-check-failed", "warning", "performance_check_failed",
    )  # fmt: skip
    assert fired.summary == (
        f"render-07: performance_check_failed: EC2 performance check impaired for 3 of 3 checks; {reason}"
    )
    assert fired.reason == reason
    monitor.ec2.impairments.clear()
    minutes(monitor, 2, performance="ok")
    assert [notification.status for notification in monitor.received] == ["firing", "resolved"]
    assert monitor.received[1].summary.endswith("EC2 performance check ok for 2 of 2 checks")


def test_a_failed_application_check_is_critical_after_two(monitor: testing.Monitor) -> None:
    """The default rule fires at the second. An unanswered performance check fires nothing."""
    minutes(monitor, 3, application="impaired")
    assert [(notification.rule, notification.severity, notification.reason) for notification in monitor.received] == [
        ("application-check-failed", "critical", None)
    ]


def test_an_unreachable_volume_fires_the_status_check(monitor: testing.Monitor) -> None:
    """The status check's own rule fires for the attached EBS and names it."""
    monitor.ec2.impairments[ID] = {"attached_ebs": models.Impairment(since=SINCE)}
    minutes(monitor, 2, attached_ebs="impaired")
    [fired] = monitor.received
    assert fired.rule == "status-check-failed"
    assert fired.summary.endswith(
        f"EC2 status check impaired for 2 of 2 checks; EC2: attached EBS impaired since {models.rfc3339(SINCE)}"
    )


def test_what_came_later_is_not_said_of_what_came_before(monitor: testing.Monitor) -> None:
    """An impairment that began after the deciding datapoint is a separate one."""
    monitor.ec2.impairments[ID] = {"application": models.Impairment(since=int(monitor.clock()) + 3600)}
    minutes(monitor, 2, application="impaired")
    assert [notification.reason for notification in monitor.received] == [None]


def test_why_shows_the_impaired_check_and_says_where_ec2_answers_none(monitor: testing.Monitor) -> None:
    """``why`` has time, EC2's recommendation, and that a check is not answered."""
    monitor.ec2.impairments[ID] = {"performance": models.Impairment(since=SINCE, remediation=WORDS)}
    minutes(monitor, 1, performance="impaired")
    explanation = monitor.get(views.Explanation)
    [performance] = explanation.explain(record(monitor), "performance_check_failed").rules
    impaired = {
        "check": "performance", "status": "impaired", "impaired_since": models.rfc3339(SINCE), "remediation": WORDS,
    }  # fmt: skip
    assert json.loads(performance.model_dump_json())["impaired"] == [impaired]
    assert ("EC2", f"performance impaired since {models.rfc3339(SINCE)}; remediation: {WORDS}") in performance.lines
    [application] = explanation.explain(record(monitor), "application_check_failed").rules
    assert application.now == "EC2 has not answered its application check for this instance"
    assert application.state == "ok"
    assert "impaired" not in json.loads(application.model_dump_json())


def test_a_check_that_ec2_answers_late_is_evaluated_from_then_on(monitor: testing.Monitor) -> None:
    """Before, nothing is stored for the rule. A single answer between others is not lost."""
    minutes(monitor, 3)
    assert "application-check-failed" not in monitor.alerts.load([ID])[ID].alerts
    minutes(monitor, 1, application="impaired")
    minutes(monitor, 2)
    minutes(monitor, 1, application="impaired")
    assert [notification.rule for notification in monitor.received] == ["application-check-failed"]


def test_show_and_metrics_name_every_check(monitor: testing.Monitor) -> None:
    """``show`` lists EC2's answers and texts. /metrics has a sample for each check that is ok or impaired."""
    monitor.ec2.impairments[ID] = {"performance": models.Impairment(since=SINCE, remediation=WORDS)}
    minutes(monitor, 1, attached_ebs="ok", application="initializing", performance="impaired")
    detail = monitor.get(views.WorkerView).show(record(monitor))
    assert [(problem.check, problem.since, problem.remediation) for problem in detail.impaired] == [
        ("performance", SINCE, WORDS)
    ]
    families = prometheus.Families(monitor.configurations.load().collect)
    families.add(ports.WorkerSummary.of(record(monitor)))
    page = b"".join(compression.plain(families.parts())).decode()
    lines = [line for line in page.splitlines() if line.startswith("workermon_status_check{")]
    assert lines == [
        f'workermon_status_check{{check="system",id="{ID}"}} 1.0',
        f'workermon_status_check{{check="instance",id="{ID}"}} 1.0',
        f'workermon_status_check{{check="attached_ebs",id="{ID}"}} 1.0',
        f'workermon_status_check{{check="performance",id="{ID}"}} 0.0',
    ]


def test_history_and_charts_have_the_checks(monitor: testing.Monitor) -> None:
    """History has each metric. A chart is drawn of a check that has a rule and is answered."""
    minutes(monitor, 2, application="ok")
    history = monitor.get(views.HistoryView).history(record(monitor), "application_check_failed", 0)
    assert ([point.value for point in history.datapoints], history.unit) == ([0.0, 0.0], "count")
    charted = views.charted_metrics(record(monitor), monitor.configurations.load(), monitor.kinds)
    assert charted[-2:] == ("status_check_failed", "application_check_failed")
    charts = monitor.get(views.ChartView).charts(record(monitor), monitor.clock() - 3600)
    [drawn] = [chart for chart in charts.charts if chart.metric == "application_check_failed"]
    assert drawn.values == (0.0, 0.0)


@pytest.mark.parametrize("metric", models.CHECK_METRICS)
def test_a_rule_may_be_over_each_of_them(metric: str, monitor: testing.Monitor) -> None:
    """Each may be in a rule and in [collect]. None may be defined as a CloudWatch metric."""
    text = f'[collect]\nmetrics = ["cpu_utilization", "{metric}"]\n[[rules]]\nname = "r"\nmetric = "{metric}"\n'
    file = monitor.parser.parse(text + "above = { critical = 0 }\n", "x.toml")
    assert file.rules is not None
    assert file.rules[0].metric == metric
