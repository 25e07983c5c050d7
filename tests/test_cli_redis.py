"""The commands as separate processes, on a real server and a foreign AWS endpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from moto.server import ThreadedMotoServer

from tests.support import fork_server
from tests.support.present import present
from tests.support.waiting import eventually

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.integration

REGION = "us-east-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Any]:
    """Give the address of a moto server on a free port of 127.0.0.1."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: Any) -> Any:
    """Give boto3's client of EC2 there."""
    return boto3.client(
        "ec2", region_name=REGION, endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="y"
    )


@pytest.fixture
def env(endpoint: Any, redis_url: str, tmp_path: Path) -> Any:
    """Give the environment of a command."""
    ours = ("AWS_", "WORKERMON_", "CELERY_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": REGION,
        "WORKERMON_REDIS_URL": redis_url,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def run(env: Any, tmp_path: Path) -> Any:
    """Give a function that runs a command to its end."""

    def call(*args: Any, code: int = 0) -> Any:
        completed = fork_server.shared().run(args, env, tmp_path, 90)
        assert completed.returncode == code, completed.stderr
        return completed

    return call


def launch(aws: Any, *names: Any) -> Any:
    """Start instances with these names, and return their ids."""
    image = aws.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    ids = []
    for name in names:
        tags = [
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}, {"Key": "Set", "Value": names[0]}]}
        ]
        reservation = aws.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)
        ids.append(reservation["Instances"][0]["InstanceId"])
    return ids


def traces(redis_client: Any, worker_id: Any) -> Any:
    """Return keys, members and fields in Redis that name a worker."""
    id_bytes, members = worker_id.encode(), []
    for key in redis_client.scan_iter(count=1000):
        if id_bytes in key:
            members.append(key)
        kind = redis_client.type(key)
        if kind == b"zset":
            members += [(key, member) for member in redis_client.zrange(key, 0, -1) if id_bytes in member]
        elif kind == b"set":
            members += [(key, member) for member in redis_client.smembers(key) if id_bytes in member]
        elif kind == b"hash":
            members += [(key, field) for field in redis_client.hkeys(key) if id_bytes in field]
    return members


def test_a_worker_s_life_by_commands(run: Any, aws: Any, redis_client: redis.Redis) -> None:
    """A worker is added, listed, shown, paused, resumed and removed. Afterwards no key in Redis names it."""
    first, second = launch(aws, "life-1", "life-2")
    assert run("add", first, "--interval", "30s").stdout == f"added {first} as life-1, every 30 s\n"
    assert "is monitored already" in run("add", first, code=2).stderr
    unknown = "i-0ffffffffffffffff"
    assert unknown in run("add", second, unknown, code=3).stderr
    [row] = json.loads(run("list", "--json").stdout)["workers"]
    assert (row["id"], row["status"], row["interval"]) == (first, "running", 30)
    definition: Any = redis_client.hget(f"workermon:redbeat:workermon:collect:{first}", "definition")
    entry = json.loads(definition)
    assert (entry["task"], entry["kwargs"], entry["args"]) == ("workermon.collect", {"worker_ids": [first]}, [])
    detail = json.loads(run("show", "life-1", "--json").stdout)
    assert detail["next_run"]
    assert detail["status_checks"]["system"] == "ok"
    run("pause", first)
    assert not redis_client.exists(f"workermon:redbeat:workermon:collect:{first}")
    run("resume", first)
    assert redis_client.exists(f"workermon:redbeat:workermon:collect:{first}")
    assert traces(redis_client, first)
    run("remove", "life-1")
    assert traces(redis_client, first) == []
    assert "was not monitored" in run("remove", first).stderr


def test_discover_and_reconcile_by_commands(run: Any, aws: Any, redis_client: redis.Redis) -> None:
    """Instances are found by tag. A lost entry is restored and a terminated worker removed, as the dry run said."""
    first, second = launch(aws, "found-1", "found-2")
    assert run("discover", "--tag", "Set=found-1", "--region", REGION).stdout.count("added") == 2
    aws.terminate_instances(InstanceIds=[second])
    redis_client.delete(f"workermon:redbeat:workermon:collect:{first}")
    redis_client.zrem("workermon:redbeat::schedule", f"workermon:redbeat:workermon:collect:{first}")
    steps = json.loads(run("reconcile", "--dry-run", "--json").stdout)["steps"]
    assert {(step["action"], step["worker"]) for step in steps} == {("schedule", first), ("retire", second)}
    run("reconcile")
    assert [row["id"] for row in json.loads(run("list", "--json").stdout)["workers"]] == [first]
    assert redis_client.exists(f"workermon:redbeat:workermon:collect:{first}")
    assert json.loads(run("reconcile", "--json").stdout)["steps"] == []


