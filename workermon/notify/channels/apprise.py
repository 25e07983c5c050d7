"""The channel ``apprise``: any of the services that the library of that name reaches, by its own URLs.

The library brings its own client, so less can be promised than for the other channels: what a receiver asks for by
Retry-After is not seen, and addresses are checked when the name is looked up, not on the connection. Redirects are
switched off.
"""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import errors, models, ports
from workermon.config import channels, problems
from workermon.notify import channel_type, http, text

_TYPES = {"critical": "failure", "warning": "warning", "resolved": "success"}


class Options(channels.Options):
    """``[channels.NAME]`` of type ``apprise``. The whole address is a secret, so ``secret`` may name it too."""

    aliases: ClassVar[Mapping[str, str]] = {"secret": "url"}
    required = ("url",)

    url: channels.Url | None = None
    secret: channels.Secret = None
    template: channels.Template | None = None
    group_wait: channels.GroupWait | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Refuse an address in clear text, and a template that cannot be filled in."""
        if isinstance(self.url, str):
            why = "holds a token, so it must be a secret by name"
            raise problems.Mistake(f"{path}.url", why, 'write url = { env = "NAME" }')
        channels.check_template(path, self.template)


class Apprise:
    """``ports.Notifier`` by the library apprise, which is an extra: ``pip install 'workermon[apprise]'``."""

    def __init__(self, secrets: ports.Secrets, *, deadline: float | None = None) -> None:
        self._secrets, self._deadline = secrets, deadline or http.DEADLINE

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Send it; raises ``errors.DeliveryFailed`` where the service did not take it."""
        state = "resolved" if notification.status == "resolved" else notification.severity
        own = text.rendered(channel, notification)
        said = own if own is not None else text.plain(notification).partition("\n")[2]
        self._notify(channel, text.title(notification), said, _TYPES[state])

    def send_group(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send one message about many alerts of one rule."""
        own = text.group_body(channel, notifications)
        said = own if channel.template is not None else own.partition("\n")[2]
        firing = {told.severity for told in notifications if told.status == "firing"}
        state = "critical" if "critical" in firing else "warning" if firing else "resolved"
        self._notify(channel, text.group_title(notifications), said, _TYPES[state])

    def _notify(self, channel: models.Channel, title: str, said: str, kind: str) -> None:
        what = f"channel {channel.name}"
        library = _library(what)
        asset = library.AppriseAsset(http_redirects=False, secure_logging=True)
        sender = library.Apprise(asset=asset)
        if not sender.add(http.address(channel, self._secrets) or ""):
            raise errors.InvalidInput(what, "its url is none that apprise knows", "see apprise's list of services")
        for service in sender:
            service.redirects = False

        def exchange(_: http.Gate) -> None:
            if not channel.allow_private:
                for service in sender:
                    _check(what, service)
            if not sender.notify(title=title, body=said, notify_type=kind):
                raise errors.DeliveryFailed(what, "the service did not take it", "it is tried again; check its url")

        gate = http.Gate("", 0, channel.allow_private, self._deadline)
        http.within(what, "the service", gate, self._deadline, exchange, f"apprise-{channel.name}")


def _library(what: str) -> Any:
    try:
        library = importlib.import_module("apprise")
    except ImportError:
        raise errors.InvalidInput(
            what, "the library apprise is not installed", "install it: pip install 'workermon[apprise]'"
        ) from None
    # Its log may repeat addresses that hold a token.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return library


def _check(what: str, service: Any) -> None:
    """Refuse a service whose own host is not public, or is not spoken to by TLS."""
    host = getattr(service, "host", None)
    if not host:
        return
    if not getattr(service, "secure", True):
        raise errors.DeliveryFailed(what, "its url is not encrypted", "use the secure form of it, or allow_private")
    found = socket.getaddrinfo(str(host), None, type=socket.SOCK_STREAM)
    if not all(http.is_public(str(entry[4][0])) for entry in found):
        raise errors.DeliveryFailed(
            what, "its host has a private or local address, and these are refused", "set allow_private = true"
        )


TYPE = channel_type.ChannelType(
    options=Options,
    notifier=lambda needs: Apprise(needs.secrets),
    per_minute=30,
    group_wait=10,
    shows_repetitions=True,
)
