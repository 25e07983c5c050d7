"""The channel ``alertmanager``: Prometheus Alertmanager's API v2, so that a team keeps its routing.

Alertmanager tells alerts apart by their labels, and ours have the severity among them, for routes go by it. So each
turn is sent as two alerts: the severity at hand, and the other one as over.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from workermon import models, ports
from workermon.config import channels
from workermon.notify import channel_type, http, text

#: Seconds. Alertmanager takes an alert for resolved when its end has come, or after its ``resolve_timeout`` where it
#: has none. We tell the end ourselves, so the end that a firing alert is given is only for a monitor that never comes
#: back.
LASTS = 30 * models.DAY

#: Where alerts go, below the address of Alertmanager.
PATH = "/api/v2/alerts"

#: It found the alert itself wrong; what else refuses may be a proxy before it.
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


class Alertmanager:
    """``ports.Notifier`` by ``POST /api/v2/alerts``."""

    def __init__(self, secrets: ports.Secrets, now: ports.Clock = time.time, *, deadline: float | None = None) -> None:
        self._secrets, self._now, self._deadline = secrets, now, deadline or http.DEADLINE

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Post it; any 2xx accepts it."""
        address = http.address(channel, self._secrets)
        if address is not None and not address.endswith(PATH):
            address = address.rstrip("/") + PATH
        headers = {}
        if channel.secret is not None:
            user, secret = Options.of(channel).user, self._secrets(channel.secret)
            pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}" if user is not None else f"Bearer {secret}"
        now = self._now()
        http.post(
            f"channel {channel.name}",
            address,
            json.dumps(alerts(notification, now), ensure_ascii=False).encode(),
            headers,
            private=channel.allow_private,
            now=now,
            deadline=self._deadline,
            thread=f"alertmanager-{channel.name}",
            final=FINAL,
        )


def alerts(notification: models.Notification, now: float) -> list[dict[str, Any]]:
    """Return the alerts of both severities: the one at hand, and the other one as over."""
    about = text.fields(notification)
    labels = {
        "alertname": notification.rule,
        "instance": about["worker_id"],
        "worker": about["worker"],
        "region": about["region"],
        "account": about["account"],
        "kind": notification.kind,
        "metric": about["metric"],
        **({f"label_{_safe(key)}": value for key, value in notification.worker.labels.items()}
           if notification.worker else {}),
    }  # fmt: skip
    annotations = {name: about[name] for name in ("summary", "value", "threshold", "since", "reason", "silence")}
    annotations["description"] = text.plain(notification)
    found = []
    for severity in models.SEVERITIES:
        firing = notification.status == "firing" and severity == notification.severity
        start = min(models.moment(notification.since), now)
        end = now + LASTS if firing else max(start, min(models.moment(notification.at), now))
        found.append(
            {
                "labels": {**{name: value for name, value in labels.items() if value}, "severity": severity},
                "annotations": {name: value for name, value in annotations.items() if value},
                "startsAt": models.rfc3339(start),
                "endsAt": models.rfc3339(end),
            }
        )
    return found


def _safe(key: str) -> str:
    """Make a label's name one of Prometheus'.

    >>> _safe("team.name")
    'team_name'
    """
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key)


TYPE = channel_type.ChannelType(
    options=Options,
    notifier=lambda needs: Alertmanager(needs.secrets, needs.now),
    per_minute=6000,
    # Alertmanager forgets its alerts when it restarts, and takes a repeated one for the same.
    repeat=3600,
    opens=True,
)
