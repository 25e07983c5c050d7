"""The channel ``apprise``: any of the services that the library of that name reaches, by its own URLs.

The library brings its own client, so this channel promises less than the others: it does not see Retry-After, and
addresses are checked when the name is looked up, not on the connection. Redirects are switched off.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import errors, models, ports
from workermon.config import channels, problems
from workermon.notify import http, text, transport
from workermon.notify.channel_type import ChannelType

_KINDS = {"critical": "failure", "warning": "warning", "resolved": "success"}


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


@dataclasses.dataclass(frozen=True, slots=True)
class Apprise:
    """``ports.Notifier`` by the library apprise, which is an extra: ``pip install 'workermon[apprise]'``."""

    secrets: ports.Secrets
    deadline: float = transport.DEADLINE

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send one message; raises ``errors.DeliveryFailed`` if the service did not take it."""
        body = text.body(channel, notifications)
        if channel.template is None:
            # The first line is the title.
            body = body.partition("\n")[2]
        exchange = _Exchange(
            channel=channel,
            services=self._services(channel),
            title=text.subject(notifications),
            body=body,
            kind=_KINDS[text.state(notifications)],
        )
        receiver = transport.Receiver(channel.name, "the service", 0, channel.allow_private)
        transport.run(receiver, exchange, self.deadline, f"apprise-{channel.name}")

    def _services(self, channel: models.Channel) -> Any:
        library = _library(channel)
        services = library.Apprise(asset=library.AppriseAsset(http_redirects=False, secure_logging=True))
        if not services.add(http.address(channel, self.secrets) or ""):
            why = "apprise does not know the service of its url"
            raise errors.InvalidInput(f"channel {channel.name}", why, "see apprise's list of services")
        for service in services:
            service.redirects = False
        return services


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """One message handed to apprise's own client."""

    channel: models.Channel
    services: Any
    title: str
    body: str
    kind: str

    def __call__(self, _: transport.Transport) -> None:
        """Check where it would go, and send it."""
        what = f"channel {self.channel.name}"
        if not self.channel.allow_private:
            for service in self.services:
                _check(what, service)
        if not self.services.notify(title=self.title, body=self.body, notify_type=self.kind):
            raise errors.DeliveryFailed(what, "the service did not take it", "it is tried again; check its url")


def _library(channel: models.Channel) -> Any:
    try:
        library = importlib.import_module("apprise")
    except ImportError:
        what, why = f"channel {channel.name}", "the library apprise is not installed"
        raise errors.InvalidInput(what, why, "install it: pip install 'workermon[apprise]'") from None
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
    entries = socket.getaddrinfo(str(host), None, type=socket.SOCK_STREAM)
    if not all(transport.is_public(str(entry[4][0])) for entry in entries):
        why = "its host has a private or local address, and these are refused"
        raise errors.DeliveryFailed(what, why, "set allow_private = true")


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Apprise(needs.secrets),
    per_minute=30,
    group_wait=10,
    shows_repetitions=True,
)
