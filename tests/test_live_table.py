"""The live table of ``watch`` and ``demo``: its content at any size, and its use on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console, RenderableType

from workermon import models
from workermon.cli import live_table

NOW = 1_764_000_000
ROOT = Path(__file__).parents[1]


def event(number: int = 1, **fields: Any) -> models.Event:
    """Return an event of one worker at ``NOW``."""
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
        "summary": f"render-{number:02d}: it is hot",
    }
    return models.Notification.model_validate(content | fields)


def rendered(renderable: RenderableType, width: int = 120, height: int = 50) -> str:
    """Return the output on a terminal of that size."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)
    console.print(renderable, height=height)
    return screen.getvalue()


@pytest.fixture
def table() -> live_table.Board:
    """A board, two seconds after ``NOW``."""
    return live_table.Board(lambda: NOW + 2, title="workermon watch")


# --- what it shows


def test_a_worker_is_shown_with_its_load(table: live_table.Board) -> None:
    """A worker's row has its name, checks, load and the age of its sample."""
    table.take(event())
    (row,) = [line for line in rendered(table, width=140).splitlines() if "render-01" in line]
    assert "ok/ok" in row
    assert "41.2 %" in row
    assert " 2s" in row


def test_an_open_alert_is_shown_until_it_resolves(table: live_table.Board) -> None:
    """A firing alert is shown at its worker and in the list. A resolved one is in the list only."""
    table.take(event())
    table.take(notification())
    assert rendered(table).count("cpu-high") == 2
    table.take(notification(status="resolved"))
    text = rendered(table)
    assert text.count("cpu-high") == 1
    assert "resolved" in text
    assert "1 fired, 1 resolved" in text


def test_absent_values_are_shown_as_absent(table: live_table.Board) -> None:
    """An absent value is a dash, never zero."""
    table.take(event(metrics={"cpu_utilization": None}, status="stopped", status_checks=None))
    (row,) = [line for line in rendered(table).splitlines() if "render-01" in line]
    assert "stopped" in row
    assert " - " in row
    assert "0.0" not in row


@pytest.mark.parametrize("width", [10, 20, 39, 40, 60, 80, 100, 200])
def test_it_fits_any_width(table: live_table.Board, width: int) -> None:
    """No line is wider than the terminal, however narrow it is."""
    for number in range(1, 26):
        table.take(event(number))
    table.take(notification())
    assert max(map(len, rendered(table, width=width).splitlines())) <= width
    assert "ren" in rendered(table, width=width)


def test_on_a_low_terminal_workers_with_alerts_stay(table: live_table.Board) -> None:
    """If not all rows fit, workers with an alert are shown, with the number of hidden ones."""
    for number in range(1, 26):
        table.take(event(number))
    table.take(notification(25))
    text = rendered(table, height=20)
    assert len(text.splitlines()) <= 20
    assert "render-25" in text
    assert "more, all well" in text


def test_a_line_has_time_state_rule_worker_and_reason() -> None:
    """In a pipe an alert is one line: TIME firing|resolved RULE WORKER reason."""
    assert live_table.line(notification()) == ("2025-11-24T16:00:00Z firing cpu-high render-01 it is hot")
    stopped = notification(status="resolved", reason="the instance was stopped", summary="cpu-high is over")
    assert live_table.line(stopped).endswith("resolved cpu-high render-01 cpu-high is over (the instance was stopped)")


def test_alerts_are_on_top_the_worst_first(table: live_table.Board) -> None:
    """A critical alert is above a newer warning, and both are above every worker."""
    table.take(event())
    table.take(notification(1))
    table.take(notification(2, severity="warning", at=models.rfc3339(NOW + 1)))
    lines = rendered(table, width=80).splitlines()
    [critical] = [place for place, line in enumerate(lines) if line.startswith("critical")]
    [warning] = [place for place, line in enumerate(lines) if line.startswith("warning")]
    [worker] = [place for place, line in enumerate(lines) if f"i-{1:017x}" in line]
    assert critical < warning < worker


def test_on_80_columns_ids_are_whole_and_values_have_unit_and_age(table: live_table.Board) -> None:
    """On 80 columns ids are complete, and values have unit and age."""
    reading = {"value": 100.0, "unit": "percent", "at": models.rfc3339(NOW - 598)}
    metrics = dict.fromkeys(("cpu_utilization", "memory_utilization", "disk_utilization"), reading)
    for number in range(1, 4):
        table.take(event(number, metrics=metrics))
    text = rendered(table, width=80)
    for number in range(1, 4):
        (row,) = [line for line in text.splitlines() if f"i-{number:017x}" in line]
        assert f"render-{number:02d}" in row
        assert re.findall(r"100\.0 % +10m", row) == ["100.0 % 10m"] * 3


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70])
def test_an_id_is_whole_or_not_there(table: live_table.Board, width: int) -> None:
    """On a narrow terminal other columns are left out before an id is cut."""
    table.take(event())
    text = rendered(table, width=width)
    assert f"i-{1:017x}" in text or "i-0" not in text


def test_an_impaired_worker_is_seen_without_colours(table: live_table.Board) -> None:
    """A failed status check and a severity are shown by words and marks, not by colours alone."""
    table.take(event(status_checks={"system": "ok", "instance": "impaired"}))
    table.take(notification())
    (row,) = [line for line in rendered(table, width=80).splitlines() if f"i-{1:017x}" in line]
    assert row.startswith("!! ")
    assert " impaired " in row


# --- on a terminal -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal(redis_url: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command on a terminal of 100 columns. Give the process, and the end that reads its output."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("WORKERMON_")}
    env |= {"WORKERMON_REDIS_URL": redis_url, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "workermon", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def read_until(reader: int, awaited: str, publish: Callable[[], object] = lambda: None, within: float = 40.0) -> str:
    """Read a terminal's output until it contains the text. ``publish`` is called repeatedly."""
    text, deadline = "", time.monotonic() + within
    while awaited not in text:
        assert time.monotonic() < deadline, f"no {awaited!r} in {text[-2000:]}"
        publish()
        if select.select([reader], [], [], 0.2)[0]:
            try:
                text += os.read(reader, 65_536).decode("utf-8", "replace")
            except OSError:  # Linux says so where a terminal's other end is closed
                raise AssertionError(f"it ended without {awaited!r}: {text[-2000:]}") from None
    return text


def test_watch_on_a_terminal_draws_the_table_until_ctrl_c(redis_client: redis.Redis, redis_url: str) -> None:
    """Published messages appear in the table. Ctrl-C ends it with exit code 0."""
    sample, alert = (message.model_dump_json(by_alias=True) for message in (event(), notification()))
    with terminal(redis_url, "watch") as (process, reader):
        # The table is drawn before the subscription stands, so what is published is published again.
        text = read_until(reader, "41.2 %", lambda: redis_client.publish("workermon:metrics", sample))
        assert "workermon watch" in text
        read_until(reader, "critical", lambda: redis_client.publish("workermon:metrics:alerts", alert))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
