"""A type of channel is one file and a row of a table. No other part has to change."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.channels.new_type import rooms
from tests.support.delivering import WORKER, Site
from tests.support.receiver import Receiver, answer
from workermon import config, errors, models, notify, testing
from workermon.config import export
from workermon.notify import channel_type
from workermon.notify.channels import CHANNEL_TYPES

#: The row.
TYPES = {**CHANNEL_TYPES, "rooms": rooms.TYPE}
PARSER = config.Parser(channel_types=TYPES)

FILE = """
[channels.ops]
type = "rooms"
url = "{url}"
allow_private = true
room = "#ops"
mention = "@night-shift"
token = {{ env = "ROOMS_TOKEN" }}

[channels.log]
type = "log"
"""


def configuration(url: str = "http://127.0.0.1:1/") -> models.Configuration:
    """Return the configuration of the file."""
    return config.to_configuration(PARSER.parse(FILE.format(url=url), "f.toml"), config.DEFAULT)


class Office(Site):
    """A site with the channel ``ops`` of the new type, which reaches a server on this machine."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self.receiver = receiver
        assert self.configurations.save(configuration(receiver.url))
        needs = channel_type.Dependencies(
            secrets=testing.MemorySecrets({"ROOMS_TOKEN": "hunter2"}),
            publisher=testing.MemoryPublisher(),
            firing_labels=testing.MemoryFiringLabels(),
            now=self.clock,
        )
        self.channel_types = TYPES
        self.notifiers = channel_type.notifiers(TYPES, needs)

    def pass_time(self, seconds: int) -> None:
        """Advance the clock, and deliver what is due then."""
        self.clock.advance(seconds)
        self.deliver()

    def sent(self) -> list[str]:
        """Return the texts that the server got, oldest first."""
        return [json.loads(request.body)["text"] for request in self.receiver.requests]


def test_a_file_names_it() -> None:
    """The parser reads its keys and checks them as the type says. Export gives them back."""
    parsed = configuration()
    channel = parsed.channels["ops"]
    assert (channel.type, channel.secret) == ("rooms", models.SecretRef(env="ROOMS_TOKEN"))
    assert rooms.Options.of(channel).room == "#ops"
    reparsed = config.to_configuration(PARSER.parse(export.text(parsed, []), "export"), config.DEFAULT)
    assert reparsed.channels == parsed.channels


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('room = "#ops"', 'room = "ops"', "line 6, column 1: channels.ops.room: is not a room such as #ops"),
        ('room = "#ops"', "", "channels.ops.room: is missing; add it"),
        ('room = "#ops"', 'roem = "#ops"', "channels.ops.roem: is not a known key; did you mean room?"),
        ('room = "#ops"', 'topic_arn = "x"', "channels.ops.topic_arn: is not for type rooms, which takes"),
        ('token = {{ env = "ROOMS_TOKEN" }}', "", "channels.ops.secret: is missing; add it"),
        ('token = {{ env = "ROOMS_TOKEN" }}', 'token = "hunter2"', "channels.ops.token: must be a secret by name"),
        ("@night-shift", "@all", "channels.ops.mention: would wake everybody; name a person or a team"),
        ('"rooms"', '"room"', "'room' is none of webhook, log"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(old: str, new: str, error: str) -> None:
    """Its own checks, and those of every type, name the line and never a secret."""
    assert old in FILE
    with pytest.raises(errors.InvalidInput) as caught:
        PARSER.parse(FILE.replace(old, new).format(url="https://example.com"), "f.toml")
    assert error in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_schema_knows_it() -> None:
    """An editor with the schema knows its keys. Without the row the type does not exist."""
    section = {"type": "rooms", "url": "https://example.com", "room": "#ops", "token": {"env": "A"}}
    for types, valid in ((TYPES, True), (CHANNEL_TYPES, False)):
        schema = config.Parser(channel_types=types).schema()
        assert jsonschema.Draft202012Validator(schema).is_valid({"channels": {"ops": section}}) == valid


def test_it_is_delivered_to_a_server(receiver: Receiver) -> None:
    """A notification reaches the room after its group has been gathered, with the token."""
    office = Office(receiver)
    office.enqueue()
    office.deliver()
    assert receiver.requests == []
    office.pass_time(rooms.TYPE.group_wait)
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer hunter2"
    assert json.loads(request.body)["room"] == "#ops"
    assert office.sent()[0].startswith("@night-shift [FIRING critical] render-07")
    assert office.outbox.backlog() == 0


def test_it_is_grouped(receiver: Receiver) -> None:
    """Transitions of several workers are one message with a list."""
    office = Office(receiver)
    workers = [WORKER.model_copy(update={"id": f"i-0abc{number:04x}", "incarnation": "1"}) for number in range(3)]
    office.workers.add(workers)
    for worker in workers:
        office.enqueue(worker=worker)
    office.deliver()
    office.pass_time(rooms.TYPE.group_wait)
    (text,) = office.sent()
    assert "cpu-high: 3 alerts" in text


def test_it_is_retried(receiver: Receiver) -> None:
    """A message that the server does not accept is sent again after the requested wait."""
    office = Office(receiver)
    receiver.plan = [answer(503, Retry_After="60")]
    office.enqueue()
    office.pass_time(30)
    office.pass_time(59)
    assert len(receiver.requests) == 1
    office.pass_time(2)
    first, second = office.sent()
    assert "(retry)" not in first
    assert "(retry)" in second
    assert [error is None for error in office.attempts()] == [False, True]


def test_it_is_refused(receiver: Receiver) -> None:
    """A final refusal is given up at once, and another channel is notified."""
    office = Office(receiver)
    receiver.plan = [answer(404)]
    office.enqueue()
    office.pass_time(30)
    assert [(error or "")[:9] for error in office.attempts()] == ["given up:"]
    about = office.alerts.history("channel:ops/delivery")
    assert [entry.transition.after for entry in about] == ["critical"]


def test_it_is_repeated(receiver: Receiver) -> None:
    """A firing alert is sent again as often as the type says."""
    office = Office(receiver)
    office.enqueue()
    office.pass_time(30)
    office.pass_time(7200)
    office.pass_time(30)
    assert ["STILL FIRING" in text for text in office.sent()] == [False, True]


def test_it_is_tried_by_a_test_message(receiver: Receiver) -> None:
    """A test message opens something there, so a second one closes it."""
    office = Office(receiver)
    tried = office.get(notify.ChannelTest).send("ops")
    assert tried.messages == 2
    assert ["[RESOLVED]" in text for text in office.sent()] == [False, True]
