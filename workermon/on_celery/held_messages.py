"""A remote control command: how many messages a node holds. RabbitMQ reports that only through its management API."""

from __future__ import annotations

from typing import Any, Final

#: Its name among Celery's commands.
COMMAND: Final = "workermon_held"


def register(**_: Any) -> None:
    """Register the command on this node when the node starts. A command line does not need it."""
    from celery.worker import control, state

    @control.inspect_command(name=COMMAND)
    def unacknowledged(_: Any) -> int:
        """Return how many tasks were received and not acknowledged yet."""
        return len(state.reserved_requests)
