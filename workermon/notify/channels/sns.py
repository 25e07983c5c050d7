"""The channel ``sns``: an Amazon SNS topic. People get text, programs get the notification as JSON."""

from __future__ import annotations

import json

from workermon import models, ports
from workermon.notify import text

#: Characters of a subject that SNS takes.
SUBJECT = 100

#: Subscriptions of programs; the others are read by people.
_PROGRAMS = ("http", "https", "sqs", "lambda", "firehose")


class Sns:
    """``ports.Notifier`` through ``ports.Publisher``."""

    def __init__(self, publisher: ports.Publisher) -> None:
        self._publisher = publisher

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Publish it; raises ``errors.AwsError`` and its kinds."""
        said = text.body(channel, notification)
        document = json.dumps(models.to_json(notification), ensure_ascii=False)
        self._publisher.publish(
            str(channel.topic_arn),
            subject=subject(notification),
            messages={"default": said, **dict.fromkeys(_PROGRAMS, document)},
            attributes={
                "id": notification.id,
                "dedup_key": notification.dedup_key,
                "status": notification.status,
                "severity": notification.severity,
                "rule": notification.rule,
            },
            group=notification.dedup_key,
            identity=notification.id,
        )


def subject(notification: models.Notification) -> str:
    """Return the title as SNS takes it: ASCII, at most 100 characters, not starting with a space."""
    plain = text.title(notification).encode("ascii", "replace").decode()
    return plain if len(plain) <= SUBJECT else plain[: SUBJECT - 3] + "..."
