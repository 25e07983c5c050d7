"""The catalogue of metrics: namespace, name, statistic and unit in CloudWatch. And the default configuration.

``docs/reference/metrics.md`` lists the names. EC2 publishes its metrics every 5 minutes (basic monitoring) or every
minute (detailed monitoring), the CloudWatch agent every minute by default.
"""

from __future__ import annotations

from collections.abc import Sequence

from workermon.models import (
    BUDGET,
    DELIVERY,
    LOST_METRICS,
    STATUS_CHECK_FAILED,
    Channel,
    Configuration,
    Count,
    Datapoint,
    Levels,
    Metric,
    Query,
    Series,
)
from workermon.rules import no_data, section, threshold

#: Filesystems that are not on a disk, by the CloudWatch agent's ``fstype`` dimension.
PSEUDO_FILESYSTEMS = frozenset(
    {"autofs", "cgroup", "cgroup2", "devtmpfs", "efivarfs", "overlay", "proc", "ramfs", "squashfs", "sysfs", "tmpfs"}
)

#: The namespace of EC2's own metrics, each of which has one series a worker.
EC2 = "AWS/EC2"
_AGENT = "CWAgent"

CATALOGUE: dict[str, Metric] = {
    entry.name: entry
    for entry in (
        Metric(name="cpu_utilization", namespace=EC2, metric_name="CPUUtilization"),
        Metric(name="memory_utilization", namespace=_AGENT, metric_name="mem_used_percent", period=60),
        Metric(name="disk_utilization", namespace=_AGENT, metric_name="disk_used_percent", period=60),
        Metric(name="network_in", namespace=EC2, metric_name="NetworkIn", statistic="Sum", unit="bytes", merge="sum"),
        Metric(name="network_out", namespace=EC2, metric_name="NetworkOut", statistic="Sum", unit="bytes", merge="sum"),
        Metric(
            name="disk_read_bytes",
            namespace=EC2,
            metric_name="DiskReadBytes",
            statistic="Sum",
            unit="bytes",
            merge="sum",
        ),
        Metric(
            name="disk_write_bytes",
            namespace=EC2,
            metric_name="DiskWriteBytes",
            statistic="Sum",
            unit="bytes",
            merge="sum",
        ),
        # Published each 5 minutes only, whatever the monitoring.
        Metric(name="cpu_credit_balance", namespace=EC2, metric_name="CPUCreditBalance", unit="credits", period=300),
    )
}

#: The metrics that are collected by default.
DEFAULT_METRICS: tuple[str, ...] = (
    "cpu_utilization",
    "memory_utilization",
    "disk_utilization",
    "network_in",
    "network_out",
)


#: The channels that exist without a config file.
DEFAULT_CHANNELS: dict[str, Channel] = {section.LOG: Channel(name=section.LOG, type="log")}

#: Rules that always hold, beside those of the file: about collection and lost metrics in an account, delivery to a
#: channel, the budget.
STANDING = ("collector", LOST_METRICS, DELIVERY, BUDGET)

#: The configuration without a config file (docs/reference/config-file.md lists it).
DEFAULT = Configuration(
    rules=(
        threshold.KIND.rule("cpu-high", metric="cpu_utilization", above=Levels(warning=80, critical=90)),
        threshold.KIND.rule("memory-high", metric="memory_utilization", above=Levels(warning=80, critical=90)),
        threshold.KIND.rule("disk-high", metric="disk_utilization", above=Levels(warning=90, critical=98)),
        threshold.KIND.rule(
            "status-check-failed", metric=STATUS_CHECK_FAILED, above=Levels(critical=0), breach=Count(m=2, n=2)
        ),
        no_data.KIND.rule("no-data"),
    ),
    channels=DEFAULT_CHANNELS,
    metrics=CATALOGUE,
    collect=DEFAULT_METRICS,
)


def query(worker_id: str, metric: Metric, period: int, since: int, dimensions: tuple[tuple[str, str], ...]) -> Query:
    """Return the query for a metric of a worker under one dimension set, from a time on."""
    return Query(
        worker_id=worker_id,
        metric=metric.name,
        namespace=metric.namespace,
        metric_name=metric.metric_name,
        dimensions=dimensions,
        statistic=metric.statistic,
        period=period,
        since=since,
    )


def chosen(metric: Metric, sets: Sequence[tuple[tuple[str, str], ...]]) -> list[tuple[tuple[str, str], ...]]:
    """Return the dimension sets that count: real filesystems only, and no sum beside what it sums up.

    An agent may publish aggregates too, under fewer dimensions. Beside single filesystems, an aggregate mixes real ones
    with pseudo ones, and in a sum it would count twice.
    """
    candidates = [dict(dimensions) for dimensions in sets]
    if any("fstype" in dimensions for dimensions in candidates):
        candidates = [one for one in candidates if one.get("fstype", "tmpfs") not in PSEUDO_FILESYSTEMS]
    if metric.merge == "sum":
        candidates = [one for one in candidates if not any(one.items() < other.items() for other in candidates)]
    return [tuple(dimensions.items()) for dimensions in candidates]


def series_count(metric: Metric, sets: Sequence[tuple[tuple[str, str], ...]] | None) -> int | None:
    """Return how many series of a metric a worker has; ``None`` if it was not looked up under which dimensions.

    ``sets`` are its dimension sets; EC2's own metrics have one series each.
    """
    if metric.namespace == EC2:
        return 1
    return None if sets is None else len(chosen(metric, sets))


def merged(metric: Metric, series: Sequence[Series]) -> tuple[Datapoint, ...]:
    """Return one series of several, slot by slot."""
    if len(series) == 1:
        return series[0].points
    values: dict[int, list[float]] = {}
    for one in series:
        for at, value in one.points:
            values.setdefault(at, []).append(value)
    merge = max if metric.merge == "max" else sum
    return tuple(Datapoint(at, float(merge(values[at]))) for at in sorted(values))
