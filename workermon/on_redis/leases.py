"""Leases: the right to do what only one process may do at a time."""

from __future__ import annotations

import redis

from workermon import lua
from workermon.on_redis import client, keys


class HoldLease(lua.Script[int]):
    """Take a lease, or extend it; return 1 if ``owner`` holds it now, 0 if somebody else does."""

    lease: lua.Key
    owner: lua.Argument
    milliseconds: lua.Argument


class ReleaseLease(lua.Script[int]):
    """Give a lease back; change nothing if ``owner`` does not hold it any more."""

    lease: lua.Key
    owner: lua.Argument


class RedisLeases:
    """``ports.Leases`` on Redis, by Redis' own time."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, or extend it if the owner has it already."""
        milliseconds = max(1, int(seconds * 1000))
        holding = HoldLease(lease=keys.lease(name), owner=owner, milliseconds=milliseconds)
        return bool(client.run_directly(self._client, holding))

    def release(self, name: str, owner: str) -> None:
        """Give it back, if the owner still has it."""
        client.run(self._client, ReleaseLease(lease=keys.lease(name), owner=owner))
