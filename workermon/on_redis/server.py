"""What the server says of itself."""

from __future__ import annotations

from typing import Any

import redis

from workermon.on_redis import client


class RedisServer:
    """``ports.Server`` on Redis; what a hosted server keeps to itself is left out."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def settings(self) -> dict[str, str]:
        """Return its INFO; that is allowed where CONFIG is not."""
        with client.guard(self._client):
            found: Any = self._client.info()
        return {str(name): str(value) for name, value in found.items() if not isinstance(value, dict)}

    def time(self) -> float:
        """Return its clock."""
        with client.guard(self._client):
            seconds, micros = self._client.time()
        return float(seconds) + float(micros) / 1e6
