"""The listener as a process that ends with its parent: ``python -m workermon.pipeline.process``.

A forking node runs it this way, because a fork copies locks held by threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Final

from dishka import Container

from workermon import errors, logs, runtime, settings
from workermon.pipeline import listener, stopping

log = logs.get(__name__)

#: Seconds between two checks of the parent.
CHECK_INTERVAL: Final = 0.5
#: Seconds in which the process has to end by itself.
MAX_SHUTDOWN: Final = 2.0


def start() -> subprocess.Popen[bytes]:
    """Start it as a child of this process."""
    return subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE)  # noqa: S603  (our own module)


def end(process: subprocess.Popen[bytes]) -> None:
    """End it, by force if it does not end in time."""
    if process.stdin is not None:
        process.stdin.close()  # the end of its input tells it to stop
    try:
        process.wait(MAX_SHUTDOWN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(container: Container, stop: stopping.Stop) -> None:
    """Run a listener until ``stop``. If it cannot be created yet, try again.

    A listener that gave up is replaced by one with a container, and so with clients, of its own.
    """
    fresh: Container | None = None
    while not stop.is_set():
        try:
            listener.Listener.of(fresh or container).run(stop)
        except Exception as error:
            # Something could not be created yet, such as a connection.
            log.error("listener.failed", reason=str(error) or repr(error))
            stop.wait(listener.PATIENCE[-1])
        if fresh is not None:
            fresh.close()
        fresh = None if stop.is_set() else runtime.open()


def main() -> None:
    """Run it until its parent ends or closes its standard input."""
    app_settings = settings.load()
    logs.configure(app_settings.log_level, app_settings.log_format, app_settings.log_file)
    stop = stopping.Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_watch, args=(os.getppid(), stop), name="parent", daemon=True).start()
    container = runtime.open(app_settings)
    try:
        listener.Listener.of(container).run(stop)
    except errors.WorkermonError as error:
        log.error("listener.failed", reason=str(error))
    finally:
        container.close()
    if not stop.is_set():
        sys.exit(errors.RedisUnavailable.exit_code)  # the node restarts it


def _watch(parent: int, stop: threading.Event) -> None:
    # The pipe's other end may live on in a forked child, so the parent itself is watched too.
    closed = threading.Event()

    def read() -> None:
        sys.stdin.buffer.read()
        closed.set()

    threading.Thread(target=read, name="input", daemon=True).start()
    while not closed.wait(CHECK_INTERVAL) and os.getppid() == parent:
        pass
    stop.set()


if __name__ == "__main__":
    main()
