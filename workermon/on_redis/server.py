"""What the server reports about itself."""

from __future__ import annotations

from typing import Any

import redis

from workermon import errors
from workermon.on_redis import client, server_errors


class RedisServer:
    """``ports.Server`` on Redis. What a hosted server does not disclose is left out."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def settings(self) -> dict[str, str]:
        """Return its INFO, which hosted servers allow more often than CONFIG; empty if it is not allowed."""
        try:
            with client.guard(self._client):
                server_info: Any = self._client.info()
        except errors.RedisUnavailable as error:
            if error.todo == server_errors.RIGHTS:
                return {}
            raise
        return {str(name): str(value) for name, value in server_info.items() if not isinstance(value, dict)}

    def time(self) -> float:
        """Return its clock."""
        with client.guard(self._client):
            seconds, micros = self._client.time()
        return float(seconds) + float(micros) / 1e6
