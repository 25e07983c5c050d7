"""The channel ``rooms``: a message to a room of a chat server."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from workermon import models, ports
from workermon.config import channels, problems
from workermon.notify import http, text
from workermon.notify.channel_type import ChannelType

#: The server answers so if there is no such room, or the token may not write to it.
FINAL = frozenset({403, 404})


def _room(name: str) -> str:
    if not re.fullmatch(r"#[a-z-]{1,32}", name):
        raise ValueError("is not a room such as #ops")
    return name


class Options(channels.Options):
    """``[channels.NAME]`` of type ``rooms``. ``token`` is the server's own name for the secret."""

    aliases: ClassVar[Mapping[str, str]] = {"token": "secret"}
    required = ("secret",)

    url: channels.Url
    room: Annotated[str, AfterValidator(_room)]
    mention: str | None = None
    secret: channels.Secret = None
    token: channels.Secret = None
    template: channels.Template | None = None
    group_wait: channels.GroupWait | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Refuse an address that cannot work, a template that cannot be filled in, and a mention of everybody."""
        channels.check_url(path, self.url, allow_private=self.allow_private)
        channels.check_template(path, self.template)
        if self.mention == "@all":
            raise problems.Mistake(f"{path}.mention", "would wake everybody", "name a person or a team")


@dataclasses.dataclass(frozen=True, slots=True)
class Rooms:
    """``ports.Notifier`` by the server's HTTP API."""

    secrets: ports.Secrets
    client: http.Client

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Post one message. Any 2xx accepts it."""
        options = Options.of(channel)
        content = text.body(channel, notifications)
        body = json.dumps({"room": options.room, "text": f"{options.mention or ''} {content}".strip()}).encode()
        token = self.secrets(channel.secret) if channel.secret else ""
        request = http.Request(
            channel=channel,
            address=http.address(channel, self.secrets),
            body=body,
            headers={"Authorization": f"Bearer {token}"},
            final=FINAL,
        )
        self.client.post(request)


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Rooms(needs.secrets, http.Client(needs.now)),
    per_minute=20,
    group_wait=5,
    repeat=7200,
    shows_repetitions=True,
    opens=True,
)
