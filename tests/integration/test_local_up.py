"""``up`` and ``demo`` as users run them: real processes, a real server, and a simulated AWS over HTTP."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import START, STOP, Installation
from tests.support.waiting import eventually
from workermon.local import endpoint, simulation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]


@pytest.fixture
def fleet() -> simulation.Simulation:
    """Five instances that publish each two seconds."""
    return simulation.Simulation(time.time, 5, period=2, history=60)


@pytest.fixture
def machine(tmp_path: Path, fleet: simulation.Simulation) -> Iterator[Installation]:
    """A user's machine beside an AWS that has that fleet."""
    aws = endpoint.Endpoint(fleet)
    aws.start()
    yield Installation(tmp_path, aws)
    aws.stop()


def killed(machine: Installation, name: str) -> None:
    """Wait for the log line about a child's violent end."""
    expected = {"child": name, "reason": "SIGKILL"}.items()
    eventually(lambda: expected <= machine.logged("child.died")[-1].items(), description=f"a log line about {name}")


def collected_anew(machine: Installation, worker_id: str, condition: str) -> None:
    """Wait for another sample of a worker."""
    before = eventually(lambda: machine.collected(worker_id), within=START)
    eventually(lambda: machine.collected(worker_id) > before, within=START, description=condition)


def six(machine: Installation) -> dict[int, str]:
    """Return the processes of ``up`` once all six are there."""
    processes = machine.processes()
    return processes if len(processes) == 6 else {}


@pytest.mark.long
def test_up_watches_a_worker_and_restarts_what_dies(machine: Installation, fleet: simulation.Simulation) -> None:
    """``up`` starts with an empty fleet, collects an added worker, restarts each killed part, and stops cleanly."""
    worker_id = next(iter(fleet.machines))
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        assert machine.run("add", worker_id, "--interval", "2s").returncode == 0
        first = eventually(lambda: machine.collected(worker_id), within=START)

        # The node that collects, beat, and the server, each killed outright.
        for name, words in (("collect", "workermon.collect "), ("beat", " beat "), ("redis", "valkey-server")):
            os.kill(machine.process(words), signal.SIGKILL)
            killed(machine, name)
            collected_anew(machine, worker_id, f"a sample after {name} died")
        assert machine.collected(worker_id) > first

        # A second one on the same data folder is refused, and says why in one line.
        second = machine.run("up")
        assert second.returncode == 4
        assert re.fullmatch(
            r"error: data folder .*another 'workermon up' uses it.*\n", second.stderr.splitlines(True)[-1]
        )

        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(STOP) == 0
        (stopped,) = machine.logged("children.stopped")
        assert stopped["after"] < 10
    assert not machine.processes()
    assert not (machine.state / "workermon" / "server.json").exists()
    refused = machine.run("list")
    assert refused.returncode == 4
    assert refused.stderr.count("\n") == 1

    # What was added is still there at the next start.
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running")[1:], within=START)
        assert machine.collected(worker_id)
        up.terminate()
        assert up.wait(STOP) == 0
    assert not machine.processes()


def test_only_the_node_that_delivers_has_the_secrets(machine: Installation) -> None:
    """Beat, the collecting node and the server do not inherit the channels' secrets.

    The delivering node sends a test message, so a secret that only the command has does not help.
    """
    file = machine.home / "fleet.toml"
    hook = 'type = "webhook"\nurl = "http://127.0.0.1:1/"\nallow_private = true\nsecret = { env = "ROOM_SECRET" }\n'
    file.write_text(f"[channels.room]\n{hook}")
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        having = {
            line
            for pid, line in eventually(lambda: six(machine)).items()
            if b"OPS_SECRET=hunter2" in Path(f"/proc/{pid}/environ").read_bytes()
        }
        machine.env["ROOM_SECRET"] = "hunter3"
        eventually(lambda: "sent by a node on" in machine.run("notify-test", "log").stdout, within=START)
        assert machine.run("apply", str(file)).returncode == 0
        refused = machine.run("notify-test", "room")
        assert refused.returncode == 1
        assert re.fullmatch(
            r"error: channel room: the node on .+ could not send to it: .*ROOM_SECRET.+\n", refused.stderr
        )
        up.terminate()
        assert up.wait(STOP) == 0
    assert len(having) == 2, having
    assert all("workermon up" in line or "alerts-" in line for line in having)


