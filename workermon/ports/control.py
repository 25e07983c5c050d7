"""Clocks, leases, wake-ups, signs of life, and the set-up as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import CANARY_EVERY, Configuration, Worker
from workermon.ports.alerts import Verdict


class Clock(Protocol):
    """The time now, in seconds since 1970; the composition root gives ``time.time``."""

    def __call__(self) -> float:
        """Return the time now."""


class Configurations(Protocol):
    """The configuration in force; the defaults of the contract where none was applied."""

    def load(self) -> Configuration:
        """Return it; cheap where it has not changed."""

    def save(self, configuration: Configuration) -> bool:
        """Put it in force; ``False`` where ``revision`` is not exactly one above what is there."""


class Change(NamedTuple):
    """A set-up that is to be in force, and what that is based on.

    ``mark`` is what ``Setup.mark`` returned before ``fleet`` (who is monitored, by id) and the configuration were read.
    ``leaving`` are the last verdicts of those who leave; ``configuration`` is ``None`` where it stays as it is.
    """

    mark: str
    fleet: Mapping[str, Worker]
    added: Sequence[Worker]
    updated: Sequence[Worker]
    leaving: Sequence[Verdict]
    configuration: Configuration | None
    at: float


class Setup(Protocol):
    """The whole set-up, changed at once: nobody sees a part of it."""

    def mark(self) -> str:
        """Return what is another one after every change of the set-up."""

    def put(self, change: Change) -> bool:
        """Write all of it in one step; ``False``, and nothing written, where what it is based on has changed.

        That are the mark, who is monitored, the workers that are to change, and the alerts of those who leave. Where
        the configuration changes everybody is marked as to be judged.
        """


#: Seconds. After such a pause between two that were published, those lost before count no more.
CANARY_BREAK = 3 * CANARY_EVERY
#: Where each comes by after beat has sent it: a worker process published it, the listener heard it, an evaluation put
#: its parcel into the outbox, and delivery took that out.
CANARY_STEPS = ("published", "heard", "judged", "accepted")


class Reached(NamedTuple):
    """When a canary came to a step, and when that same canary had set out."""

    begun: float
    at: float


class Trace(NamedTuple):
    """How far canaries came (``CANARY_STEPS``).

    ``reached`` has for each step the last canary that came there, ``lost`` how many came to the step before since then
    (the last of them may still be under way), ``sent`` how many beat had sent when one was published last.
    """

    reached: dict[str, Reached]
    lost: dict[str, int]
    sent: int


class Canary(Protocol):
    """The trace that canaries leave, and their own channel (``canary``)."""

    def publish(self, begun: float, at: float, sent: int) -> None:
        """In one step: note that it is published, and publish it; ``sent`` is how many beat has sent so far.

        What was lost before a long break counts no more.
        """

    def reach(self, step: str, begun: float, at: float) -> None:
        """Note that the canary that set out at ``begun`` came to a later step."""

    def trace(self) -> Trace:
        """Return how far they came."""


class Dispatcher(Protocol):
    """Wakes the next stage: identifiers in a Celery message. It may get lost; a sweep finds what no bell announced."""

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Have these workers judged."""

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Have the notifications of these alerts sent."""

    def canary(self) -> None:
        """Have the canary that was heard judged."""

    def reconcile(self) -> None:
        """Have repository, schedule and EC2 compared."""


#: Seconds without a mark after which the listener has been away. It marks itself each 2 s, another takes over within 5.
BREAK = 10
#: Seconds. Beat and collectors are at work by then: imports, and the lock of a beat that was killed, take most of it.
START_UP = 30


class Pulse(Protocol):
    """Signs of life of each part (``listener``, ``collect``, ``evaluate``, ``deliver``), and counts of what went by.

    ``canary``: when a listener that hears canaries began to lead.
    """

    def mark(self, part: str, at: float) -> None:
        """Note that a part did its work at that time."""

    def marks(self) -> dict[str, float]:
        """Return when each part last did its work."""

    def monitoring_since(self) -> float | None:
        """Return since when the monitor is whole: ``None`` before its listener ever was there.

        It begins where the listener was away for more than ``BREAK``, and is whole with the first collection after
        that, at most ``START_UP`` later: where none comes, silence is the monitor's own, and counts all the same.
        Where the listener's clock was set back by more than ``BREAK`` it begins too: times before that tell nothing.
        """

    def judges(self, at: float) -> None:
        """Note that a judgement begins: what waited in a queue may be judged before the listener is back."""

    def count(self, what: str, number: int = 1) -> None:
        """Count something by a name such as ``event.invalid``."""

    def counts(self) -> dict[str, int]:
        """Return all counts."""


class Leases(Protocol):
    """Who may do what only one may do. Time is Redis' own."""

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, or extend it where it is the owner's already; ``False`` where another holds it."""

    def release(self, name: str, owner: str) -> None:
        """Give it back, where it is still the owner's."""


class Server(Protocol):
    """The server that holds the state, as far as its own settings matter."""

    def settings(self) -> dict[str, str]:
        """Return what it says of itself, by name, such as ``maxmemory_policy`` and ``aof_enabled``."""

    def time(self) -> float:
        """Return its clock."""


class Nodes(Protocol):
    """Celery's worker nodes."""

    def ping(self, timeout: float = 1.0) -> list[str]:
        """Return the names of those that answer."""

    def queues(self) -> dict[str, int]:
        """Return how many messages wait in each queue of ours, and as ``unacked`` how many are in a node's hands."""
