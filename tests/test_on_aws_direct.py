"""GetMetricData's lists pass by botocore: what comes out is the same, whatever the way."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from workermon import models
from workermon.local import endpoint, simulation
from workermon.on_aws import cloudwatch, direct, session

SCOPE = models.Scope(region="us-east-1")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[endpoint.Endpoint]:
    """Run a simulated AWS that boto3 is pointed at."""
    served = endpoint.Endpoint(simulation.Simulation(time.time, 3))
    served.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulated")
    yield served
    served.stop()


def fetched(aws: endpoint.Endpoint, until: float) -> dict[int, models.Series]:
    """Fetch an hour of each instance's CPU, by clients of its own."""
    sessions = session.Sessions()
    queries = [
        models.Query(
            worker_id=instance_id, metric="cpu_utilization", namespace="AWS/EC2", metric_name="CPUUtilization",
            dimensions=(("InstanceId", instance_id),), statistic="Average", period=60, since=int(until) - 3600,
        )
        for instance_id in aws.simulation.machines
    ]  # fmt: skip
    answer = cloudwatch.AwsCloudWatch(sessions).fetch(SCOPE, queries, until)
    sessions.close()
    assert not answer.failed
    return answer.series


def test_the_short_way_brings_what_botocore_brings(aws: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and datapoints are the same with and without it."""
    until = time.time() - 300
    taken = []
    read = direct._read
    monkeypatch.setattr(direct, "_read", lambda **each: taken.append(each) or read(**each))
    short = fetched(aws, until)
    assert taken
    monkeypatch.setattr(direct, "shorten", lambda client: None)
    usual = fetched(aws, until)
    assert short == usual
    assert all(len(series.points) > 50 for series in short.values())


def test_a_refusal_stays_botocores(aws: endpoint.Endpoint) -> None:
    """What CloudWatch refuses or garbles is told in botocore's words."""
    sessions = session.Sessions()
    for kind, said in (("deny", "AccessDenied"), ("garbage", "CloudWatch")):
        aws.fail(kind, "GetMetricData")
        with pytest.raises(AssertionError, match=said):
            fetched(aws, time.time())
        aws.recover()
    sessions.close()
