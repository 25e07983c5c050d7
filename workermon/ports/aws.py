"""EC2, CloudWatch, SNS, SQS, and the rate limits of AWS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from workermon.models import (
    AccountRegion,
    BudgetDecision,
    Dimensions,
    Hour,
    Instance,
    InstanceStatus,
    Query,
    Series,
    TopicMessage,
    UsageTotals,
)


class Ec2(Protocol):
    """EC2. Answers leave out ids that EC2 does not know; that is not an error."""

    def describe(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return the result of DescribeInstances for these ids."""

    def statuses(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """Return state and status checks of these ids, stopped ones included (DescribeInstanceStatus)."""

    def list_statuses(self, scope: AccountRegion, zone: str | None) -> Iterator[list[InstanceStatus]]:
        """Yield the same of all instances of a region, or of one of its zones, in pages of up to a thousand."""

    def find(self, scope: AccountRegion, tags: Mapping[str, str]) -> list[Instance]:
        """Return every instance that has all these tags and is neither terminated nor shutting down."""

    def time(self, scope: AccountRegion) -> float | None:
        """Return AWS' own time in whole seconds, ``None`` if unknown. A refusal has the time too."""


class Answer(NamedTuple):
    """The series of the queries that were answered, and the errors of the others, by place in the request.

    An answered query without a datapoint has an empty series.
    """

    series: dict[int, Series]
    failed: dict[int, Exception]


class CloudWatch(Protocol):
    """CloudWatch."""

    def fetch(self, scope: AccountRegion, queries: Sequence[Query], until: float) -> Answer:
        """Return datapoints from each query's ``since`` up to ``until``, in order of time (GetMetricData).

        Pages are followed and partial results requested again; NaN and repeated timestamps are dropped. A query that
        stays partial counts as failed, but its datapoints are returned.
        """

    def dimensions(
        self, scope: AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[Dimensions]]:
        """Return the dimension sets under which each instance really publishes a metric (ListMetrics).

        ``None`` asks for every instance of the account and region.
        """

    def foreign_dimensions(self, scope: AccountRegion, namespace: str, metric_name: str) -> list[Dimensions]:
        """Return dimension sets of a metric without an instance (ListMetrics); if there are many, only the first."""


class Limiter(Protocol):
    """How fast AWS may be asked: a limit for each account, region and API, shared by all worker processes.

    ``scope`` is an ``AccountRegion.key``, ``api`` the name of an operation. Time is Redis' own.
    """

    def take(self, scope: str, api: str) -> None:
        """Wait until one request may be sent.

        Raises ``errors.AwsThrottled`` if that would take longer than a collection may wait, and
        ``errors.AwsUnreachable`` if the API did not answer a moment ago and another process is testing it.
        """

    def throttled(self, scope: str, api: str) -> None:
        """Record that AWS refused a request as too many: slow down, then speed up again gradually."""

    def silent(self, scope: str, api: str) -> None:
        """Record that the API did not answer: for a while only one request at a time may be sent."""

    def answered(self, scope: str, api: str) -> None:
        """Record that the API answered, which lifts that limit."""

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return for each slowed (scope, API) the share of its full rate, 0 if it does not answer."""


class Costs(Protocol):
    """The requests to AWS by the hour, and the budget's decision."""

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request, and its metrics by ``namespace/name``."""

    def hours(self, since: float) -> list[Hour]:
        """Return the hours with requests, from the hour of a time on, oldest first."""

    def totals(self) -> UsageTotals:
        """Return the totals, which only grow."""

    def budget_decision(self) -> BudgetDecision:
        """Return the budget's decision; it may be some seconds old."""

    def decide(self, budget_decision: BudgetDecision, before: BudgetDecision) -> bool:
        """Put a decision in force; ``False`` if ``before`` is no longer in force: another process was faster."""


class QueueMessage(NamedTuple):
    """A message of SQS: ``receipt`` is what deletes it."""

    receipt: str
    body: str


#: Messages of one answer of SQS at most (ReceiveMessage and DeleteMessageBatch have the same limit).
MAX_QUEUE_MESSAGES: Final = 10


class EventQueues(Protocol):
    """SQS queues. A message that is not deleted is delivered again; some messages arrive twice."""

    def receive(self, scope: AccountRegion, queue_url: str, wait: int) -> list[QueueMessage]:
        """Return at most ``MAX_QUEUE_MESSAGES``. If there are none, wait up to ``wait`` seconds for one."""

    def delete(self, scope: AccountRegion, queue_url: str, receipts: Sequence[str]) -> None:
        """Delete messages by their receipts."""

    def send(self, scope: AccountRegion, queue_url: str, body: str) -> None:
        """Put a message into a queue."""

    def publish(self, scope: AccountRegion, source: str, kind: str, detail: Mapping[str, float]) -> None:
        """Put an event on EventBridge's default event bus, whose rules send it to queues."""


class Publisher(Protocol):
    """Amazon SNS."""

    def publish(self, topic_arn: str, message: TopicMessage) -> None:
        """Publish to a topic; raises ``errors.AwsError`` and its kinds."""
