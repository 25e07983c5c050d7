"""Polls the event queues beside the active listener: each in a thread of its own, because a poll takes up to 20 s.

If a queue has more messages than one answer holds, several threads empty it.
"""

from __future__ import annotations

import threading
from typing import Final

from workermon import collect, errors, logs, models, ports, runtime

log = logs.get(__name__)

#: Seconds before an unreadable queue is tried again; they grow. Three attempts within a minute fire the alert.
PATIENCE: Final = (1.0, 5.0, 10.0, 20.0)
#: Threads that empty a queue with more messages than one answer holds. Each message costs two round trips, to receive
#: and to delete it. With one thread 200 Spot warnings at once took 4 s.
READERS: Final = 4


class QueuePolling:
    """The polling threads. When another listener leads, they end after their present poll."""

    def __init__(self, reading: collect.QueueReading, configurations: ports.Configurations) -> None:
        self._reading, self._configurations = reading, configurations
        self._stops: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._configuration: models.Configuration | None = None

    def follow(self, revision: int) -> None:
        """Poll exactly the configured queues; ``revision`` is that of the configuration in force."""
        if self._configuration is None or self._configuration.revision != revision:
            self._configuration = self._configurations.load()
        event_queues = self._configuration.event_queues
        for name in [
            name for name, (_, thread) in self._stops.items() if name not in event_queues or not thread.is_alive()
        ]:
            self._stops.pop(name)[0].set()
        for name in event_queues:
            if name not in self._stops:
                stop = threading.Event()
                thread = threading.Thread(target=self._poll, args=(name, stop), name=f"events-{name}", daemon=True)
                self._stops[name] = stop, thread
                thread.start()

    def stop(self) -> None:
        """End them all. Messages that one still receives are handled, or delivered again."""
        for stop, _ in self._stops.values():
            stop.set()
        self._stops.clear()

    def _poll(self, name: str, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            read = self._read(name, stop, collect.event_queue.WAIT)
            if read == ports.MAX_QUEUE_MESSAGES:
                self._empty(name, stop)
            if read is not None:
                failures = 0
            else:
                stop.wait(PATIENCE[min(failures, len(PATIENCE) - 1)])
                failures += 1

    def _read(self, name: str, stop: threading.Event, wait: int) -> int | None:
        try:
            return self._reading.read(name, region=runtime.default_region(), wait=wait)
        except Exception as error:
            # Whatever it is, the next poll may succeed. Usually Redis is unreachable, or the process ends.
            if not stop.is_set():
                expected = isinstance(error, errors.WorkermonError)
                log.warning(
                    "event_queue.poll_failed", queue=name, reason=str(error) or repr(error), exc_info=not expected
                )
            return None

    def _empty(self, name: str, stop: threading.Event) -> None:
        """Read with several threads until an answer is not full."""
        threads = [
            threading.Thread(target=self._read_waiting, args=(name, stop), name=f"events-{name}-{number}", daemon=True)
            for number in range(READERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _read_waiting(self, name: str, stop: threading.Event) -> None:
        read: int | None = ports.MAX_QUEUE_MESSAGES
        while read == ports.MAX_QUEUE_MESSAGES and not stop.is_set():
            read = self._read(name, stop, 0)
