"""The wheel contains workermon's configuration, and Celery's commands find it there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.celery_house import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, without network where its builder is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet", *offline, "--wheel-dir", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if built.returncode and not offline:
        pytest.skip(f"hatchling is not installed and could not be fetched: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    (wheel_file,) = folder.glob("*.whl")
    return wheel_file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into a folder of its own, beside the dependencies that are there."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def celery(installed: Path, cwd: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Celery's command with the installed package, in a folder without workermon's files."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WORKERMON_", "CELERY_"))}
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env=clean | {"PYTHONPATH": str(installed), "XDG_STATE_HOME": str(cwd)} | env, cwd=cwd,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_wheel_holds_our_configuration_and_claims_no_name_of_its_users(wheel: Path) -> None:
    """It has workermon/celeryconfig.py, nothing beside the package, and no test."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "workermon/celeryconfig.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"workermon"}


def test_the_wheel_holds_every_lua_script(wheel: Path) -> None:
    """The wheel has each Lua file of the source at the same path."""
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "workermon").rglob("*.lua")}
    assert scripts
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".lua")} == scripts


def test_scripts_run_from_the_wheel(installed: Path, tmp_path: Path, redis_url: str) -> None:
    """The installed package takes a lease and schedules a worker with its own scripts."""
    program = (
        "import workermon\n"
        "from workermon import models\n"
        "from workermon.on_celery import app, schedule\n"
        "from workermon.on_redis import client, leases\n"
        "lease = leases.RedisLeases(client.connect(__import__('os').environ['WORKERMON_REDIS_URL']))\n"
        "taken = [lease.hold('sweep', 'one', 10), lease.hold('sweep', 'two', 10)]\n"
        "worker = models.Worker(id='i-0aaaaaaa', name='a', region='us-east-1', incarnation='one', added_at=0)\n"
        "planned = schedule.RedBeatSchedule(app.app)\n"
        "planned.put([worker], 0.0)\n"
        "print(workermon.__file__, taken, planned.ids())\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WORKERMON_", "CELERY_"))}
    completed = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=clean | {"PYTHONPATH": str(installed), "WORKERMON_REDIS_URL": redis_url}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert completed.stdout.split(" ", 1) == [f"{installed}/workermon/__init__.py", "[True, False] {'i-0aaaaaaa'}\n"], (
        completed.stderr
    )


def test_celery_finds_application_and_configuration_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    """In an empty folder 'celery -A workermon' has workermon's settings."""
    completed = celery(
        installed, tmp_path, "-A", "workermon", "report", WORKERMON_REDIS_URL="redis://:hush@127.0.0.1:1/1"
    )
    assert completed.returncode == 0, completed.stderr
    assert "workermon.on_celery.scheduler:Scheduler" in completed.stdout
    assert "hush" not in completed.stdout + completed.stderr


def test_a_celeryconfig_of_our_users_stays_theirs(installed: Path, tmp_path: Path) -> None:
    """workermon's configuration changes neither by a user's celeryconfig module nor by Celery's own variable."""
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'redis://theirs:7/7'\nraise SystemExit('not yours')\n")
    completed = celery(
        installed, tmp_path, "-A", "workermon", "report",
        WORKERMON_REDIS_URL="redis://127.0.0.1:1/1", CELERY_CONFIG_MODULE="celeryconfig",
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert "theirs" not in completed.stdout
    assert "@127.0.0.1:1/0" in completed.stdout


def test_a_node_starts_from_the_wheel(installed: Path, tmp_path: Path, redis_url: str) -> None:
    """A node with its listener starts and lists the contract's tasks."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WORKERMON_", "CELERY_"))}
    node = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "workermon", "worker"],
        env=clean | {"PYTHONPATH": str(installed), "WORKERMON_REDIS_URL": redis_url}, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(20):
            completed = celery(
                installed, tmp_path, "-A", "workermon", "inspect", "registered", WORKERMON_REDIS_URL=redis_url
            )
            if completed.returncode == 0:
                break
        assert "workermon.collect" in completed.stdout, completed.stderr
    finally:
        node.terminate()
        assert node.wait(60) == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("celerybeat")]
