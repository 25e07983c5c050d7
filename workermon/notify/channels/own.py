"""Types of channel of your own: what packages name by entry points of the group ``workermon.channels``.

An entry point names a ``ChannelType``, or what makes a notifier from the lookup of secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from workermon import logs, models, ports
from workermon.config import channels
from workermon.notify import channel_type

log = logs.get(__name__)

GROUP = "workermon.channels"


class Options(channels.Options):
    """``[channels.NAME]`` of a type that is a notifier only; ``options`` are texts of its own."""

    url: channels.Url | None = None
    secret: channels.Secret = None
    template: channels.Template | None = None
    repeat: channels.Repeat | None = None
    options: dict[models.Text, str] = {}  # noqa: RUF012 - pydantic copies it for each object

    def check(self, path: str) -> None:
        """Refuse an address that cannot work, and a template that cannot be filled in."""
        channels.check_url(path, self.url, allow_private=self.allow_private)
        channels.check_template(path, self.template)


class Own:
    """``ports.Notifier`` around one of a user's own, which sees the texts of ``options`` as ``channel.options``."""

    def __init__(self, notifier: ports.Notifier) -> None:
        self._notifier = notifier

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Have it sent."""
        given = channel.model_copy(update={"options": channel.options.get("options", {})})
        self._notifier.send(given, notification)


def load() -> dict[str, channel_type.ChannelType]:
    """Return the types by name. One that cannot be loaded is logged and left out."""
    types: dict[str, channel_type.ChannelType] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            types[point.name] = _type(point)
        except Exception as why:
            # It is our users' code, so anything may come out of it.
            log.error("channels.not_loaded", name=point.name, reason=repr(why))
    return types


def _type(point: EntryPoint) -> channel_type.ChannelType:
    named = point.load()
    if isinstance(named, channel_type.ChannelType):
        return named
    make: Callable[[ports.Secrets], ports.Notifier] = named
    return channel_type.ChannelType(options=Options, notifier=lambda needs: Own(make(needs.secrets)))
