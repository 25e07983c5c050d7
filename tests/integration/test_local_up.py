"""``up`` and ``demo`` as their users run them: real processes, a real server, an AWS endpoint over HTTP."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import secrets
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from workermon.local import endpoint, simulation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
    pytest.mark.timeout(240),
]

#: Seconds. Celery's imports on a busy machine of two cores.
START = 60


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
        }
        self.log = tmp_path / "log"

    @contextlib.contextmanager
    def started(self, *arguments, program=(sys.executable, "-m", "workermon"), **options):
        """Run a command in its own group meanwhile; what is left of it is killed."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*program, *arguments],
                env=self.env,
                start_new_session=True,
                **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": log} | options,
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

    def run(self, *arguments):
        """Run a command to its end."""
        command = [sys.executable, "-m", "workermon", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)

    def processes(self):
        """Return the processes that carry the mark or work in a folder of ours, each with its command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if not entry.name.isdigit():
                    continue
                # The server writes its title over its environment.
                where = (entry / "cwd").readlink()
                if self.mark.encode() in (entry / "environ").read_bytes() or self.home in where.parents:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def process(self, wanted):
        """Return the id of the one process whose command line has these words."""
        (pid,) = [pid for pid, line in self.processes().items() if wanted in line]
        return pid

    def logged(self, event):
        """Return the log lines of an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def collected(self, worker_id):
        """Return when a worker was last collected."""
        answer = self.run("list", "--json")
        workers = {worker["id"]: worker for worker in json.loads(answer.stdout)["workers"]}
        return workers[worker_id]["last_collected_at"]


@pytest.fixture
def fleet():
    """Five instances that publish each two seconds."""
    return simulation.Simulation(time.time, 5, period=2, history=60)


@pytest.fixture
def machine(tmp_path, fleet):
    """A user's machine beside an AWS that has that fleet."""
    aws = endpoint.Endpoint(fleet)
    aws.start()
    yield Installation(tmp_path, aws)
    aws.stop()


def test_up_watches_a_worker_and_restarts_what_dies(machine, fleet):
    """``up`` starts with an empty fleet, collects what is added, survives each part's death, and stops clean."""
    one = next(iter(fleet.machines))
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        assert machine.run("add", one, "--interval", "2s").returncode == 0
        first = eventually(lambda: machine.collected(one), within=START)

        # The node that collects, beat, and the server, each killed outright.
        for name, wanted in (("collect", "workermon.collect "), ("beat", " beat "), ("redis", "valkey-server")):
            os.kill(machine.process(wanted), signal.SIGKILL)
            eventually(
                lambda name=name: {"child": name, "why": "SIGKILL"}.items() <= machine.logged("child.died")[-1].items(),
                what=f"a log line about {name}",
            )
            before = eventually(lambda: machine.collected(one), within=START)
            eventually(
                lambda before=before: machine.collected(one) > before, within=START, what=f"a sample after {name} died"
            )
        assert machine.collected(one) > first

        # A second one on the same data folder is refused, and says why in one line.
        second = machine.run("up")
        assert second.returncode == 4
        assert re.fullmatch(
            r"error: data folder .*another 'workermon up' uses it.*\n", second.stderr.splitlines(True)[-1]
        )

        asked = time.monotonic()
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(15) == 0
        assert time.monotonic() - asked < 10
    assert not machine.processes()
    assert not (machine.state / "workermon" / "server.json").exists()
    gone = machine.run("list")
    assert gone.returncode == 4
    assert gone.stderr.count("\n") == 1

    # What was added is still there at the next start.
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running")[1:], within=START)
        assert machine.collected(one)
        up.terminate()
        assert up.wait(15) == 0
    assert not machine.processes()


def test_only_the_node_that_delivers_has_the_secrets(machine):
    """Beat, the collecting node and the server do not inherit the variables that hold secrets of channels."""
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        having = {
            line
            for pid, line in eventually(lambda: len(machine.processes()) == 5 and machine.processes()).items()
            if b"OPS_SECRET=hunter2" in Path(f"/proc/{pid}/environ").read_bytes()
        }
        up.terminate()
        assert up.wait(15) == 0
    assert len(having) == 2, having
    assert all("workermon up" in line or "alerts-" in line for line in having)


