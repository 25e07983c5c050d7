"""A process with everything imported forks the processes of the tests, which saves a second each.

``python fork_server.py`` reads requests from a unix socket, given by its file descriptor. A request is one line of JSON
with ``program``, ``arguments``, ``env``, ``out``, ``err`` and ``cwd``. The answers are ``{"pid": …}`` at once, and
``{"pid": …, "code": …}`` when a process ends, negative if by a signal.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: What can be started: a command, or ``tests/faults/monitor.py``.
Program = Literal["workermon", "monitor"]


class ForkedProcess:
    """A forked process, with the methods of ``subprocess.Popen`` that tests need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._has_ended = threading.Event()

    def note_exit(self, code: int) -> None:
        """Note that it ended."""
        self.returncode = code
        self._has_ended.set()

    def poll(self) -> int | None:
        """Return its exit code, or ``None`` while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""
        if not self._has_ended.wait(timeout):
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A client of the server. Threads may share it."""

    def __init__(self) -> None:
        local, remote = socket.socketpair()
        self._socket = local
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py"), str(remote.fileno())],
            env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WORKERMON_"))}
            | {"PYTHONPATH": str(ROOT)},
            pass_fds=[remote.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        remote.close()
        self._asking = threading.Lock()
        self._started: dict[int, ForkedProcess] = {}
        self._answers: queue.SimpleQueue[ForkedProcess] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of workermon to its end; raises ``subprocess.TimeoutExpired``, and then it is killed."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            process = self.start("workermon", arguments, env, out, err=err, cwd=cwd)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            return subprocess.CompletedProcess(
                ["workermon", *arguments], code, out.read_text("utf-8"), err.read_text("utf-8")
            )

    def start(
        self,
        program: Program,
        arguments: Sequence[str],
        env: Mapping[str, str],
        out: Path,
        *,
        err: Path | None = None,
        cwd: Path = ROOT,
    ) -> ForkedProcess:
        """Start a program. Its output goes to ``out``, and its errors too without ``err``."""
        request = {
            "program": program,
            "arguments": list(arguments),
            "env": dict(env),
            "out": str(out),
            "err": str(err or out),
            "cwd": str(cwd),
        }
        with self._asking:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            return self._answers.get(timeout=60)

    def stop(self) -> None:
        """End it, and what it started."""
        for started in self._started.values():
            started.kill()
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        try:
            with self._socket.makefile("rb") as answers:
                for line in answers:
                    self._note(json.loads(line))
        except (OSError, ValueError):  # it was stopped
            return

    def _note(self, answer: dict[str, int]) -> None:
        if "code" in answer:
            self._started[answer["pid"]].note_exit(answer["code"])
        else:
            process = self._started[answer["pid"]] = ForkedProcess(answer["pid"])
            self._answers.put(process)


@functools.cache
def shared() -> ForkServer:
    """Return the server of this test process, which ends with it."""
    server = ForkServer()
    atexit.register(server.stop)
    return server


# --- the server -----------------------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Fork the requested processes, and report their ends."""
    _import_everything()
    requests = socket.socket(fileno=descriptor)
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pending = b""
    while True:
        ready, _, _ = select.select([requests.fileno(), waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            for pid, code in exit_codes():
                requests.sendall(json.dumps({"pid": pid, "code": code}).encode() + b"\n")
        if requests.fileno() in ready:
            received = requests.recv(1 << 16)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    requests.close()
                    _become(json.loads(line))
                requests.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def exit_codes() -> list[tuple[int, int]]:
    """Return the processes that ended, each with its exit code."""
    exits = list[tuple[int, int]]()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return exits
        if not pid:
            return exits
        exits.append((pid, os.waitstatus_to_exitcode(status)))


def _import_everything() -> None:
    """Import the modules of all processes. None of them reads the environment or connects."""
    import boto3  # noqa: F401

    from tests.faults import monitor  # noqa: F401
    from workermon import fleet, views  # noqa: F401
    from workermon.cli import alerts, apply, silences  # noqa: F401
    from workermon.cli import fleet as commands  # noqa: F401


def _become(request: dict[str, Any]) -> NoReturn:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    time.tzset()
    code = 1
    try:
        code = _run(request["program"], request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(program: Program, arguments: list[str]) -> int:
    from tests.faults import monitor
    from workermon import cli, failpoints

    failpoints.arm(os.environ.get("WORKERMON_FAILPOINT"))
    if program == "monitor":
        monitor.main()
    else:
        sys.argv = ["workermon", *arguments]
        cli.main()
    return 0


if __name__ == "__main__":
    serve(int(sys.argv[1]))
