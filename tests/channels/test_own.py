"""Types of channel of your own, which packages name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import pytest

from tests.support.notifications import NOW, SECRETS, notification
from workermon import config, models, ports, testing
from workermon.models import Channel
from workermon.notify import channel_type
from workermon.notify.channels import CHANNEL_TYPES, installed, own


def test_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A custom type that an entry point names is accepted by the config file and gets notifications."""
    points = [
        importlib.metadata.EntryPoint(name, f"{__name__}:{class_name}", own.GROUP)
        for name, class_name in (("pigeon", "Pigeon"), ("dodo", "Dodo"), ("heron", "HERON"))
    ]
    monkeypatch.setattr(own, "entry_points", lambda *, group: points if group == own.GROUP else [])
    types = installed()
    assert set(types) - set(CHANNEL_TYPES) == {"pigeon", "heron"}, "what cannot be loaded is left out"
    text_ = '[channels.p]\ntype = "pigeon"\noptions = { loft = "north" }\n[channels.h]\ntype = "heron"\nreed = "tall"\n'
    file = config.Parser(channel_types=types).parse(text_, "f.toml")
    assert file.channels is not None
    notifiers = channel_type.notifiers(
        types,
        channel_type.Dependencies(
            secrets=SECRETS,
            publisher=testing.MemoryPublisher(),
            firing_labels=testing.MemoryFiringLabels(),
            now=lambda: NOW,
        ),
    )
    for channel in file.channels.values():
        notifiers[channel.type].send(channel, [notification()])
    assert [("north", notification().id), ("tall", notification().id)] == FLOWN
    FLOWN.clear()


#: What was sent by the types below, as (where from, notification's id).
FLOWN: list[tuple[str, str]] = []


class Pigeon:
    """A custom type of channel: a notifier with text options."""

    def __init__(self, secrets: ports.Secrets) -> None:
        pass

    def send(self, channel: Channel, notification: models.Notification) -> None:
        FLOWN.append((str(channel.options["loft"]), notification.id))


class Reeds(config.channels.Options):
    reed: str


class Heron:
    """A channel of a user's own: a whole type, with keys of its own."""

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        FLOWN.extend((Reeds.of(channel).reed, sent_notification.id) for sent_notification in notifications)


HERON = channel_type.ChannelType(options=Reeds, notifier=lambda _: Heron())
