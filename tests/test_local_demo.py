"""What the demo is made of: its environment, its config file, its script of incidents, and what it shows."""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tests.support.present import present
from workermon import config, models, settings, testing
from workermon.local import board, demo, simulation, up

NOW = 1_764_000_000


def event(number: int = 1, **fields: Any) -> models.Event:
    """Return an event of one worker, of the time ``NOW``."""
    content = {
        "id": f"i-{number:017x}:{NOW}",
        "worker_id": f"i-{number:017x}",
        "worker_name": f"render-{number:02d}",
        "region": "us-east-1",
        "collected_at": models.rfc3339(NOW),
        "status": "running",
        "status_checks": {"system": "ok", "instance": "ok"},
        "metrics": {"cpu_utilization": {"value": 41.2, "unit": "percent", "at": models.rfc3339(NOW)}},
    }
    return models.Event.model_validate(content | fields)


def notification(
    number: int = 1, status: str = "firing", severity: str = "critical", **fields: Any
) -> models.Notification:
    """Return a notification about one worker's cpu."""
    content = {
        "id": f"{number}-{status}",
        "version": 1,
        "dedup_key": f"i-{number:017x}/cpu-high",
        "kind": "threshold",
        "status": status,
        "severity": severity,
        "rule": "cpu-high",
        "metric": "cpu_utilization",
        "value": 97.5,
        "threshold": 90.0,
        "since": models.rfc3339(NOW),
        "at": models.rfc3339(NOW),
        "worker": {"id": f"i-{number:017x}", "name": f"render-{number:02d}", "region": "us-east-1"},
        "summary": f"render-{number:02d}: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints",
    }
    return models.Notification.model_validate(content | fields)


def shown(one: RenderableType, width: int = 120, height: int = 50) -> str:
    """Return what a terminal of that size shows."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)
    console.print(one, height=height)
    return screen.getvalue()


@pytest.fixture
def table() -> board.Board:
    """A board, two seconds after ``NOW``."""
    return board.Board(lambda: NOW + 2)


# --- what it shows


def test_a_worker_is_shown_with_its_load(table: board.Board) -> None:
    """A worker's row has its name, checks, load and the age of its sample."""
    table.take(event())
    (row,) = [line for line in shown(table).splitlines() if "render-01" in line]
    assert "ok/ok" in row
    assert "41.2 %" in row
    assert "2 s" in row


def test_an_open_alert_is_shown_until_it_resolves(table: board.Board) -> None:
    """A firing alert stands at its worker and in the list; resolved, only in the list."""
    table.take(event())
    table.take(notification())
    assert shown(table).count("cpu-high") == 2
    table.take(notification(status="resolved"))
    text = shown(table)
    assert text.count("cpu-high") == 2
    assert "resolved" in text
    assert "1 fired, 1 resolved" in text


def test_absent_values_are_shown_as_absent(table: board.Board) -> None:
    """What has no datapoint is a dash, never a zero."""
    table.take(event(metrics={"cpu_utilization": None}, status="stopped", status_checks=None))
    (row,) = [line for line in shown(table).splitlines() if "render-01" in line]
    assert "stopped" in row
    assert " - " in row
    assert "0.0" not in row


@pytest.mark.parametrize("width", [10, 20, 39, 40, 60, 80, 100, 200])
def test_it_fits_any_width(table: board.Board, width: int) -> None:
    """No line is wider than the terminal, however narrow that is."""
    for number in range(1, 26):
        table.take(event(number))
    table.take(notification())
    assert max(map(len, shown(table, width=width).splitlines())) <= width
    assert "ren" in shown(table, width=width)


def test_on_a_low_terminal_those_in_trouble_stay(table: board.Board) -> None:
    """Where not all rows fit, workers with an alert are among those shown, and it says how many are left out."""
    for number in range(1, 26):
        table.take(event(number))
    table.take(notification(25))
    text = shown(table, height=20)
    assert len(text.splitlines()) <= 20
    assert "render-25" in text
    assert "more, all well" in text


def test_a_line_has_time_state_rule_worker_and_reason() -> None:
    """Piped, an alert is one line: TIME firing|resolved RULE WORKER reason."""
    assert board.line(notification()) == (
        "2025-11-24T16:00:00Z firing cpu-high render-01 cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints"
    )
    stopped = notification(status="resolved", reason="the instance was stopped", summary="cpu-high is over")
    assert board.line(stopped).endswith("resolved cpu-high render-01 cpu-high is over (the instance was stopped)")


# --- what it is made of


@pytest.fixture
def fleet() -> simulation.Simulation:
    """The demo's fleet, its incidents begun at ``NOW``."""
    one = simulation.Simulation(testing.ManualClock(NOW), 25, period=demo.PERIOD, history=demo.HISTORY)
    one.begin()
    return one


