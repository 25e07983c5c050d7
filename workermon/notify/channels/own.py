"""Types of channel of your own: what packages name by entry points of the group ``workermon.channels``.

An entry point names a ``ChannelType``, or a callable that takes the lookup of secrets and returns a ``SingleNotifier``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from workermon import logs, models, ports
from workermon.config import channels
from workermon.notify.channel_type import ChannelType

log = logs.get(__name__)

GROUP = "workermon.channels"


class Options(channels.Options):
    """``[channels.NAME]`` of a type that only has a notifier; ``options`` are its own texts."""

    url: channels.Url | None = None
    secret: channels.Secret = None
    template: channels.Template | None = None
    repeat: channels.Repeat | None = None
    options: dict[models.Text, str] = {}  # noqa: RUF012 - pydantic copies it for each object

    def check(self, path: str) -> None:
        """Reject an address that cannot work, and a template that cannot be filled in."""
        channels.check_url(path, self.url, allow_private=self.allow_private)
        channels.check_template(path, self.template)


class SingleNotifier(Protocol):
    """The object from your package. It gets one notification; ``channel.options`` are the texts above."""

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Send it within 10 s, or raise ``errors.DeliveryFailed``."""


@dataclasses.dataclass(frozen=True, slots=True)
class OwnNotifier:
    """``ports.Notifier`` around one of your own."""

    notifier: SingleNotifier

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send it with your object."""
        with_options = channel.model_copy(update={"options": channel.options.get("options", {})})
        for notification in notifications:
            self.notifier.send(with_options, notification)


def load() -> dict[str, ChannelType]:
    """Return the types by name. A type that cannot be loaded is logged and left out."""
    types: dict[str, ChannelType] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            types[point.name] = _type(point)
        except Exception as error:
            # It is users' code, so it may raise anything.
            log.error("channels.not_loaded", name=point.name, reason=repr(error))
    return types


def _type(point: EntryPoint) -> ChannelType:
    loaded = point.load()
    if isinstance(loaded, ChannelType):
        return loaded
    make: Callable[[ports.Secrets], SingleNotifier] = loaded
    return ChannelType(options=Options, notifier=lambda needs: OwnNotifier(make(needs.secrets)))
