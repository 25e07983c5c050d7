"""Invalid task messages are found before Celery handles them."""

from __future__ import annotations

import base64
import json
import types
from collections.abc import Mapping
from typing import Any

import celery
import pytest

from workermon.on_celery import app, broker, messages, refused_messages

#: 2026-01-01T00:00:00Z.
NOW = 1767225600.0
NULLS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
GOOD = [[], {"worker_ids": ["i-0123456789abcdef0"]}, NULLS]


def message(
    content: Any = GOOD,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    **over: Any,
) -> dict[str, Any]:
    """Return a message as Celery writes it, with anything in the place of its parts."""
    return {
        "body": base64.b64encode(json.dumps(content).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "workermon.collect", "id": "one", "retries": 0, "eta": None, "expires": None,
                    "timelimit": [None, None], "group": None, **(headers or {})},
        "properties": {"delivery_tag": "one", "delivery_info": {"exchange": "", "routing_key": "workermon.collect"},
                       "correlation_id": "one", "reply_to": "", "priority": 0, "body_encoding": "base64",
                       **(properties or {})},
    } | over  # fmt: skip


def test_what_celery_itself_sends_is_sound() -> None:
    """The message of an application's own producer passes."""
    sender = celery.Celery(set_as_current=False)
    sent = sender.amqp.as_task_v2("one", "workermon.collect", (), {"worker_ids": ["i-0123456789abcdef0"]}, expires=30)
    content, headers = sent.body, json.loads(json.dumps(sent.headers))
    messages.check(message(content, headers), NOW)


@pytest.mark.parametrize(
    "sound",
    [
        message(),
        message([[["i-0123456789abcdef0"]], {}, {}]),
        message([[], {}, None]),
        message(headers={"eta": "2026-01-01T00:59:00", "expires": "2000-01-01T00:00:00+00:00"}),
        message(headers={"traceparent": "00-ab", "headers": {"sentry-trace": "x"}, "timelimit": [3, 2.5]}),
        message(headers={"redelivered": True, "stamped_headers": ["x"], "stamps": {"x": "y"}}),
        message(properties={"delivery_info": {"exchange": "", "routing_key": "q", "redelivered": True}}),
        message(body=json.dumps(GOOD), properties={"body_encoding": None}),
    ],
)  # fmt: skip
def test_sound_messages_pass(sound: dict[str, Any]) -> None:
    """Valid messages of other senders pass, with an early expiry and trace headers too."""
    messages.check(sound, NOW)


@pytest.mark.parametrize(
    "content", [None, 5, [], [[]], {}, "x", [[], {}], [[], {}, {}, {}], [{}, {}, {}], [[], [], {}]]
)
def test_a_body_of_another_shape_is_refused(content: Any) -> None:
    """A body is a list of a list, an object and an object."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message(content), NOW)


@pytest.mark.parametrize(
    "embedded", [5, [], {"callbacks": 5}, {"chain": 9}, {"chain": []}, {"errbacks": []}, {"chord": {}}, {"get": None}]
)
def test_nothing_follows_the_arguments(embedded: Any) -> None:
    """A message with callbacks is refused, because workermon's tasks have none."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message([[], {}, embedded]), NOW)


@pytest.mark.parametrize("body", ["", None, 5, "!", "=", base64.b64encode(b"\xff").decode(), "W" * 2_000_000, "é"])
def test_a_body_that_is_no_json_is_refused(body: Any) -> None:
    """Empty bodies, and those that are not text, base64 or UTF-8, or too long, are refused."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message(body=body), NOW)


def test_a_deep_body_is_refused() -> None:
    """A body nested deeper than a parser's limit is refused."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message(body=base64.b64encode(b"[" * 200_000).decode()), NOW)


def nested(levels: int) -> Any:
    """Return lists within lists."""
    nesting: Any = []
    for _ in range(levels):
        nesting = [nesting]
    return nesting


@pytest.mark.parametrize("levels", [messages.MAX_DEPTH + 1, 100, 900, 5000])
def test_what_is_nested_deeply_is_refused(levels: int) -> None:
    """A parser may take hundreds of levels, and a prefork node is wedged by them for good: they never reach a pool."""
    text = '{"worker_ids": ' + "[" * levels + "]" * levels + "}"
    deep = base64.b64encode(f"[[], {text}, null]".encode()).decode()
    for raw in (
        message(body=deep),
        message(headers={"stamps": {"x": nested(levels)}}),
        message(headers={"x": nested(levels)}),
        message(properties={"x": nested(levels)}),
    ):
        with pytest.raises(messages.UnusableMessage):
            messages.check(raw, NOW)


def test_long_headers_are_refused() -> None:
    """Header sizes are limited, whatever their names are, because every part holds and logs them."""
    with pytest.raises(messages.UnusableMessage, match="headers are longer"):
        messages.check(message(headers={"x-anything": "y" * messages.MAX_HEADERS}), NOW)


