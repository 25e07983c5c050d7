"""A whole monitor in one process: ``python monitor.py``.

It runs Celery's own tasks, injected by the composition root, the listener's relay, and the collections that the
schedule names. Only the broker is missing: messages are kept in memory, so a killed process loses them. A broker loses
less, and Celery's nodes take five seconds to start instead of one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from workermon import errors, logs, ports, runtime, settings
from workermon.on_celery.app import app
from workermon.pipeline import container, listener, stopping, tasks

log = logs.get("monitor")


class Dispatcher:
    """``ports.Bell`` within this process."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[tuple[Callable[[list[str]], None], list[str]]] = queue.SimpleQueue()

    def collect(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Have these workers collected. What is to begin later is lost, as a message may be."""
        if worker_ids and not after:
            self.tasks.put((tasks.collect, list(worker_ids)))

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Enqueue the evaluation of these workers."""
        if worker_ids:
            self.tasks.put((tasks.evaluate, list(worker_ids)))

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Have the notifications of these alerts sent."""
        if alert_ids:
            self.tasks.put((tasks.deliver, list(alert_ids)))

    def canary(self) -> None:
        """Have no canary evaluated: beat sends none here."""

    def reconcile(self) -> None:
        """Have nothing reconciled: the tests do that themselves."""

    def hear(self) -> None:
        """Run the enqueued tasks, for ever."""
        while True:
            task, identifiers = self.tasks.get()
            try:
                task(identifiers)
            except errors.WorkermonError as why:
                log.warning("monitor.failed", reason=str(why))


def main() -> None:
    """Run until it is killed."""
    app_settings = settings.load()
    logs.configure(app_settings.log_level, app_settings.log_format)
    app.set_default()
    dispatcher = Dispatcher()
    opened = runtime.open(app_settings, overrides={ports.Dispatcher: dispatcher})
    container.use(opened)
    get = opened.get
    tasks.reconcile()
    for _ in range(2):
        threading.Thread(target=dispatcher.hear, daemon=True).start()
    stop = stopping.Stop()
    threading.Thread(target=listener.Listener.of(opened).run, args=(stop,), daemon=True).start()
    while not stop.wait(0.5):
        try:
            tasks.collect(sorted(get(ports.Schedule).ids()))
        except errors.WorkermonError as why:
            log.warning("monitor.failed", reason=str(why))


if __name__ == "__main__":
    main()
