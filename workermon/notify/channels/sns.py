"""The channel ``sns``: an Amazon SNS topic. People get text, programs get the notification as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from workermon import models, ports
from workermon.config import channels, grammar
from workermon.notify import text
from workermon.notify.channel_type import ChannelType

#: Characters of a subject that SNS accepts.
MAX_SUBJECT_LENGTH = 100

#: Protocols of programs, which get JSON; people read the others.
_PROGRAMS = ("http", "https", "sqs", "lambda", "firehose")


_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?", re.ASCII)


def _topic(text: str) -> str:
    match = _TOPIC.fullmatch(text)
    if not match or not grammar.REGION.fullmatch(match[1]):
        raise ValueError("is not a topic such as arn:aws:sns:us-east-1:123456789012:alerts")
    return text


class Options(channels.Options):
    """``[channels.NAME]`` of type ``sns``."""

    topic_arn: Annotated[str, AfterValidator(_topic)]
    template: channels.Template | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Reject a template that cannot be filled in."""
        channels.check_template(path, self.template)


@dataclasses.dataclass(frozen=True, slots=True)
class Sns:
    """``ports.Notifier`` through ``ports.Publisher``."""

    publisher: ports.Publisher

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Publish it; raises ``errors.AwsError`` and its kinds."""
        (notification,) = notifications
        document = json.dumps(models.to_json(notification), ensure_ascii=False)
        message = models.TopicMessage(
            subject=subject(notification),
            texts={"default": text.body(channel, notifications), **dict.fromkeys(_PROGRAMS, document)},
            attributes={
                "id": notification.id,
                "dedup_key": notification.dedup_key,
                "status": notification.status,
                "severity": notification.severity,
                "rule": notification.rule,
                **({"owner": notification.owner} if notification.owner else {}),
            },
            group=notification.dedup_key,
            identity=notification.id,
        )
        self.publisher.publish(Options.of(channel).topic_arn, message)


def subject(notification: models.Notification) -> str:
    """Return the title in a form that SNS accepts: ASCII, at most 100 characters, not starting with a space."""
    plain = text.title(notification).encode("ascii", "replace").decode()
    return plain if len(plain) <= MAX_SUBJECT_LENGTH else plain[: MAX_SUBJECT_LENGTH - 3] + "..."


TYPE = ChannelType(options=Options, notifier=lambda needs: Sns(needs.publisher), per_minute=6000)
