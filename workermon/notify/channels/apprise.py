"""The channel ``apprise``: any service that the library of that name supports, by its own URLs.

The library sends with ``requests``, which is guarded like the other channels' client. It does not see Retry-After.
Services that it contacts by other means are for a private network only.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import errors, models, ports
from workermon.config import channels, problems
from workermon.notify import guarded_requests, http, text, transport
from workermon.notify.channel_type import ChannelType

#: Modules with which a service is contacted without ``requests``.
_OTHER_MEANS = ("smtplib", "socket", "ssl", "subprocess", "websocket", "dbus", "gntp", "mqtt", "slixmpp")

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
        """Reject an address in clear text, and a template that cannot be filled in."""
        if isinstance(self.url, str):
            reason = "holds a token, so it must be a secret by name"
            raise problems.Mistake(f"{path}.url", reason, 'write url = { env = "NAME" }')
        channels.check_template(path, self.template)


@dataclasses.dataclass(frozen=True, slots=True)
class Apprise:
    """``ports.Notifier`` by the library apprise, which is an extra: ``pip install 'workermon[apprise]'``."""

    secrets: ports.Secrets
    deadline: float = transport.DEADLINE

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send one message; raises ``errors.DeliveryFailed`` if the service did not accept it."""
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
        # In this thread, because that is the one whose requests are guarded.
        asset = library.AppriseAsset(http_redirects=False, secure_logging=True, async_mode=False)
        services = library.Apprise(asset=asset)
        if not services.add(http.address(channel, self.secrets) or ""):
            reason = "apprise does not know the service of its url"
            raise errors.InvalidInput(f"channel {channel.name}", reason, "see apprise's list of services")
        guarded_requests.guard("apprise")
        for service in services:
            service.redirects = False
            if not channel.allow_private and not _is_guarded(service):
                reason = f"apprise does not reach {errors.printable(str(service.service_name))} by HTTPS"
                todo = "use another type of channel, or allow_private = true for a service of your own network"
                raise errors.InvalidInput(f"channel {channel.name}", reason, todo)
        return services


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """One message handed to apprise's own client."""

    channel: models.Channel
    services: Any
    title: str
    body: str
    kind: str

    def __call__(self, connected: transport.Transport) -> None:
        """Send it."""
        with guarded_requests.within(connected) as exchange:
            accepted = self.services.notify(title=self.title, body=self.body, notify_type=self.kind)
        if accepted:
            return
        if exchange.failure is not None:
            raise exchange.failure
        reason = (
            f"the service did not accept it ({exchange.status})" if exchange.status else "the service did not accept it"
        )
        raise errors.DeliveryFailed(f"channel {self.channel.name}", reason, "workermon tries again; check its url")


def _library(channel: models.Channel) -> Any:
    try:
        library = importlib.import_module("apprise")
    except ImportError:
        subject, reason = f"channel {channel.name}", "the library apprise is not installed"
        raise errors.InvalidInput(subject, reason, "install it: pip install 'workermon[apprise]'") from None
    # Its log may repeat addresses that hold a token.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return library


def _is_guarded(service: Any) -> bool:
    """Return whether a service is contacted with ``requests`` and nothing else."""
    module_name = type(service).__module__
    package = module_name if module_name.count(".") < 3 else module_name.rpartition(".")[0]
    parts = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    names = {name for part in parts for name in vars(sys.modules[part])}
    return "requests" in names and not names.intersection(_OTHER_MEANS)


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Apprise(needs.secrets),
    per_minute=30,
    group_wait=10,
    shows_repetitions=True,
)
