"""Doctor: tries what ``status`` only looks at: AWS' permissions, the server's settings, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from workermon import errors, models, ports
from workermon.config import catalogue

#: Seconds by which the clocks of this machine and of the server may differ.
SKEW = 5

#: Seconds by which the clocks of this machine and of AWS may differ: half of the shortest period of EC2's metrics, for
#: a slot is judged by when its datapoint can have come. From five minutes on AWS refuses every request.
AWS_SKEW = 30

#: Workers that are named to AWS in one try.
NAMED = 1


class Check(models.Frozen):
    """One thing that was tried; ``todo`` says what helps where it is not ok."""

    name: str
    ok: bool
    reason: str
    todo: str | None = None


def server(*, server: ports.Server, now: ports.Clock) -> list[Check]:
    """Look at the settings of Redis and at its clock."""
    own = server.settings()
    before = now()
    theirs = server.time()
    ahead = theirs - (before + now()) / 2
    policy = own.get("maxmemory_policy")
    kept = own.get("aof_enabled") == "1"
    # A server that never wrote a snapshot says so by its last one being at its start; only its absence is certain.
    snapshots = int(own.get("rdb_last_save_time", "0") or 0) > 0 and own.get("rdb_last_bgsave_status") == "ok"
    return [
        Check(
            name="redis eviction",
            ok=policy in (None, "noeviction"),
            reason=f"maxmemory-policy is {policy}" if policy else "the server does not say",
            todo=None if policy in (None, "noeviction") else "set maxmemory-policy noeviction, or keys vanish",
        ),
        Check(
            name="redis persistence",
            ok=kept or snapshots,
            reason="append-only file" if kept else "snapshots only" if snapshots else "nothing is written to disk",
            todo=None if kept else "set appendonly yes, or a crash forgets alerts",
        ),
        Check(
            name="clock",
            ok=abs(ahead) <= SKEW,
            reason=_compared("Redis", ahead, SKEW, 0.05),
            todo=None if abs(ahead) <= SKEW else _SYNCHRONISE,
        ),
    ]


def aws(
    scope: models.AccountRegion,
    worker_ids: list[str],
    *,
    ec2: ports.Ec2,
    cloudwatch: ports.CloudWatch,
    now: ports.Clock,
) -> Iterator[Check]:
    """Try each permission in an account and region, on a worker where there is one, and look at AWS' clock."""
    named = worker_ids[:NAMED]
    until = now()
    entry = catalogue.CATALOGUE["cpu_utilization"]
    instance = named[0] if named else "i-00000000000000000"
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
        return ec2.describe(scope, named) if named else ec2.find(scope, {"workermon:doctor": "none"})

    def fetch() -> None:
        for why in cloudwatch.fetch(scope, [query], until).failed.values():
            raise why

    yield _tried("ec2:DescribeInstances", scope, describe)
    yield _tried("ec2:DescribeInstanceStatus", scope, lambda: ec2.statuses(scope, [instance]))
    yield _tried(
        "cloudwatch:ListMetrics",
        scope,
        lambda: cloudwatch.dimensions(scope, entry.namespace, entry.metric_name, [instance]),
    )
    yield _tried("cloudwatch:GetMetricData", scope, fetch)
    yield _clock(scope, ec2, now)


def _clock(scope: models.AccountRegion, ec2: ports.Ec2, now: ports.Clock) -> Check:
    name = f"clock of AWS in {scope.key}"
    before = now()
    try:
        theirs = ec2.time(scope)
    except errors.AwsError as why:
        return Check(name=name, ok=False, reason=errors.printable(f"{why.kind}: {why.why}"), todo=why.todo)
    if theirs is None:
        return Check(name=name, ok=True, reason="AWS does not say")
    ahead = theirs + 0.5 - (before + now()) / 2  # it tells whole seconds
    ok = abs(ahead) <= AWS_SKEW
    return Check(name=name, ok=ok, reason=_compared("AWS", ahead, AWS_SKEW, 1.0), todo=None if ok else _SYNCHRONISE)


_SYNCHRONISE = "synchronise the clocks (chrony, ntpd)"


def _compared(who: str, ahead: float, limit: int, same: float) -> str:
    """Say how a clock differs from ours, where that can be seen."""
    if abs(ahead) <= same:
        return "agrees"
    said = f"{who} is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    return said if abs(ahead) <= limit else f"{said}, more than {limit} s"


def _tried(permission: str, scope: models.AccountRegion, call: Callable[[], object]) -> Check:
    name = f"{permission} in {scope.key}"
    begun = time.monotonic()
    try:
        call()
    except errors.AwsError as why:
        return Check(name=name, ok=False, reason=errors.printable(f"{why.kind}: {why.why}"), todo=why.todo)
    return Check(name=name, ok=True, reason=f"answered in {(time.monotonic() - begun) * 1000:.0f} ms")
