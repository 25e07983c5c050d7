"""The channel ``pagerduty``: Events API v2, one incident for each alert, under our own ``dedup_key``."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import __version__, errors, models, ports
from workermon.config import channels
from workermon.notify import http, text
from workermon.notify.channel_type import ChannelType

#: Where events go. An account in the EU has https://events.eu.pagerduty.com/v2/enqueue.
URL = "https://events.pagerduty.com/v2/enqueue"

#: Characters of a summary and of a source that PagerDuty accepts.
MAX_TEXT_LENGTH = 1024

#: Final refusals of PagerDuty: the event or the key is wrong, and only a change on our side helps.
FINAL = frozenset({400, 401, 403, 404, 410, 413, 422})

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Options(channels.Options):
    """``[channels.NAME]`` of type ``pagerduty``. ``routing_key`` is PagerDuty's own name for the secret."""

    aliases: ClassVar[Mapping[str, str]] = {"routing_key": "secret"}
    required = ("secret",)

    secret: channels.Secret = None
    routing_key: channels.Secret = None
    url: channels.Url | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Reject an address that cannot work."""
        channels.check_url(path, self.url, allow_private=self.allow_private)


@dataclasses.dataclass(frozen=True, slots=True)
class PagerDuty:
    """``ports.Notifier`` by events that trigger and resolve; PagerDuty merges those of one ``dedup_key``."""

    secrets: ports.Secrets
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send the event; 202 accepts it. Raises ``errors.InvalidInput`` if the secret cannot be a routing key."""
        (notification,) = notifications
        key = self.secrets(channel.secret).strip() if channel.secret else ""
        if not _KEY.fullmatch(key):
            subject, reason = f"channel {channel.name}", "its secret is not a routing key of PagerDuty"
            raise errors.InvalidInput(subject, reason, "give the 32 characters of an Events API v2 key")
        address = http.address(channel, self.secrets) or URL
        body = json.dumps(event(key, notification), ensure_ascii=False).encode()
        self.client.post(http.Request(channel=channel, address=address, body=body, final=FINAL))


def event(key: str, notification: models.Notification) -> dict[str, Any]:
    """Return the event of Events API v2."""
    about = text.fields(notification)
    runbook = about["runbook"]
    return {
        "routing_key": key,
        "event_action": "trigger" if notification.status == "firing" else "resolve",
        "dedup_key": notification.dedup_key,
        "client": f"workermon {__version__}",
        **({"links": [{"href": runbook, "text": "Runbook"}]} if runbook else {}),
        "payload": {
            "summary": about["summary"][:MAX_TEXT_LENGTH],
            "source": about["where"][:MAX_TEXT_LENGTH],
            # PagerDuty has four severities; these two mean the same as ours.
            "severity": notification.severity,
            "timestamp": notification.at,
            "component": about["worker_id"] or about["account"],
            "group": about["region"],
            "class": notification.rule,
            "custom_details": {
                "version": notification.version,
                "id": notification.id,
                "kind": notification.kind,
                "metric": notification.metric,
                "value": notification.value,
                "threshold": notification.threshold,
                "since": notification.since,
                "worker": about["worker"],
                "labels": dict(notification.worker.labels) if notification.worker else {},
                "reason": notification.reason,
                "silence": about["silence"],
                **{name: about[name] for name in models.ANNOTATIONS if about[name]},
            },
        },
    }


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: PagerDuty(needs.secrets, http.Client(needs.now)),
    # PagerDuty takes about 120 events a minute and key.
    per_minute=100,
    opens=True,
)
