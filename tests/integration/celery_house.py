"""Celery's own commands as real processes, for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import fork_server
from tests.support.free_ports import free_port
from workermon.local import endpoint, simulation

ROOT = Path(__file__).parents[2]
#: Seconds. Celery's and boto3's imports on a busy machine of two cores.
START = 60
#: Seconds. If a prefork node is told to end while a child takes a task, Celery drops the task's result, and the child
#: waits 30 s for somebody to read it (billiard 4.3). Then it ends well, and the task is repeated by another node.
STOP = 60


class Process:
    """A started process with its output in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen, self.log = popen, log

    @property
    def pid(self) -> int:
        """Return its id."""
        return self.popen.pid

    @property
    def output(self) -> str:
        """Return its output so far."""
        return self.log.read_text("utf-8", "replace")

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self.popen.poll() is None

    def children(self) -> list[int]:
        """Return the ids of its children."""
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == self.pid:
                        pids.append(int(entry.name))
        return pids

    def stop(self, within: float = STOP) -> int:
        """End it as a supervisor would, and return its exit code; by force if it does not end in time."""
        if self.alive():
            self.popen.terminate()
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            output = last_words(f"did not end within {within} s", self)()
            self.kill()
            raise AssertionError(output) from None

    def kill(self) -> None:
        """End it without a word."""
        self.popen.kill()
        self.popen.wait()


def last_words(condition: str, *processes: Process) -> Callable[[], str]:
    """Return a function for ``eventually`` that gives a description, the processes' logs, and each thread's stack.

    It ends the processes: SIGABRT makes Python write the stacks of its threads.
    """

    def say() -> str:
        for process in processes:
            for pid in (*process.children(), *([process.pid] if process.alive() else [])):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(10)
        return "\n".join([condition, *(process.output[-8000:] for process in processes), condition])

    return say


class House:
    """An installation: a Redis, a simulated AWS, and processes that are all ended with it."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        *,
        workers: int = 3,
        period: int = 1,
        regions: Sequence[str] = ("us-east-1",),
    ) -> None:
        self.folder = folder
        self.simulation = simulation.Simulation(time.time, workers, period=period, regions=regions)
        self.aws = endpoint.Endpoint(self.simulation)
        self.aws.api.queues.create("workermon")  # the one that the pages name
        self.aws.start()
        ours = ("AWS_", "WORKERMON_", "CELERY_", "FLOWER_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "WORKERMON_REDIS_URL": redis_url,
            "WORKERMON_MIN_INTERVAL": "1s",
            "WORKERMON_LOG_FORMAT": "json",
            "XDG_STATE_HOME": str(folder / "state"),
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": "us-east-1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "WORKERMON_WEB_PORT": str(free_port()),
        }
        self.cwd = ROOT
        self._started: list[Process] = []

    @property
    def ids(self) -> list[str]:
        """Return the instances that there are."""
        return list(self.simulation.machines)

    def start(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start ``python -m module arguments``."""
        log = self.folder / f"{len(self._started)}-{module}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.env | dict(env or {}), cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._started.append(Process(popen, log))
        return self._started[-1]

    def celery(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start ``celery -A workermon arguments``."""
        return self.start("celery", "-A", "workermon", *arguments, env=env)

    def run(self, module: str, *arguments: str, within: float = START) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module arguments`` to its end.

        Commands of workermon are forked, unless a test changes their imports.
        """
        if module == "workermon" and self.env.get("PYTHONPATH") in {os.environ.get("PYTHONPATH"), str(ROOT)}:
            return fork_server.shared().run(arguments, self.env, self.cwd, within)
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
            check=False,
        )  # fmt: skip

    def add(self, ids: Sequence[str], interval: str = "1s") -> None:
        """Monitor these instances."""
        completed = self.run("workermon", "add", *ids, "--interval", interval)
        assert completed.returncode == 0, completed.stderr

    def stop(self) -> None:
        """End everything that was started, and see that nothing had to be killed."""
        for process in self._started:
            if process.alive():
                process.popen.terminate()
        last_error = []
        for process in self._started:
            try:
                process.stop()
            except AssertionError as why:
                last_error.append(str(why))
        self.aws.stop()
        assert not last_error, last_error


@contextlib.contextmanager
def opened(folder: Path, redis_url: str, **options: Any) -> Iterator[House]:
    """Give an installation and end it."""
    new_house = House(folder, redis_url, **options)
    try:
        yield new_house
    finally:
        new_house.stop()


def has_ended(pid: int) -> bool:
    """Tell whether a process is no more (or waits for its parent to notice)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
