"""The parts of a type of channel. Each file below ``channels`` defines one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from workermon import errors, logs, models, ports
from workermon.config import channels

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What a notifier may need to reach its receiver."""

    secrets: ports.Secrets
    publisher: ports.Publisher
    firing_labels: ports.FiringLabels
    now: ports.Clock


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelType:
    """Everything that config file and delivery know about a type of channel: a row of ``channels.CHANNEL_TYPES``.

    A channel's own ``per_minute``, ``group_wait`` and ``repeat`` override those of its type.
    """

    #: The keys of ``[channels.NAME]``, and their validation.
    options: type[channels.Options]
    #: Creates the notifier, once in each process.
    notifier: Callable[[Dependencies], ports.Notifier]
    #: Maximum messages in any minute; ``None``: no limit.
    per_minute: float | None = None
    #: Seconds for which notifications are gathered into one message; 0: one message each.
    group_wait: int = 0
    #: Seconds after which a notification that still fires is sent again; ``None``: never.
    repeat: int | None = None
    #: Whether the receiver shows a repeated message again, so that it has to be marked as a repetition.
    shows_repetitions: bool = False
    #: Whether a message opens something, such as an incident, so that a test message is followed by its end.
    opens: bool = False


class Missing:
    """``ports.Notifier`` of a type that is not installed here, or whose own notifier could not be created."""

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:  # noqa: ARG002
        """Fail."""
        raise errors.DeliveryFailed(f"channel {channel.name}", cannot_send(channel), "use another type")


def cannot_send(channel: models.Channel) -> str:
    """Return the reason why a channel whose type is missing gets nothing."""
    return f"this process cannot send to channels of type {channel.type}"


#: A type of your own that is not installed here.
UNKNOWN = ChannelType(options=channels.Options, notifier=lambda _: Missing())


def of(channel: models.Channel, types: Mapping[str, ChannelType]) -> ChannelType:
    """Return the type of a channel."""
    return types.get(channel.type, UNKNOWN)


def notifiers(types: Mapping[str, ChannelType], needs: Dependencies) -> dict[str, ports.Notifier]:
    """Create a notifier of each type. If a type of your own fails, it is logged and left out."""
    by_type: dict[str, ports.Notifier] = {}
    for name, kind in types.items():
        try:
            by_type[name] = kind.notifier(needs)
        except Exception as error:
            # It may be a user's own code, so it may raise anything.
            log.error("channels.not_created", name=name, reason=repr(error))
    return by_type
