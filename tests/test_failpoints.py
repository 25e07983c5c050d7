"""Crash points: off unless a test names one, and then exact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workermon import failpoints

PROGRAM = """
from workermon import failpoints, runtime
for _ in range(3):
    failpoints.reach("a")
    print("on", flush=True)
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("point", "lines", "code"),
    [("", 3, 0), ("b", 3, 0), ("a", 0, failpoints.EXIT), ("a:3", 2, failpoints.EXIT), ("a:4", 3, 0)],
)
def test_a_process_exits_at_the_named_point(point: str, lines: int, code: int) -> None:
    """The variable names a crash point and a count. Unset or empty, nothing happens."""
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "WORKERMON_FAILPOINT": point},
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (completed.stdout.count("on"), completed.returncode) == (lines, code), completed.stderr