def test_its_config_file_is_one_that_apply_takes(fleet: simulation.Simulation) -> None:
    """The config file holds 25 workers at the demo's interval, and a period for each metric collected."""
    found = testing.parse(demo.configuration(fleet), "demo.toml")
    workers = present(found.workers)
    assert len(workers) == 25
    assert {worker.interval for worker in workers} == {demo.PERIOD}
    made = config.to_configuration(found, config.DEFAULT)
    assert {made.metrics[name].period for name in made.collect} == {demo.PERIOD}


def test_nothing_of_the_users_environment_is_in_force(tmp_path: Path) -> None:
    """Neither AWS credentials nor settings nor proxies of the user reach the demo; the path does."""
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
    """Each setting has a value of the demo's, so that a ``.env`` file changes none."""

    env = demo.environment({}, tmp_path, "redis://here", "http://127.0.0.1:1")
    assert {f"WORKERMON_{name.upper()}" for name in settings.Settings.model_fields} <= set(env)


def test_the_environment_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the demo the environment is as it was."""
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
    found = []
    for stream in fleet.streams.values():
        if stream.name == name and stream.shape not in ("full", "tmpfs"):
            points = fleet.points(stream, NOW - demo.HISTORY, fleet.now())
            times = [at - NOW for at, value in points if value > above]
            if times:
                found.append((stream.machine.name, times[0], times[-1]))
    return found


def test_the_script_fires_early_and_resolves_in_time(fleet: simulation.Simulation) -> None:
    """The first incident begins within one period, lasts long enough for 3 of 3, and ends before 20 s."""
    ((worker, first, last),) = breaches(fleet, "CPUUtilization", 90, 40)
    assert worker == "render-07"
    assert first == demo.PERIOD
    assert last - first >= 3 * demo.PERIOD
    assert last < 20


def test_without_an_incident_nothing_is_above_a_threshold(fleet: simulation.Simulation) -> None:
    """Before the script and beside it the fleet is calm, by every default rule."""
    assert [name for name, _, _ in breaches(fleet, "CPUUtilization", 80, 38)] == ["render-07"]
    assert [name for name, _, _ in breaches(fleet, "mem_used_percent", 80, 50)] == ["render-03"]
    assert breaches(fleet, "disk_used_percent", 90, 50) == []


def test_a_status_check_fails_for_a_while(fleet: simulation.Simulation) -> None:
    """One worker's instance check is impaired between 16 and 32 s, and ok before and after."""
    machine = next(each for each in fleet.machines.values() if each.name == "render-13")
    seen = []
    for second in range(0, 60, 2):
        at_second(fleet, second)
        if fleet.status(machine) == ("ok", "impaired"):
            seen.append(second)
    assert seen == list(range(16, 32, 2))


def test_incidents_go_on_after_the_script(fleet: simulation.Simulation) -> None:
    """After the scripted ones, incidents come by chance, as long as it runs."""
    later = [name for name, _, last in breaches(fleet, "CPUUtilization", 80, 900) if last > 300]
    assert len(later) >= 3


def test_a_fleet_of_one_has_all_the_incidents() -> None:
    """With one worker the same incidents happen, to that one."""
    alone = simulation.Simulation(testing.ManualClock(NOW), 1, period=demo.PERIOD)
    alone.begin()
    assert breaches(alone, "CPUUtilization", 90, 40)


def test_a_demo_that_was_killed_leaves_its_folder_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders whose process is gone are removed; one in use, somebody's link and what nobody owned yet are not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive, unowned = (tmp_path / f"workermon-demo-{name}" for name in ("dead", "alive", "unowned"))
    for folder in (dead, alive, unowned):
        (folder / "redis").mkdir(parents=True)
    for folder in (dead, alive):
        (folder / demo.OWNER).touch()
    (tmp_path / "workermon-demo-link").symlink_to(alive)
    with (alive / demo.OWNER).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with demo._folder() as mine:
            with demo._folder():
                assert mine.is_dir()
            assert {each.name for each in tmp_path.iterdir()} == {
                "workermon-demo-alive", "workermon-demo-unowned", "workermon-demo-link", mine.name,
            }  # fmt: skip
        assert not mine.exists()


def test_celerys_words_to_root_are_not_in_the_log() -> None:
    """Each child knows that its messages are JSON; what the user says of warnings stays."""
    for said, first in ((None, "ignore:"), ("error::ValueError", "error::ValueError,ignore:")):
        env = {} if said is None else {"PYTHONWARNINGS": said}
        kept = up.children(env, concurrency=1)
        assert [child.env["PYTHONWARNINGS"].startswith(first) for child in kept] == [True] * 3
