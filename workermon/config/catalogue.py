"""The catalogue of metrics: namespace, name, statistic and unit in CloudWatch. And the default configuration.

``docs/reference/metrics.md`` lists the names. EC2 publishes its metrics every 5 minutes (basic monitoring) or every
minute (detailed monitoring), the CloudWatch agent every minute by default.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

from workermon.models import (
    BUDGET,
    DELIVERY,
    LOST_METRICS,
    RECORDS,
    STATUS_CHECK_FAILED,
    Channel,
    Configuration,
    Count,
    Datapoint,
    Dimensions,
    Levels,
    Metric,
    Query,
    Series,
)
from workermon.rules import no_data, section, threshold

#: Filesystems without a worker's data, by the CloudWatch agent's ``fstype`` dimension: those of the kernel, in memory
#: or over others, and read-only images, which are always full.
PSEUDO_FILESYSTEMS = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devfs", "devpts", "devtmpfs"),
        *("efivarfs", "fdescfs", "fusectl", "hugetlbfs", "linprocfs", "linsysfs", "mqueue", "nsfs", "nullfs", "proc"),
        *("procfs", "pstore", "ramfs", "rootfs", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tmpfs", "tracefs"),
        *("aufs", "fuse-overlayfs", "fuse.fuse-overlayfs", "overlay", "overlayfs", "unionfs"),
        *("cd9660", "cdfs", "composefs", "cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"),
        *("fuse.archivemount", "fuse.snapfuse", "fuse.squashfuse", "fuse.squashfuse_ll", "snapfuse", "squashfuse"),
        *("fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fuse.rofiles-fuse"),
    }
)

#: The namespace of EC2's own metrics. Each of them has one series a worker.
EC2 = "AWS/EC2"
_AGENT = "CWAgent"

CATALOGUE: dict[str, Metric] = {
    entry.name: entry
    for entry in (
        Metric(name="cpu_utilization", namespace=EC2, metric_name="CPUUtilization"),
        Metric(
            name="memory_utilization",
            namespace=_AGENT,
            metric_name="mem_used_percent",
            period=60,
            also=("Memory % Committed Bytes In Use",),  # Windows
        ),
        Metric(name="disk_utilization", namespace=_AGENT, metric_name="disk_used_percent", period=60),
        # Windows. A volume without a letter is a partition for recovery, and nearly full by design.
        Metric(
            name="disk_free_percent",
            namespace=_AGENT,
            metric_name="LogicalDisk % Free Space",
            period=60,
            merge="min",
            exclude={"instance": ("_Total", "HarddiskVolume*")},
        ),
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

#: Rules that always apply, beside those of the file: about collection and lost metrics in an account, delivery to a
#: channel, the budget, records that cannot be read.
BUILTIN_RULES = ("collector", LOST_METRICS, DELIVERY, BUDGET, RECORDS)

#: Those of an account and region, which may inhibit the rules of its workers.
OF_ACCOUNT = ("collector", LOST_METRICS)

#: The configuration without a config file (docs/reference/config-file.md lists it).
DEFAULT = Configuration(
    rules=(
        threshold.KIND.rule("cpu-high", metric="cpu_utilization", above=Levels(warning=80, critical=90)),
        threshold.KIND.rule("memory-high", metric="memory_utilization", above=Levels(warning=80, critical=90)),
        threshold.KIND.rule("disk-high", metric="disk_utilization", above=Levels(warning=90, critical=98)),
        threshold.KIND.rule(
            "status-check-failed", metric=STATUS_CHECK_FAILED, above=Levels(critical=0), breach=Count(m=2, n=2)
        ),
        threshold.KIND.rule(
            "application-check-failed",
            metric="application_check_failed",
            above=Levels(critical=0),
            breach=Count(m=2, n=2),
        ),
        threshold.KIND.rule("performance-check-failed", metric="performance_check_failed", above=Levels(warning=0)),
        no_data.KIND.rule("no-data"),
    ),
    channels=DEFAULT_CHANNELS,
    metrics=CATALOGUE,
    collect=DEFAULT_METRICS,
)


#: Series of a metric of one worker that are requested. A node of Kubernetes has about a hundred mounts.
MAX_SERIES = 200

#: Dimension sets of a metric that are stored for one worker.
MAX_STORED_SERIES = 2000


def query(worker_id: str, metric: Metric, period: int, since: int, dimensions: Dimensions) -> Query:
    """Return the query for a metric of a worker under one dimension set, from a time on."""
    # By position, which takes half the time: there are five for each worker and cycle.
    return Query(
        worker_id, metric.name, metric.namespace, metric.metric_name, dimensions, metric.statistic, period, since
    )


def chosen(metric: Metric, sets: Sequence[Dimensions]) -> list[Dimensions]:
    """Return the dimension sets to request: the relevant ones, at most ``MAX_SERIES``."""
    counted_sets = counted(metric, sets)
    return counted_sets if len(counted_sets) <= MAX_SERIES else sorted(counted_sets)[:MAX_SERIES]


def counted(metric: Metric, sets: Sequence[Dimensions]) -> list[Dimensions]:
    """Return the relevant dimension sets: those that the metric includes and does not exclude, and real filesystems.

    An agent may also publish aggregates, with fewer dimensions. An aggregate beside single filesystems mixes real and
    pseudo ones, and in a sum it would count twice. So aggregates beside their parts are left out.
    """
    if len(sets) == 1 and not (metric.include or metric.exclude or _is_pseudo(sets[0])):
        return list(sets)  # nearly always the case
    candidates = [dict(dimensions) for dimensions in sets]
    if "fstype" not in metric.include and any("fstype" in dimensions for dimensions in candidates):
        candidates = [
            candidate for candidate in candidates if candidate.get("fstype", "tmpfs").lower() not in PSEUDO_FILESYSTEMS
        ]
    candidates = [candidate for candidate in candidates if _is_wanted(metric, candidate)]
    if metric.merge == "sum":
        candidates = _without_aggregates(candidates)
    return [tuple(dimensions.items()) for dimensions in candidates]


def _is_pseudo(dimensions: Dimensions) -> bool:
    return any(name == "fstype" and value.lower() in PSEUDO_FILESYSTEMS for name, value in dimensions)


def _without_aggregates(candidates: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the dimension sets that are not part of another one. There are few sets of names, but many values."""
    aggregates = set()
    for names in {frozenset(dimensions) for dimensions in candidates}:
        larger = (dimensions for dimensions in candidates if names < dimensions.keys())
        aggregates |= {frozenset((name, dimensions[name]) for name in names) for dimensions in larger}
    return [dimensions for dimensions in candidates if frozenset(dimensions.items()) not in aggregates]


