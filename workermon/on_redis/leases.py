"""Leases: only one process at a time may hold each."""

from __future__ import annotations

import redis

from workermon import lua
from workermon.on_redis import client, keys


class HoldLease(lua.Script[int], shared="leases"):
    """Take or extend a lease. Return 1 if ``owner`` holds it now, 0 if another owner does."""

    lease: lua.Key
    owner: lua.Argument
    milliseconds: lua.Argument


class ReleaseLease(lua.Script[int]):
    """Release a lease. Change nothing if ``owner`` no longer holds it."""

    lease: lua.Key
    owner: lua.Argument


def milliseconds(seconds: float) -> int:
    """Return for how long a lease is taken."""
    return max(1, int(seconds * 1000))


class RedisLeases:
    """``ports.Leases`` on Redis, by Redis' own time."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, or extend it if the owner holds it already."""
        holding = HoldLease(lease=keys.lease(name), owner=owner, milliseconds=milliseconds(seconds))
        return bool(client.run(self._client, holding))

    def release(self, name: str, owner: str) -> None:
        """Release it, if the owner still holds it."""
        client.run(self._client, ReleaseLease(lease=keys.lease(name), owner=owner))
