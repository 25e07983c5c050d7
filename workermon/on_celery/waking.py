"""Ends a node's wait for messages when the node stops.

Kombu asks Redis for a message, and Redis answers when there is one, or after some seconds. Until then a node does not
notice that it shall end. So it asks for a key of its own too, and puts something there when it shall end.
"""

from __future__ import annotations

import _thread
import secrets
import weakref
from collections.abc import Iterable
from typing import Any, Final

from celery import signals

from workermon import logs, settings

log = logs.get(__name__)

#: Seconds after which the key is gone if nobody took it.
KEPT: Final = 60

_CHANNELS: weakref.WeakSet[Wakeable] = weakref.WeakSet()


class _Queues:
    """Kombu's queues of a channel in the order in which they are asked, and the key that wakes the channel up."""

    def __init__(self, queues: Any, wake: str) -> None:
        self._queues, self._wake = queues, wake

    def update(self, names: Iterable[str]) -> None:
        """Ask these from now on."""
        self._queues.update(names)

    def consume(self, number: int) -> list[str]:
        """Return the first of them."""
        names = list(self._queues.consume(number))
        return [*names, self._wake] if names else []

    def rotate(self, name: str) -> None:
        """Note which one had a message."""
        if name != self._wake:
            self._queues.rotate(name)


class Wakeable:
    """Can be woken up while it waits for a message; for a channel of Kombu's."""

    def __init__(self, connection: Any, *args: Any, **options: Any) -> None:
        super().__init__(connection, *args, **options)  # type: ignore[call-arg]
        self._wake = f"{settings.WAKE}{secrets.token_hex(8)}"
        self._queue_cycle: Any = _Queues(self._queue_cycle, self._wake)
        connection._callbacks[self._wake] = _ignore
        _CHANNELS.add(self)

    def wake(self) -> None:
        """End the wait from another thread, because this may be called while a signal is handled."""
        if getattr(self, "_in_poll", None):
            _thread.start_new_thread(self._push, ())

    def _push(self) -> None:
        try:
            with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:  # type: ignore[attr-defined]
                pipe.lpush(self._wake, "{}")
                pipe.expire(self._wake, KEPT)
                pipe.execute()
        except Exception as why:
            # Then the wait ends by itself.
            log.debug("channel.not_woken", reason=repr(why))

    def close(self) -> None:
        """Close it, after the wait that Kombu does not break off."""
        self.wake()
        callbacks: Any = getattr(self.connection, "_callbacks", {})  # type: ignore[attr-defined]
        super().close()  # type: ignore[misc]
        callbacks.pop(self._wake, None)


def _ignore(_: object) -> None:
    """Ignore the item that woke a channel up."""


def wake_all(**_: Any) -> None:
    """Wake every channel of this process that waits for a message."""
    for channel in list(_CHANNELS):
        channel.wake()


signals.worker_shutting_down.connect(wake_all, weak=False)