def stored(metric: Metric, sets: Sequence[Dimensions]) -> list[Dimensions]:
    """Return the dimension sets to store for a worker, at most ``MAX_STORED_SERIES``, relevant ones first."""
    if len(sets) <= MAX_STORED_SERIES:
        return list(sets)
    count = set(counted(metric, sets))
    return sorted(sets, key=lambda dimensions: (tuple(dimensions) not in count, tuple(dimensions)))[:MAX_STORED_SERIES]


def crowded(configuration: Configuration, by_key: Mapping[str, Sequence[Dimensions]]) -> dict[str, int]:
    """Return the metrics of which a worker has more series than are requested, and how many are relevant."""
    metrics = (configuration.metrics[name] for name in configuration.collect if name in configuration.metrics)
    many = (metric for metric in metrics if len(by_key.get(metric.key, ())) > MAX_SERIES)
    numbers = {metric.name: len(counted(metric, by_key[metric.key])) for metric in many}
    return {name: number for name, number in numbers.items() if number > MAX_SERIES}


def _is_wanted(metric: Metric, dimensions: Mapping[str, str]) -> bool:
    """Return whether a series' dimensions match what the metric includes, and nothing that it excludes."""

    def matches(dimension: str, globs: tuple[str, ...]) -> bool:
        value = dimensions.get(dimension)
        return value is not None and any(fnmatch.fnmatchcase(value, glob) for glob in globs)

    return all(matches(*pattern) for pattern in metric.include.items()) and not any(
        matches(*pattern) for pattern in metric.exclude.items()
    )


def published(metric: Metric, by_key: Mapping[str, Sequence[Dimensions]]) -> list[tuple[Metric, Dimensions]] | None:
    """Return a worker's relevant series: the metric under the name used there, and the dimension set.

    ``by_key`` are the worker's dimension sets by ``Metric.key``. ``None`` if it was not looked up yet.
    """
    pairs = [
        (variant, dimensions)
        for variant in metric.variants
        for dimensions in chosen(variant, by_key.get(variant.key, ()))
    ]
    return pairs if pairs or metric.key in by_key else None


def series_count(metric: Metric, sets: Sequence[Dimensions] | None) -> int | None:
    """Return how many series of a metric a worker has; ``None`` if its dimensions were not looked up.

    ``sets`` are its dimension sets; EC2's own metrics have one series each.
    """
    if metric.namespace == EC2:
        return 1
    return None if sets is None else len(chosen(metric, sets))


_MERGES: Mapping[str, Callable[[list[float]], float]] = {"max": max, "min": min, "sum": sum}


def merged(metric: Metric, series: Sequence[Series]) -> tuple[Datapoint, ...]:
    """Combine several series into one, slot by slot."""
    if len(series) == 1:
        return series[0].points
    values: dict[int, list[float]] = {}
    for part in series:
        for at, value in part.points:
            values.setdefault(at, []).append(value)
    merge = _MERGES[metric.merge]
    return tuple(Datapoint(at, float(merge(values[at]))) for at in sorted(values))
