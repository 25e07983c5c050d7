"""The demo: its environment, its config file, its script of incidents."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from tests.support.present import present
from workermon import config, settings, testing
from workermon.local import demo, simulation, up

NOW = 1_764_000_000


# --- what it is made of


@pytest.fixture
def fleet() -> simulation.Simulation:
    """The demo's fleet, its incidents begun at ``NOW``."""
    demo_fleet = simulation.Simulation(testing.ManualClock(NOW), 25, period=demo.PERIOD, history=demo.HISTORY)
    demo_fleet.begin()
    return demo_fleet


def test_its_config_file_is_one_that_apply_takes(fleet: simulation.Simulation) -> None:
    """The config file is valid. It has 25 workers at the demo's interval, and a period for each collected metric."""
    file = testing.parse(demo.configuration(fleet), "demo.toml")
    workers = present(file.workers)
    assert len(workers) == 25
    assert {worker.interval for worker in workers} == {demo.PERIOD}
    configuration = config.to_configuration(file, config.DEFAULT)
    assert {configuration.metrics[name].period for name in configuration.collect} == {demo.PERIOD}


def test_nothing_of_the_users_environment_is_in_force(tmp_path: Path) -> None:
    """The demo has none of the user's AWS credentials, settings or proxies. It has the user's PATH."""
    outer = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL_EC2": "https://example.com",
        "CELERY_BROKER_URL": "redis://elsewhere",
        "WORKERMON_CONFIG": "mine.toml",
        "WORKERMON_HEARTBEAT_URL": "https://example.com",
        "NO_PROXY": "example.com",
    }
    env = demo.environment(outer, tmp_path, "redis://here", "http://127.0.0.1:1")
    assert "real" not in env.values()
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_EC2", "CELERY_BROKER_URL"} & set(env)
    assert env["WORKERMON_HEARTBEAT_URL"] == ""
    assert env["PATH"] == "/bin"
    assert env["NO_PROXY"] == "example.com,127.0.0.1"
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "WORKERMON_CONFIG"):
        assert Path(env[name]).parent == tmp_path


def test_every_setting_is_said(tmp_path: Path) -> None:
    """The demo sets every setting, so that a ``.env`` file changes none."""

    env = demo.environment({}, tmp_path, "redis://here", "http://127.0.0.1:1")
    assert {f"WORKERMON_{name.upper()}" for name in settings.Settings.model_fields} <= set(env)


def test_the_environment_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the demo the environment is restored."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    before = dict(os.environ)
    with demo._in_force({"A": "1"}):
        assert dict(os.environ) == {"A": "1"}
    assert dict(os.environ) == before


def at_second(fleet: simulation.Simulation, second: float) -> None:
    """Set the fleet's clock to so many seconds since the beginning."""
    assert isinstance(fleet.now, testing.ManualClock)
    fleet.now.now = NOW + second


def breaches(fleet: simulation.Simulation, name: str, above: float, seconds: float) -> list[tuple[str, int, int]]:
    """Return (worker, first, last) of each run of values above a threshold, in seconds since the beginning."""
    at_second(fleet, seconds)
    stretches = []
    for stream in fleet.streams.values():
        if stream.name == name and stream.shape not in ("full", "tmpfs"):
            points = fleet.points(stream, NOW - demo.HISTORY, fleet.now())
            times = [at - NOW for at, value in points if value > above]
            if times:
                stretches.append((stream.machine.name, times[0], times[-1]))
    return stretches


def test_the_script_fires_early_and_resolves_in_time(fleet: simulation.Simulation) -> None:
    """The first incident begins within one period, lasts long enough for 3 of 3, and ends before 20 s."""
    ((worker, first, last),) = breaches(fleet, "CPUUtilization", 90, 40)
    assert worker == "render-07"
    assert first == demo.PERIOD
    assert last - first >= 3 * demo.PERIOD
    assert last < 20


def test_without_an_incident_nothing_is_above_a_threshold(fleet: simulation.Simulation) -> None:
    """Without an incident no value is beyond a default rule's threshold."""
    assert [name for name, _, _ in breaches(fleet, "CPUUtilization", 80, 38)] == ["render-07"]
    assert [name for name, _, _ in breaches(fleet, "mem_used_percent", 80, 50)] == ["render-03"]
    assert breaches(fleet, "disk_used_percent", 90, 50) == []


def test_a_status_check_fails_for_a_while(fleet: simulation.Simulation) -> None:
    """One worker's instance check is impaired between 16 and 32 s, and ok before and after."""
    machine = next(machine for machine in fleet.machines.values() if machine.name == "render-13")
    statuses = []
    for second in range(0, 60, 2):
        at_second(fleet, second)
        if fleet.status(machine)["instance"].status == "impaired":
            statuses.append(second)
    assert statuses == list(range(16, 32, 2))


def test_incidents_go_on_after_the_script(fleet: simulation.Simulation) -> None:
    """After the script random incidents follow."""
    later = [name for name, _, last in breaches(fleet, "CPUUtilization", 80, 900) if last > 300]
    assert len(later) >= 3


def test_a_fleet_of_one_has_all_the_incidents() -> None:
    """With one worker all incidents happen to that one."""
    alone = simulation.Simulation(testing.ManualClock(NOW), 1, period=demo.PERIOD)
    alone.begin()
    assert breaches(alone, "CPUUtilization", 90, 40)


def test_a_demo_that_was_killed_leaves_its_folder_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of dead processes are removed. Folders in use, links, and folders without an owner stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive, unowned = (tmp_path / f"workermon-demo-{name}" for name in ("dead", "alive", "unowned"))
    for folder in (dead, alive, unowned):
        (folder / "redis").mkdir(parents=True)
    for folder in (dead, alive):
        (folder / demo.OWNER).touch()
    (tmp_path / "workermon-demo-link").symlink_to(alive)
    with (alive / demo.OWNER).open() as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        with demo._folder() as mine:
            with demo._folder():
                assert mine.is_dir()
            assert {path.name for path in tmp_path.iterdir()} == {
                "workermon-demo-alive", "workermon-demo-unowned", "workermon-demo-link", mine.name,
            }  # fmt: skip
        assert not mine.exists()


def test_celerys_words_to_root_are_not_in_the_log() -> None:
    """Each child ignores Celery's warning to root, because workermon's messages are JSON. The user's filters stay."""
    for filters, first in ((None, "ignore:"), ("error::ValueError", "error::ValueError,ignore:")):
        env = {} if filters is None else {"PYTHONWARNINGS": filters}
        children = up.children(env, concurrency=1)
        assert [child.env["PYTHONWARNINGS"].startswith(first) for child in children] == [True] * 3
