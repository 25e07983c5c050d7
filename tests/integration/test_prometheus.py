"""A real Prometheus scrapes an in-memory monitor: every shipped dashboard and alert finds its series."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from tests.support.commands import A, B, Ports
from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon import config, errors, fleet, models, ports, runtime, settings
from workermon.web import app

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = DEPLOY / "prometheus" / "workermon.rules.yml"
#: What a user chooses at the top of a dashboard.
CHOSEN = {"$account": ".*", "$region": ".*", "$id": A}


def step(world: Ports) -> None:
    """Let a minute pass, with all parts at work."""
    for _ in range(12):
        world.clock.advance(5)
        world.liveness.beat("listener", world.clock())
    world.collect(A, B)
    world.evaluate(A, B)


def troubled() -> Ports:
    """Return a monitor in which everything that can be shown is there: alerts, waiting messages, a canary, a bill."""
    world = Ports()
    at = int(world.clock()) // 300 * 300
    for instance, status in ((A, "running"), (B, "running")):
        world.ec2.put(
            models.Instance(id=instance, region="us-east-1", status=status, name=f"render-{instance[-1]}"),
            checks=models.Checks(system="ok", instance="impaired" if instance == A else "ok"),
        )
    world.get(fleet.Adding).add([A, B], fleet.AddOptions(scope=models.AccountRegion(region="us-east-1")))
    for name, value in (("CPUUtilization", 97.5), ("NetworkIn", 1e6), ("NetworkOut", 2e6)):
        world.cloudwatch.put(A, name, [(at - after, value) for after in range(300, 1500, 300)])
    for name, more in (("mem_used_percent", {}), ("disk_used_percent", {"path": "/", "fstype": "ext4"})):
        points = [(at - after, 42.0) for after in range(0, 1500, 60)]
        world.cloudwatch.put(A, name, points, namespace="CWAgent", dimensions=more)
    rules = tuple(
        rule.model_copy(update={"notify": ("ops",)}) if rule.kind == "threshold" else rule
        for rule in config.DEFAULT.rules
    )
    world.configure(rules=rules, budget=5.0)
    for _ in range(4):
        step(world)
    world.ec2.error = errors.AwsDenied("EC2", "not authorized", "allow it")
    for _ in range(6):
        step(world)
    before = world.costs.budget_decision()
    spent = models.BudgetDecision(at=world.clock(), period_multipliers={"network_out": 4}, projected=6.0, budget=5.0)
    assert world.costs.decide(spent, before)
    world.evaluate(A, B)
    world.costs.note(world.clock(), "default/us-east-1", "GetMetricData", {"AWS/EC2/CPUUtilization": 2})
    world.nodes.waiting = {"workermon.collect": 3}
    world.canary.publish(world.clock() - 1, world.clock(), 1)
    for reached in ports.CANARY_STEPS[1:]:
        world.canary.reach(reached, world.clock() - 1, world.clock())
    return world


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the monitor on a real socket, and give its address."""
    container = runtime.open(settings.Settings(_env_file=None), troubled().overrides())
    port = free_port()
    served = app.create_app(container)
    server = uvicorn.Server(uvicorn.Config(served, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, description="the page is served")
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join(60)
    container.close()


@pytest.fixture(scope="module")
def prometheus(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Prometheus with the shipped configuration, except for target, token and intervals. Give its URL."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(RULES, folder)
    written = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    written["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = written["scrape_configs"]
    del job["authorization"]
    job["static_configs"] = [{"targets": [address]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(written), "utf-8")
    port = free_port()
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(
            lambda: query(url, "sum_over_time(up[1m]) > 2"), within=60, description="Prometheus scraped three times"
        )
        yield url
    finally:
        process.terminate()
        process.wait(60)


def query(url: str, expression: str) -> list[Any]:
    """Return Prometheus's present answer to an expression."""
    parameters = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}", timeout=10) as answer:
        samples: list[Any] = json.load(answer)["data"]["result"]
    return samples


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_each_panel_of_a_dashboard_shows_something(prometheus: str, path: Path) -> None:
    """Every query of the dashboards returns data."""
    panels = json.loads(path.read_text("utf-8"))["panels"]
    assert panels
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in CHOSEN.items():
                expression = expression.replace(name, value)
            eventually(functools.partial(query, prometheus, expression), description=f"{panel['title']}: {expression}")


def test_each_alert_reads_series_that_exist(prometheus: str) -> None:
    """Each alert has data without its condition, so it can fire. Two fire for errors of this monitor."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        expression = re.sub(r"\s[<>]=?\s[0-9]+$", "", rule["expr"])
        assert expression != rule["expr"]
        eventually(functools.partial(query, prometheus, expression), description=f"{rule['alert']}: {expression}")
    firing = 'ALERTS{alertname=~"WorkermonBudget|WorkermonAccountDenied"}'
    eventually(lambda: len(query(prometheus, firing)) == 2, description="both alerts are pending or fire")


def test_promtool_accepts_what_ships() -> None:
    """Prometheus' own checker accepts configuration and rules."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [program, "check", "config", "--syntax-only", str(DEPLOY / "prometheus" / "prometheus.yml")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
