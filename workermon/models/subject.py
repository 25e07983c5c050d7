"""What an alert is about, by name."""

from __future__ import annotations

from typing import Literal, NamedTuple

from workermon.models.usage import EVERYWHERE
from workermon.models.worker import Worker

SubjectKind = Literal["worker", "account", "installation", "channel"]

_CHANNEL = "channel:"


class SubjectKey(NamedTuple):
    """Which worker, account and region, or channel an alert is about.

    ``id`` is what its alerts' ids begin with: ``i-0abc…``, ``default/us-east-1``, ``*/*``, ``channel:ops``.
    ``incarnation`` is new each time that a worker is added, so that what an earlier life left behind matches nothing;
    the others have one life.
    """

    kind: SubjectKind
    id: str
    incarnation: str


#: The installation as a whole.
INSTALLATION = SubjectKey("installation", EVERYWHERE, "installation")


def worker_subject(worker: Worker) -> SubjectKey:
    """Return the subject that a worker is."""
    return SubjectKey("worker", worker.id, worker.incarnation)


def account_subject(key: str) -> SubjectKey:
    """Return the subject that an account and region is."""
    return SubjectKey("account", key, "account")


def channel_subject(channel: str) -> SubjectKey:
    """Return the subject that a channel is.

    >>> channel_subject("ops").id
    'channel:ops'
    """
    return SubjectKey("channel", f"{_CHANNEL}{channel}", "channel")
