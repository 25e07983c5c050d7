"""The channel ``webhook``: the notification by POST, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

from workermon import models, ports
from workermon.config import channels
from workermon.notify import channel_type, http


class Options(channels.Options):
    """``[channels.NAME]`` of type ``webhook``."""

    url: channels.Url
    secret: channels.Secret = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Refuse an address that cannot work."""
        channels.check_url(path, self.url, allow_private=self.allow_private)


class Webhook:
    """``ports.Notifier`` by HTTP POST."""

    def __init__(self, secrets: ports.Secrets, now: ports.Clock = time.time, *, deadline: float | None = None) -> None:
        self._secrets, self._now, self._deadline = secrets, now, deadline or http.DEADLINE

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Post it within the deadline; any 2xx accepts it, all else raises ``errors.DeliveryFailed``."""
        body = json.dumps(models.to_json(notification), separators=(",", ":"), ensure_ascii=False).encode()
        headers = {"Idempotency-Key": notification.id}
        if channel.secret is not None:
            key = self._secrets(channel.secret).encode()
            headers["X-Workermon-Signature"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
        http.post(
            f"channel {channel.name}",
            http.address(channel, self._secrets),
            body,
            headers,
            private=channel.allow_private,
            now=self._now(),
            deadline=self._deadline,
            thread=f"webhook-{channel.name}",
        )


TYPE = channel_type.ChannelType(
    options=Options, notifier=lambda needs: Webhook(needs.secrets, needs.now), per_minute=6000
)
