"""The subjects of alerts, by name."""

from __future__ import annotations

from typing import Literal, NamedTuple

from workermon.models.usage import WHOLE_INSTALLATION
from workermon.models.worker import Worker

SubjectKind = Literal["worker", "account", "installation", "channel", "group"]

#: How the id of a channel's subject begins.
CHANNEL_PREFIX = "channel:"
_GROUP = "group:"


class SubjectKey(NamedTuple):
    """The worker, account and region, channel or group of workers that an alert is about.

    Its alerts' ids begin with ``id``: ``i-0abc…``, ``default/us-east-1``, ``*/*``, ``channel:ops``, ``group:pool=a``.
    ``incarnation`` is new each time a worker is added, so that remains of an earlier life match nothing. Other subjects
    have only one life.
    """

    kind: SubjectKind
    id: str
    incarnation: str


#: The installation as a whole.
INSTALLATION = SubjectKey("installation", WHOLE_INSTALLATION, "installation")


def worker_subject(worker: Worker) -> SubjectKey:
    """Return the subject of a worker."""
    return SubjectKey("worker", worker.id, worker.incarnation)


def account_subject(key: str) -> SubjectKey:
    """Return the subject of an account and region."""
    return SubjectKey("account", key, "account")


def channel_subject(channel: str) -> SubjectKey:
    """Return the subject of a channel.

    >>> channel_subject("ops").id
    'channel:ops'
    """
    return SubjectKey("channel", f"{CHANNEL_PREFIX}{channel}", "channel")


def group_subject(by: str, value: str) -> SubjectKey:
    """Return the subject of the workers whose label ``by`` has a value.

    >>> group_subject("pool", "a").id
    'group:pool=a'
    """
    return SubjectKey("group", f"{_GROUP}{by}={value}", "group")


def group_of(subject_id: str) -> tuple[str, str] | None:
    """Return a group's label and value from its subject's id; ``None`` for another subject.

    >>> group_of("group:pool=a"), group_of("channel:ops"), group_of("group:pool")
    (('pool', 'a'), None, None)
    """
    by, equals, value = subject_id.removeprefix(_GROUP).partition("=")
    return (by, value) if subject_id.startswith(_GROUP) and by and equals else None
