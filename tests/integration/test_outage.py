"""An outage of everything: processes are killed during a collection, and no datapoint is missing afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.machine import START, Installation
from tests.support.waiting import eventually
from workermon import models
from workermon.local import endpoint, simulation

pytestmark = pytest.mark.integration

#: Seconds between two datapoints, and between two looks.
PERIOD = 2
NAMES = {"cpu_utilization": "CPUUtilization", "memory_utilization": "mem_used_percent", "network_in": "NetworkIn"}

CONFIG = """
[collect]
metrics = ["cpu_utilization", "memory_utilization", "network_in"]
"""


def recorded(machine: Installation, worker_id: str, metric: str) -> dict[float, float]:
    """Return the ledger's datapoints by the command line."""
    answer = machine.run("history", worker_id, metric, "--since", "1h", "--json")
    assert answer.returncode == 0, answer.stderr
    points = json.loads(answer.stdout)["datapoints"]
    datapoints = {models.moment(point["at"]): point["value"] for point in points}
    assert len(datapoints) == len(points), "a datapoint came twice"
    return datapoints


def recorded_since(machine: Installation, worker_id: str, metric: str, since: float) -> None:
    """Wait for a datapoint that is later."""
    condition = f"{metric} of {worker_id} after the outage"
    eventually(lambda: max(recorded(machine, worker_id, metric)) > since, within=START, description=condition)


def served(fleet: simulation.Simulation, worker_id: str, name: str, until: float) -> dict[float, float]:
    """Return CloudWatch's datapoints of a metric before a time."""
    (stream,) = [stream for stream in fleet.streams.values() if (stream.machine.id, stream.name) == (worker_id, name)]
    return dict(fleet.points(stream, 0, until))


@pytest.mark.long
def test_after_an_outage_of_everything_the_ledger_has_every_datapoint(tmp_path: Path) -> None:
    """Beat, nodes, listener and Redis are killed during AWS requests. After a restart they continue."""
    fleet = simulation.Simulation(time.time, 2, period=PERIOD, history=60)
    aws = endpoint.Endpoint(fleet)
    aws.latency = 0.3
    aws.start()
    machine = Installation(tmp_path, aws)
    config = tmp_path / "workers.toml"
    workers = "".join(
        f'[[workers]]\nid = "{machine}"\nregion = "us-east-1"\ninterval = "2s"\n' for machine in fleet.machines
    )
    periods = "".join(f'[[metrics]]\nname = "{name}"\nperiod = "{PERIOD}s"\n' for name in NAMES)
    config.write_text(CONFIG + workers + periods)
    machine.env["WORKERMON_CONFIG"] = str(config)
    try:
        with machine.started("up"):
            last = list(fleet.machines)[-1]
            eventually(lambda: len(recorded(machine, last, "memory_utilization")) > 5, within=START)
            requests = aws.calls["GetMetricData"]
            eventually(lambda: aws.calls["GetMetricData"] > requests, description="a collection under way")
            for pid in machine.processes():
                os.kill(pid, signal.SIGKILL)
        killed = time.time()
        eventually(lambda: not machine.processes(), description="the end of all processes")
        # Some periods go by, and AWS has troubles of its own when the monitor is back.
        eventually(lambda: time.time() > killed + 6 * PERIOD, within=30, description="an outage of six periods")
        aws.fail("throttle", "GetMetricData", times=2)
        with machine.started("up") as up:
            back = time.time()
            for worker_id in fleet.machines:
                for metric in NAMES:
                    recorded_since(machine, worker_id, metric, back)
            until = killed + 6 * PERIOD
            for worker_id in fleet.machines:
                for metric, name in NAMES.items():
                    have, served_points = recorded(machine, worker_id, metric), served(fleet, worker_id, name, until)
                    assert len(served_points) > 30
                    assert {at: value for at, value in have.items() if at < until} == served_points
            up.terminate()
            assert up.wait(60) == 0
    finally:
        aws.stop()
