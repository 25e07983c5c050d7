"""A remote control command: how many messages a node holds. RabbitMQ says that by its management API alone."""

from __future__ import annotations

from typing import Any, Final

from celery import signals

#: What it is called, among the commands of Celery.
COMMAND: Final = "workermon_held"


def _register(**_: Any) -> None:
    """Have this node answer; not before it starts, because a command line needs none of this."""
    from celery.worker import control, state

    @control.inspect_command(name=COMMAND)
    def held(_: Any) -> int:
        """Return how many tasks were received and are not acknowledged yet."""
        return len(state.reserved_requests)


signals.worker_init.connect(_register, weak=False)
