"""Clocks, leases, wake-ups, signs of life, and the set-up as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import CANARY_EVERY, Configuration, SavedState, Worker
from workermon.ports.alerts import Verdict


class Clock(Protocol):
    """The time now, in seconds since 1970, by a clock close to Redis' (``models.CLOCK_SKEW``)."""

    def __call__(self) -> float:
        """Return the time now."""


class MachineClock(Clock, Protocol):
    """This machine's own clock, right or wrong; only for comparisons."""


class SteadyClock(Clock, Protocol):
    """Seconds by a clock that nobody sets, since an arbitrary moment; only for how long something lasts."""


class CpuClock(Clock, Protocol):
    """The seconds of CPU that the calling thread has used."""


class Configurations(Protocol):
    """The configuration in force: the default one before a file is applied."""

    def load(self) -> Configuration:
        """Return the configuration. Cheap if it has not changed."""

    def loaded(self) -> Configuration:
        """Return the configuration last loaded in this process, for code that need not notice a change at once."""

    def of_revision(self, revision: int) -> Configuration:
        """Return the configuration last loaded in this process if it has that revision, otherwise the one in force."""

    def save(self, configuration: Configuration) -> bool:
        """Put a configuration in force; ``False`` unless its ``revision`` is one above the one in force."""


class Change(NamedTuple):
    """A change of the set-up, and its basis.

    ``version`` is what ``Setup.version`` returned before ``fleet`` (the monitored workers by id) and the configuration
    were read. ``leaving`` are the last verdicts of workers that are removed. ``configuration`` is ``None`` if it stays.
    """

    version: str
    fleet: Mapping[str, Worker]
    added: Sequence[Worker]
    updated: Sequence[Worker]
    leaving: Sequence[Verdict]
    configuration: Configuration | None
    at: float


class Setup(Protocol):
    """The whole set-up, changed in one step: nobody sees half of a change."""

    def version(self) -> str:
        """Return a value that differs after every change of the set-up."""

    def put(self, change: Change) -> bool:
        """Write a change in one step; ``False``, and nothing is written, if its basis has changed.

        It is based on the version, on who is monitored, on the workers to change, and on the alerts of workers that are
        removed. If the configuration changes, every worker is marked as pending.
        """


#: Seconds. After such a pause between two published canaries, earlier losses no longer count.
CANARY_BREAK = 3 * CANARY_EVERY
#: The steps of a canary after beat sent it: a worker process published it, the listener received it, an evaluation put
#: its notification into the outbox, and delivery took it out.
CANARY_STEPS = ("published", "received", "evaluated", "accepted")


class Reached(NamedTuple):
    """When a canary reached a step, and when that canary was sent."""

    sent_at: float
    at: float


class Trace(NamedTuple):
    """How far canaries got (``CANARY_STEPS``).

    By step, ``reached`` is the last canary that got there, and ``lost`` is how many reached the step before since then
    (the last of them may still be on its way). ``sent`` is how many beat had sent when one was last published.
    """

    reached: dict[str, Reached]
    lost: dict[str, int]
    sent: int


class Canary(Protocol):
    """The progress of canaries, and their own channel (``canary``)."""

    def publish(self, sent_at: float, at: float, sent: int) -> None:
        """Publish a canary and record that, in one step; ``sent`` is how many beat has sent so far.

        Canaries lost before a long break no longer count.
        """

    def reach(self, step: str, sent_at: float, at: float) -> None:
        """Record that the canary sent at ``sent_at`` reached a later step."""

    def trace(self) -> Trace:
        """Return how far the canaries got."""


