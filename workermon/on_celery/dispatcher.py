"""Sends identifiers in a Celery message that wakes the next stage. If it is lost, the listener's sweep finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from workermon import errors

#: Identifiers in one message.
BATCH: Final = 100
#: Seconds. A message that no node has taken by then is dropped, and the sweep sends it again. So a backlog stays small.
#: Long enough for two machines whose clocks differ by some seconds.
EXPIRES: Final = 30
#: Characters of a message's arguments that are shown.
MAX_SHOWN: Final = 1000


def shown(kwargs: dict[str, Any]) -> dict[str, str]:
    """Return the options of a message for what Flower and ``inspect`` show of its arguments.

    Celery looks at each identifier for that, which takes a fifth of the CPU of sending.

    >>> shown({"worker_ids": ["i-0abc1234"]})
    {'argsrepr': '()', 'kwargsrepr': "{'worker_ids': ['i-0abc1234']}"}
    """
    text = repr(kwargs)
    return {"argsrepr": "()", "kwargsrepr": text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"}


class CeleryDispatcher:
    """``ports.Dispatcher`` over the broker."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def collect(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Enqueue the collection of these workers. It begins so many seconds later."""
        self._enqueue("workermon.collect", "worker_ids", worker_ids, after)

    def list_statuses(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Enqueue listing the statuses of these workers' account and region. It begins so many seconds later."""
        self._send("workermon.list_statuses", "workermon.collect", {"worker_ids": list(worker_ids)}, after)

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Enqueue the evaluation of these workers."""
        self._enqueue("workermon.evaluate", "worker_ids", worker_ids)

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Enqueue the delivery of these alerts."""
        self._enqueue("workermon.deliver", "alert_ids", alert_ids)

    def canary(self) -> None:
        """Enqueue the evaluation of the canary that the listener received."""
        self._send("workermon.canary", "workermon.evaluate", {"stages": ["evaluate"]})

    def reconcile(self) -> None:
        """Enqueue a reconciliation."""
        self._send("workermon.reconcile", "workermon.collect", {})

    def _enqueue(self, task: str, parameter: str, identifiers: Sequence[str], after: float = 0.0) -> None:
        for start in range(0, len(identifiers), BATCH):
            self._send(task, task, {parameter: list(identifiers[start : start + BATCH])}, after)

    def _send(self, task: str, queue: str, kwargs: dict[str, Any], after: float = 0.0) -> None:
        try:
            options = {"queue": queue, "countdown": after or None, "expires": after + EXPIRES}
            self._app.send_task(task, kwargs=kwargs, **shown(kwargs), **options)
        except (CeleryError, KombuError, OSError) as error:
            raise errors.RedisUnavailable(
                "broker",
                f"it takes no messages ({type(error).__name__})",
                "check that it runs and accepts the password",
            ) from None
