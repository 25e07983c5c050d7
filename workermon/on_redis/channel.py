"""The subscriber's side of the channel."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import redis
from redis.client import PubSub

from workermon import errors, ports
from workermon.on_redis import client

#: Seconds of silence after which the server is pinged, and how long it may take to answer: as any other command. Then
#: the connection counts as lost.
PING_AFTER = 8.0
PONG_WITHIN = client.TIMEOUT


class _BrokenSubscription(Exception):
    """A subscription is over, and messages may be lost; its text says why."""


class _Ended(Exception):
    """The subscriber has stopped."""


class _Subscription:
    """A subscription that pings the server if no message arrives.

    It reads from its connection itself: redis-py's ``get_message`` takes much of the CPU of a message, and fails if it
    may not wait and only a part of a message has arrived.
    """

    def __init__(self, pubsub: PubSub, channels: Sequence[str], until: int | None) -> None:
        pubsub.subscribe(*channels)
        self._pubsub = pubsub
        self._until = until
        self._received_at = time.monotonic()
        #: When the server was pinged, if it has sent nothing since.
        self._pinged_at: float | None = None
        #: Channels whose subscription is not confirmed yet.
        self.unconfirmed = len(channels)

    def receive(self, timeout: float) -> tuple[bytes, bytes] | None:
        """Return channel and text of the next message, ``None`` if none arrived in time, or something else did.

        Raises ``_Ended`` if ``until`` became readable meanwhile.
        """
        try:
            reply = self._read(min(timeout, PONG_WITHIN))
        except redis.ConnectionError:
            raise _BrokenSubscription("the connection broke") from None
        if reply is None:
            self._ping_if_silent()
        elif reply[0] == b"message":
            return reply[1], reply[2]
        elif reply[0] == b"subscribe":
            self.unconfirmed -= 1
            if self.unconfirmed < 0:  # redis-py has connected anew
                raise _BrokenSubscription("the connection broke")
        return None

    def _read(self, timeout: float) -> list[bytes] | None:
        connection: Any = self._pubsub.connection
        if not self._can_read(connection, timeout):
            return None
        reply = connection.read_response(disconnect_on_error=False, push_request=True)
        self._received_at, self._pinged_at = time.monotonic(), None
        return reply if isinstance(reply, list) else [b"pong"]

    def _can_read(self, connection: Any, timeout: float) -> bool:
        if self._until is None or timeout <= 0:
            return bool(connection.can_read(timeout=timeout))
        if connection.can_read(timeout=0):  # also what was received already, with the previous message
            return True
        waiting = select.poll()
        waiting.register(connection._sock, select.POLLIN)
        waiting.register(self._until, select.POLLIN)
        if any(file == self._until for file, _ in waiting.poll(math.ceil(timeout * 1000))):
            raise _Ended
        return bool(connection.can_read(timeout=0))

    def _ping_if_silent(self) -> None:
        now = time.monotonic()
        if self._pinged_at is not None:
            if now - self._pinged_at > PONG_WITHIN:
                raise _BrokenSubscription("it fell silent")
        elif now - self._received_at > PING_AFTER:
            self._pubsub.ping()
            self._pinged_at = now


class RedisFeed:
    """``ports.Feed`` on Redis pub/sub. Samples are on ``channel``."""

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client = redis_client
        self._channels = (channel, ports.alerts_channel(channel))
        self._canary = ports.canary_channel(channel)

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
        until: int | None = None,
    ) -> Generator[str | None, None, None]:
        """Yield each message as text, or ``None`` if none arrived in time. Uses a connection of its own.

        After a break redis-py would subscribe again silently. Here a break raises, because messages were lost.
        """
        channels = (*self._channels[: 1 + alerts], *((self._canary,) if canary else ()))
        apart = self._canary.encode()
        # Else redis-py makes a text of each message, for its log.
        with client.guard(self._client), self._client.pubsub(push_handler_func=lambda reply: reply) as pubsub:
            subscription = _Subscription(pubsub, channels, until)
            while True:
                try:
                    message = subscription.receive(timeout() if callable(timeout) else timeout)
                except _BrokenSubscription as error:
                    raise self._broken(str(error)) from None
                except _Ended:
                    return
                if message is None:
                    if not subscription.unconfirmed:
                        yield None
                    continue
                text = message[1].decode("utf-8", "replace")
                if canary is not None and message[0] == apart:
                    canary(text)
                else:
                    yield text

    def _broken(self, reason: str) -> errors.RedisUnavailable:
        return errors.RedisUnavailable(client.place(self._client), reason, "missed samples are read from the ledger")
