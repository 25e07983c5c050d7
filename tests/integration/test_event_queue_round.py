"""``up`` with an event queue as real processes: messages take effect long before the schedule would."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.machine import START, Installation
from tests.support.receiver import Receiver
from tests.support.waiting import eventually
from workermon import models
from workermon.local import endpoint, simulation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]


@pytest.fixture
def aws() -> Iterator[endpoint.Endpoint]:
    """An AWS with three instances and a queue."""
    server = endpoint.Endpoint(simulation.Simulation(time.time, 3))
    server.api.queues.create("workermon")
    server.start()
    yield server
    server.stop()


def event(kind: str, detail: dict[str, Any], identity: str) -> str:
    """Return an event of EC2 as EventBridge writes it."""
    now = models.rfc3339(int(time.time()))
    return json.dumps({"id": identity, "source": "aws.ec2", "detail-type": kind, "time": now, "detail": detail})


def test_a_state_change_and_a_spot_warning_reach_the_channel(aws: endpoint.Endpoint, tmp_path: Path) -> None:
    """Workers are collected once an hour. The queue's messages page at once, and doctor's own event is read."""
    machine, hook = Installation(tmp_path, aws), Receiver()
    stopped, warned = list(aws.simulation.machines)[:2]
    config = tmp_path / "fleet.toml"
    config.write_text(
        f"""
        [events.main]
        queue_url = "{aws.url}/123456789012/workermon"
        [channels.ops]
        type = "webhook"
        url = "{hook.url}"
        allow_private = true
        [[rules]]
        name = "down"
        metric = "state"
        notify = ["ops"]
        [[rules]]
        name = "spot"
        metric = "event"
        codes = ["spot-interruption"]
        notify = ["ops"]
        """,
        "utf-8",
    )

    def notified_workers() -> dict[str, str]:
        bodies = [json.loads(request.body) for request in hook.requests]
        return {body["rule"]: body["worker"]["id"] for body in bodies}

    machine.env["WORKERMON_CONFIG"] = str(config)
    with machine.started("up", "--no-web"):
        eventually(lambda: machine.logged("up.running"), within=START)
        assert machine.run("add", stopped, warned, "--interval", "1h").returncode == 0
        eventually(lambda: machine.collected(warned), within=START)
        assert notified_workers() == {}
        aws.api.queues.put("workermon", "no event at all")
        warning = {"instance-id": warned, "instance-action": "terminate"}
        aws.api.queues.put("workermon", event("EC2 Spot Instance Interruption Warning", warning, "e1"))
        eventually(lambda: notified_workers().get("spot") == warned, within=START, description="the Spot warning")
        aws.simulation.set_state(stopped, "stopped", ("Server.ScheduledStop", "Stopped for a scheduled retirement"))
        change = {"instance-id": stopped, "state": "stopped"}
        aws.api.queues.put("workermon", event("EC2 Instance State-change Notification", change, "e2"))
        eventually(lambda: notified_workers().get("down") == stopped, within=START, description="the state change")
        eventually(lambda: aws.api.queues.message_count("workermon") == 0, within=START, description="an empty queue")
        examined = json.loads(machine.run("doctor", "--json").stdout)
        [tried] = [check for check in examined["checks"] if check["name"] == "event queue main"]
        assert tried["ok"], tried
        assert "through EventBridge" in tried["reason"]
        counts = json.loads(machine.run("status", "--json").stdout)["counts"]
        assert counts["events.main.invalid"] == 1


def test_an_instance_that_replaces_another_is_labelled_in_seconds(aws: endpoint.Endpoint, tmp_path: Path) -> None:
    """An Auto Scaling group replaces an instance. The queue's messages add the new one with the same labels."""
    machine, group = Installation(tmp_path, aws), "aws:autoscaling:groupName"
    old, replacement = list(aws.simulation.machines)[:2]
    for number, instance_id in enumerate((old, replacement)):
        aws.simulation.machines[instance_id].tags |= {"Fleet": "pools", group: f"pool-{number}"}
    config = tmp_path / "fleet.toml"
    config.write_text(
        f"""
        [events.main]
        queue_url = "{aws.url}/123456789012/workermon"
        [discover]
        tags = {{ Fleet = "pools" }}
        interval = "1h"
        labels = {{ team = "vfx" }}
        labels_from_tags = {{ pool = "{group}" }}
        """,
        "utf-8",
    )

    def labels() -> dict[str, dict[str, str]]:
        return {
            worker["id"]: worker["labels"] for worker in json.loads(machine.run("list", "--json").stdout)["workers"]
        }

    def change(instance_id: str, state: str) -> None:
        detail = {"instance-id": instance_id, "state": state}
        name = "EC2 Instance State-change Notification"
        aws.api.queues.put("workermon", event(name, detail, f"{instance_id}-{state}"))

    machine.env["WORKERMON_CONFIG"] = str(config)
    with machine.started("up", "--no-web"):
        eventually(lambda: machine.logged("up.running"), within=START)
        before = labels()
        assert before == {old: {"team": "vfx", "pool": "pool-0"}, replacement: {"team": "vfx", "pool": "pool-1"}}
        aws.simulation.set_state(old, "terminated")
        change(old, "terminated")
        new = aws.simulation.launch(aws.simulation.machines[old].tags)
        change(new, "pending")
        expected = {new: before[old], replacement: before[replacement]}
        eventually(lambda: labels() == expected, within=START, description="the new instance instead of the old one")
        # The one that starts right after it is not left to the next reconciliation, minutes later.
        last = aws.simulation.launch(aws.simulation.machines[replacement].tags)
        change(last, "pending")
        expected[last] = before[replacement]
        eventually(lambda: labels() == expected, within=START, description="the second new instance")
