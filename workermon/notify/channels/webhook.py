"""The channel ``webhook``: the notification by POST, signed."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from collections.abc import Sequence

from workermon import models, ports
from workermon.config import channels
from workermon.notify import http
from workermon.notify.channel_type import ChannelType


class Options(channels.Options):
    """``[channels.NAME]`` of type ``webhook``."""

    url: channels.Url
    secret: channels.Secret = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Reject an address that cannot work."""
        channels.check_url(path, self.url, allow_private=self.allow_private)


@dataclasses.dataclass(frozen=True, slots=True)
class Webhook:
    """``ports.Notifier`` by HTTP POST."""

    secrets: ports.Secrets
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post it. Any 2xx accepts it."""
        (notification,) = notifications
        body = json.dumps(models.to_json(notification), separators=(",", ":"), ensure_ascii=False).encode()
        headers = {"Idempotency-Key": notification.id}
        if channel.secret is not None:
            key = self.secrets(channel.secret).encode()
            headers["X-Workermon-Signature"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
        address = http.address(channel, self.secrets)
        self.client.post(http.Request(channel=channel, address=address, body=body, headers=headers))


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Webhook(needs.secrets, http.Client(needs.now)),
    per_minute=6000,
)