def test_status_is_1_where_nothing_runs(run: Any) -> None:
    """With Redis alone, beat, worker processes and listener are down, and the exit code says so."""
    document = json.loads(run("status", "--json", code=1).stdout)
    assert {part["name"] for part in document["parts"] if not part["ok"]} == {"beat", "worker processes", "listener"}


def test_watch_follows_the_channel_until_ctrl_c(run: Any, env: Any, aws: Any, tmp_path: Path) -> None:
    """A running watch shows the sample that another command collects, and Ctrl-C ends it with 0."""
    [worker_id] = launch(aws, "live-1")
    with (tmp_path / "seen").open("wb") as output:
        watching = subprocess.Popen(
            [sys.executable, "-m", "workermon", "watch", "--json"],
            stdout=output, stderr=subprocess.PIPE, cwd=tmp_path, env=env,
        )  # fmt: skip
        try:
            run("add", worker_id)
            eventually(
                lambda: worker_id in (tmp_path / "seen").read_text(), within=30, description="the sample in the output"
            )
            watching.send_signal(signal.SIGINT)
            assert watching.wait(60) == 0
            assert present(watching.stderr).read().splitlines() == [
                b"warning: the pipeline is down, so this may be old: beat never ticked; see 'workermon status'"
            ]
        finally:
            watching.kill()
            watching.wait()
            present(watching.stderr).close()
    events = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert [(event["worker_id"], event["worker_name"]) for event in events] == [(worker_id, "live-1")]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1"])
def test_an_endpoint_that_is_down_is_exit_code_5(env: Any, run: Any, address: str) -> None:
    """Where AWS cannot be reached, add is one line with exit code 5 and adds nothing."""
    env["AWS_ENDPOINT_URL"] = address
    result = run("add", "i-0abc0123456789def", code=5)
    assert len(result.stderr.splitlines()) == 1
    assert json.loads(run("list", "--json").stdout) == {"workers": []}


SET_UP = """
[[workers]]
id = "{one}"
labels = {{ team = "vfx" }}

[[rules]]
name = "busy"
metric = "cpu_utilization"
above = {{ critical = 90 }}
notify = ["log"]
"""


def test_a_set_up_by_file_is_planned_exported_silenced_and_explained(
    run: Any, aws: Any, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """plan, apply and export agree. A silence can be removed. why and backtest read the ledger."""
    [worker_id] = launch(aws, "planned-1")
    file = tmp_path / "fleet.toml"
    file.write_text(SET_UP.format(one=worker_id), "utf-8")
    planned = json.loads(run("plan", str(file), "--json").stdout)
    assert planned["added"] == [worker_id]
    assert not redis_client.exists("workermon:workers")
    assert json.loads(run("apply", str(file), "--json").stdout)["dollars_per_month"] == planned["dollars_per_month"]
    exported = run("export").stdout
    file.write_text(exported, "utf-8")
    reapplied = json.loads(run("apply", str(file), "--json").stdout)
    assert [reapplied[key] for key in ("added", "updated", "removed", "changed")] == [[], [], [], []]

    new_silence = json.loads(run("silence", "--label", "team=vfx", "--for", "2h", "--reason", "work", "--json").stdout)
    [explained] = json.loads(run("why", "planned-1", "cpu_utilization", "--json").stdout)["rules"]
    assert [silence["id"] for silence in explained["silences"]] == [new_silence["id"]]
    run("unsilence", new_silence["id"])
    assert json.loads(run("silences", "--json").stdout) == {"silences": []}
    run("ack", f"{worker_id}/busy", code=3)
    assert json.loads(run("rules", "backtest", str(file), "--worker", worker_id, "--json").stdout) == {"episodes": []}
    checks = {check["name"]: check["ok"] for check in json.loads(run("doctor", "--json", code=1).stdout)["checks"]}
    assert checks["clock"] is checks[f"cloudwatch:GetMetricData in default/{REGION}"] is True
    assert checks["listener"] is False
    run("silence", "--worker", worker_id, "--for", "2h", "--reason", "work")
    run("remove", worker_id)
    assert traces(redis_client, worker_id) == []
    assert run("silences").stdout == ""


def test_a_backup_moves_to_an_empty_server(run: Any, aws: Any, redis_client: redis.Redis) -> None:
    """What was set up is there again, and a server that is not empty is refused."""
    (worker_id,) = launch(aws, "moved")
    run("add", worker_id, "--label", "team=vfx")
    run("silence", "--worker", worker_id, "--for", "2h", "--reason", "new disk")
    run("backup", "x.json")
    listing, silences = (json.loads(run(command, "--json").stdout) for command in ("list", "silences"))
    assert "--force" in run("restore", "x.json", code=2).stderr
    redis_client.flushdb()
    assert "workers: 1" in run("restore", "x.json").stdout
    assert json.loads(run("list", "--json").stdout)["workers"][0]["labels"] == listing["workers"][0]["labels"]
    assert json.loads(run("silences", "--json").stdout) == silences
