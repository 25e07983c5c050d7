"""Refused messages, whatever the broker: logged with the reason and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from celery.utils import dispatch

from workermon import logs

log = logs.get(__name__)

#: What parsing raises for an item that is not JSON, or is JSON but not a message. Connection errors differ.
NO_MESSAGE: Final = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, ArithmeticError)

#: Sent with ``reason`` for each refused message; the tasks count them.
refused: Any = dispatch.Signal(name="message_refused", providing_args={"reason"})


def refuse(queue: str, reason: str) -> None:
    """Log that a message was refused, and send the signal that counts it."""
    log.error("queue.refused", queue=queue, reason=reason[:200])
    refused.send(sender=queue, reason=reason)


def guarded(queue: str, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a consumer that passes a queue's messages to ``callback`` and rejects a message that it cannot process."""

    def take(message: Any) -> Any:
        try:
            return callback(message)
        except NO_MESSAGE as error:
            refuse(queue, f"{type(error).__name__}: {error}")
            if not message.acknowledged:
                message.reject(requeue=False)

    return take
