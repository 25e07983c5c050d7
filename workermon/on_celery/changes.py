"""Waits for changes of the schedule, so that beat can sleep until an entry is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from redbeat import schedulers

from workermon import logs, settings

log = logs.get(__name__)

#: Seconds until it subscribes again after a failure or a broken connection.
SUBSCRIBED_AGAIN_AFTER: Final = 30.0


class ScheduleChanges:
    """A subscription, on a connection of its own, to new entries in the schedule.

    Messages may get lost, so callers must not wait for long. ``client`` returns a redis-py client.
    """

    def __init__(self, client: Callable[[], Any], steady: Callable[[], float] = time.monotonic) -> None:
        self._client, self._steady = client, steady
        self._connection: Any = None
        self._again_at = float("-inf")

    def wait(self, seconds: float) -> bool:
        """Wait for a change, up to so many seconds. Return ``False`` at once if the subscription does not work."""
        try:
            if self._connection is None and not self._subscribe():
                return False
            if self._connection.can_read(timeout=seconds):
                self._read()
        except (schedulers.redis.exceptions.RedisError, OSError) as error:
            log.debug("beat.changes_not_received", reason=type(error).__name__)
            self.close()
            return False
        return True

    def close(self) -> None:
        """Drop the connection. Its address may lead to another server by now."""
        self._again_at = self._steady() + SUBSCRIBED_AGAIN_AFTER
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.disconnect()
            self._client().connection_pool.release(connection)

    def _subscribe(self) -> bool:
        if self._steady() < self._again_at:
            return False
        self._connection = self._client().connection_pool.get_connection()
        # The tick after the answer finds what changed before it.
        self._connection.send_command("SUBSCRIBE", settings.SCHEDULE_CHANGED)
        return True

    def _read(self) -> None:
        """Read all messages. Their content does not matter."""
        while self._connection.can_read(timeout=0):
            self._connection.read_response(push_request=True)
