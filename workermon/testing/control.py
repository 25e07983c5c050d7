"""The ports for configuration, coordination and signs of life of an installation, in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from workermon import models, ports
from workermon.testing import alerts, memory, samples


class MemoryConfigurations:
    """``ports.Configurations`` in memory."""

    def __init__(self, store: memory.MemoryStore, default: models.Configuration) -> None:
        self._store = store
        self._default = default.model_copy(update={"revision": 0})

    def load(self) -> models.Configuration:
        """Return the configuration in force."""
        return self._store.configuration or self._default

    def loaded(self) -> models.Configuration:
        """Return the configuration in force, which costs nothing here."""
        return self.load()

    def of_revision(self, revision: int) -> models.Configuration:  # noqa: ARG002 - only the one in force is known
        """Return the configuration in force."""
        return self.load()

    def save(self, configuration: models.Configuration) -> bool:
        """Put a configuration in force, if its revision is the next one."""
        with self._store.lock:
            if configuration.revision != self.load().revision + 1:
                return False
            self._store.configuration = configuration
            return True


class MemorySetup:
    """``ports.Setup`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store

    def version(self) -> str:
        """Return a value that differs after every change."""
        with self._store.lock:
            return f"{self._store.configuration.revision if self._store.configuration else 0}/{self._store.changes}"

    def put(self, change: ports.Change) -> bool:
        """Write all of it if nothing it is based on has changed."""
        store = self._store
        with store.lock:
            fleet = {worker_id: stored.worker for worker_id, stored in store.workers.items()}
            is_unchanged = self.version() == change.version and fleet.keys() == change.fleet.keys()
            is_unchanged = is_unchanged and all(
                fleet[worker.id] == change.fleet[worker.id] for worker in change.updated
            )
            bases = alerts.MemoryAlerts(store).load([verdict.basis.subject.id for verdict in change.leaving])
            moved_on = any(
                bases[basis_change.basis.subject.id].version != basis_change.basis.version
                for basis_change in change.leaving
                if is_unchanged
            )
            if not is_unchanged or moved_on:
                return False
            store.changes += 1
            store.workers.update((worker.id, memory.StoredWorker(worker)) for worker in change.added)
            for worker in change.updated:
                store.workers[worker.id].replace(worker)
            for verdict in change.leaving:
                alerts.MemoryAlerts(store).retire(verdict)
            if change.configuration is not None:
                store.configuration = change.configuration
                samples.MemorySamples(store).mark_pending(list(store.workers), change.at)
            return True


class MemoryLiveness:
    """``ports.Liveness`` in memory."""

    def __init__(self, store: memory.MemoryStore | None = None) -> None:
        self._lock = store.lock if store else threading.RLock()
        self._marks: dict[str, float] = {}
        self._since: float | None = None
        self._collects: float | None = None
        self._counts: dict[str, int] = {}

    def beat(self, part: str, at: float) -> None:
        """Record a sign of life."""
        with self._lock:
            if part == "listener":
                self._since = at if self._since is None else self._since
                self.evaluation_started(at)
                if self._marks.get("listener", at) - at > ports.BREAK:
                    self._since, self._collects = at, None
            elif part == "collect" and self._since is not None:
                first = self._collects
                if first is None or first < self._since or models.leads(first, at):
                    self._collects = at
            self._marks[part] = at

    def evaluation_started(self, at: float) -> None:
        """Record that a node evaluates, even if the listener did not enqueue it."""
        with self._lock:
            received = self._marks.get("listener")
            if received is not None and at - received > ports.BREAK:
                self._since = at

    def beats(self) -> dict[str, float]:
        """Return when each part last did its work."""
        with self._lock:
            return dict(self._marks)

    def monitoring_since(self) -> float | None:
        """Return since when listener and collection have worked without a break."""
        with self._lock:
            if self._since is None:
                return None
            collects = self._collects is not None and self._collects >= self._since
            return self._collects if collects else self._since + ports.START_UP

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def counts(self) -> dict[str, int]:
        """Return all counters."""
        with self._lock:
            return dict(self._counts)


class MemoryLeases:
    """``ports.Leases`` in memory."""

    def __init__(self, store: memory.MemoryStore | None = None) -> None:
        self._store = store or memory.MemoryStore()
        self._owners: dict[str, tuple[str, float]] = {}

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take or extend a lease."""
        with self._store.lock:
            now = self._store.clock()
            holder, until = self._owners.get(name, (owner, now))
            if holder != owner and until > now:
                return False
            self._owners[name] = (owner, now + seconds)
            return True

    def release(self, name: str, owner: str) -> None:
        """Release it."""
        with self._store.lock:
            if self._owners.get(name, ("", 0.0))[0] == owner:
                del self._owners[name]


class MemorySweepBacklog:
    """``ports.SweepBacklog`` in memory."""

    def __init__(
        self,
        store: memory.MemoryStore,
        *,
        leases: ports.Leases,
        liveness: ports.Liveness,
        silences: ports.Silences,
        failures: ports.ChannelFailures,
    ) -> None:
        self._store, self._leases, self._liveness = store, leases, liveness
        self._silences, self._failures = silences, failures

    def look(self, claim: ports.LeaseClaim, now: float, age: float, *, works: bool) -> ports.BacklogCounts | None:
        """Extend the lease and count the work that waits."""
        store = self._store
        with store.lock:
            if not self._leases.hold(claim.lease, claim.owner, claim.seconds):
                return None
            if works:
                self._liveness.beat("listener", now)
            latest_escalation = now + models.MAX_ESCALATION + models.MAX_LEAD
            reminders = sum(at <= now for at in store.reminders.values())
            return ports.BacklogCounts(
                revision=store.revision,
                workers=len(store.workers),
                silences=len(self._silences.every()),
                failing_channels=len(self._failures.load()),
                pending=sum(at <= now - age or models.leads(at, now) for at in store.pending.values()),
                undelivered=reminders
                + sum(queue.retry_at <= now or models.leads(queue.retry_at, now) for queue in store.queues.values()),
                escalations=sum(at <= now or at > latest_escalation for at in store.escalations.values()),
            )


class MemorySchema:
    """``ports.Schema`` in memory, where no data is older than the process."""

    def prepare(self) -> None:
        """Do nothing."""


class MemoryCanary:
    """``ports.Canary`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store
        self._trace = ports.Trace({}, {}, 0)

    def publish(self, sent_at: float, at: float, sent: int) -> None:
        """Record that a canary is published, and publish it."""
        with self._store.lock:
            before = self._trace.reached.get("published")
            if before is None or at - before.at > ports.CANARY_BREAK:
                self._trace.lost.clear()
            self._trace = self._trace._replace(sent=sent)
            self._note("published", sent_at, at)
            self._store.publish(ports.canary_channel(self._store.channel), repr(sent_at))

    def reach(self, step: str, sent_at: float, at: float) -> None:
        """Record that it reached a later step."""
        with self._store.lock:
            self._note(step, sent_at, at)

    def trace(self) -> ports.Trace:
        """Return how far the canaries got."""
        with self._store.lock:
            return ports.Trace(dict(self._trace.reached), dict(self._trace.lost), self._trace.sent)

    def _note(self, step: str, sent_at: float, at: float) -> None:
        self._trace.reached[step] = ports.Reached(sent_at, at)
        self._trace.lost.pop(step, None)
        after = ports.CANARY_STEPS[ports.CANARY_STEPS.index(step) + 1 :]
        if after:
            self._trace.lost[after[0]] = self._trace.lost.get(after[0], 0) + 1


