"""A process that dies right after any write or send on an alert's way loses nothing and pages nobody twice."""

from __future__ import annotations

import ast
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pager
import pytest
from conftest import eventually

from workermon import config, failpoints
from workermon.local import embedded, endpoint, simulation
from workermon.on_redis import alerts, client, configurations, outbox

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Seconds. A claim whose holder died holds for 15; imports on a busy machine come on top.
PATIENCE = 60.0
#: Seconds. What has not come by then, well after a lease, is lost.
MUTANTS_PATIENCE = 25.0

#: On the way of an alert: each is reached both when it fires and when it resolves.
ON_THE_WAY = (
    "collect.claimed",
    "collect.written",
    "collect.noted",
    "listener.heard",
    "listener.rung",
    "evaluate.judged",
    "evaluate.committed",
    "evaluate.rung",
    "deliver.claimed",
    "deliver.sent",
    "deliver.delivered",
    "deliver.failed",
)
WHILE_ADDED = ("add.stored", "add.scheduled")
WHILE_REMOVED = ("remove.unscheduled", "remove.retired")
POINTS = ON_THE_WAY + WHILE_ADDED + WHILE_REMOVED

#: Builds that are wrong, and the point at which that has to come out.
MUTANTS = {"apart": "evaluate.committed", "marked": "deliver.claimed"}

CONFIGURATION = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = {{ critical = 90 }}
breach = "3 of 3"
recover = "2 of 2"
notify = ["ops"]
[channels.ops]
type = "webhook"
url = "{url}"
allow_private = true
[[metrics]]
name = "cpu_utilization"
namespace = "AWS/EC2"
metric_name = "CPUUtilization"
statistic = "Average"
unit = "percent"
period = "1s"
[collect]
metrics = ["cpu_utilization"]
"""


def in_the_source() -> list[str]:
    """Return every point that the product names."""
    return [
        ast.literal_eval(node.args[0])
        for path in sorted((ROOT / "workermon").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach"
    ]


class Stage:
    """One installation, in a database of its own, with one instance and somebody who is paged."""

    def __init__(
        self,
        name: str,
        number: int,
        server: embedded.Server,
        aws: endpoint.Endpoint,
        folder: Path,
        mutant: str | None = None,
    ) -> None:
        self.name, self.aws = name, aws
        self.patience = PATIENCE if mutant is None else MUTANTS_PATIENCE
        self.fleet: simulation.Simulation = aws.simulation
        self.worker_id = list(self.fleet.machines)[number]
        self.key = f"{self.worker_id}/cpu-high"
        self.pager = pager.Pager()
        self.pager.start()
        self.log = folder / f"{name}.log"
        url = f"{server.url.rpartition('/')[0]}/{number % 15 + 1}"
        self.connection = client.connect(url)
        self.connection.flushdb()
        kept = configurations.RedisConfigurations(self.connection, config.DEFAULT)
        file = config.parse(CONFIGURATION.format(url=self.pager.url), "crash.toml")
        assert kept.save(config.to_configuration(file, kept.load()))
        self.outbox = outbox.RedisOutbox(self.connection)
        self.alerts = alerts.RedisAlerts(self.connection, name)
        ours = ("AWS_", "WORKERMON_", "CELERY_")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "WORKERMON_REDIS_URL": url,
            "WORKERMON_CHANNEL": f"{name}-{number}",
            "WORKERMON_MIN_INTERVAL": "1s",
            "WORKERMON_LOG_FORMAT": "json",
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": "us-east-1",
            "PYTHONPATH": os.pathsep.join([*([str(HERE / "mutants" / mutant)] if mutant else []), str(ROOT)]),
        }

    def load(self, value: float) -> None:
        """Have the instance's CPU stand there from now on; what was served stays as it was."""
        now = int(time.time())
        stream = next(
            each
            for each in self.fleet.streams.values()
            if each.machine.id == self.worker_id and each.name == "CPUUtilization"
        )
        past = [point for point in stream.trace or [(at, 10.0) for at in range(now - 60, now - 10)] if point[0] < now]
        first = now if stream.trace else now - 10
        self.fleet.replay(self.worker_id, "CPUUtilization", [*past, *((at, value) for at in range(first, now + 600))])

    def start(self, *arguments: str, point: str | None = None) -> subprocess.Popen[bytes]:
        """Start a monitor, or a command; ``point`` is where it dies."""
        named = {"WORKERMON_FAILPOINT": point} if point else {}
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, str(HERE / "monitor.py"), *arguments],
                env=self.env | named, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def dies(self, *arguments: str, point: str) -> None:
        """Start it and wait until it died at that point, and for nothing else."""
        process = self.start(*arguments, point=point)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{point} was not reached:\n{self.said}") from None
        assert code == failpoints.EXIT, f"{point}: ended with {code}:\n{self.said}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have a monitor that is well run meanwhile; it is killed at the end."""
        process = self.start("run")
        try:
            yield
            assert process.poll() is None, self.said
        finally:
            process.kill()
            process.wait()

    def command(self, *arguments: str) -> None:
        """Run a command to its end."""
        assert self.start(*arguments).wait(PATIENCE) == 0, self.said

    @property
    def said(self) -> str:
        """Return the end of what its processes wrote."""
        return self.log.read_text("utf-8", "replace")[-3000:]

    def told(self, status: str) -> bool:
        """Tell whether that is the last word so far, and nothing waits."""
        of = self.pager.of(self.key)
        return bool(of) and of[-1].told["status"] == status and not self.outbox.backlog()

    def until(self, status: str) -> None:
        """Wait for the last word."""
        eventually(lambda: self.told(status), self.patience, f"{self.name}: the {status}\n{self.said}")

    def check(self) -> None:
        """See that it fired once, resolved once, in this order, and that nothing is left."""
        statuses = [page.told["status"] for page in {each.id: each for each in self.pager.of(self.key)}.values()]
        assert statuses == ["firing", "resolved"], f"{self.name}: {statuses}"
        assert len(self.pager.pages(self.key)) == 1, self.name
        assert self.pager.wrong(self.key) is None
        assert self.alerts.open() == []
        assert {each.key for each in self.pager.received} == {self.key}

    def close(self) -> None:
        """Close what it holds."""
        self.connection.close()
        self.pager.stop()


