"""The channel ``alertmanager``: Prometheus Alertmanager's API v2, so that a team keeps its routing.

Alertmanager identifies an alert by its labels. Ours include the severity, because routes depend on it, and values that
users may change at any time: the worker's name and labels. So workermon stores the labels under which an alert fires
there, and sends its end with the same labels.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from workermon import models, ports
from workermon.config import channels
from workermon.notify import http, text
from workermon.notify.channel_type import ChannelType

#: Seconds. Alertmanager resolves an alert at its end, or after its ``resolve_timeout`` if it has none. We send the end
#: ourselves, so a firing alert's end only matters if the monitor never returns.
FIRES_FOR = 30 * models.DAY

#: Where alerts go, below the address of Alertmanager.
PATH = "/api/v2/alerts"

#: Statuses with which Alertmanager itself rejects the alert. Others may come from a proxy before it.
FINAL = frozenset({400, 413, 422})


Labels: TypeAlias = Mapping[str, str]


class Options(channels.Options):
    """``[channels.NAME]`` of type ``alertmanager``. A secret without a user is a bearer token."""

    url: channels.Url
    user: models.Text | None = None
    secret: channels.Secret = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Reject a user without a password, and an address that cannot work."""
        channels.check_login(path, self.user, self.secret)
        channels.check_url(path, self.url, allow_private=self.allow_private)


@dataclasses.dataclass(frozen=True, slots=True)
class Alertmanager:
    """``ports.Notifier`` by ``POST /api/v2/alerts``."""

    secrets: ports.Secrets
    firing_labels: ports.FiringLabels
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post it, and the end of what fires under other labels. Any 2xx accepts it."""
        (notification,) = notifications
        alert_id, present = notification.dedup_key, labels(notification)
        sent_before: list[Labels] = [*self.firing_labels.load(channel.name, alert_id)]
        fires = notification.status == "firing"
        if fires and present not in sent_before:
            # Before it is sent, because it is not always known whether a request arrived.
            self.firing_labels.save(channel.name, alert_id, [*sent_before, present])
        over = [label_set for label_set in sent_before if label_set != present] if fires else sent_before or [present]
        self._post(channel, alerts(notification, over, self.client.now()))
        self.firing_labels.save(channel.name, alert_id, [present] if fires else [])

    def _post(self, channel: models.Channel, document: Sequence[Mapping[str, Any]]) -> None:
        address = http.address(channel, self.secrets)
        if address is not None and not address.endswith(PATH):
            address = address.rstrip("/") + PATH
        body = json.dumps(document, ensure_ascii=False).encode()
        headers = self._headers(channel)
        self.client.post(http.Request(channel=channel, address=address, body=body, headers=headers, final=FINAL))

    def _headers(self, channel: models.Channel) -> dict[str, str]:
        if channel.secret is None:
            return {}
        user, secret = Options.of(channel).user, self.secrets(channel.secret)
        return {"Authorization": f"Bearer {secret}"} if user is None else http.basic_authentication(user, secret)


def labels(notification: models.Notification) -> dict[str, str]:
    """Return the labels that identify a notification's alert in Alertmanager."""
    about = text.fields(notification)
    own_labels = notification.worker.labels if notification.worker else {}
    identity = {
        "alertname": notification.rule,
        "severity": notification.severity,
        "instance": about["worker_id"],
        "worker": notification.worker.name if notification.worker else "",
        "region": about["region"],
        "account": about["account"],
        "kind": notification.kind,
        "metric": about["metric"],
        **{f"label_{label_name(key)}": value for key, value in own_labels.items()},
    }
    return {name: value for name, value in identity.items() if value}


def alerts(notification: models.Notification, over: Sequence[Labels], now: float) -> list[dict[str, Any]]:
    """Return the alerts to post: the ends of those under the labels ``over``, then the one that fires."""
    about = text.fields(notification)
    annotation_names = ("summary", "value", "threshold", "since", "reason", "silence", "owner")
    annotations = {name: about[name] for name in annotation_names}
    annotations["description"] = about["description"] or text.plain(notification)
    annotations["runbook_url"] = about["runbook"]
    start = min(models.moment(notification.since), now)
    end = max(start, min(models.moment(notification.at), now))
    ends: list[tuple[Labels, float]] = [(label_set, end) for label_set in over]
    if notification.status == "firing":
        ends.append((labels(notification), now + FIRES_FOR))
    return [
        {
            "labels": dict(label_set),
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": models.rfc3339(start),
            "endsAt": models.rfc3339(ends_at),
        }
        for label_set, ends_at in ends
    ]


def label_name(key: str) -> str:
    """Return a label's name as Prometheus takes it.

    >>> label_name("team.name")
    'team_name'
    """
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key)


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Alertmanager(needs.secrets, needs.firing_labels, http.Client(needs.now)),
    per_minute=6000,
    # Alertmanager forgets its alerts when it restarts, and merges a repeated one.
    repeat=3600,
    opens=True,
)
