"""The channel ``alertmanager``: Prometheus Alertmanager's API v2, so that a team keeps its routing.

Alertmanager tells alerts apart by their labels, and ours have the severity among them, because routes go by it. So
each notification is sent as two alerts: the severity at hand, and the other one as over.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from workermon import models, ports
from workermon.config import channels
from workermon.notify import http, text
from workermon.notify.channel_type import ChannelType

#: Seconds. Alertmanager takes an alert for resolved when its end has come, or after its ``resolve_timeout`` if it has
#: none. We send the end ourselves, so the end that a firing alert is given is only for a monitor that never comes back.
FIRES_FOR = 30 * models.DAY

#: Where alerts go, below the address of Alertmanager.
PATH = "/api/v2/alerts"

#: Alertmanager found the alert itself wrong. Other refusals may come from a proxy before it.
FINAL = frozenset({400, 413, 422})


class Options(channels.Options):
    """``[channels.NAME]`` of type ``alertmanager``. A secret without a user is a bearer token."""

    url: channels.Url
    user: models.Text | None = None
    secret: channels.Secret = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Refuse a user without a password, and an address that cannot work."""
        channels.check_login(path, self.user, self.secret)
        channels.check_url(path, self.url, allow_private=self.allow_private)


@dataclasses.dataclass(frozen=True, slots=True)
class Alertmanager:
    """``ports.Notifier`` by ``POST /api/v2/alerts``."""

    secrets: ports.Secrets
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post it; any 2xx accepts it."""
        (notification,) = notifications
        address = http.address(channel, self.secrets)
        if address is not None and not address.endswith(PATH):
            address = address.rstrip("/") + PATH
        body = json.dumps(alerts(notification, self.client.now()), ensure_ascii=False).encode()
        headers = self._headers(channel)
        self.client.post(http.Request(channel=channel, address=address, body=body, headers=headers, final=FINAL))

    def _headers(self, channel: models.Channel) -> dict[str, str]:
        if channel.secret is None:
            return {}
        user, secret = Options.of(channel).user, self.secrets(channel.secret)
        return {"Authorization": f"Bearer {secret}"} if user is None else http.basic_authentication(user, secret)


def alerts(notification: models.Notification, now: float) -> list[dict[str, Any]]:
    """Return the alerts of both severities: the one at hand, and the other one as over."""
    about = text.fields(notification)
    own_labels = notification.worker.labels if notification.worker else {}
    labels = {
        "alertname": notification.rule,
        "instance": about["worker_id"],
        "worker": about["worker"],
        "region": about["region"],
        "account": about["account"],
        "kind": notification.kind,
        "metric": about["metric"],
        **{f"label_{_label_name(key)}": value for key, value in own_labels.items()},
    }
    annotations = {name: about[name] for name in ("summary", "value", "threshold", "since", "reason", "silence")}
    annotations["description"] = text.plain(notification)
    start = min(models.moment(notification.since), now)
    over = max(start, min(models.moment(notification.at), now))
    return [
        {
            "labels": {**{name: value for name, value in labels.items() if value}, "severity": severity},
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": models.rfc3339(start),
            "endsAt": models.rfc3339(
                now + FIRES_FOR if (notification.status, notification.severity) == ("firing", severity) else over
            ),
        }
        for severity in models.SEVERITIES
    ]


def _label_name(key: str) -> str:
    """Return a label's name as Prometheus takes it.

    >>> _label_name("team.name")
    'team_name'
    """
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key)


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Alertmanager(needs.secrets, http.Client(needs.now)),
    per_minute=6000,
    # Alertmanager forgets its alerts when it restarts, and takes a repeated one for the same.
    repeat=3600,
    opens=True,
)
