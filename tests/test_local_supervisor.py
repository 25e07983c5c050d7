"""The supervisor restarts processes that end, and stops all of them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
import redis
import structlog.testing

from tests.support.present import present
from tests.support.waiting import eventually
from workermon.local import embedded, supervisor

pytestmark = pytest.mark.integration

T = TypeVar("T")

#: Seconds. Much longer than a busy machine takes for what happens at once.
LONG = 60.0

#: A child that notes each of its starts, then lives as long as it is let.
PATIENT = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(300)"
HASTY = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(3)"
STUBBORN = """
import os, signal, sys, time
for each in (signal.SIGTERM, signal.SIGQUIT):
    signal.signal(each, lambda number, _: open(sys.argv[1], "a").write(f"{number} "))
if os.fork() == 0:
    open(sys.argv[1] + ".child", "w").write(str(os.getpid()))
open(sys.argv[1], "a").write("ready ")
while True:
    time.sleep(1)
"""


def child(name: str, program: str, file: Path) -> supervisor.Child:
    """Return a child that runs a small program with a file to write to."""
    return supervisor.Child(name, [sys.executable, "-c", program, str(file)], dict(os.environ))


def runs(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


class Keep(Protocol):
    """Makes supervisors."""

    def __call__(self, *children: supervisor.Child, server: embedded.Server | None = None) -> supervisor.Supervisor: ...


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Make supervisors that are stopped at the end, whatever happens."""
    supervisors: list[supervisor.Supervisor] = []

    def make(*children: supervisor.Child, server: embedded.Server | None = None) -> supervisor.Supervisor:
        supervisors.append(supervisor.Supervisor(children, server=server))
        return supervisors[-1]

    yield make
    for started in supervisors:
        started.stop(lambda: True)


def polled(polled_supervisor: supervisor.Supervisor, condition: Callable[[], T], within: float = 60.0) -> T:
    """Look after the children until a condition holds."""

    def look() -> T:
        polled_supervisor.poll()
        return condition()

    return eventually(look, within=within)


def test_a_killed_child_is_started_anew(keep: Keep, tmp_path: Path) -> None:
    """A killed child is back after a second, not sooner, under another process id."""
    supervised = keep(child("patient", PATIENT, tmp_path / "starts"))
    supervised.start()
    eventually(lambda: (tmp_path / "starts").read_text() == "x")
    first = supervised.pids["patient"]
    os.kill(first, signal.SIGKILL)
    killed = time.monotonic()
    polled(supervised, lambda: (tmp_path / "starts").read_text() == "xx")
    assert time.monotonic() - killed >= supervisor.FIRST_WAIT
    assert supervised.pids["patient"] != first


def test_a_child_that_is_added_is_looked_after_too(keep: Keep, tmp_path: Path) -> None:
    """It runs beside those that run already, and is started anew if it dies."""
    supervised = keep(child("patient", PATIENT, tmp_path / "starts"))
    supervised.start()
    first = supervised.pids["patient"]
    supervised.add(child("second", PATIENT, tmp_path / "second"))
    eventually(lambda: (tmp_path / "second").read_text() == "x")
    os.kill(supervised.pids["second"], signal.SIGKILL)
    polled(supervised, lambda: (tmp_path / "second").read_text() == "xx")
    assert supervised.pids["patient"] == first


def test_a_run_rests_until_a_child_dies(keep: Keep, tmp_path: Path) -> None:
    """A run with an interval of ten minutes notes a death and a signal at once, and a restart when it is due."""
    signals = supervisor.Signals()
    supervised = keep(child("patient", PATIENT, tmp_path / "starts"))
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.monotonic())
        if len(ticks) == 1:
            eventually(lambda: (tmp_path / "starts").exists())
            os.kill(supervised.pids["patient"], signal.SIGKILL)
        if len(ticks) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGCHLD)
    with signals.handled():
        supervised.run(signals.stop_requested.is_set, tick, interval=600)
    assert supervised.deaths == 1
    assert ticks[2] - ticks[1] >= 0.9 * supervisor.FIRST_WAIT
    assert ticks[2] - ticks[0] < LONG
    eventually(lambda: (tmp_path / "starts").read_text() == "xx")
    assert signal.getsignal(signal.SIGCHLD) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_run_outside_the_main_thread_looks_at_intervals(keep: Keep, tmp_path: Path) -> None:
    """Another thread has no signals, so it checks the children every interval."""
    supervised = keep(child("patient", PATIENT, tmp_path / "starts"))
    supervised.start()
    eventually(lambda: (tmp_path / "starts").exists())
    os.kill(supervised.pids["patient"], signal.SIGKILL)
    run = threading.Thread(target=lambda: supervised.run(lambda: supervised.deaths > 0, interval=0.01))
    run.start()
    run.join(LONG)
    assert supervised.deaths == 1


