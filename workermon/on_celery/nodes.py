"""Celery's worker nodes, as its remote control sees them."""

from __future__ import annotations

from typing import Any

from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from workermon import errors
from workermon.on_celery import broker


class CeleryNodes:
    """``ports.Nodes`` by a ping to every node."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def ping(self, timeout: float = 1.0) -> list[str]:
        """Return the names of those that answer within ``timeout`` seconds."""
        try:
            answers = self._app.control.ping(timeout=timeout)
        except (CeleryError, KombuError, OSError) as why:
            raise errors.RedisUnavailable(
                "broker", f"it cannot be asked ({type(why).__name__})", "check that it runs and accepts the password"
            ) from None
        # Two nodes of one name are two.
        return sorted(name for answer in answers or () for name in answer)

    def queues(self) -> dict[str, int]:
        """Return how many messages wait in each queue of ours, and how many nodes have in their hands."""
        connection = self._app.connection_for_read()
        gone = (*connection.connection_errors, *connection.channel_errors, CeleryError, KombuError, OSError)
        try:
            with connection, connection.channel() as channel:
                waiting = {queue: int(channel._size(queue)) for queue in sorted(broker.QUEUES)}
                return {**waiting, "unacked": int(channel.client.hlen(channel.unacked_key))}
        except gone as why:
            raise errors.RedisUnavailable(
                "broker", f"it cannot be asked ({type(why).__name__})", "check that it runs and accepts the password"
            ) from None
