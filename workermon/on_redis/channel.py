"""The subscriber's side of the channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import redis
from redis.client import PubSub

from workermon import errors
from workermon.on_redis import client

#: Seconds of silence after which the server is pinged. After twice as long the connection counts as lost.
SILENCE = 5.0


class _Watched:
    """A subscription that pings the server if no message arrives."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._received_at = self._requested_at = time.monotonic()
        self.is_silent = False

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Return the next message, ``None`` if none arrived in time."""
        message: dict[str, Any] | None = self._pubsub.get_message(timeout=min(timeout, SILENCE))
        now = time.monotonic()
        if message is not None:
            self._received_at = now
        elif now - self._received_at > 2 * SILENCE:
            self.is_silent = True
        elif now - max(self._received_at, self._requested_at) > SILENCE:
            self._pubsub.ping()
            self._requested_at = now
        return message


class RedisFeed:
    """``ports.Feed`` on Redis pub/sub.

    Samples are on ``channel``, alerts on ``<channel>:alerts``, canaries on ``<channel>:canary``.
    """

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client = redis_client
        self._channels = (channel, f"{channel}:alerts")
        self._canary = f"{channel}:canary"

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
    ) -> Generator[str | None, None, None]:
        """Yield each message as text, or ``None`` if none arrived in time. Uses a connection of its own.

        After a break redis-py would subscribe again silently. Here a break raises, because messages were lost.
        """
        channels = (*self._channels[: 1 + alerts], *((self._canary,) if canary else ()))
        apart = self._canary.encode()
        with client.guard(self._client), self._client.pubsub() as pubsub:
            pubsub.subscribe(*channels)
            awaited = len(channels)
            watched = _Watched(pubsub)
            while True:
                message = watched.receive(timeout() if callable(timeout) else timeout)
                if watched.is_silent:
                    raise self._broken("it fell silent")
                if message is None:
                    if not awaited:
                        yield None
                elif message["type"] == "subscribe":
                    awaited -= 1
                    if awaited < 0:
                        raise self._broken("the connection broke")
                    if awaited == 0:
                        yield None
                elif message["type"] == "message":
                    text = message["data"].decode("utf-8", "replace")
                    if canary is not None and message["channel"] == apart:
                        canary(text)
                    else:
                        yield text

    def _broken(self, reason: str) -> errors.RedisUnavailable:
        return errors.RedisUnavailable(client.place(self._client), reason, "missed samples are read from the ledger")