@pytest.mark.parametrize("name", sorted(messages.EMBEDDING_HEADERS))
def test_a_header_that_has_another_task_follow_is_refused(name: str) -> None:
    """Nothing follows our tasks, by whatever name a sender asks for it."""
    with pytest.raises(messages.UnusableMessage, match=name):
        messages.check(message(headers={name: [{"task": "workermon.collect"}]}), NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"timelimit": "x"}, {"timelimit": ["a", "b"]}, {"timelimit": [1]}, {"timelimit": [float("nan"), 1]},
        {"id": ["a"]}, {"id": None}, {"id": 5}, {"id": ""}, {"id": "a\nb"}, {"id": "\ud800"}, {"id": "x" * 1000},
        {"task": ["a"]}, {"task": None}, {"task": 5}, {"task": "celery.chord_unlock"}, {"stamped_headers": 5},
        {"stamped_headers": [5]}, {"stamps": 5}, {"shadow": ["x"]}, {"group": 5}, {"retries": "x"}, {"retries": -1},
        {"eta": "9999-12-31T00:00:00"}, {"eta": "2026-01-01T01:01:00"}, {"eta": 5}, {"eta": "junk"}, {"expires": [1]},
        {"expires": "junk"}, {"ignore_result": "x"}, {"root_id": [1]}, {"argsrepr": 5}, {"kwargsrepr": {}},
        {"compression": "zlib"}, {"callbacks": 5}, {"chain": [1]}, {"get": None}, {"delivery_info": 5}, {"hostname": 5},
        {"args": []},
    ],
    ids=str,
)  # fmt: skip
def test_headers_that_celery_would_choke_on_are_refused(header: dict[str, Any]) -> None:
    """Each header of Celery must have its type, and none may replace the node's own values."""
    with pytest.raises(
        messages.UnusableMessage, match=next(iter(header)) if "celery." not in str(header) else "Celery"
    ):
        messages.check(message(headers=header), NOW)


@pytest.mark.parametrize(
    "properties",
    [
        {"delivery_tag": None}, {"delivery_tag": 5}, {"delivery_tag": ["x"]}, {"delivery_tag": ""},
        {"delivery_info": None}, {"delivery_info": 5}, {"delivery_info": {}}, {"reply_to": 5}, {"correlation_id": [1]},
        {"delivery_info": {"exchange": "", "routing_key": ["x"]}}, {"priority": "x"}, {"body_encoding": "rot13"},
        {"delivery_info": {"exchange": "", "routing_key": "q", "consumer_tag": "1"}},
    ],
    ids=str,
)  # fmt: skip
def test_properties_that_kombu_would_choke_on_are_refused(properties: dict[str, Any]) -> None:
    """Where it was sent and its tag are text."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message(properties=properties), NOW)


@pytest.mark.parametrize(
    "over",
    [{"content-type": "text/x"}, {"content-type": 5}, {"content-encoding": "nosuch"}, {"headers": None},
     {"headers": "x"}, {"properties": "x"}],
    ids=str,
)  # fmt: skip
def test_an_envelope_of_another_kind_is_refused(over: dict[str, Any]) -> None:
    """Content is JSON in UTF-8. Headers and properties are objects."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(message() | over, NOW)


@pytest.mark.parametrize("raw", [None, 5, "x", [], {}])
def test_what_is_no_message_is_refused(raw: Any) -> None:
    """Anything that JSON can be is looked at."""
    with pytest.raises(messages.UnusableMessage):
        messages.check(raw, NOW)


def test_the_queues_looked_at_are_those_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every queue of our tasks is looked at."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://127.0.0.1:6379/1")
    assert {queue.name for queue in app.configuration().task_queues} == messages.QUEUES


class Taken:
    """A message that the node has taken from its queue."""

    acknowledged = False

    def reject(self, *, requeue: bool) -> None:
        """Give it back for good."""
        assert not requeue
        self.acknowledged = True


def test_a_message_that_the_consumer_chokes_on_all_the_same_is_rejected() -> None:
    """Nothing that Celery's consumer raises about a message leaves it in the node's hands."""
    logged: list[str] = []

    def hear(reason: str, **_: Any) -> None:
        logged.append(reason)

    refused_messages.refused.connect(hear)
    try:
        batch, nothing = Taken(), dict[str, str]()
        refused_messages.guarded("workermon.collect", lambda _: nothing["gone"])(batch)
    finally:
        refused_messages.refused.disconnect(hear)
    assert batch.acknowledged
    assert logged == ["KeyError: 'gone'"]


def test_an_error_of_the_connection_is_not_the_messages() -> None:
    """If the connection breaks, the message is not rejected, and Celery reconnects."""
    batch = Taken()
    with pytest.raises(ConnectionError):
        refused_messages.guarded("workermon.collect", _break)(batch)
    assert not batch.acknowledged


def _break(_: object) -> None:
    raise ConnectionError("gone")


def test_a_channel_whose_connection_was_closed_fails_as_one_without_a_connection() -> None:
    """A message given back or acknowledged after the server went away does not end the node."""
    channel: Any = object.__new__(broker.Channel)
    channel.connection = types.SimpleNamespace(client=None)
    with pytest.raises(broker.Transport.connection_errors):
        channel._connparams()
