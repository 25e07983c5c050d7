"""``why`` explains missing datapoints: the metric is not published for this worker, or AWS was not asked."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.present import present
from workermon import cli, errors, fleet, models, settings, testing, views
from workermon.cli.session import Session

ID = "i-0abc0123456789def"
REGION = models.AccountRegion(region="us-east-1")
#: On a whole hour.
T0 = 1_700_002_800
MEMORY = "memory_utilization"
NAME = "mem_used_percent"


def monitored(number: int = 1) -> testing.Monitor:
    """Return a monitor of instances without an agent's metrics. The first is ``ID``."""
    monitor = testing.Monitor(now=float(T0))
    ids = [ID, *(f"i-{place:017x}" for place in range(1, number))]
    for worker_id in ids:
        monitor.ec2.put(models.Instance(id=worker_id, region="us-east-1", status="running", name=worker_id))
    monitor.get(fleet.Adding).add(ids, fleet.AddOptions(scope=REGION, interval=60))
    return monitor


def reason(monitor: testing.Monitor, metric: str = MEMORY) -> str | None:
    """Return why a metric does not come."""
    missing = monitor.get(views.Explanation).explain(monitor.workers.get([ID])[ID], metric).missing_metrics
    return missing[0].reason if missing else None


def test_a_metric_published_under_host_names_the_host() -> None:
    """An agent without the instance's id publishes under its host name, which is shown."""
    monitor = monitored()
    monitor.cloudwatch.put_foreign(NAME, {"host": "ip-10-0-0-7"})
    monitor.cloudwatch.put_foreign(NAME, {"AutoScalingGroupName": "render"})
    monitor.collect()
    text = present(reason(monitor))
    assert text.startswith(
        f"nobody publishes CWAgent {NAME} or Memory % Committed Bytes In Use under InstanceId={ID}; "
    )
    assert "it is published under host=ip-10-0-0-7 and 1 more, which names no instance" in text
    assert 'put InstanceId = "${aws:InstanceId}" into the agent\'s append_dimensions' in text


def test_a_variable_that_the_agent_did_not_replace_is_named() -> None:
    """An unexpanded id belongs to no instance, and is listed first."""
    monitor = monitored(8)
    monitor.cloudwatch.put_foreign(NAME, {"host": "ip-10-0-0-7"})
    monitor.cloudwatch.put_foreign(NAME, {"InstanceId": "${aws:InstanceId}"})
    for _ in range(2):
        monitor.collect()
        monitor.clock.advance(60)
    text = present(reason(monitor))
    assert "it is published under InstanceId=${aws:InstanceId} and 1 more" in text
    assert "the agent did not replace the variable" in text


def test_nobody_publishes_it_anywhere() -> None:
    """Without any series that is the reason. Without a metric argument all missing metrics are named."""
    monitor = monitored()
    monitor.collect()
    assert present(reason(monitor)).endswith(f"under InstanceId={ID}")
    everything = monitor.get(views.Explanation).explain(monitor.workers.get([ID])[ID]).missing_metrics
    assert {entry.metric for entry in everything} == {
        "cpu_utilization", MEMORY, "disk_utilization", "network_in", "network_out"
    }  # fmt: skip
    assert present(reason(monitor, "cpu_utilization")).startswith("CloudWatch has no datapoint of it, asked until ")


def test_that_aws_was_never_asked_is_said_with_the_reason() -> None:
    """A worker that was never collected, is stopped, or that AWS refuses has that reason."""
    monitor = monitored()
    assert reason(monitor) == "no request to AWS for it has succeeded yet: the worker was never collected"
    monitor.cloudwatch.error = errors.AwsDenied("ListMetrics", "is not allowed", "grant it")
    monitor.collect()
    assert "no request to AWS for it has succeeded yet: denied: " in present(reason(monitor))
    stopped = monitored()
    stopped.ec2.become(ID, "stopped")
    stopped.collect()
    assert reason(stopped) == "no request to AWS for it has succeeded yet: the instance is stopped"


def test_a_metric_that_comes_is_not_named_until_it_falls_silent() -> None:
    """As soon as a datapoint is absent, why says since when."""
    monitor = monitored()
    monitor.cloudwatch.put(ID, NAME, [(T0 - 120, 40.0), (T0 - 60, 40.0)], namespace="CWAgent")
    monitor.collect()
    assert reason(monitor) is None
    for _ in range(5):
        monitor.clock.advance(60)
        monitor.collect()
    assert present(reason(monitor)).startswith(f"no datapoint after {models.rfc3339(T0 - 60)}, though AWS was asked")


def test_series_for_no_instance_are_looked_for_once_an_hour_and_only_if_one_lacks_a_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a worker lacks the metric, one call an hour is made. Otherwise none."""
    monitor = monitored()
    requests: list[str] = []
    inner = monitor.cloudwatch.foreign_dimensions

    def counting(scope: models.AccountRegion, namespace: str, metric_name: str) -> list[tuple[tuple[str, str], ...]]:
        requests.append(metric_name)
        return inner(scope, namespace, metric_name)

    monkeypatch.setattr(monitor.cloudwatch, "foreign_dimensions", counting)
    monitor.cloudwatch.put(ID, NAME, [(T0 - 60 + n * 60, 40.0) for n in range(60)], namespace="CWAgent")
    for _ in range(50):
        monitor.collect()
        monitor.clock.advance(60)
    assert requests == ["disk_used_percent"]


def test_the_command_says_it() -> None:
    """It is shown below the worker, before its rules, and as a list in JSON."""
    monitor = monitored()
    monitor.cloudwatch.put_foreign(NAME, {"host": "ip-10-0-0-7"})
    monitor.collect()
    container: Any = monitor
    cli_session = Session(settings.Settings(_env_file=None), container)
    result = CliRunner().invoke(cli.cli, ["why", ID, MEMORY], obj=cli_session)
    assert f"missing   {MEMORY}: nobody publishes" in result.stdout
    command_result = CliRunner().invoke(cli.cli, ["why", ID, MEMORY, "--json"], obj=cli_session)
    assert '"missing_metrics"' in command_result.stdout