class Dispatcher(Protocol):
    """Wakes the next stage by a Celery message with identifiers. If the message is lost, a sweep finds the work."""

    def collect(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Enqueue the collection of these workers, beside their schedule. It begins so many seconds later."""

    def list_statuses(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Enqueue listing the statuses of these workers' account and region. It begins so many seconds later."""

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Enqueue the evaluation of these workers."""

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Enqueue the delivery of these alerts' notifications."""

    def canary(self) -> None:
        """Enqueue the evaluation of the received canary."""

    def reconcile(self) -> None:
        """Enqueue a reconciliation of repository, schedule and EC2."""


#: Seconds without a sign of life after which the listener counts as away. It gives one each 2 s, and a standby takes
#: over within 5 s.
BREAK = 10
#: Seconds after which beat and collections work. Most of it is imports, and waiting for the lock of a killed beat.
START_UP = 30


class Liveness(Protocol):
    """Signs of life of each part (``listener``, ``collect``, ``evaluate``, ``deliver``), and counts of events.

    The part ``canary`` is when a listener that receives canaries took the lead. If evaluation or delivery work more
    often than once a second, not each time is recorded.
    """

    def beat(self, part: str, at: float) -> None:
        """Record that a part worked at that time."""

    def beats(self) -> dict[str, float]:
        """Return when each part last did its work."""

    def monitoring_since(self) -> float | None:
        """Return since when the monitor has worked without a break, ``None`` before its listener first ran.

        It starts again if the listener was away for more than ``BREAK``, with the first collection after that, at most
        ``START_UP`` later: if there is none, the silence is real and counts. It also starts again if the listener's
        clock was set back by more than ``BREAK``, because earlier times mean nothing then.
        """

    def evaluation_started(self, at: float) -> None:
        """Record that an evaluation begins. A queue may trigger evaluations before the listener is back."""

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter, such as ``event.invalid``."""

    def counts(self) -> dict[str, int]:
        """Return all counters."""


class BacklogCounts(NamedTuple):
    """How much there is of each kind of work for a sweep, and the fleet's size.

    ``revision`` is that of the configuration in force, or -1 if the stored one cannot be read. A number above 0 means
    that there may be such work. The code that does it checks again.
    """

    revision: int
    workers: int
    #: Silences, whether in force or not, and channels whose last attempt failed.
    silences: int
    failing_channels: int
    #: Subjects to evaluate, queues to deliver from, and alerts to escalate.
    pending: int
    undelivered: int
    escalations: int


class LeaseClaim(NamedTuple):
    """The owner of a lease, and its seconds from now on."""

    lease: str
    owner: str
    seconds: float


class SweepBacklog(Protocol):
    """Tells the active listener in one call what a sweep has to do; usually that is nothing."""

    def look(self, claim: LeaseClaim, now: float, age: float, *, works: bool) -> BacklogCounts | None:
        """Extend the lease and count the work; ``None`` if another owner holds the lease.

        Pending workers count once their sample is ``age`` seconds old. ``works``: the last sweep succeeded. That marks
        the listener, as ``Liveness.beat`` does.
        """


class Leases(Protocol):
    """Leases for work that only one process may do at a time. Time is Redis' own."""

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take or extend a lease; ``False`` if another owner holds it."""

    def release(self, name: str, owner: str) -> None:
        """Release a lease, if the owner still holds it."""


class Ping(Protocol):
    """Requests the address of a dead-man's switch."""

    def __call__(self, url: str) -> None:
        """Request it by GET, within a deadline; raises ``errors.DeliveryFailed`` unless the answer is a 2xx."""


class Server(Protocol):
    """The Redis server: its settings and its clock."""

    def settings(self) -> dict[str, str]:
        """Return the server's settings by name, such as ``maxmemory_policy`` and ``aof_enabled``."""

    def time(self) -> float:
        """Return the server's time."""


class Unreadable(Protocol):
    """The records that cannot be read. Each is left out, and reported for a while after it was last tried."""

    def load(self) -> dict[str, str]:
        """Return why each record cannot be read, by its key."""


class Schema(Protocol):
    """The version of all stored data (``models.SCHEMA``)."""

    def prepare(self) -> None:
        """Migrate the stored data to this version, or wait until another process has done so.

        Raises ``errors.SchemaMismatch`` if a newer version is stored, or another process takes too long. An empty
        store gets this version.
        """


class SavedStates(Protocol):
    """The whole state as stored in backups."""

    def load(self) -> SavedState:
        """Return the present state. A change made meanwhile may be in it twice, but is never left out."""

    def replace(self, state: SavedState, at: float, *, force: bool = False) -> bool:
        """Replace the present state in one step, at a time; with ``force`` even if there is any.

        ``False``, and nothing is written, if something is already set up here. Tokens, sessions and the audit trail
        stay.
        """


class Nodes(Protocol):
    """Celery's worker nodes."""

    def ping(self, timeout: float = 1.0) -> list[str]:
        """Return the names of the nodes that answer."""

    def queues(self, answering: int) -> dict[str, int]:
        """Return how many messages wait in each of our queues, and as ``unacked`` how many the nodes hold.

        If the broker does not know that, as many nodes as are ``answering`` are asked.
        """
