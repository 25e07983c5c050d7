"""The channel ``slack``: an incoming webhook, whose URL is a secret. Compatible receivers work too."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workermon import models, ports
from workermon.config import channels, problems
from workermon.notify import http, text
from workermon.notify.channel_type import ChannelType

#: Characters of a block's text that Slack accepts (3000), minus room for what is around it.
MAX_BLOCK_LENGTH = 2900

#: Blocks of one message that Slack accepts.
MAX_BLOCKS = 50

#: Slack's answers if the message, the webhook or its room is wrong or gone.
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
        """Reject a Slack address in clear text, and a template that cannot be filled in."""
        host = channels.check_url(path, self.url, allow_private=self.allow_private)
        if host == "slack.com" or host.endswith(".slack.com"):
            raise problems.Mistake(f"{path}.url", "is itself a secret", 'write url = { env = "NAME" }')
        channels.check_template(path, self.template)


@dataclasses.dataclass(frozen=True, slots=True)
class Slack:
    """``ports.Notifier`` by Slack's incoming webhooks."""

    secrets: ports.Secrets
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post one message; any 2xx accepts it."""
        address = http.address(channel, self.secrets)
        body = json.dumps(message(channel, notifications), ensure_ascii=False).encode()
        self.client.post(http.Request(channel=channel, address=address, body=body, final=FINAL))


def escaped(plain: str) -> str:
    """Escape what Slack's markup would read as a link, a mention or an entity.

    >>> escaped("<!channel> a & b")
    '&lt;!channel&gt; a &amp; b'
    """
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def message(channel: models.Channel, notifications: Sequence[models.Notification]) -> dict[str, Any]:
    """Return the message: its text for a phone's notice, and blocks for the channel."""
    parts = [_facts(channel, notifications[0])] if len(notifications) == 1 else _list(channel, notifications)
    # Verbatim: nothing that looks like an address or a name becomes a link. A template may use markup on purpose.
    style = {"type": "mrkdwn", "verbatim": True} if channel.template is None else {"type": "mrkdwn"}
    blocks = [{"type": "section", "text": {**style, "text": part}} for part in parts]
    colour = _COLOURS[text.state(notifications)]
    headline = escaped(text.subject(notifications))[:MAX_BLOCK_LENGTH]
    return {
        "text": headline,
        "parse": "none",
        "link_names": False,
        "attachments": [{"color": colour, "blocks": blocks}],
    }


def _facts(channel: models.Channel, notification: models.Notification) -> str:
    from_template = text.rendered(channel, notification, escaped)
    if from_template is None:
        first, *detail_lines = text.plain(notification).splitlines()
        facts = [line.partition(": ") for line in detail_lines]
        from_template = "\n".join(
            [f"*{escaped(first)}*", *(f"*{name}:* {_fact(name, value)}" for name, _, value in facts)]
        )
    return from_template[:MAX_BLOCK_LENGTH]


def _fact(name: str, value: str) -> str:
    if name == "runbook":
        # The config file rejects addresses with a character that would end the link.
        return f"<{escaped(value)}>"
    return f"`{escaped(value)}`" if name in ("silence", "acknowledge") else escaped(value)


def _list(channel: models.Channel, notifications: Sequence[models.Notification]) -> list[str]:
    """Return the list of a group, split into blocks that Slack accepts."""
    from_template = (
        [text.rendered(channel, notification, escaped) for notification in notifications]
        if channel.template is not None
        else []
    )
    lines = [line for line in from_template if line is not None]
    parts = [f"*{escaped(text.subject(notifications))}*"]
    for line in lines or [f"• {escaped(line)}" for line in text.group_lines(notifications)]:
        if len(parts[-1]) + len(line) + 1 > MAX_BLOCK_LENGTH:
            parts.append("")
        parts[-1] += f"{chr(10) if parts[-1] else ''}{line[: MAX_BLOCK_LENGTH - 1]}"
    return parts[:MAX_BLOCKS]


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Slack(needs.secrets, http.Client(needs.now)),
    # Slack takes about one message a second.
    per_minute=50,
    group_wait=10,
    shows_repetitions=True,
)
