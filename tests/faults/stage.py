"""One installation for one crash, with its own database, AWS, instances and receiver."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults import pager, rules
from tests.support import fork_server
from tests.support.servers import database
from tests.support.waiting import eventually
from workermon import config, failpoints, models, testing
from workermon.local import embedded, endpoint, simulation
from workermon.on_redis import alerts, client, configurations, outbox, workers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Seconds. A claim whose holder died holds for 15; imports on a busy machine come on top.
PATIENCE = 150.0
#: Seconds. What a mutant misses and has not come by then, well after a lease, is lost.
MUTANTS_PATIENCE = 25.0

#: Databases of the embedded server.
DATABASES = 15


class Stage:
    """Processes are started on it, exit at a crash point, and are started again.

    ``point`` is the crash point, ``name:times`` for a later pass. ``forks`` starts the processes. Without it, or for a
    mutant, each is a new interpreter. ``missed`` matches what the mutant misses: it is not waited for so long.
    """

    def __init__(
        self,
        point: str,
        number: int,
        server: embedded.Server,
        folder: Path,
        *,
        mutant: str | None,
        missed: str = "(?!)",
        machines: int = 1,
        forks: fork_server.ForkServer | None = None,
    ) -> None:
        self.point = point
        self._forks = forks if mutant is None else None
        self._missed = missed
        self.folder = folder
        self.fleet = simulation.Simulation(time.time, machines, period=1)
        self.aws = endpoint.Endpoint(self.fleet)
        self.aws.start()
        self.ids = list(self.fleet.machines)
        self.worker_id = self.ids[0]
        #: The alert that this is about.
        self.key = f"{self.worker_id}/cpu-high"
        self.pager, self.second_pager = pager.Pager(), pager.Pager()
        self.pager.start()
        self.second_pager.start()
        self.log = folder / "processes.log"
        url = database(server.url, number % DATABASES + 1)
        self.connection = client.connect(url)
        self.connection.flushdb()
        self.configurations = configurations.RedisConfigurations(self.connection, config.DEFAULT)
        self.outbox = outbox.RedisOutbox(self.connection)
        self.alerts = alerts.RedisAlerts(self.connection, "")
        self.workers = workers.RedisWorkers(self.connection)
        self.configure({"ops": rules.channel("ops", self.pager.url)})
        ours = ("AWS_", "WORKERMON_", "CELERY_")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "WORKERMON_REDIS_URL": url,
            "WORKERMON_CHANNEL": f"crash-{number}",
            "WORKERMON_MIN_INTERVAL": "1s",
            "WORKERMON_LOG_FORMAT": "json",
            "WORKERMON_LOG_LEVEL": "info",
            "ROUTING_KEY": "R0UTINGKEY0123456789abcdefghijkl",
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": "us-east-1",
            "PYTHONPATH": os.pathsep.join([*([str(HERE / "mutants" / mutant)] if mutant else []), str(ROOT)]),
        }

    def close(self) -> None:
        """Close its connections and servers."""
        self.connection.close()
        for server in (self.pager, self.second_pager, self.aws):
            server.stop()

    # --- what is there -------------------------------------------------------------------------------------------

    def configure(self, channels: dict[str, str], over: str = "", **changes: object) -> None:
        """Save a configuration with the rule and these channels.

        ``changes`` apply to every channel, even beyond what a file may say. ``over`` makes it a rule over groups with
        the name ``pool-hot``.
        """
        self.put(rules.text(1, channels, "pool-hot" if over else "cpu-high", over), **changes)

    def put(self, text: str, **changes: object) -> None:
        """Apply a file. ``changes`` apply to every channel, even beyond what a file may say."""
        configuration = config.to_configuration(testing.parse(text, "crash.toml"), self.configurations.load())
        changed = {name: channel.model_copy(update=changes) for name, channel in configuration.channels.items()}
        assert self.configurations.save(configuration.model_copy(update={"channels": changed}))

    def write(self, name: str, text: str) -> str:
        """Write a file, and return its path."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return str(path)

    def load(self, value: float, *worker_ids: str) -> None:
        """Set the CPU of instances from now on, by default of the first one. Earlier datapoints stay."""
        now = int(time.time())
        for worker_id in worker_ids or (self.worker_id,):
            stream = next(
                stream
                for stream in self.fleet.streams.values()
                if stream.machine.id == worker_id and stream.name == "CPUUtilization"
            )
            trace = stream.trace or [(at, 10.0) for at in range(now - 60, now - 10)]
            first = now if stream.trace else now - 10
            past = [point for point in trace if point[0] < first]
            points = [*past, *((at, value) for at in range(first, now + 600))]
            self.fleet.replay(worker_id, "CPUUtilization", points)

    def entries(self) -> set[str]:
        """Return the workers that have an entry in the schedule."""
        return {worker_id for worker_id in self.ids for _ in self.connection.scan_iter(match=f"*collect:{worker_id}")}

    def left_of(self, worker_id: str) -> list[bytes]:
        """Return the keys about a worker that should not be there once it is removed."""
        keys = self.connection.scan_iter(match=f"*{worker_id}*")
        return [key for key in keys if not key.startswith(b"workermon:alert-history")]

    # --- processes -----------------------------------------------------------------------------------------------

    def start(self, *arguments: str, point: str | None = None) -> subprocess.Popen[bytes] | fork_server.ForkedProcess:
        """Start a monitor (``run``) or a command. ``point`` is its crash point."""
        failpoint_env = {"WORKERMON_FAILPOINT": point} if point else {}
        if self._forks is not None:
            forked: fork_server.Program = "monitor" if arguments == ("run",) else "workermon"
            return self._forks.start(forked, arguments, self.env | failpoint_env, self.log)
        program = [str(HERE / "monitor.py")] if arguments == ("run",) else ["-m", "workermon", *arguments]
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, *program],
                env=self.env | failpoint_env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def dies(self, *arguments: str, point: str | None = None) -> None:
        """Start it and wait until it died at the point, and for nothing else."""
        process = self.start(*arguments, point=point or self.point)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.point} was not reached:\n{self.output}") from None
        assert code == failpoints.EXIT, f"{self.point}: ended with {code}:\n{self.output}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run a monitor without a crash point during the block. It is killed at the end."""
        process = self.start("run")
        try:
            yield
            assert process.poll() is None, self.output
        finally:
            process.kill()
            process.wait()

    def command(self, *arguments: str) -> None:
        """Run a command to its end."""
        assert self.start(*arguments).wait(PATIENCE) == 0, self.output

    def let_pass(self, seconds: float) -> None:
        """Let datapoints come."""
        since = time.time()
        eventually(lambda: time.time() - since > seconds, seconds + 1, "the datapoints")

    @property
    def output(self) -> str:
        """Return the end of the output of its processes."""
        return self.log.read_text("utf-8", "replace")[-3000:]

    # --- what was reported -------------------------------------------------------------------------------------------

    def notified(self, status: str, key: str | None = None) -> bool:
        """Tell whether that is the last word about an alert so far, and nothing waits."""
        of = self.pager.of(key or self.key)
        return bool(of) and of[-1].document["status"] == status and not self.outbox.backlog()

    def until(self, status: str, key: str | None = None) -> None:
        """Wait for the last word."""
        self.wait(lambda: self.notified(status, key), f"the {status}")

    def wait(self, predicate: Callable[[], object], expected: str) -> None:
        """Wait for a condition."""
        try:
            eventually(predicate, MUTANTS_PATIENCE if re.search(self._missed, expected) else PATIENCE, expected)
        except AssertionError:
            raise AssertionError(f"{self.point}: {expected}\n{self.output}") from None

    def check(self, *keys: str, pages: int = 1) -> None:
        """Check that each alert fired and resolved once in turn, and that nothing else notified."""
        for key in keys or (self.key,):
            notifications = {page.id: page for page in self.pager.of(key)}.values()
            assert [page.document["status"] for page in notifications] == ["firing", "resolved"] * pages, (
                self.point,
                key,
            )
            assert len(self.pager.pages(key)) == pages, (self.point, key)
            assert self.pager.wrong(key) is None
        assert self.alerts.open() == []
        assert self.outbox.backlog() == 0
        assert {notification.key for notification in self.pager.received} == {*(keys or (self.key,))}

    def configuration(self) -> models.Configuration:
        """Return the configuration in force, read again."""
        return configurations.RedisConfigurations(self.connection, config.DEFAULT).load()