def test_the_pause_before_a_new_start_grows(keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends at once is restarted after 1, 2, 4 and then every 5 pauses."""
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    kept_child = supervisor._SupervisedChild("hasty", lambda: 1, lambda: 3)
    waits = []
    for _ in range(5):
        kept_child.died("exit code 3", moment[0])
        waits.append(present(kept_child.due) - moment[0])
        kept_child.since = moment[0] = present(kept_child.due)
    assert waits == [1, 2, 4, 5, 5]
    moment[0] += supervisor.STABLE_AFTER
    kept_child.died("exit code 3", moment[0])
    assert present(kept_child.due) - moment[0] == 1


def test_a_death_is_logged_with_its_reason(keep: Keep, tmp_path: Path) -> None:
    """The log has the child's name and its exit code or signal."""
    supervised = keep(child("hasty", HASTY, tmp_path / "starts"))
    with structlog.testing.capture_logs() as logged:
        supervised.start()
        polled(supervised, lambda: any(line["event"] == "child.died" for line in logged))
    (death, *_) = [line for line in logged if line["event"] == "child.died"]
    assert (death["child"], death["reason"]) == ("hasty", "exit code 3")
    assert supervisor.reason(-9) == "SIGKILL"
    assert supervisor.reason(1) == "exit code 1"


def test_other_children_are_left_alone(keep: Keep, tmp_path: Path) -> None:
    """A child that dies again and again disturbs no other."""
    supervised = keep(child("hasty", HASTY, tmp_path / "a"), child("patient", PATIENT, tmp_path / "b"))
    supervised.start()
    pid = supervised.pids["patient"]
    polled(supervised, lambda: (tmp_path / "a").exists() and len((tmp_path / "a").read_text()) >= 2)
    assert supervised.pids["patient"] == pid
    eventually(lambda: (tmp_path / "b").read_text() == "x")


def test_a_program_that_is_not_there_stops_nobody(keep: Keep, tmp_path: Path) -> None:
    """A child that cannot be started counts as one that ends."""
    missing = supervisor.Child("missing", [str(tmp_path / "nothing here")], {})
    supervised = keep(missing, child("patient", PATIENT, tmp_path / "b"))
    supervised.start()
    polled(supervised, lambda: "missing" not in supervised.pids)
    assert "patient" in supervised.pids


def test_a_stop_is_quick_and_leaves_nothing(keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that obey SIGTERM end at once. A second stop changes nothing."""
    monkeypatch.setattr(supervisor, "QUIT_AFTER", LONG)
    monkeypatch.setattr(supervisor, "KILL_AFTER", LONG)
    supervised = keep(child("a", PATIENT, tmp_path / "a"), child("b", PATIENT, tmp_path / "b"))
    supervised.start()
    pids = list(supervised.pids.values())
    before = time.monotonic()
    supervised.stop()
    supervised.stop()
    assert time.monotonic() - before < LONG / 2
    assert not any(runs(pid) for pid in pids)


def test_a_stubborn_child_is_asked_pressed_and_killed(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ignores SIGTERM gets SIGQUIT, then is killed with its own children."""
    monkeypatch.setattr(supervisor, "QUIT_AFTER", 0.5)
    monkeypatch.setattr(supervisor, "KILL_AFTER", 1.0)
    output = tmp_path / "said"
    supervised = keep(child("stubborn", STUBBORN, output))
    supervised.start()
    eventually(lambda: output.read_text().count("ready") == 2)
    pids = [supervised.pids["stubborn"], int((tmp_path / "said.child").read_text())]
    supervised.stop()
    assert output.read_text().split()[2:] == [str(int(signal.SIGTERM)), str(int(signal.SIGQUIT))]
    eventually(lambda: not any(runs(pid) for pid in pids))


def test_the_longest_stop_is_within_ten_seconds() -> None:
    """Children that have to be killed and a server that has to be killed still end within 10 s."""
    assert supervisor.KILL_AFTER + embedded.STOP <= 10


def test_in_a_hurry_nobody_is_asked_twice(keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked twice to stop, it kills at once."""
    monkeypatch.setattr(supervisor, "QUIT_AFTER", LONG)
    monkeypatch.setattr(supervisor, "KILL_AFTER", LONG)
    output = tmp_path / "said"
    supervised = keep(child("stubborn", STUBBORN, output))
    supervised.start()
    eventually(lambda: output.read_text().count("ready") == 2)
    before = time.monotonic()
    supervised.stop(hurry=lambda: True)
    assert time.monotonic() - before < LONG / 2


def test_a_dead_server_comes_back_under_its_address(keep: Keep, tmp_path: Path) -> None:
    """The embedded server restarts on the same port with the same data. Children continue."""
    server = embedded.Server(tmp_path / "data", persistent=True)
    server.start()
    supervised = keep(child("patient", PATIENT, tmp_path / "starts"), server=server)
    supervised.start()
    pids, url = dict(supervised.pids), server.url
    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
        os.kill(present(server.pid), signal.SIGKILL)
        assert polled(supervised, lambda: client.get("a")) == b"1"
    assert server.url == url
    assert supervised.pids == pids
    supervised.stop()
    assert not server.running


def test_children_print_to_standard_error(tmp_path: Path) -> None:
    """Children's standard output goes to standard error, because standard output is for data."""
    program = """
import sys
from workermon.local import supervisor
one = supervisor.Supervisor([supervisor.Child("a", [sys.executable, "-c", "print('said')"], {})])
one.start()
one._processes["a"].wait()
one.stop()
"""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "said" not in completed.stdout.replace("child", "")
    assert "said" in completed.stderr


PARENT = """
import os, sys
from workermon import logs
from workermon.local import supervisor
logs.configure()
supervisor.QUIT_AFTER = supervisor.KILL_AFTER = float(sys.argv[3])
one = supervisor.Supervisor([supervisor.Child("a", [sys.executable, "-c", sys.argv[1], sys.argv[2]], dict(os.environ))])
signals = supervisor.Signals()
with signals.handled():
    one.start()
    print(one.pids["a"], flush=True)
    one.run(signals.stop_requested.is_set)
    one.stop(lambda: signals.is_repeated)
print("stopped", flush=True)
"""


def parent(program: str, file: Path) -> subprocess.Popen[str]:
    """Start a process that supervises one child, with long patience when it stops."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, program, str(file), str(LONG)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    """kill -9 of the supervisor leaves no child."""
    with parent(PATIENT, tmp_path / "starts") as supervised:
        try:
            pid = int(present(supervised.stdout).readline())
            eventually(lambda: (tmp_path / "starts").exists())
        finally:
            supervised.kill()
    eventually(lambda: not runs(pid))


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all(tmp_path: Path, order: signal.Signals) -> None:
    """SIGINT to the terminal's group, SIGTERM and SIGHUP stop children and supervisor, which exits with 0."""
    with parent(PATIENT, tmp_path / "starts") as supervised:
        try:
            pid = int(present(supervised.stdout).readline())
            eventually(lambda: (tmp_path / "starts").exists())
            os.killpg(supervised.pid, order)
            assert supervised.wait(60) == 0
            assert present(supervised.stdout).read() == "stopped\n"
            assert not runs(pid)
        finally:
            supervised.kill()


def test_a_second_ctrl_c_is_a_harder_stop(tmp_path: Path) -> None:
    """The second Ctrl-C does not wait for a child that takes its time."""
    with parent(STUBBORN, tmp_path / "said") as supervised:
        try:
            present(supervised.stdout).readline()
            eventually(lambda: (tmp_path / "said").read_text().count("ready") == 2)
            supervised.send_signal(signal.SIGINT)
            eventually(lambda: str(int(signal.SIGTERM)) in (tmp_path / "said").read_text().split())
            interrupted = time.monotonic()
            supervised.send_signal(signal.SIGINT)
            assert supervised.wait(LONG) == 0
            assert time.monotonic() - interrupted < LONG / 2
        finally:
            supervised.kill()


def test_signals_are_handled_only_during_the_run() -> None:
    """Before and after the run, signals have their previous handlers."""
    before = signal.getsignal(signal.SIGTERM)
    signals = supervisor.Signals()
    with signals.handled():
        assert not signals.stop_requested.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop_requested.wait(30)
        assert not signals.is_repeated
    assert signal.getsignal(signal.SIGTERM) == before
    assert threading.current_thread() is threading.main_thread()


INTERRUPTED = """
import sys
from workermon.local import supervisor
signals = supervisor.Signals()
with signals.handled():
    try:
        with signals.interrupting():
            exec("import os, signal\\nos.kill(os.getpid(), signal.SIGINT)\\nwhile True: pass")
    except KeyboardInterrupt:
        print("stopped", flush=True)
sys.exit(0)
"""


def test_ctrl_c_while_modules_are_being_made_ends_well(tmp_path: Path) -> None:
    """An interruption that CPython reports from within a dataclass's generated code does not crash the process."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    completed = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (completed.stdout, completed.returncode) == ("stopped\n", 0)
