"""The watchdog ends a process whose work hangs, and no other."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests.support.waiting import eventually
from workermon.on_celery.watchdog import Watchdog


def test_what_hangs_is_ended() -> None:
    """Work beyond the limit ends the process, although it never returns."""
    watchdog_ended, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        with Watchdog(0.06, watchdog_ended.set).watching("a test"):
            let_go.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    eventually(watchdog_ended.is_set, description="the watchdog's end")
    let_go.set()
    thread.join()


def test_only_work_that_lasts_too_long_hangs() -> None:
    """Work within the limit does not hang, nor does the pause between two pieces of work, however long."""
    now = [0.0]
    watchdog = Watchdog(60, lambda: pytest.fail("it must not end"), lambda: now[0])
    with watchdog.watching("a test"):
        now[0] += 60
        assert not watchdog.hangs()
    now[0] += 100_000
    assert not watchdog.hangs()
    with watchdog.watching("a test"):
        assert not watchdog.hangs()
        now[0] += 61
        assert watchdog.hangs()


@pytest.mark.integration
def test_a_beat_that_hangs_leaves() -> None:
    """A process whose tick never returns exits with the code of a lost Redis."""
    program = (
        "import os, threading\n"
        "from workermon.on_celery.watchdog import Watchdog\n"
        "with Watchdog(0.3, lambda: os._exit(4)).watching('a tick'):\n"
        "    threading.Event().wait()\n"
    )
    completed = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert completed.returncode == 4
    assert "watchdog.ended" in completed.stdout + completed.stderr
