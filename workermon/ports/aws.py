"""EC2, CloudWatch, SNS, and how fast AWS may be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from workermon.models import (
    AccountRegion,
    BudgetDecision,
    Hour,
    Instance,
    InstanceStatus,
    Query,
    Series,
    TopicMessage,
    UsageTotals,
)


class Ec2(Protocol):
    """EC2. An answer leaves out ids that EC2 does not know: that is not an error."""

    def describe(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return what DescribeInstances knows of these ids."""

    def statuses(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """Return state and status checks of these ids, stopped ones included (DescribeInstanceStatus)."""

    def find(self, scope: AccountRegion, tags: Mapping[str, str]) -> list[Instance]:
        """Return every instance that has all these tags and is neither terminated nor shutting down."""

    def time(self, scope: AccountRegion) -> float | None:
        """Return AWS' own time in whole seconds, ``None`` if it does not say. A refusal tells the time too."""


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

        Pages are followed and partial results asked for again; NaN and repeated timestamps are dropped. A query that
        stays partial is among the failed, beside the datapoints that did come.
        """

    def dimensions(
        self, scope: AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Return the dimension sets under which each instance really publishes a metric (ListMetrics).

        ``None`` asks for every instance of the account and region.
        """

    def foreign_dimensions(
        self, scope: AccountRegion, namespace: str, metric_name: str
    ) -> list[tuple[tuple[str, str], ...]]:
        """Return dimension sets of a metric that name no instance (ListMetrics); of many, those that come first."""


class Limiter(Protocol):
    """How fast AWS may be asked: one limit for each account, region and API, shared by all worker processes.

    ``scope`` is an ``AccountRegion.key``, ``api`` the name of an operation. Time is Redis' own.
    """

    def take(self, scope: str, api: str) -> None:
        """Wait until one request may go out.

        Raises ``errors.AwsThrottled`` if that would take longer than a collection may wait, and
        ``errors.AwsUnreachable`` if the API did not answer a moment ago and somebody else is trying it.
        """

    def throttled(self, scope: str, api: str) -> None:
        """Note that AWS refused a request as too many: slow down, then speed up again step by step."""

    def silent(self, scope: str, api: str) -> None:
        """Note that the API did not answer: for a while only one request at a time may go out."""

    def answered(self, scope: str, api: str) -> None:
        """Note that the API answered, which lifts that limit."""

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return the part of its full rate that each slowed (scope, API) has, 0 if it does not answer."""


class Costs(Protocol):
    """The requests to AWS by the hour, and the budget's decision."""

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request, and the metrics that it asked for by ``namespace/name``."""

    def hours(self, since: float) -> list[Hour]:
        """Return the hours with requests, from the hour of a time on, oldest first."""

    def totals(self) -> UsageTotals:
        """Return the counts of all time, which only grow."""

    def budget_decision(self) -> BudgetDecision:
        """Return the budget's decision; it may be some seconds old."""

    def decide(self, budget_decision: BudgetDecision, before: BudgetDecision) -> bool:
        """Put a decision in force; ``False`` if ``before`` is not in force any more: somebody else was faster."""


class QueueMessage(NamedTuple):
    """A message of SQS: ``receipt`` is what deletes it."""

    receipt: str
    body: str


#: Messages of one answer of SQS at most (ReceiveMessage and DeleteMessageBatch have the same limit).
MAX_QUEUE_MESSAGES: Final = 10


class EventQueues(Protocol):
    """Queues of SQS. A message that is not deleted comes again; one may come twice."""

    def receive(self, scope: AccountRegion, queue_url: str, wait: int) -> list[QueueMessage]:
        """Return ``MAX_QUEUE_MESSAGES`` at most; if none waits there, wait up to ``wait`` seconds for one."""

    def delete(self, scope: AccountRegion, queue_url: str, receipts: Sequence[str]) -> None:
        """Delete messages by their receipts."""

    def send(self, scope: AccountRegion, queue_url: str, body: str) -> None:
        """Put a message into a queue."""

    def publish(self, scope: AccountRegion, source: str, kind: str, detail: Mapping[str, float]) -> None:
        """Put an event on the default event bus of EventBridge, whose rules bring it to queues."""


class Publisher(Protocol):
    """Amazon SNS."""

    def publish(self, topic_arn: str, message: TopicMessage) -> None:
        """Publish to a topic; raises ``errors.AwsError`` and its kinds."""
