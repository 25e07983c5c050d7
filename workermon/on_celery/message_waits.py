"""Long waits for a message, which end when the node stops.

A node asks Redis for a message, and the server holds the request open until one arrives. Each request that ends without
one wakes node and server, so they should last long. But a node that stops has to wait until its request is over. If it
dropped the connection, the server might just have put a message into it. So it asks the server to end the request
(``CLIENT UNBLOCK``): the answer is a message, or that there is none.

The server's user may not be allowed to do that, or a proxy may lead somewhere else. So requests are short at first, and
the first one that found no message is followed by one that is ended at once. Only if that works, requests get long.
"""

from __future__ import annotations

import _thread
import contextlib
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from kombu.asynchronous import get_event_loop
from kombu.transport import redis as kombu_redis

from workermon import logs

if TYPE_CHECKING:
    from kombu.transport.redis import Channel as _KombuChannel
else:
    # It is mixed into several classes of Kombu's; a checker takes it for a subclass of one of them.
    _KombuChannel = object

log = logs.get(__name__)

#: Seconds that the server holds a request open: if it can be ended, and if it cannot.
LONG: Final = 10
SHORT: Final = 2
#: Seconds in which the server has to answer a request to end another one, and in which the other one has to end.
ANSWERED_WITHIN: Final = 1.0
ENDED_WITHIN: Final = 2.0
#: Seconds between two requests to end one that the server does not know yet.
REPEATED_AFTER: Final = 0.02
_FAILURES: Final = (kombu_redis.redis.exceptions.RedisError, OSError)


class WaitingChannel(_KombuChannel):
    """Ends its request for a message when it is closed or reads no queue any more. A mixin for Kombu's channel."""

    #: The connection, by its number in the server, whose request was ended; and the one that could not do it.
    _can_end: int | None = None
    _cannot_end: int | None = None
    #: Whether the last request ended without a message.
    _found_none = False

    def _brpop_start(self, timeout: float | None = None) -> None:
        number = _number(self.client.connection)
        is_long = number is not None and number == self._can_end
        self.brpop_timeout = LONG if is_long else SHORT  # Kombu also takes it for the time until an answer is overdue
        super()._brpop_start(timeout)
        if self._found_none and not is_long and number not in (None, self._cannot_end):
            self._found_none = False
            self._try_to_end(number)

    def _brpop_read(self, **options: Any) -> Any:
        if not self._in_poll and _has_read_all(self.client.connection):
            raise Empty  # the answer was read when the last queue was cancelled
        self._found_none = False
        try:
            return super()._brpop_read(**options)
        except Empty:
            self._found_none = True
            raise

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any) -> Any:
        """Consume a queue. A request that is open does not name it, so another one follows."""
        answer = super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        self._end_request()
        return answer

    def _basic_cancel(self, consumer_tag: str) -> None:
        super()._basic_cancel(consumer_tag)
        if not self.active_queues and self._end_request():
            # A message that came just now goes back to its queue. It would wait here until all tasks are done.
            with contextlib.suppress(Empty):
                self._brpop_read()

    def close(self) -> None:
        """Close it, without waiting until the server ends the request."""
        self._end_request()
        super().close()

    def _try_to_end(self, number: int | None) -> None:
        """End the request that was just sent, and note whether it worked."""
        try:
            # Otherwise the server does not know the request yet, or has answered it. Then the next one is tried.
            if self._unblock(number):
                self._can_end = number
        except kombu_redis.redis.exceptions.ResponseError as error:
            log.debug("broker.short_waits", reason=type(error).__name__)
            self._cannot_end = number
        except _FAILURES as error:
            log.debug("broker.request_not_ended", reason=type(error).__name__)

    def _end_request(self) -> bool:
        """End the request, so that its answer can be read. If the server does not answer, drop the connection.

        Returns whether there is an answer. Does nothing if there is no request, or if it is short.
        """
        connection, deadline = self._in_poll, time.monotonic() + ENDED_WITHIN
        number = _number(connection) if connection else None
        if number is None or number != self._can_end:
            return False
        try:
            while not self._unblock(number) and not connection.can_read(timeout=REPEATED_AFTER):
                if time.monotonic() > deadline:
                    break
        except _FAILURES as error:
            log.debug("broker.request_not_ended", reason=type(error).__name__)
        try:
            is_answered = bool(connection.can_read(timeout=max(0.0, deadline - time.monotonic())))
        except _FAILURES:
            is_answered = False
        if not is_answered:
            log.warning("broker.request_dropped", reason="the server did not end it")
            connection.disconnect()
        return is_answered

    def _unblock(self, number: int | None) -> bool:
        """Ask the server to end a connection's request. Return whether it has held one open."""
        connection = self.pool.get_connection()
        try:
            connection.send_command("CLIENT", "UNBLOCK", number, check_health=False)
            if not connection.can_read(timeout=ANSWERED_WITHIN):
                raise kombu_redis.redis.exceptions.TimeoutError("no answer to CLIENT UNBLOCK")
            return bool(connection.read_response())
        except kombu_redis.redis.exceptions.ResponseError:
            raise
        except BaseException:
            connection.disconnect()  # the answer may still come
            raise
        finally:
            self.pool.release(connection)


def _has_read_all(connection: Any) -> bool:
    """Return whether a connection is alive and has received nothing. It is not opened anew."""
    try:
        return connection._sock is not None and not connection.can_read(timeout=0)
    except _FAILURES:
        return False


def _number(connection: Any) -> int | None:
    """Return a connection's number in the server, from its greeting; ``None`` if that did not tell it."""
    greeting = getattr(connection, "handshake_metadata", None)
    if not isinstance(greeting, dict):
        return None
    number = greeting.get(b"id", greeting.get("id"))
    return number if isinstance(number, int) else None


def _wake_loop(**_: object) -> None:
    """Have the node's loop look whether it has to stop. A signal alone does not end its wait.

    Called by a signal handler, which must not wait for a lock that the interrupted code holds. So another thread calls.
    """
    loop = get_event_loop()
    if loop is not None:
        _thread.start_new_thread(loop.call_soon, (_do_nothing,))


def _do_nothing() -> None:
    """Be called by a loop that is only to wake up."""


signals.worker_shutting_down.connect(_wake_loop, weak=False)
