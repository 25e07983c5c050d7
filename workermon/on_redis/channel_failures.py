"""Which channels accept no messages, and since when."""

from __future__ import annotations

from typing import Any

import redis

from workermon import lua, ports
from workermon.on_redis import client, keys, unreadable_records


class NoteChannelFailure(lua.Script[int]):
    """Record a failed attempt to deliver to a channel."""

    failing: lua.Key
    channel: lua.Argument
    at: lua.Argument
    retried: lua.Argument
    reason: lua.Argument


class RedisChannelFailures:
    """``ports.ChannelFailures`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def note(self, channel: str, at: float, error: str, *, retried: bool) -> None:
        """Record a failed attempt."""
        noting = NoteChannelFailure(
            failing=keys.FAILING_CHANNELS, channel=channel, at=repr(at), retried=int(retried), reason=error
        )
        client.run(self._client, noting)

    def clear(self, channel: str) -> None:
        """Clear the failures of a channel."""
        with client.guard(self._client):
            self._client.hdel(keys.FAILING_CHANNELS, channel)

    def load(self) -> dict[str, ports.FailingChannel]:
        """Return the channels whose last attempt failed, by name."""
        with client.guard(self._client):
            noted: Any = self._client.hgetall(keys.FAILING_CHANNELS)
        read = {
            unreadable_records.text(name): self._failing(unreadable_records.text(name), raw)
            for name, raw in noted.items()
        }
        return {name: failing for name, failing in read.items() if failing is not None}

    def _failing(self, channel: str, raw: bytes) -> ports.FailingChannel | None:
        try:
            since, at, retried, error = unreadable_records.text(raw).split(" ", 3)
            began, tried = unreadable_records.finite(since), unreadable_records.finite(at)
            return ports.FailingChannel(since=began, at=tried, retried=retried == "1", error=error)
        except ValueError as error:
            unreadable_records.note(
                self._client, f"{keys.FAILING_CHANNELS} {channel}", unreadable_records.describe(error)
            )
            return None
