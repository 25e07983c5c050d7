"""The ports for workers and their schedule, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workermon import errors, models, ports
from workermon.testing import memory


class MemoryWorkers:
    """``ports.Workers`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store

    def add(self, workers: Sequence[models.Worker]) -> None:
        """Add them all or none."""
        with self._store.lock:
            ids: set[str] = set()
            for worker in workers:
                if worker.id in ids:
                    raise errors.InvalidInput(f"worker {worker.id}", "it is named twice", "name it once")
                ids.add(worker.id)
                if worker.id in self._store.workers and not self._store.living(worker.id, worker.incarnation):
                    raise errors.InvalidInput(
                        f"worker {worker.id}", "it is monitored already", "see 'workermon show', or remove it first"
                    )
            for worker in workers:
                self._store.workers.setdefault(worker.id, memory.StoredWorker(worker))

    def update(self, worker: models.Worker) -> bool:
        """Replace how a worker is set up, if its incarnation exists."""
        with self._store.lock:
            stored = self._store.living(worker.id, worker.incarnation)
            if stored is None:
                return False
            stored.replace(worker)
            return True

    def restore(self, record: ports.Record) -> bool:
        """Replace set-up and condition of a worker, if its incarnation exists."""
        with self._store.lock:
            stored = self._store.living(record.worker.id, record.worker.incarnation)
            if stored is None:
                return False
            stored.replace(record.worker)
            stored.condition, stored.dimensions_at = record.condition, record.dimensions_at
            return True

    def get(self, worker_ids: Sequence[str]) -> dict[str, ports.Record]:
        """Return the records of the workers that exist."""
        with self._store.lock:
            return {
                worker_id: self._store.workers[worker_id].record()
                for worker_id in worker_ids
                if worker_id in self._store.workers
            }

    def reset_unreadable(self, worker_ids: Sequence[str]) -> None:
        """Do nothing: in memory every set-up can be read."""

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""
        with self._store.lock:
            return sorted(self._store.workers)

    def monitored(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of these workers are monitored."""
        with self._store.lock:
            return {worker_id for worker_id in worker_ids if worker_id in self._store.workers}

    def every(self, chunk: int = 500) -> Iterator[ports.Record]:
        """Yield the whole fleet."""
        ids = self.ids()
        for start in range(0, len(ids), chunk):
            yield from self.get(ids[start : start + chunk]).values()

    def summaries(self) -> Iterator[ports.WorkerSummary]:
        """Yield a summary of each worker of the fleet."""
        return map(ports.WorkerSummary.of, self.every())

    def with_series(self, least: int) -> list[str]:
        """Return the workers whose stored dimension sets are long."""
        return [
            record.worker.id for record in self.every() if max(map(len, record.dimensions.values()), default=0) >= least
        ]

    def found_dimensions(
        self, worker: models.Worker, dimensions: dict[str, list[models.Dimensions]], at: float
    ) -> bool:
        """Add results of ListMetrics to the stored ones, unless the incarnation is gone."""
        with self._store.lock:
            stored = self._store.living(worker.id, worker.incarnation)
            if stored is None:
                return False
            stored.dimensions = {**stored.dimensions, **{name: list(sets) for name, sets in dimensions.items()}}
            stored.dimensions_at = at
            return True

    def request_collection(self, worker_ids: Sequence[str], at: float) -> None:
        """Record that the event queue named these workers."""
        with self._store.lock:
            for worker_id in worker_ids:
                if stored := self._store.workers.get(worker_id):
                    stored.requested_at = max(at, stored.requested_at or at)

    def warn(self, worker_id: str, warning: models.ScheduledEvent, at: float) -> bool:
        """Store the event queue's warnings."""
        with self._store.lock:
            stored = self._store.workers.get(worker_id)
            self.request_collection([worker_id], at)
            if stored is None or warning.id in stored.warnings:
                return False
            stored.warnings = {
                name: warning for name, warning in stored.warnings.items() if (warning.not_after or 0) + models.DAY > at
            } | {warning.id: warning}
            stored.sequence += 1
            self._store.pending.setdefault(worker_id, at)
            return True


class MemoryStatusListings:
    """``ports.StatusListings`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store
        self._last: dict[str, ports.Listing] = {}

    def put(self, at: float, statuses: Sequence[models.InstanceStatus]) -> None:
        """Store the statuses of those instances that are monitored."""
        with self._store.lock:
            for status in statuses:
                if stored := self._store.workers.get(status.id):
                    stored.listed = ports.ListedStatus(at, status.model_copy(update={"zone": ""}))

    def get(self, worker_ids: Sequence[str]) -> dict[str, ports.ListedStatus]:
        """Return what is stored of these workers."""
        with self._store.lock:
            return {
                worker_id: stored.listed
                for worker_id in worker_ids
                if (stored := self._store.workers.get(worker_id)) and stored.listed
            }

    def note(self, scope: str, listing: ports.Listing) -> None:
        """Store how the last listing of an account and region went."""
        self._last[scope] = listing

    def last(self, scope: str) -> ports.Listing | None:
        """Return how the last listing went, if that is known."""
        return self._last.get(scope)


class MemorySchedule:
    """``ports.Schedule`` and ``ports.BeatStatus`` in memory. Tests set ``broken``, ``ticked`` and ``sent``."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, float]] = {}
        self.broken: dict[str, str] = {}
        self.ticked: float | None = None
        self.sent: models.Sent | None = None

    def put(self, workers: Sequence[models.Worker], now: float) -> None:
        """Schedule workers. An existing rhythm is kept."""
        for worker in workers:
            explain_state = self.entries.get(worker.id)
            if explain_state is None or explain_state[0] != worker.interval:
                self.entries[worker.id] = (worker.interval, now + worker.interval)

    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule them."""
        for worker_id in worker_ids:
            self.entries.pop(worker_id, None)
            self.broken.pop(worker_id, None)

    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each is next due."""
        return {worker_id: self.entries[worker_id][1] for worker_id in worker_ids if worker_id in self.entries}

    def ids(self) -> set[str]:
        """Return the ids of the workers that have an entry, valid or broken."""
        return set(self.entries) | set(self.broken)

    def quarantined(self) -> dict[str, str]:
        """Return the quarantined entries."""
        return dict(self.broken)

    def last_tick(self) -> float | None:
        """Return when beat last looked for due entries."""
        return self.ticked

    def canaries(self) -> models.Sent | None:
        """Return how many canaries beat has sent."""
        return self.sent
