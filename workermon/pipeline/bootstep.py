"""The step of a Celery node that runs the listener beside its tasks."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

from celery import bootsteps
from celery.concurrency import prefork
from dishka import Container
from dishka.integrations.celery import CONTAINER_NAME

from workermon import logs
from workermon.pipeline import leadership, process, stopping

log = logs.get(__name__)


class ListenerStep(bootsteps.StartStopStep):
    """Runs a listener in a thread or, beside forks, in a process of its own."""

    #: After Beat too: with ``-B`` it forks, and its copy of a lock that the listener's thread holds is never released.
    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool", "celery.worker.components:Beat")

    def __init__(self, node: Any, **options: Any) -> None:
        super().__init__(node, **options)
        self._stop = stopping.Stop()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def include_if(self, node: Any) -> bool:
        """Exclude it from nodes that only collect: they may be many, and busy."""
        return set(node.app.amqp.queues.consume_from) != {"workermon.collect"}

    def start(self, node: Any) -> None:
        """Start it once the pool is ready."""
        self._stop.clear()
        if isinstance(node.pool, prefork.TaskPool):
            self._process = process.start()
            node.timer.call_repeatedly(leadership.CLAIMED_EVERY, self._revive)
        else:
            container: Container = node.app.conf[CONTAINER_NAME]
            self._thread = threading.Thread(
                target=process.run, args=(container, self._stop), name="listener", daemon=True
            )
            self._thread.start()

    def stop(self, node: Any) -> None:  # noqa: ARG002  (Celery's signature)
        """Stop it, and release the lead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(process.MAX_SHUTDOWN)
            self._thread = None
        if self._process is not None:
            process.end(self._process)
            self._process = None

    terminate = stop

    def _revive(self) -> None:
        if self._process is not None and self._process.poll() is not None and not self._stop.is_set():
            log.warning("listener.restarted", exit=self._process.returncode)
            process.end(self._process)
            self._process = process.start()
