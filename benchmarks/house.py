"""Shared by all benchmarks: a real Valkey, child processes, CPU seconds and memory of a process, tables.

Everything listens on 127.0.0.1 and ends with the benchmark. ``BENCH_SIZES`` sets the sizes of fleets to measure
(``1000,10000`` by default). ``BENCH_FULL=1`` adds 50,000 workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workermon import config, logs, models  # noqa: E402
from workermon.local import embedded, lifeline  # noqa: E402
from workermon.on_redis import client, samples, workers  # noqa: E402
from workermon.settings import redis_address  # noqa: E402

logs.configure("warning")
T = TypeVar("T")

FULL = bool(os.environ.get("BENCH_FULL"))
#: Seconds between two collections of a worker, and the period of its metrics.
INTERVAL = 60
#: A config file. Its rule fires at the first datapoint above 90 % and notifies a receiver at ``port``.
NOTIFIED = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = {{ critical = 90 }}
breach = "1 of 1"
recover = "1 of 1"
notify = ["ops"]

[channels.ops]
type = "webhook"
url = "http://127.0.0.1:{port}/"
allow_private = true
"""
#: Seconds after which the simulated AWS answers.
LATENCY = 0.1


def sizes(default: str = "1000,10000") -> list[int]:
    """Return the sizes of fleets to measure."""
    return [int(size) for size in os.environ.get("BENCH_SIZES", default + (",50000" if FULL else "")).split(",")]


def wait_for(predicate: Callable[[], T], within: float, description: str) -> T:
    """Wait until ``predicate`` returns something true, and return it. End the benchmark after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {description}: it did not happen within {within:g} s")
        time.sleep(0.05)  # between two calls of the predicate
    return result


# --- measurements ------------------------------------------------------------------------------------------------


def cpu(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has used so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            raise SystemExit(f"error: process {pid}: it ended during the measurement") from None
    output = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    total = 0.0
    for part in output.strip().replace("-", ":").split(":"):
        total = total * 60 + float(part)
    return total


def peak_rss(pid: int) -> float | None:
    """Return the peak memory of a process in MB, or ``None`` if the system does not report it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return None


def percentile(values: Sequence[float], of: float) -> float:
    """Return the percentile of the values: ``of`` is between 0 and 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * of))]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *texts]) for column in range(len(head))]
    print(f"\n{title}\n")
    for row in [list(head), ["-" * width for width in widths], *texts]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("| " + " | ".join(cells) + " |")
    sys.stdout.flush()


def machine() -> str:
    """Return a line that describes this machine and its load."""
    name = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {name}, Python {platform.python_version()}, load at the start {load:.1f}"


# --- processes ---------------------------------------------------------------------------------------------------


class Process(NamedTuple):
    """A running process, with its name in the tables."""

    name: str
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Return its id."""
        return self.popen.pid


