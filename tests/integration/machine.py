"""A user's machine: start processes on it, and list those that remain."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import fork_server
from tests.support.free_ports import free_port
from workermon.local import endpoint

#: Seconds. Celery's imports on a busy machine of two cores.
START = 60
#: Seconds. `up` kills what has not ended after some of them; the processes and Python take theirs.
STOP = 60


class Installation:
    """A user's machine: its state folder and temporary folder, and a mark on each process that is started here."""

    def __init__(self, tmp_path: Path, aws: endpoint.Endpoint) -> None:
        self.home = tmp_path
        self.mark = secrets.token_hex(8)
        self.state = tmp_path / "state home"
        self.temporary = tmp_path / "temporary files"
        self.temporary.mkdir()
        self.aws = aws
        ours = ("AWS_", "WORKERMON_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PYTHON_TEST_MARK": self.mark,
            "OPS_SECRET": "hunter2",
            "XDG_STATE_HOME": str(self.state),
            "TMPDIR": str(self.temporary),
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": "us-east-1",
            "WORKERMON_MIN_INTERVAL": "1s",
            "WORKERMON_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            "WORKERMON_WEB_PORT": str(free_port()),
        }
        self.log = tmp_path / "log"

    @contextlib.contextmanager
    def started(
        self,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "workermon"),
        cwd: Path | None = None,
        terminal: int | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in its own group during the block, on a terminal if given. What remains of it is killed."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*program, *arguments],
                env=self.env,
                start_new_session=True,
                cwd=cwd,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=subprocess.PIPE if terminal is None else terminal,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, forked from a process that has imported everything."""
        return fork_server.shared().run(arguments, self.env, self.home, START)

    def processes(self) -> dict[int, str]:
        """Return the processes with the mark or with a test's working folder, each with its command line."""
        command_lines = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if not entry.name.isdigit():
                    continue
                # The server writes its title over its environment.
                folder = (entry / "cwd").readlink()
                if self.mark.encode() in (entry / "environ").read_bytes() or self.home in folder.parents:
                    command_lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return command_lines

    def process(self, words: str) -> int:
        """Return the id of the one process whose command line has these words."""
        (pid,) = [pid for pid, line in self.processes().items() if words in line]
        return pid

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def collected(self, worker_id: str) -> str:
        """Return when a worker was last collected."""
        answer = self.run("list", "--json")
        workers = {worker["id"]: worker for worker in json.loads(answer.stdout)["workers"]}
        return str(workers[worker_id]["last_collected_at"])
