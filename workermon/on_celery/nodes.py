"""Celery's worker nodes, seen through its remote control."""

from __future__ import annotations

import ssl
from typing import Any

from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from workermon import errors
from workermon.on_celery import broker, held_messages


class CeleryNodes:
    """``ports.Nodes`` by a ping to every node."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def ping(self, timeout: float = 1.0) -> list[str]:
        """Return the names of the nodes that answer within ``timeout`` seconds."""
        try:
            answers = self._app.control.ping(timeout=timeout)
        except self._unavailable as error:
            raise _silent(error) from None
        # Two nodes with the same name count as two.
        return sorted(name for answer in answers or () for name in answer)

    def queues(self, answering: int) -> dict[str, int]:
        """Return how many messages wait in each of our queues, and as ``unacked`` how many the nodes hold."""
        try:
            with self._app.connection_for_read() as connection:
                waiting = broker.waiting(connection)
            return waiting if "unacked" in waiting else {**waiting, "unacked": self._unacknowledged(answering)}
        except self._unavailable as error:
            raise _silent(error) from None

    def _unacknowledged(self, answering: int) -> int:
        """Ask the nodes how many messages they hold. Ends after that many answers, or after a second."""
        if not answering:
            return 0
        answers = self._app.control.broadcast(held_messages.COMMAND, reply=True, timeout=1.0, limit=answering)
        replies = [reply for answer in answers or () for reply in answer.values()]
        return sum(reply for reply in replies if isinstance(reply, int))

    @property
    def _unavailable(self) -> tuple[type[BaseException], ...]:
        """Return the exceptions of a broker that is unreachable or refuses the connection."""
        connection = self._app.connection_for_read()  # opens no connection
        return (*connection.connection_errors, *connection.channel_errors, CeleryError, KombuError, OSError)


def _silent(error: BaseException) -> errors.RedisUnavailable:
    if _is_not_trusted(error):
        todo = "name its authority by ssl_ca_certs in WORKERMON_BROKER_URL, and its host as the certificate does"
        return errors.RedisUnavailable("broker", "its certificate is not trusted", todo)
    return errors.RedisUnavailable(
        "broker", f"it cannot be asked ({type(error).__name__})", "check that it runs and accepts the password"
    )


def _is_not_trusted(error: BaseException | None) -> bool:
    """Return whether a connection failed because of the certificate; Kombu wraps the original error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
