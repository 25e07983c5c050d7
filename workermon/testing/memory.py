"""The state that the in-memory ports of the repository share, as the real ones share one Redis."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workermon import models, ports

#: Attempts kept for each alert (as on Redis).
MAX_ATTEMPTS = 500


@dataclass
class StoredWorker:
    """A worker and everything stored about it."""

    worker: models.Worker
    condition: models.Condition = field(default_factory=models.Condition)
    slot: tuple[int, int] | None = None
    #: Which slot is claimed, and until when on the store's clock.
    claim: tuple[tuple[int, int], float] | None = None
    dimensions: dict[str, list[models.Dimensions]] = field(default_factory=dict)
    dimensions_at: float = 0.0
    changed_from: int | None = None
    sequence: int = 0
    requested_at: float | None = None
    listed: ports.ListedStatus | None = None
    #: The event queue's warnings, by id.
    warnings: dict[str, models.ScheduledEvent] = field(default_factory=dict)
    #: The configuration's revision by which it is steady.
    steady_by: int | None = None

    def replace(self, worker: models.Worker) -> None:
        """Replace how it is set up, and clear its steadiness."""
        self.worker, self.steady_by = worker, None

    def complete(self, slot: tuple[int, int]) -> bool:
        """Return whether a slot, (interval, number), is complete."""
        if self.slot is None or self.slot[0] != slot[0]:
            return False
        return 0 <= (self.slot[1] - slot[1]) * slot[0] <= ports.SLOT_TOLERANCE

    def record(self) -> ports.Record:
        """Return it as the ports do."""
        return ports.Record(
            self.worker,
            self.condition.with_warnings(list(self.warnings.values())),
            dict(self.dimensions),
            self.dimensions_at,
            self.changed_from,
            self.sequence,
            self.requested_at,
        )


@dataclass
class StoredAlerts:
    """The alerts of one subject by rule, and how often they were committed."""

    alerts: dict[str, models.Alert] = field(default_factory=dict)
    version: int = 0


@dataclass
class StoredGroup:
    """The reports of a group's members, by rule and worker id, and their number."""

    members: dict[str, dict[str, models.GroupMember]] = field(default_factory=dict)
    changed_from: int | None = None
    sequence: int = 0


@dataclass
class NotificationQueue:
    """The notifications of one alert that wait for one channel."""

    waiting: list[models.Notification] = field(default_factory=list)
    retry_at: float = 0.0
    #: Seconds that it waits until then; 0 if it was already due when it was added.
    wait: float = 0.0
    leased_until: float = 0.0
    fence: int | None = None
    attempts: int = 0


class MemoryStore:
    """The state shared by the repository's ports. ``clock`` is the time of leases, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, channel: str = "workermon:metrics") -> None:
        self.clock = clock
        self.channel = channel
        self.lock = threading.RLock()
        #: Every published message, as (channel, text), oldest first.
        self.published: list[tuple[str, str]] = []
        self.workers: dict[str, StoredWorker] = {}
        #: Value by timestamp, of each (worker id, metric, period).
        self.ledger: dict[tuple[str, str, int], dict[int, float]] = {}
        self.pending: dict[str, float] = {}
        #: Roll-ups by hour, of each (worker id, metric); and when each (worker id, hour) is due.
        self.rollups: dict[tuple[str, str], dict[int, models.RollUp]] = {}
        self.rollups_due: dict[tuple[str, int], float] = {}
        #: The transitions of each alert, newest first: its number, when it was recorded, and the entry.
        self.history: dict[str, list[tuple[int, float, models.HistoryEntry]]] = {}
        #: No transition in ``history`` is older.
        self.oldest = math.inf
        self.numbers = itertools.count(1)
        self.attempts: dict[str, list[models.Attempt]] = {}
        self.last: dict[str, models.Notification] = {}
        self.last_versions: dict[str, dict[str, int]] = {}
        self.queues: dict[tuple[str, str], NotificationQueue] = {}
        #: When each queue's last notification is sent again, by (alert id, channel).
        self.reminders: dict[tuple[str, str], float] = {}
        #: When each alert escalates next, by its id.
        self.escalations: dict[str, float] = {}
        #: The state of collection in each account and region, and when its shortest interval was recorded, by key.
        self.accounts: dict[str, models.AccountState] = {}
        self.intervals_at: dict[str, float] = {}
        #: The alerts of each subject, by its id.
        self.alerts: dict[str, StoredAlerts] = {}
        #: The groups of workers that rules are over, by the subject's id.
        self.groups: dict[str, StoredGroup] = {}
        self.fences = itertools.count(1)
        self.configuration: models.Configuration | None = None
        self.changes = 0
        self._listeners: list[queue.SimpleQueue[tuple[str, str]]] = []

    @property
    def revision(self) -> int:
        """Return the revision of the configuration in force."""
        return self.configuration.revision if self.configuration else 0

    def record(self, alert_id: str, at: float, entry: models.HistoryEntry) -> None:
        """Add a transition to the history of an alert, with the time of its recording."""
        self.history.setdefault(alert_id, []).insert(0, (next(self.numbers), at, entry))
        self.oldest = min(self.oldest, entry.at)

    def publish(self, channel: str, text: str) -> None:
        """Pass a message to every subscriber."""
        with self.lock:
            self.published.append((channel, text))
            for listener in self._listeners:
                listener.put((channel, text))

    def subscribe(self) -> queue.SimpleQueue[tuple[str, str]]:
        """Return a queue of the messages published from now on."""
        with self.lock:
            self._listeners.append(queue.SimpleQueue())
            return self._listeners[-1]

    def unsubscribe(self, listener: queue.SimpleQueue[tuple[str, str]]) -> None:
        """End a subscription."""
        with self.lock:
            self._listeners.remove(listener)

    def living(self, worker_id: str, incarnation: str) -> StoredWorker | None:
        """Return a worker's stored data, if it is still the same incarnation."""
        stored = self.workers.get(worker_id)
        return stored if stored and stored.worker.incarnation == incarnation else None
