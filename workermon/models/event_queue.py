"""The event queue: EventBridge's messages about instances, delivered by SQS."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from workermon.models.base import Frozen, InstanceId, rfc3339
from workermon.models.worker import ScheduledEvent, account_and_region

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}", re.ASCII)

#: The prefix of a queue's name where otherwise an account's name is: the state of reading it is stored like that of an
#: account and region. No account can have such a name.
_PREFIX = "events:"


#: The source and type of the event with which ``doctor`` tests a queue. A rule of on_aws/events.yaml matches them.
OWN_SOURCE = "workermon"
OWN_TYPE = "workermon doctor"


class EventQueue(Frozen):
    """An SQS queue; ``account`` is the one whose credentials read it, ``None``: boto3's own."""

    queue_url: str
    account: str | None = None

    @property
    def region(self) -> str | None:
        """Return the region that the address names.

        >>> EventQueue(queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/workermon").region
        'eu-west-1'
        """
        host = urlsplit(self.queue_url).hostname or ""
        return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)


def queue_key(name: str, region: str) -> str:
    """Return the key under which the state of reading the queue is stored.

    >>> queue_key("main", "us-east-1")
    'events:main/us-east-1'
    """
    return f"{_PREFIX}{name}/{region}"


def queue_of(key: str) -> str | None:
    """Return the queue's name from a ``queue_key``, ``None`` for the key of an account and region."""
    account, _ = account_and_region(key)
    return account.removeprefix(_PREFIX) if account.startswith(_PREFIX) else None


def own_event(sent: float) -> str:
    """Return the event that tests a queue, in EventBridge's form."""
    event = {
        "version": "0",
        "id": f"workermon-doctor-{sent!r}",
        "source": OWN_SOURCE,
        "detail-type": OWN_TYPE,
        "time": rfc3339(sent),
        "resources": [],
        "detail": {"sent": sent},
    }
    return json.dumps(event)


class QueueEvent(Frozen):
    """A parsed message: the instances that it is about, and when (seconds).

    ``warning`` is a fact about the one instance. ``starts``: an instance starts or runs, so it may be new. ``test`` is
    the time at which ``doctor`` sent it.
    """

    id: str
    at: float
    instances: tuple[InstanceId, ...] = ()
    warning: ScheduledEvent | None = None
    starts: bool = False
    test: float | None = None
