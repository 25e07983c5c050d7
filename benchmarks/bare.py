"""The bare loop: plain boto3 that discards the answers: ``bare.py BATCHES WINDOW_SECONDS``.

A batch is a DescribeInstanceStatus and a GetMetricData for 100 workers and 5 metrics. The program prints as JSON its
own CPU seconds, without making the clients, and its peak memory in MB.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import house

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef, MetricStatTypeDef, MetricTypeDef


def queries(start: int) -> list[MetricDataQueryTypeDef]:
    """Return the 500 queries for the 100 workers from number ``start`` on."""
    ids = [f"i-{start + place:017x}" for place in range(100)]
    metrics = [("AWS/EC2", "CPUUtilization", "Average"), ("CWAgent", "mem_used_percent", "Average"),
             ("CWAgent", "disk_used_percent", "Average"), ("AWS/EC2", "NetworkIn", "Sum"),
             ("AWS/EC2", "NetworkOut", "Sum")]  # fmt: skip
    metric_queries: list[MetricDataQueryTypeDef] = []
    for worker in ids:
        for namespace, name, statistic in metrics:
            sets = house.dimensions(worker).get(f"{namespace}/{name}", [(("InstanceId", worker),)])[0]
            metric: MetricTypeDef = {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in sets],
            }
            stat: MetricStatTypeDef = {"Metric": metric, "Period": 60, "Stat": statistic}
            metric_queries.append({"Id": f"q{len(metric_queries)}", "MetricStat": stat, "ReturnData": True})
    return metric_queries


def cpu_seconds() -> float:
    """Return the CPU seconds that this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Request each batch, discard the answers, and print the cost."""
    batches, window = int(sys.argv[1]), float(sys.argv[2])
    ec2, cloudwatch = boto3.client("ec2"), boto3.client("cloudwatch")

    def ask(batch: int) -> None:
        ids = [f"i-{batch * 100 + place + 1:017x}" for place in range(100)]
        ec2.describe_instance_status(InstanceIds=ids, IncludeAllInstances=True)
        end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(seconds=60)
        cloudwatch.get_metric_data(
            MetricDataQueries=queries(batch * 100 + 1),
            StartTime=end - timedelta(seconds=window),
            EndTime=end,
            ScanBy="TimestampAscending",
        )

    ask(0)
    before = cpu_seconds()
    for batch in range(batches):
        ask(batch)
    spent = cpu_seconds() - before
    # On macOS the peak is in bytes.
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    print(json.dumps({"cpu": spent, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}))


if __name__ == "__main__":
    main()
