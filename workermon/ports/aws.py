"""EC2, CloudWatch, SNS, and how fast AWS may be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import AccountRegion, BudgetDecision, Hour, Instance, InstanceStatus, Query, Series, TopicMessage


class Ec2(Protocol):
    """EC2 as the stages see it. An id that EC2 does not know is left out of an answer: that is not an error."""

    def describe(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return what DescribeInstances knows of these ids."""

    def statuses(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """Return state and status checks of these ids, stopped ones included (DescribeInstanceStatus)."""

    def find(self, scope: AccountRegion, tags: Mapping[str, str]) -> list[Instance]:
        """Return every instance, not terminated or shutting down, that carries all these tags."""

    def time(self, scope: AccountRegion) -> float | None:
        """Return AWS' own time in whole seconds, ``None`` where it does not say; a refusal is an answer, too."""


class Answer(NamedTuple):
    """Of some queries: the series of those that were answered, and what became of the others.

    ``series`` is keyed by the query's place in the request; an answered query without a datapoint has an empty one.
    """

    series: dict[int, Series]
    failed: dict[int, Exception]


class CloudWatch(Protocol):
    """CloudWatch as the stages see it."""

    def fetch(self, scope: AccountRegion, queries: Sequence[Query], until: float) -> Answer:
        """Return datapoints from each query's ``since`` up to ``until``, in order of time (GetMetricData).

        Pages are followed, partial results asked for again; NaN and repeated timestamps do not come out. A query
        that stayed partial is among the failed, beside the datapoints that did come.
        """

    def dimensions(
        self, scope: AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Return the dimension sets under which each instance really publishes a metric (ListMetrics).

        ``None`` asks for every instance of the account and region.
        """


class Limiter(Protocol):
    """How fast AWS may be asked: one limit for each account, region and API, shared by all worker processes.

    ``scope`` is a ``Scope.key``, ``api`` the name of an operation. Time is Redis' own.
    """

    def take(self, scope: str, api: str) -> None:
        """Return when one request may go out.

        Raises ``errors.AwsThrottled`` where that would take longer than a collection may wait, and
        ``errors.AwsUnreachable`` where the API was silent a moment ago and somebody else tries it.
        """

    def throttled(self, scope: str, api: str) -> None:
        """Note that AWS refused a request as too many: from now on slower, and faster again bit by bit."""

    def silent(self, scope: str, api: str) -> None:
        """Note that nobody answered: for a while only one request at a time is let out to try."""

    def answered(self, scope: str, api: str) -> None:
        """Note that somebody answered, which ends a silence."""

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return by (scope, API) which part of its full rate each slowed one has, 0 where it is silent."""


class Costs(Protocol):
    """What was asked of AWS, by the hour, and what the budget makes of it."""

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request, and the metrics asked in it by ``namespace/name``."""

    def hours(self, since: float) -> list[Hour]:
        """Return the hours since the one that a time is in, oldest first; those without a request are left out."""

    def budget_decision(self) -> BudgetDecision:
        """Return what the budget makes of the periods; may be some seconds old."""

    def decide(self, budget_decision: BudgetDecision, before: BudgetDecision) -> bool:
        """Put a decision in force; ``False`` where ``before`` is not what is there: another was faster."""


class Publisher(Protocol):
    """Amazon SNS."""

    def publish(self, topic_arn: str, message: TopicMessage) -> None:
        """Publish to a topic; raises ``errors.AwsError`` and its kinds."""
