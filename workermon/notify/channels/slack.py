"""The channel ``slack``: an incoming webhook, whose URL is a secret. Receivers that speak the same take it too."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import models, ports
from workermon.config import channels, problems
from workermon.notify import channel_type, http, text

#: Characters of a block's text that Slack takes (3000), less room for what is around it.
LONGEST = 2900

#: Blocks of one message that Slack takes.
BLOCKS = 50

#: What Slack answers where the message, the webhook or its room is not (any more) what it should be.
FINAL = frozenset({400, 403, 404, 410, 413})

_COLOURS = {"critical": "#d32f2f", "warning": "#f9a825", "resolved": "#2e7d32"}


class Options(channels.Options):
    """``[channels.NAME]`` of type ``slack``. The whole address is a secret, so ``secret`` may name it too."""

    aliases: ClassVar[Mapping[str, str]] = {"secret": "url"}
    required = ("url",)

    url: channels.Url | None = None
    secret: channels.Secret = None
    template: channels.Template | None = None
    group_wait: channels.GroupWait | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Refuse an address of Slack's own in clear text, and a template that cannot be filled in."""
        host = channels.check_url(path, self.url, allow_private=self.allow_private)
        if host == "slack.com" or host.endswith(".slack.com"):
            raise problems.Mistake(f"{path}.url", "of Slack is a secret itself", 'write url = { env = "NAME" }')
        channels.check_template(path, self.template)


class Slack:
    """``ports.Notifier`` by Slack's incoming webhooks."""

    def __init__(self, secrets: ports.Secrets, now: ports.Clock = time.time, *, deadline: float | None = None) -> None:
        self._secrets, self._now, self._deadline = secrets, now, deadline or http.DEADLINE

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Post it; any 2xx accepts it."""
        self._post(channel, message(channel, notification))

    def send_group(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post one message about many alerts of one rule."""
        self._post(channel, group_message(channel, notifications))

    def _post(self, channel: models.Channel, document: dict[str, Any]) -> None:
        http.post(
            f"channel {channel.name}",
            http.address(channel, self._secrets),
            json.dumps(document, ensure_ascii=False).encode(),
            {},
            private=channel.allow_private,
            now=self._now(),
            deadline=self._deadline,
            thread=f"slack-{channel.name}",
            final=FINAL,
        )


def escaped(said: str) -> str:
    """Escape what Slack's markup would take for a link, a mention or an entity.

    >>> escaped("<!channel> a & b")
    '&lt;!channel&gt; a &amp; b'
    """
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def message(channel: models.Channel, notification: models.Notification) -> dict[str, Any]:
    """Return the message: its text for a phone's notice, and blocks for the channel."""
    own = text.rendered(channel, notification, escaped)
    headline = escaped(text.title(notification))
    if own is not None:
        said = own
    else:
        first, *rest = text.plain(notification).splitlines()
        facts = [line.partition(": ") for line in rest]
        said = "\n".join([f"*{escaped(first)}*", *(f"*{name}:* {_fact(name, value)}" for name, _, value in facts)])
    state = "resolved" if notification.status == "resolved" else notification.severity
    block = {"type": "section", "text": {"type": "mrkdwn", "text": said[:LONGEST]}}
    return {"text": headline[:LONGEST], "attachments": [{"color": _COLOURS[state], "blocks": [block]}]}


def group_message(channel: models.Channel, notifications: Sequence[models.Notification]) -> dict[str, Any]:
    """Return the message about a group; lists that are too long for a block go on in the next."""
    headline = escaped(text.group_title(notifications))
    own = [text.rendered(channel, told, escaped) for told in notifications] if channel.template is not None else []
    lines = [said for said in own if said is not None] or [
        f"• {escaped(one)}" for one in text.group_lines(notifications)
    ]
    parts = [f"*{headline}*"]
    for line in lines:
        if len(parts[-1]) + len(line) + 1 > LONGEST:
            parts.append("")
        parts[-1] += f"{chr(10) if parts[-1] else ''}{line[: LONGEST - 1]}"
    firing = [told for told in notifications if told.status == "firing"]
    critical = any(told.severity == "critical" for told in firing)
    state = "resolved" if not firing else "critical" if critical else "warning"
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in parts[:BLOCKS]]
    return {"text": headline[:LONGEST], "attachments": [{"color": _COLOURS[state], "blocks": blocks}]}


def _fact(name: str, value: str) -> str:
    return f"`{escaped(value)}`" if name in ("silence", "acknowledge") else escaped(value)


TYPE = channel_type.ChannelType(
    options=Options,
    notifier=lambda needs: Slack(needs.secrets, needs.now),
    # Slack takes about one message a second.
    per_minute=50,
    group_wait=10,
    shows_repetitions=True,
)
