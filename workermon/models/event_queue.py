"""The event queue: EventBridge's messages about instances, as SQS hands them out."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from workermon.models.base import Frozen, InstanceId, rfc3339
from workermon.models.worker import ScheduledEvent, account_and_region

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}")

#: Before the name of a queue, in the place of an account's name: how its reading goes is kept as that of an account and
#: region. No account can be named so.
_PREFIX = "events:"


#: The source of the event with which ``doctor`` tries a queue, and its type. A rule of on_aws/events.yaml matches them.
OWN_SOURCE = "workermon"
OWN_TYPE = "workermon doctor"


class EventQueue(Frozen):
    """A queue of SQS; ``account`` is whose credentials read it, ``None``: boto3's own."""

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
    """Return the key under which it is kept how the reading of a queue goes.

    >>> queue_key("main", "us-east-1")
    'events:main/us-east-1'
    """
    return f"{_PREFIX}{name}/{region}"


def queue_of(key: str) -> str | None:
    """Return the name of the queue that a ``queue_key`` is about, ``None`` for that of an account and region."""
    account, _ = account_and_region(key)
    return account.removeprefix(_PREFIX) if account.startswith(_PREFIX) else None


def own_event(sent: float) -> str:
    """Return the event with which a queue is tried, as EventBridge would write it."""
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
    """What a message says: about which instances, and when (seconds).

    ``warning`` is a fact about the one instance, ``starts``: an instance starts or runs, so it may be a new one.
    ``test`` is the time at which ``doctor`` sent it.
    """

    id: str
    at: float
    instances: tuple[InstanceId, ...] = ()
    warning: ScheduledEvent | None = None
    starts: bool = False
    test: float | None = None
