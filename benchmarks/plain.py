"""The plain design: an entry, a message and two AWS calls for each worker; the result goes to Redis as JSON.

Run it with ``celery -A plain worker`` and ``celery -A plain beat`` (stock RedBeat). Settings that change the cost are
those of workermon's own nodes. Nothing is evaluated.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.config
import celery
import celery.schedules
import house
import redbeat
import redis

app = celery.Celery("plain", broker=os.environ["PLAIN_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    accept_content=["json"],
    beat_scheduler="redbeat.RedBeatScheduler",
    beat_max_loop_interval=1,
    redbeat_lock_timeout=60,
    redbeat_redis_url=os.environ["WORKERMON_REDIS_URL"],
)
#: The key of the lock that beat holds while it runs.
LOCK = "redbeat::lock"
_lock = threading.Lock()
_clients: dict[str, Any] = {}


def _connected() -> dict[str, Any]:
    with _lock:
        if not _clients:
            config = botocore.config.Config(max_pool_connections=32)
            _clients["ec2"] = boto3.client("ec2", config=config)
            _clients["cloudwatch"] = boto3.client("cloudwatch", config=config)
            _clients["redis"] = redis.Redis.from_url(os.environ["WORKERMON_REDIS_URL"])
    return _clients


@app.task(name="plain.collect", expires=house.INTERVAL)
def collect(worker_id: str) -> None:
    """Collect one worker."""
    clients = _connected()
    statuses = clients["ec2"].describe_instance_status(InstanceIds=[worker_id], IncludeAllInstances=True)
    queries: list[dict[str, Any]] = []
    for namespace, name in (("AWS/EC2", "CPUUtilization"), ("CWAgent", "mem_used_percent"),
                            ("CWAgent", "disk_used_percent"), ("AWS/EC2", "NetworkIn"),
                            ("AWS/EC2", "NetworkOut")):  # fmt: skip
        sets = house.dimensions(worker_id).get(f"{namespace}/{name}", [(("InstanceId", worker_id),)])[0]
        metric = {
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in sets],
        }
        stat = {"Metric": metric, "Period": 60, "Stat": "Average"}
        queries.append({"Id": f"q{len(queries)}", "MetricStat": stat})
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(seconds=60)
    window = timedelta(seconds=float(os.environ["PLAIN_WINDOW"]))
    data = clients["cloudwatch"].get_metric_data(MetricDataQueries=queries, StartTime=end - window, EndTime=end)
    status = statuses["InstanceStatuses"][0]["InstanceState"]["Name"]
    latest = {query["Id"]: query["Values"][0] if query["Values"] else None for query in data["MetricDataResults"]}
    text = json.dumps({"worker_id": worker_id, "status": status, "metrics": latest})
    pipe = clients["redis"].pipeline()
    pipe.set(f"plain:{worker_id}", text)
    pipe.publish("plain", text)
    pipe.execute()


def schedule(numbers: range) -> list[str]:
    """Write an entry for each worker, last run a minute ago and due far ahead. Return the entries' keys."""
    entry_keys = []
    for place in numbers:
        entry = redbeat.RedBeatSchedulerEntry(
            f"plain:{place}", "plain.collect", celery.schedules.schedule(house.INTERVAL), args=[f"i-{place:017x}"],
            options={"expires": house.INTERVAL}, app=app,
        )  # fmt: skip
        entry.last_run_at = datetime.now(UTC) - timedelta(seconds=house.INTERVAL)
        entry.save()
        entry_keys.append(str(entry.key))
    set_due(entry_keys, datetime.now(UTC).timestamp() + 24 * house.INTERVAL)
    return entry_keys


def set_due(entries: list[str], at: float) -> None:
    """Make these entries due at a time."""
    connected = redis.Redis.from_url(os.environ["WORKERMON_REDIS_URL"])
    connected.zadd("redbeat::schedule", dict.fromkeys(entries, at))
    connected.close()
