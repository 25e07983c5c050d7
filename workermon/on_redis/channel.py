"""The reader's side of the channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import redis

from workermon import errors
from workermon.on_redis import client

#: Seconds of silence after which the server is asked for a sign of life, and after twice which it counts as gone.
SILENCE = 5.0


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
        """Yield each message as text, ``None`` when none came in time; on a connection of its own.

        redis-py would subscribe anew after a break and say nothing; here a break is an error, for messages were lost.
        """
        channels = self._channels if alerts else self._channels[:1]
        if canary is not None:
            channels = (*channels, self._canary)
        apart = self._canary.encode()
        with client.guard(self._client), self._client.pubsub() as pubsub:
            pubsub.subscribe(*channels)
            awaited = len(channels)
            heard = asked = time.monotonic()
            while True:
                patience = timeout() if callable(timeout) else timeout
                message = pubsub.get_message(timeout=min(patience, SILENCE))
                now = time.monotonic()
                if message is None:
                    if now - heard > 2 * SILENCE:
                        raise self._broken("it fell silent")
                    if now - max(heard, asked) > SILENCE:
                        pubsub.ping()
                        asked = now
                    if not awaited:
                        yield None
                    continue
                heard = now
                if message["type"] == "subscribe":
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

    def _broken(self, why: str) -> errors.RedisUnavailable:
        return errors.RedisUnavailable(client.place(self._client), why, "what was missed is found in the ledger")
