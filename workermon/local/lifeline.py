"""Ties a child to its parent, so that not even ``kill -9`` of the parent leaves an orphan.

``bind`` puts this file, run as a program by a bare Python, in front of a command. It ties itself to the parent and then
becomes the command. Linux has a system call for that (``PR_SET_PDEATHSIG``), bound to the thread that started the
child. On other systems, and for children of short-lived threads, a small process watches. Both use SIGKILL, which
cannot be refused.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

#: ``<sys/prctl.h>``.
_PR_SET_PDEATHSIG = 1
#: Seconds between two checks of the watching process.
_CHECK_INTERVAL = 0.5


def bind(command: Sequence[str]) -> list[str]:
    """Return the command that runs ``command`` (its first word a path) and ends with this process."""
    tie = "request" if sys.platform == "linux" and threading.current_thread() is threading.main_thread() else "watch"
    # -I -S: imports nothing from the user's environment, and starts within a few milliseconds.
    return [sys.executable, "-I", "-S", __file__, tie, str(os.getpid()), *command]


def alive(pid: int) -> bool:
    """Return whether a process with that id exists, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _request(parent: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the tie took effect
        os._exit(1)


def _watch(parent: int) -> None:
    child = os.getpid()
    if os.fork():
        return
    # The watcher: it keeps no file open that somebody waits to see closed, and ends when the child ends.
    os.closerange(0, 256)
    while os.getppid() == child:
        if not alive(parent):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(_CHECK_INTERVAL)
    os._exit(0)


def _main(tie: str, parent: str, *command: str) -> None:
    (_request if tie == "request" else _watch)(int(parent))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the command would inherit that
    os.execv(command[0], command)  # noqa: S606 - a list, no shell


if __name__ == "__main__":
    _main(*sys.argv[1:])
