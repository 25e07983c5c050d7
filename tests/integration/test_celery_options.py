"""Options of Celery's commands work as its manual says, or are refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_house import House, opened
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

#: Seconds. Celery's and boto3's imports on a busy machine of two cores.
READY = 60


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """An installation of its own."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


def test_a_log_file_gets_the_logs(house: House, tmp_path: Path) -> None:
    """With --logfile both the node's and the listener's events are in the file, as JSON, and not on standard error."""
    file = tmp_path / "node.log"
    node = house.celery("worker", "--logfile", str(file), "-P", "prefork", "-c", "1")
    lines = eventually(lambda: [line for line in file.read_text().splitlines() if "listener" in line], within=READY)
    assert json.loads(lines[0])["event"].startswith("listener.")
    assert '"event"' not in node.output
    node.stop()


def test_the_placeholders_of_a_log_file_are_filled(house: House, tmp_path: Path) -> None:
    """%n is the node's name, as in Celery's manual."""
    house.celery("worker", "--logfile", str(tmp_path / "%n.log"), "-n", "one@here")
    eventually(lambda: (tmp_path / "one.log").read_text(), within=READY)


def test_a_log_file_that_cannot_be_written_is_refused(house: House, tmp_path: Path) -> None:
    """The node exits with one line and exit code 2, instead of running without logs."""
    completed = house.run("celery", "-A", "workermon", "beat", "--logfile", str(tmp_path / "missing" / "beat.log"))
    assert completed.returncode == 2
    assert [line for line in completed.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: log file {tmp_path / 'missing' / 'beat.log'}: No such file or directory; name one that can be written"
    ]


def test_a_detached_node_logs_to_its_file(house: House, tmp_path: Path) -> None:
    """'--detach' with --logfile and --pidfile, as 'celery multi' starts nodes, loses no log."""
    log, pid = tmp_path / "detached.log", tmp_path / "detached.pid"
    completed = house.run(
        "celery", "-A", "workermon", "worker", "--detach", "--logfile", str(log), "--pidfile", str(pid)
    )
    assert completed.returncode == 0, completed.stderr
    number = int(eventually(lambda: pid.read_text(), within=READY))
    try:
        assert eventually(lambda: "listener" in log.read_text(), within=READY)
    finally:
        os.kill(number, 15)
    eventually(lambda: not Path(f"/proc/{number}").exists(), within=READY)


def test_a_foreign_configuration_is_refused(house: House) -> None:
    """--config would be ignored, so it is refused with a line that says what to do."""
    completed = house.run("celery", "-A", "workermon", "--config", "other", "report")
    assert completed.returncode == 2
    assert completed.stderr.splitlines()[-1].startswith("error: --config: workermon has its own Celery configuration; ")


@pytest.mark.parametrize("variable", ["BROKER_URL", "CELERY_BROKER_URL"])
def test_a_stray_variable_of_another_application_does_not_win(house: House, variable: str) -> None:
    """A BROKER_URL of another application does not send workermon's messages to that broker."""
    house.env[variable] = "redis://127.0.0.1:1/9"
    program = "from workermon.on_celery.app import app; import sys; app.start(['report'])"
    completed = subprocess.run(
        [sys.executable, "-c", program], env=house.env, cwd=house.folder, capture_output=True, text=True, timeout=60
    )
    assert "127.0.0.1:1/9" not in completed.stdout
    node = house.celery("worker", "-n", "stray@here")
    eventually(lambda: "listener" in node.output, within=READY)
    assert "127.0.0.1:1/9" not in node.output


def test_autoscaling_and_levels_are_celerys(house: House) -> None:
    """-P prefork --autoscale and -l debug work as the manual has them."""
    node = house.celery("worker", "-P", "prefork", "--autoscale", "3,1", "-l", "debug", "-n", "scaled@here")
    eventually(lambda: "{min=1, max=3}" in node.output, within=READY)
    eventually(lambda: '"level": "debug"' in node.output, within=READY)
