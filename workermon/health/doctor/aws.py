"""Doctor: the permissions from AWS, and AWS' clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

from workermon import errors, models, ports
from workermon.config import catalogue
from workermon.health.doctor.check import Check, clock_check

#: Seconds by which the clocks of this machine and of AWS may differ: half of the shortest period of EC2's metrics,
#: because the time at which a datapoint was due decides whether it is absent. From five minutes on AWS refuses every
#: request.
AWS_SKEW = models.CLOCK_SKEW

#: Workers named to AWS in one test.
TESTED_WORKERS = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AwsExamination:
    """Tests each permission."""

    ec2: ports.Ec2
    cloudwatch: ports.CloudWatch
    now: ports.Clock
    machine: ports.MachineClock

    def examine(self, scope: models.AccountRegion, worker_ids: Sequence[str]) -> Iterator[Check]:
        """Test each permission in an account and region, on a worker if there is one, and compare AWS' clock."""
        listed_ids = list(worker_ids[:TESTED_WORKERS])
        until = self.now()
        entry = catalogue.CATALOGUE["cpu_utilization"]
        instance = listed_ids[0] if listed_ids else "i-00000000000000000"
        query = models.Query(
            worker_id=instance,
            metric=entry.name,
            namespace=entry.namespace,
            metric_name=entry.metric_name,
            dimensions=(("InstanceId", instance),),
            statistic=entry.statistic,
            period=300,
            since=int(until) - 900,
        )

        def describe() -> object:
            if listed_ids:
                return self.ec2.describe(scope, listed_ids)
            return self.ec2.find(scope, {"workermon:doctor": "none"})

        def fetch() -> None:
            for error in self.cloudwatch.fetch(scope, [query], until).failed.values():
                raise error

        yield _tried("ec2:DescribeInstances", scope, describe)
        yield _tried("ec2:DescribeInstanceStatus", scope, lambda: self.ec2.statuses(scope, [instance]))
        yield _tried(
            "cloudwatch:ListMetrics",
            scope,
            lambda: self.cloudwatch.dimensions(scope, entry.namespace, entry.metric_name, [instance]),
        )
        yield _tried("cloudwatch:GetMetricData", scope, fetch)
        yield self._clock_of_aws(scope)

    def _clock_of_aws(self, scope: models.AccountRegion) -> Check:
        name = f"clock of AWS in {scope.key}"
        before = self.machine()
        try:
            theirs = self.ec2.time(scope)
        except errors.AwsError as error:
            return Check(name=name, ok=False, reason=errors.printable(f"{error.kind}: {error.reason}"), todo=error.todo)
        if theirs is None:
            return Check(name=name, ok=True, reason="AWS does not say")
        ahead = theirs + 0.5 - (before + self.machine()) / 2  # AWS says whole seconds
        return clock_check(name, "AWS", ahead, AWS_SKEW, 1.0)


def _tried(permission: str, scope: models.AccountRegion, call: Callable[[], object]) -> Check:
    name = f"{permission} in {scope.key}"
    started = time.monotonic()
    try:
        call()
    except errors.AwsError as error:
        return Check(name=name, ok=False, reason=errors.printable(f"{error.kind}: {error.reason}"), todo=error.todo)
    return Check(name=name, ok=True, reason=f"answered in {(time.monotonic() - started) * 1000:.0f} ms")