def test_nothing_is_imported_from_the_working_directory(machine, fleet, tmp_path):
    """Modules that somebody left in the working directory are not ours to run, whatever they are called."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("redis", "kombu", "redbeat", "workermon", "celeryconfig", "structlog", "gevent"):
        (trap / f"{name}.py").write_text(f"open('{trap}/sprung', 'a').write('{name} ')\n")
    program = Path(sys.executable).with_name("workermon")
    if not program.exists():
        pytest.skip("the command workermon is not installed beside this Python")
    one = next(iter(fleet.machines))
    with machine.started("up", program=[str(program)], cwd=trap) as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        assert machine.run("add", one, "--interval", "2s").returncode == 0
        first = eventually(lambda: machine.collected(one), within=START)
        # Beat, the node that collects and the server have done their part by then, and so have imported it.
        eventually(lambda: machine.collected(one) > first, within=START)
        up.terminate()
        assert up.wait(15) == 0
    assert not (trap / "sprung").exists(), (trap / "sprung").read_text()


def test_a_killed_up_leaves_no_process(machine):
    """kill -9 of ``up`` leaves neither node, beat nor server, and the next one starts."""
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        assert len(machine.processes()) == 5
        up.kill()
        up.wait()
        eventually(lambda: not machine.processes(), what="the end of all processes")
        with machine.started("up") as heir:
            eventually(lambda: machine.logged("up.running")[1:], within=START)
            heir.terminate()
            assert heir.wait(15) == 0


def test_ctrl_c_during_the_start_leaves_nothing(machine):
    """Ctrl-C while it is still starting ends it as cleanly."""
    with machine.started("up") as up:
        eventually(lambda: machine.logged("redis.started"), within=START)
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(15) == 0
    assert not machine.processes()
    assert not (machine.state / "workermon" / "server.json").exists()


def test_the_demo_fires_and_resolves_within_a_minute(machine):
    """Piped, the demo prints alerts that fire and resolve, ends by itself with 0, and leaves nothing behind."""
    with machine.started("demo", "--seconds", "60") as demo:
        began = time.monotonic()
        printed, _ = demo.communicate(timeout=90)
        assert time.monotonic() - began < 75
    assert demo.returncode == 0, machine.log.read_text()
    lines = printed.decode().splitlines()
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z (firing|resolved) [a-z-]+ render-\d\d .*\d", line), (
            line
        )
    states = {(line.split()[2], line.split()[3]): line.split()[1] for line in lines}
    assert ("cpu-high", "render-07") in states or "resolved" in states.values(), lines
    assert any(line.split()[1] == "firing" for line in lines)
    assert any(line.split()[1] == "resolved" for line in lines)
    assert not machine.processes()
    assert not list(machine.temporary.iterdir())
    assert not machine.state.exists()


def test_ctrl_c_ends_the_demo_on_a_terminal(machine):
    """On a narrow terminal it shows its table; Ctrl-C there ends it with 0, and leaves nothing behind."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    machine.env |= {"TERM": "xterm"}
    with machine.started("demo", stdin=theirs, stdout=theirs) as demo:
        os.close(theirs)
        seen = b""

        def shown():
            nonlocal seen
            seen += os.read(ours, 65536)
            return b"render-01" in seen and b"latest alerts" in seen

        eventually(shown, within=START)
        os.killpg(demo.pid, signal.SIGINT)
        os.set_blocking(ours, False)

        def ended():
            with contextlib.suppress(OSError):
                while os.read(ours, 65536):
                    pass
            return demo.poll() is not None

        eventually(ended, within=12)
        assert demo.returncode == 0, machine.log.read_text()
    os.close(ours)
    assert not machine.processes()
    assert not list(machine.temporary.iterdir())
    assert not machine.state.exists()


def test_a_closed_pipe_ends_the_demo(machine):
    """``workermon demo | head -1`` ends once nobody reads any more."""
    with machine.started("demo") as demo:
        assert demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(60) == 0
    assert not machine.processes()
    assert not list(machine.temporary.iterdir())
