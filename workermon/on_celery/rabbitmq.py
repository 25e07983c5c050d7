"""Kombu's transport for RabbitMQ, hardened: a malformed message does not harm the node that receives it.

Otherwise a message that makes Celery's consumer fail stays with the node, or ends the node, and RabbitMQ delivers it to
the next one. See ``broker`` for the same over Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from kombu.transport import pyamqp

from workermon.on_celery import messages, refused_messages

#: Seconds to wait until RabbitMQ has taken a message. A server short of memory or disk takes none.
CONFIRMED_WITHIN: Final = 4.0

#: Bytes of a content header before its properties: class, weight and the size of the body.
_BEFORE_PROPERTIES: Final = 12
_HEADER_FRAME: Final = 2
#: Bits that say which properties follow: none.
_NO_PROPERTIES: Final = b"\x00\x00"


class Channel(pyamqp.Channel):
    """Skips messages that Celery cannot use, and checks for each sent message whether RabbitMQ accepted it."""

    def basic_publish_confirm(self, *args: Any, **options: Any) -> Any:
        """Send a message. Raises if RabbitMQ does not take it in time."""
        options["confirm_timeout"] = options.get("confirm_timeout") or CONFIRMED_WITHIN
        return super().basic_publish_confirm(*args, **options)

    def basic_consume(self, queue: str = "", callback: Any = None, **options: Any) -> Any:
        """Consume a queue. A valid task message goes to ``callback``; an invalid one is removed from the queue."""
        checked_callback = self._checked(queue, callback) if queue in messages.QUEUES else callback
        return super().basic_consume(queue=queue, callback=checked_callback, **options)

    def _checked(self, queue: str, callback: Callable[[Any], Any]) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            try:
                messages.check(_raw(message), time.time())
                callback(message)
            except refused_messages.NO_MESSAGE as error:
                wrong = isinstance(error, messages.UnusableMessage)
                refused_messages.refuse(queue, str(error) if wrong else f"{type(error).__name__}: {error}")
                self.basic_reject(message.delivery_info["delivery_tag"], requeue=False)

        return take


def _raw(message: Any) -> dict[str, Any]:
    """Return a message in the form in which Kombu's other transports store it in their queues."""
    properties = message.properties
    return {
        "properties": {
            **{name: properties.get(name) for name in ("reply_to", "correlation_id", "priority")},
            "delivery_tag": str(message.delivery_info["delivery_tag"]),
            "delivery_info": {name: message.delivery_info[name] for name in ("exchange", "routing_key")},
        },
        "headers": properties.get("application_headers"),
        "content-type": properties.get("content_type"),
        "content-encoding": properties.get("content_encoding"),
        "body": message.body,
    }


def _guarded_reader(connection: Any, callback: Any) -> Callable[[Any], Any]:
    """Return a reader of py-amqp's frames that continues after a message with unreadable headers."""
    handle = pyamqp.amqp.connection.frame_handler(connection, callback)

    def on_frame(frame: Any) -> Any:
        try:
            return handle(frame)
        except refused_messages.NO_MESSAGE:
            kind, channel, content = frame
            if kind != _HEADER_FRAME:
                raise
            # The message without its properties. It is not a task, so it is refused.
            return handle((kind, channel, bytes(content[:_BEFORE_PROPERTIES]) + _NO_PROPERTIES))

    return on_frame


class Connection(pyamqp.Connection):
    """A connection whose channels and frames tolerate malformed messages."""

    Channel = Channel

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, frame_handler=_guarded_reader, **options)


class Transport(pyamqp.Transport):
    """The transport to RabbitMQ."""

    Connection = Connection


class TlsTransport(pyamqp.SSLTransport):
    """The transport to RabbitMQ over TLS."""

    Connection = Connection


def waiting(connection: Any) -> dict[str, int]:
    """Return how many messages wait in each of our queues. Only the nodes know what they hold (``held_messages``)."""
    sizes = {}
    for queue in sorted(messages.QUEUES):
        try:
            # A missing queue closes the channel.
            with connection.channel() as channel:
                sizes[queue] = int(channel.queue_declare(queue, passive=True).message_count)
        except pyamqp.amqp.NotFound:
            sizes[queue] = 0
    return sizes
