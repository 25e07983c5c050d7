"""Runs before every task, so that a message with anything but identifiers does no harm."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from dishka.integrations.celery import DishkaTask

from workermon import errors, logs, models, ports
from workermon.on_celery import refused_messages
from workermon.pipeline import container

log = logs.get(__name__)

#: Characters. An alert's id is a worker's id, a slash and a rule's name.
MAX_ALERT_ID_LENGTH = 600


def is_worker_id(identifier: object) -> bool:
    """Return whether that is an instance id."""
    return isinstance(identifier, str) and models.INSTANCE_ID.fullmatch(identifier) is not None


def is_evaluated(identifier: object) -> bool:
    """Return whether that is an instance id, or the id of a group of workers."""
    return is_worker_id(identifier) or (
        isinstance(identifier, str)
        and models.group_of(identifier) is not None
        and len(identifier) <= MAX_ALERT_ID_LENGTH
        and errors.printable(identifier) == identifier
    )


def is_alert_id(identifier: object) -> bool:
    """Return whether that can be an alert's id."""
    return (
        isinstance(identifier, str)
        and "/" in identifier.strip("/")
        and len(identifier) <= MAX_ALERT_ID_LENGTH
        and errors.printable(identifier) == identifier
    )


class Shell(DishkaTask):
    """What every task does first: anything that is not an identifier is counted, logged and dropped."""

    abstract = True
    # As in celeryconfig.py, for a team's application that includes these tasks with another configuration.
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    serializer = "json"
    #: Returns whether a value is an identifier of this task.
    is_valid: ClassVar[Callable[[object], bool] | None] = None
    #: Celery reports these in one line, not with a traceback.
    throws = (errors.WorkermonError,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it with the valid identifiers of a message. A message without any is only acknowledged."""
        try:
            bound = inspect.signature(self.run).bind(*args, **kwargs).arguments
        except TypeError as error:
            self._refuse(str(error))
            return None
        for parameter, value in bound.items():
            if not isinstance(value, list):
                self._refuse(f"{parameter} is not a list of identifiers but {type(value).__name__}")
                return None
            is_valid = type(self).is_valid or is_worker_id
            bound[parameter] = list(dict.fromkeys(identifier for identifier in value if is_valid(identifier)))
            if wrong := [identifier for identifier in value if not is_valid(identifier)]:
                self._refuse(
                    f"{parameter} holds something that is not an identifier: {str(wrong[0])[:80]!r}", len(wrong)
                )
            if not bound[parameter]:
                return None
        try:
            return self.run(**bound)
        except errors.WorkermonError as error:
            log.error("task.failed", task=self.name, reason=str(error), retryable=error.retryable)
            raise

    def _refuse(self, reason: str, number: int = 1) -> None:
        log.warning("task.refused", task=self.name, reason=reason, number=number)
        _count_invalid(number)


def _count_invalid(number: int = 1, **_: Any) -> None:
    try:
        container.current().get(ports.Liveness).count("message.invalid", number)
    except errors.WorkermonError as error:
        log.warning("task.not_counted", reason=str(error))


refused_messages.refused.connect(_count_invalid, weak=False)
