"""Kombu's Redis transport, but what is no message at all does not end the node that takes it from the queue.

Kombu parses what it took before Celery sees it, and an error there ends the process, after the item is gone from the
queue. Here it is logged with its reason, and the next one is taken.
"""

from __future__ import annotations

from typing import Any

import kombu
from celery.app import amqp
from kombu.transport import redis as kombu_redis

from workermon import logs

log = logs.get(__name__)

#: What parsing raises where an item is no JSON, or JSON but no message. Errors of the connection are others.
_NO_MESSAGE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)


class _Careful:
    """Passes over items that are no messages; for a channel of Kombu's."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _NO_MESSAGE as why:
            log.error("queue.no_message", reason=f"{type(why).__name__}: {why}"[:200])
            return True


class Channel(_Careful, kombu_redis.Channel):
    """The channel to one server."""


class Transport(kombu_redis.Transport):
    """The transport to one server."""

    Channel = Channel


class SentinelChannel(_Careful, kombu_redis.SentinelChannel):
    """The channel to a server that Sentinel names."""


class SentinelTransport(kombu_redis.SentinelTransport):
    """The transport to a server that Sentinel names."""

    Channel = SentinelChannel


class Connection(kombu.Connection):
    """A connection that uses them; its URL says ``redis``, ``rediss`` or ``sentinel`` as ever."""

    def get_transport_cls(self) -> Any:
        """Return the transport's class."""
        usual = super().get_transport_cls()
        return {kombu_redis.Transport: Transport, kombu_redis.SentinelTransport: SentinelTransport}.get(usual, usual)


class AMQP(amqp.AMQP):
    """What an application needs of its broker."""

    Connection = Connection
