"""Who may do what only one may do."""

from __future__ import annotations

import redis

from workermon.on_redis import client, keys

_HOLD = client.Script.load("hold_lease")

_RELEASE = client.Script.load("release_lease")


class RedisLeases:
    """``ports.Leases`` on Redis, by Redis' own time."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, or extend it where it is the owner's already."""
        return bool(_HOLD.run(self._client, [keys.lease(name)], [owner, max(1, int(seconds * 1000))]))

    def release(self, name: str, owner: str) -> None:
        """Give it back, where it is still the owner's."""
        _RELEASE.run(self._client, [keys.lease(name)], [owner])