def test_nothing_is_imported_from_the_working_directory(
    machine: Installation, fleet: simulation.Simulation, tmp_path: Path
) -> None:
    """Modules in the working directory are never imported, whatever their names are."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("redis", "kombu", "redbeat", "workermon", "celeryconfig", "structlog", "gevent"):
        (trap / f"{name}.py").write_text(f"open('{trap}/sprung', 'a').write('{name} ')\n")
    program = Path(sys.executable).with_name("workermon")
    if not program.exists():
        pytest.skip("the command workermon is not installed beside this Python")
    worker_id = next(iter(fleet.machines))
    with machine.started("up", program=[str(program)], cwd=trap) as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        assert machine.run("add", worker_id, "--interval", "2s").returncode == 0
        first = eventually(lambda: machine.collected(worker_id), within=START)
        # Beat, the node that collects and the server have done their part by then, and so have imported it.
        eventually(lambda: machine.collected(worker_id) > first, within=START)
        up.terminate()
        assert up.wait(STOP) == 0
    assert not (trap / "sprung").exists(), (trap / "sprung").read_text()


def test_a_killed_up_leaves_no_process(machine: Installation) -> None:
    """After kill -9 of ``up`` no node, beat or server runs, and the next one starts."""
    with machine.started("up") as up:
        eventually(lambda: machine.logged("up.running"), within=START)
        eventually(lambda: len(machine.processes()) == 6, description="six processes")
        up.kill()
        up.wait()
        eventually(lambda: not machine.processes(), description="the end of all processes")
        with machine.started("up") as heir:
            eventually(lambda: machine.logged("up.running")[1:], within=START)
            heir.terminate()
            assert heir.wait(STOP) == 0


def test_ctrl_c_during_the_start_leaves_nothing(machine: Installation) -> None:
    """Ctrl-C during the start ends ``up`` cleanly too."""
    with machine.started("up") as up:
        eventually(lambda: machine.logged("redis.started"), within=START)
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(STOP) == 0
    assert not machine.processes()
    assert not (machine.state / "workermon" / "server.json").exists()


@pytest.mark.long
def test_the_demo_fires_and_resolves_within_a_minute(machine: Installation) -> None:
    """In a pipe the demo prints firing and resolved alerts, exits with 0, and leaves nothing."""
    with machine.started("demo", "--seconds", "60") as demo:
        printed, _ = demo.communicate(timeout=60 + START + STOP)
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


def test_ctrl_c_ends_the_demo_on_a_terminal(machine: Installation) -> None:
    """On a narrow terminal the demo shows its table and address. Ctrl-C exits with 0 and leaves no process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    machine.env |= {"TERM": "xterm"}
    with machine.started("demo", terminal=theirs) as demo:
        os.close(theirs)
        output, page = b"", f"http://127.0.0.1:{machine.env['WORKERMON_WEB_PORT']}".encode()

        def table_is_drawn() -> bool:
            nonlocal output
            output += os.read(ours, 65536)
            return b"render-" in output and b"alerts" in output and page in output

        eventually(table_is_drawn, within=START)
        os.killpg(demo.pid, signal.SIGINT)
        os.set_blocking(ours, False)

        def has_ended() -> bool:
            with contextlib.suppress(OSError):
                while os.read(ours, 65536):
                    pass
            return demo.poll() is not None

        eventually(has_ended, within=STOP)
        assert demo.returncode == 0, machine.log.read_text()
    os.close(ours)
    assert not machine.processes()
    assert not list(machine.temporary.iterdir())
    assert not machine.state.exists()


def test_a_closed_pipe_ends_the_demo(machine: Installation) -> None:
    """``workermon demo | head -1`` ends when its output is closed."""
    with machine.started("demo") as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(STOP) == 0
    assert not machine.processes()
    assert not list(machine.temporary.iterdir())