@contextlib.contextmanager
def started(name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[Process]:
    """Run a process until the end of the block or of this process. Its output goes to the file ``log``."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            lifeline.bind(list(argv)), env=dict(env), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield Process(name, popen)
    finally:
        popen.terminate()
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            popen.send_signal(signal.SIGKILL)
            popen.wait()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a temporary folder for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="workermon-bench-") as path:
        yield Path(path)


@contextlib.contextmanager
def server(directory: Path, *, persistent: bool = True) -> Iterator[embedded.Server]:
    """Run the embedded server as ``workermon up`` does, with its append-only file if ``persistent``."""
    running = embedded.Server(directory / "valkey", persistent=persistent)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def broker(url: str) -> redis_address.RedisAddress:
    """Return the address of the broker's database on the embedded server of that URL."""
    return redis_address.RedisAddress.parse(url)._replace(database=0)


class Endpoint(NamedTuple):
    """The simulated AWS (endpoint.py), which runs in its own process."""

    url: str

    def stats(self) -> dict[str, float]:
        """Return how many requests, queries and datapoints it has counted so far."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=20) as answer:
            return dict(json.load(answer))


@contextlib.contextmanager
def endpoint(directory: Path, latency: float = LATENCY) -> Iterator[Endpoint]:
    """Run the simulated AWS."""
    port_file = directory / "endpoint.port"
    argv = [sys.executable, str(ROOT / "benchmarks" / "endpoint.py"), str(port_file), str(latency)]
    with started("endpoint", argv, {**os.environ, "PYTHONPATH": str(ROOT)}, directory / "endpoint.log"):
        port = wait_for(lambda: port_file.exists() and port_file.read_text(), 20, "endpoint")
        yield Endpoint(f"http://127.0.0.1:{port}")


def environment(directory: Path, redis_url: str, endpoint_url: str) -> dict[str, str]:
    """Return an environment for processes that use this Redis and this AWS, without the user's own settings."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WORKERMON_"))},
        "PYTHONPATH": str(ROOT),
        "WORKERMON_REDIS_URL": redis_url,
        "WORKERMON_LOG_LEVEL": "warning",
        "WORKERMON_LOG_FORMAT": "json",
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "AKIABENCHMARKBENCHMA",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(directory / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"),
        "XDG_STATE_HOME": str(directory / "state"),
    }


# --- a fleet -----------------------------------------------------------------------------------------------------


def fleet(number: int, now: float) -> list[models.Worker]:
    """Return workers with detailed monitoring. Ids and names are numbered from 1."""
    return [
        models.Worker(
            id=f"i-{place:017x}",
            name=f"render-{place:05d}",
            region="us-east-1",
            interval=INTERVAL,
            added_at=now,
            incarnation=f"{place:032x}",
            detailed=True,
            labels={"team": "vfx"},
        )
        for place in range(1, number + 1)
    ]


def dimensions(worker_id: str) -> dict[str, list[tuple[tuple[str, str], ...]]]:
    """Return the dimensions that ListMetrics has for a worker with the CloudWatch agent."""
    return {
        "CWAgent/mem_used_percent": [(("InstanceId", worker_id),)],
        "CWAgent/disk_used_percent": [
            (("path", "/"), ("InstanceId", worker_id), ("device", "nvme0n1p1"), ("fstype", "xfs"))
        ],
    }


def register(redis_url: str, members: Sequence[models.Worker], now: float, noise: random.Random | None = None) -> None:
    """Add a fleet that was collected a minute ago, so that its dimensions and newest datapoints are known.

    Every value is 20. With ``noise`` values are random, below 70, with three decimals, like those of a real fleet.
    """
    connected: Any = client.connect(redis_url)
    repository = workers.RedisWorkers(connected)
    ledger = samples.RedisSamples(connected, "workermon:bench-seed", lambda: config.DEFAULT.retention)
    last = int(now // INTERVAL) * INTERVAL - 3 * INTERVAL
    for start in range(0, len(members), 500):
        chunk = members[start : start + 500]
        repository.add(chunk)
        client.run_many(
            connected,
            [
                workers.setting(worker, dimensions=json.dumps(dimensions(worker.id)), dimensions_at=repr(now))
                for worker in chunk
            ],
        )
        names = config.DEFAULT.collect
        writes = []
        for worker in chunk:
            latest = {
                name: models.Datapoint(last, 20.0 if noise is None else round(noise.uniform(1, 70), 3))
                for name in names
            }
            sample = models.Sample(
                worker=worker,
                collected_at=now - INTERVAL,
                status="running",
                checks=models.Checks(system="ok", instance="ok"),
                series={name: models.Series(INTERVAL, (point,)) for name, point in latest.items()},
                requested_at=dict.fromkeys(names, now - INTERVAL),
            )
            condition = models.Condition(
                status="running",
                checks=sample.checks,
                slot=sample.slot,
                collected_at=now - INTERVAL,
                succeeded_at=now - INTERVAL,
                running_since=now - INTERVAL,
                latest=latest,
                periods=dict.fromkeys(names, INTERVAL),
                requested_at=sample.requested_at,
            )
            writes.append((sample, condition, "{}"))
        ledger.write_many(writes)
    connected.close()
