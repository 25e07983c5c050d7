"""``workermon.on_aws.limited``: every request takes a token and is counted as AWS counts it."""

from __future__ import annotations

import contextlib
from typing import Any

import botocore.awsrequest
import botocore.exceptions
import pytest

from workermon import errors, models, testing
from workermon.on_aws import cloudwatch, ec2, rate_limits, session

SCOPE = models.AccountRegion(region="us-east-1")
NOW = 1_700_000_000.0
A, B = "i-0aaaaaaa", "i-0bbbbbbb"

STATUS_PAGE = (
    '<DescribeInstanceStatusResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><instanceStatusSet/>{token}'
    "</DescribeInstanceStatusResponse>"
)
#: What the network gives: a status and a body, or nothing but an error.
Answer = tuple[int, str] | Exception
XML: Any = {"content-type": "text/xml"}

THROTTLE = (
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow down</Message></Error></Errors></Response>"
)


class Wire:
    """Answers a client's requests in order, in place of the network. The last answer repeats."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[botocore.awsrequest.AWSPreparedRequest] = []

    def over(self, client: Any) -> None:
        """Handle the requests of a client, after the limiter."""
        client.meta.events.register_last("before-send", self)

    def __call__(self, request: botocore.awsrequest.AWSPreparedRequest, **_: object) -> botocore.awsrequest.AWSResponse:
        """Answer one request."""
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        raw: Any = None
        response = botocore.awsrequest.AWSResponse(request.url, status, XML, raw)
        vars(response)["_content"] = body.encode()
        return response


class House(testing.Monitor):
    """The clients of a process, watched over."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(now=NOW)
        self.wire = Wire(*answers)
        watch = rate_limits.Limited(self.limiter, self.costs, self.clock)

        def route(client: Any, scope: models.AccountRegion) -> None:
            watch(client, scope)
            self.wire.over(client)

        self.sessions = session.Sessions(route)

    @property
    def calls(self) -> dict[str, int]:
        """Return the requests that were counted, by operation."""
        return {name: number for hour in self.costs.hours(NOW) for (_, name), number in hour.calls.items()}

    @property
    def metrics(self) -> dict[str, int]:
        """Return the metrics that were counted."""
        return {name: number for hour in self.costs.hours(NOW) for (_, name), number in hour.metrics.items()}


@pytest.fixture(autouse=True)
def _own_aws(monkeypatch: pytest.MonkeyPatch, retries_at_once: None) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def queries(*names: str, statistic: str = "Average") -> list[models.Query]:
    """Ask for metrics of EC2."""
    return [
        models.Query(
            worker_id=A, metric=name, namespace="AWS/EC2", metric_name=name, dimensions=(("InstanceId", A),),
            statistic=statistic, period=60, since=int(NOW) - 600,
        )
        for name in names
    ]  # fmt: skip


def test_each_page_takes_a_token_and_counts_as_a_request() -> None:
    """A paginator's second page is a call like the first."""
    house = House((200, STATUS_PAGE.format(token="<nextToken>more</nextToken>")), (200, STATUS_PAGE.format(token="")))
    ec2.AwsEc2(house.sessions).statuses(SCOPE, [A])
    assert house.limiter.calls == [("take", "default/us-east-1", "DescribeInstanceStatus")] * 2
    assert house.calls == {"DescribeInstanceStatus": 2}
    assert house.metrics == {}


def test_each_retry_takes_a_token_and_a_refusal_slows_all() -> None:
    """Three refusals are three requests. The limiter gets each refusal."""
    house = House((503, THROTTLE))
    with pytest.raises(errors.AwsThrottled):
        ec2.AwsEc2(house.sessions).statuses(SCOPE, [A])
    tried = [call for call, _, _ in house.limiter.calls]
    assert tried == ["take", "throttled"] * session.ATTEMPTS
    assert house.calls == {"DescribeInstanceStatus": session.ATTEMPTS}


def test_no_token_no_request() -> None:
    """The limiter's refusal is raised unchanged, and nothing is sent, counted or retried."""
    house = House((200, STATUS_PAGE.format(token="")))
    house.limiter.error = errors.AwsThrottled("DescribeInstanceStatus", "the rate is used up", "wait")
    with pytest.raises(errors.AwsThrottled, match="the rate is used up"):
        ec2.AwsEc2(house.sessions).statuses(SCOPE, [A])
    assert (house.wire.requests, house.calls) == ([], {})
    assert [call for call, _, _ in house.limiter.calls] == ["take"]


def test_redis_out_of_reach_is_reported_as_that() -> None:
    """An unreachable Redis is not reported as an error of AWS."""
    house = House((200, STATUS_PAGE.format(token="")))
    house.limiter.error = errors.RedisUnavailable("Redis", "gone", "start it")
    with pytest.raises(errors.RedisUnavailable):
        ec2.AwsEc2(house.sessions).statuses(SCOPE, [A])


def test_a_silent_endpoint_is_noted_and_a_refused_connection_is_not() -> None:
    """Only an endpoint that does not answer keeps threads waiting, so only that is recorded."""
    silent = House(botocore.exceptions.ReadTimeoutError(endpoint_url="https://x"))
    with pytest.raises(errors.AwsUnreachable):
        ec2.AwsEc2(silent.sessions).statuses(SCOPE, [A])
    assert ("silent", "default/us-east-1", "DescribeInstanceStatus") in silent.limiter.calls
    down = House(botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"))
    with pytest.raises(errors.AwsUnreachable):
        ec2.AwsEc2(down.sessions).statuses(SCOPE, [A])
    assert {call for call, _, _ in down.limiter.calls} == {"take"}
    assert down.calls == {}, "nobody was there to count it"


def test_a_connection_that_is_refused_ends_a_silence() -> None:
    """A refused connection costs no time, so the other threads need not wait for the next trial."""
    house = House(botocore.exceptions.ConnectionClosedError(endpoint_url="https://x"))
    key = (SCOPE.key, "DescribeInstanceStatus")
    house.limiter.silent(*key)
    with pytest.raises(errors.AwsUnreachable):
        ec2.AwsEc2(house.sessions).statuses(SCOPE, [A])
    assert house.limiter.slowed() == {}


def test_metrics_are_counted_by_name_once_aws_took_the_request() -> None:
    """By CloudWatch's names, whatever the window. A refused request counts no metric."""
    answered = (200, "{}")
    house = House(answered)
    with contextlib.suppress(errors.WorkermonError):
        cloudwatch.AwsCloudWatch(house.sessions).fetch(SCOPE, queries("CPUUtilization", "NetworkIn"), NOW)
    number = len(house.wire.requests)
    assert house.calls == {"GetMetricData": number}
    assert house.metrics == {"AWS/EC2/CPUUtilization": number, "AWS/EC2/NetworkIn": number}
    denied = House((400, '{"__type": "AccessDeniedException", "message": "no"}'))
    answer = cloudwatch.AwsCloudWatch(denied.sessions).fetch(SCOPE, queries("CPUUtilization"), NOW)
    assert isinstance(answer.failed[0], errors.AwsError)
    assert denied.calls == {"GetMetricData": 1}
    assert denied.metrics == {}