class MemoryDispatcher:
    """``ports.Dispatcher`` that records its calls, oldest first."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.waits: list[float] = []
        #: The workers of each listing, and the wait for it.
        self.listings: list[tuple[tuple[str, ...], float]] = []
        self.evaluated: list[str] = []
        self.delivered: list[str] = []
        self.canaries = 0
        self.reconciliations = 0

    def collect(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Record the collection of these workers, and the wait for it if there is one."""
        self.collected.extend(worker_ids)
        if after:
            self.waits.append(after)

    def list_statuses(self, worker_ids: Sequence[str], *, after: float = 0.0) -> None:
        """Record the listing of these workers' account and region."""
        self.listings.append((tuple(worker_ids), after))

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Record the evaluation of these workers."""
        self.evaluated.extend(worker_ids)

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Record the delivery of these alerts."""
        self.delivered.extend(alert_ids)

    def canary(self) -> None:
        """Record the evaluation of the received canary."""
        self.canaries += 1

    def reconcile(self) -> None:
        """Record a reconciliation."""
        self.reconciliations += 1


class MemoryNodes:
    """``ports.Nodes``: these names answer."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        #: Messages that wait, by queue.
        self.waiting: dict[str, int] = {}

    def queues(self, answering: int) -> dict[str, int]:  # noqa: ARG002 - no node has to be asked
        """Return the waiting messages."""
        return dict(self.waiting)

    def ping(self, timeout: float = 1.0) -> list[str]:  # noqa: ARG002 - they answer at once
        """Return the names."""
        return list(self.names)


class MemoryUnreadable:
    """``ports.Unreadable`` with the records that a test sets."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        """Return these records."""
        return dict(self.reasons)


class MemoryServer:
    """``ports.Server`` in memory, with settings and a clock that a test sets."""

    def __init__(self, now: ports.Clock, **fields: str) -> None:
        self.ahead, self._now = 0.0, now
        self.values = {"maxmemory_policy": "noeviction", "aof_enabled": "1", "redis_version": "9"} | fields

    def settings(self) -> dict[str, str]:
        """Return its settings."""
        return dict(self.values)

    def time(self) -> float:
        """Return its clock."""
        return self._now() + self.ahead
