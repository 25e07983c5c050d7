"""Polls the event queues beside the listener that leads: each in a thread of its own, for a poll takes up to 20 s."""

from __future__ import annotations

import threading
from typing import Final

from workermon import collect, errors, logs, ports, runtime

log = logs.get(__name__)

#: Seconds, as they grow, before a queue that cannot be read is tried again: three tries fire the alert in a minute.
PATIENCE: Final = (1.0, 5.0, 10.0, 20.0)


class QueuePolling:
    """The threads that poll; they end when another leads, at the end of the poll that they are in."""

    def __init__(self, reading: collect.QueueReading, configurations: ports.Configurations) -> None:
        self._reading, self._configurations = reading, configurations
        self._stops: dict[str, tuple[threading.Event, threading.Thread]] = {}

    def follow(self) -> None:
        """Poll the queues that are configured, and no others."""
        wanted = self._configurations.load().event_queues
        for name in [name for name, (_, thread) in self._stops.items() if name not in wanted or not thread.is_alive()]:
            self._stops.pop(name)[0].set()
        for name in wanted:
            if name not in self._stops:
                stop = threading.Event()
                thread = threading.Thread(target=self._poll, args=(name, stop), name=f"events-{name}", daemon=True)
                self._stops[name] = stop, thread
                thread.start()

    def stop(self) -> None:
        """End them all; messages that one still receives are handled, or come again."""
        for stop, _ in self._stops.values():
            stop.set()
        self._stops.clear()

    def _poll(self, name: str, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                read = self._reading.read(name, region=runtime.default_region())
            except Exception as why:
                # Whatever it is, the next poll may go well. Most often Redis is away, or the process ends.
                if stop.is_set():
                    return
                expected = isinstance(why, errors.WorkermonError)
                log.warning("event_queue.poll_failed", queue=name, reason=str(why) or repr(why), exc_info=not expected)
                read = None
            if read is None:
                stop.wait(PATIENCE[min(failures, len(PATIENCE) - 1)])
                failures += 1
            else:
                failures = 0
