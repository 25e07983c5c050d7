"""Tries a channel: sends a test message at once, past the outbox."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping

from workermon import errors, models, ports
from workermon.notify import channel_type
from workermon.notify.channel_type import ChannelType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTest:
    """Sends test messages through channels of the configuration."""

    configurations: ports.Configurations
    channel_types: Mapping[str, ChannelType]
    notifiers: Mapping[str, ports.Notifier]
    now: ports.Clock

    def send(self, name: str) -> int:
        """Send a test message through a channel, and its end if it opens something; return how many messages that took.

        Raises ``errors.NotFound`` for a channel that the configuration lacks, else what sending raises.
        """
        known = self.configurations.load().channels
        channel = known.get(name)
        if channel is None:
            what, todo = f"channel {errors.printable(name)[:64]}", errors.nearest(name, known)
            raise errors.NotFound(what, "it is not in the configuration", todo)
        notifier = self.notifiers.get(channel.type)
        if notifier is None:
            raise errors.InvalidInput(f"channel {name}", f"nothing here sends to {channel.type}", "install what does")
        messages = _messages(channel, channel_type.of(channel, self.channel_types), self.now())
        for message in messages:
            notifier.send(channel, [message])
        return len(messages)


def _messages(channel: models.Channel, kind: ChannelType, at: float) -> list[models.Notification]:
    """Return a test message, and the one that closes what it opens.

    No kind of notification is about a channel; ``collector`` is the nearest, because it is about no worker.
    """
    identity = secrets.token_hex(8)
    statuses = ("firing", "resolved") if kind.opens else ("firing",)
    return [
        models.Notification.model_validate(
            {
                "id": f"test-{identity}-{version}",
                "version": version,
                "dedup_key": f"test-{identity}/notify-test",
                "kind": "collector",
                "status": status,
                "severity": "warning",
                "rule": "notify-test",
                "metric": None,
                "value": None,
                "threshold": None,
                "since": models.rfc3339(int(at)),
                "at": models.rfc3339(int(at)),
                "created_at": models.rfc3339(at),
                "worker": None,
                "scope": {"account": "*", "region": "*"},
                "summary": f"test of channel {channel.name}: nothing is wrong",
            }
        )
        for version, status in enumerate(statuses, start=1)
    ]