def _refusing_once(stage: Stage) -> None:
    # The first try of each notification fails, so that there is a failure to be written down.
    refused: set[int] = set()

    def manner() -> pager.Manner:
        number = len(stage.pager.received)
        if number in refused:
            return "take"
        refused.add(number)
        return "refuse"

    stage.pager.manner = manner


def on_the_way(stage: Stage) -> None:
    """Die there when the alert fires, and again when it resolves."""
    stage.command("add", stage.worker_id)
    if stage.name == "deliver.failed":
        _refusing_once(stage)
    stage.load(97.0)
    stage.dies("run", point=stage.name)
    with stage.running():
        stage.until("firing")
    stage.load(10.0)
    # The process is started when there is something to resolve, so that it dies there on the way of that.
    since = time.time()
    eventually(lambda: time.time() - since > 4.0, 5.0, "three datapoints")
    stage.dies("run", point=stage.name)
    with stage.running():
        stage.until("resolved")


def while_added(stage: Stage) -> None:
    """Die within ``add``; what runs next repairs it, and the worker is watched."""
    stage.dies("add", stage.worker_id, point=stage.name)
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
        stage.load(10.0)
        stage.until("resolved")


def while_removed(stage: Stage) -> None:
    """Die within ``remove``; the same command again completes it, and who was paged hears that it is over."""
    stage.command("add", stage.worker_id)
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
        stage.dies("remove", stage.worker_id, point=stage.name)
        stage.command("remove", stage.worker_id)
        stage.until("resolved")
        assert stage.pager.of(stage.key)[-1].told["reason"]
    left = [
        key
        for key in stage.connection.scan_iter(match=f"*{stage.worker_id}*")
        if not key.startswith(b"workermon:alert-history")
    ]
    assert not left, left


def play(stage: Stage) -> None:
    """Play the scene of its point, and see how it came out."""
    try:
        if stage.name in WHILE_ADDED:
            while_added(stage)
        elif stage.name in WHILE_REMOVED:
            while_removed(stage)
        else:
            on_the_way(stage)
        stage.check()
    finally:
        stage.close()


Play = Callable[[str, str | None], None]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Play a point, with a mutant or without, on one server and one endpoint for all of them."""
    folder = tmp_path_factory.mktemp("crash")
    server = embedded.Server(folder / "valkey", persistent=False)
    server.start()
    scenes = [*((point, None) for point in POINTS), *((at, name) for name, at in MUTANTS.items())]
    aws = endpoint.Endpoint(simulation.Simulation(time.time, len(scenes), period=1))
    aws.start()

    def played(point: str, mutant: str | None) -> None:
        number = scenes.index((point, mutant))
        place = folder / str(number)
        place.mkdir()
        play(Stage(point, number, server, aws, place, mutant))

    try:
        yield played
    finally:
        aws.stop()
        server.stop()


def test_every_point_of_the_source_is_in_the_table() -> None:
    """The crash points of the product and those that are tried here are the same."""
    assert sorted(set(in_the_source())) == sorted(POINTS)


#: Played together, for most of the time they wait: for a start, for a lease to end.
GROUPS = {"collect": 3, "listener": 2, "evaluate": 3, "deliver": 4, "add": 2, "remove": 2}


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_a_crash_there_loses_nothing_and_pages_nobody_twice(group: str, scene: Play) -> None:
    """A process that dies right there is started again: one page, one resolution, in order, and nothing left."""
    points = [point for point in POINTS if point.startswith(f"{group}.")]
    assert len(points) == GROUPS[group]
    with concurrent.futures.ThreadPoolExecutor(len(points)) as pool:
        outcomes = [pool.submit(scene, point, None) for point in points]
    for outcome in outcomes:
        outcome.result()


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_build_that_loses_is_found_out(mutant: str, scene: Play) -> None:
    """State and outbox written apart, or a mark set before the send, lose the page of such a crash."""
    with pytest.raises(AssertionError, match="the firing"):
        scene(MUTANTS[mutant], mutant)
