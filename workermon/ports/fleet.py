"""The repository of workers, and the schedule of their collections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from workermon.models import (
    CHECK_METRICS,
    Check,
    CheckName,
    CollectionError,
    Condition,
    Dimensions,
    Monitoring,
    ScheduledEvent,
    Sent,
    Status,
    Worker,
    leads,
)


class Record(NamedTuple):
    """A worker as its user set it up, and its condition.

    ``dimensions`` are the dimension sets from ListMetrics, by metric name. ``changed_from`` is the earliest datapoint
    written since the last evaluation (``None``: none). ``sequence`` counts the writes. ``requested_at`` is from
    when on a collection beside the schedule was last requested, by the event queue or because the last one came too
    early. The queue's warnings are among the condition's events.
    """

    worker: Worker
    condition: Condition
    dimensions: dict[str, list[Dimensions]]
    dimensions_at: float
    changed_from: int | None
    sequence: int
    requested_at: float | None = None

    @property
    def is_requested(self) -> bool:
        """Return whether a collection beside the schedule was requested and did not take place yet."""
        collected_at = self.condition.collected_at
        return self.requested_at is not None and (collected_at is None or collected_at < self.requested_at)

    def present(self, now: float) -> float:
        """Return the time for comparisons with this worker's stored times: now by the caller's clock.

        CloudWatch's newest datapoint is in the past. If it lies ahead, the caller's clock is behind.
        """
        return max(now, self.condition.newest)

    def clamped(self, now: float) -> Record:
        """Return the record without times from a clock that was ahead; the same object if there are none.

        A worker that was added in the future counts as added now.
        """
        if not self._leads(now):
            return self
        present = self.present(now)
        condition, worker = self.condition.clamped(present), self.worker
        if leads(worker.added_at, present):
            worker = worker.model_copy(update={"added_at": present})
        dimensions_at = 0.0 if leads(self.dimensions_at, present) else self.dimensions_at
        if condition is self.condition and worker is self.worker and dimensions_at == self.dimensions_at:
            return self if not leads(self.requested_at, present) else self._replace(requested_at=None)
        requested_at = None if leads(self.requested_at, present) else self.requested_at
        return self._replace(worker=worker, condition=condition, dimensions_at=dimensions_at, requested_at=requested_at)

    def _leads(self, now: float) -> bool:
        """Return whether any time is in the future by the caller's clock."""
        last_error = self.condition.last_error
        return (
            leads(max(self.worker.added_at, self.dimensions_at, self.requested_at or 0.0), now)
            or self.condition.leads(now)
            or (last_error is not None and last_error.clamped(now) is not last_error)
        )


class WorkerSummary(NamedTuple):
    """What an overview of a whole fleet needs of each worker, in a tenth of the time of a ``Record``.

    ``checks`` are the status checks that EC2 returned, ``latest`` is the newest datapoint of each metric.
    """

    id: str
    name: str
    region: str
    account: str
    labels: Mapping[str, str]
    monitoring: Monitoring
    interval: int
    added_at: float
    status: Status
    checks: tuple[tuple[CheckName, Check], ...] | None
    collected_at: float | None
    latest: Mapping[str, tuple[int, float]]
    last_error: CollectionError | None

    @classmethod
    def of(cls, record: Record) -> WorkerSummary:
        """Return the summary of a record."""
        worker, condition = record.worker, record.condition
        return cls(
            id=worker.id,
            name=worker.name,
            region=worker.region,
            account=worker.account,
            labels=worker.labels,
            monitoring=worker.monitoring,
            interval=worker.interval,
            added_at=worker.added_at,
            status=condition.status,
            checks=None if condition.checks is None else tuple(condition.checks.answered.items()),
            collected_at=condition.collected_at,
            latest=condition.latest,
            last_error=condition.last_error,
        )

    def clamped(self, now: float) -> WorkerSummary:
        """Return the summary without times from a clock that was ahead, as ``Record.clamped`` does."""
        if self.last_error is None and not leads(max(self.added_at, self.collected_at or 0.0), now):
            return self
        newest = max((at for name, (at, _) in self.latest.items() if name not in CHECK_METRICS), default=0)
        present = max(now, newest)
        return self._replace(
            added_at=present if leads(self.added_at, present) else self.added_at,
            collected_at=None if leads(self.collected_at, present) else self.collected_at,
            last_error=self.last_error and self.last_error.clamped(present),
        )


class Workers(Protocol):
    """The repository of monitored workers."""

    def add(self, workers: Sequence[Worker]) -> None:
        """Add workers, all or none. Raises ``errors.InvalidInput`` if one is already monitored."""

    def update(self, worker: Worker) -> bool:
        """Replace how a worker is set up; ``False`` if its incarnation is gone."""

    def restore(self, record: Record) -> bool:
        """Replace set-up and condition of a worker whose times were wrong; ``False`` if its incarnation is gone."""

    def get(self, worker_ids: Sequence[str]) -> dict[str, Record]:
        """Return the records of the monitored ones."""

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""

    def monitored(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of these are monitored, without reading their records."""

    def reset_unreadable(self, worker_ids: Sequence[str]) -> None:
        """Give monitored workers whose set-up cannot be read one with nothing but their id, so they can be removed."""

    def every(self, chunk: int = 500) -> Iterator[Record]:
        """Yield the whole fleet, read in chunks."""

    def summaries(self) -> Iterator[WorkerSummary]:
        """Yield a summary of each worker, in the order of ``every``."""

    def with_series(self, least: int) -> list[str]:
        """Return the workers that may have so many series of a metric: all that do, and perhaps others."""

    def found_dimensions(self, worker: Worker, dimensions: dict[str, list[Dimensions]], at: float) -> bool:
        """Store a worker's dimension sets of these metrics; ``False`` if its incarnation is gone.

        Those of other metrics stay: several processes search at the same time.
        """

    def request_collection(self, worker_ids: Sequence[str], at: float) -> None:
        """Request that workers are collected beside their schedule, from a time on. Unknown ones are ignored."""

    def warn(self, worker_id: str, warning: ScheduledEvent, at: float) -> bool:
        """Store the event queue's warning about a worker, and mark it as pending, in one step.

        ``False`` if the warning is already known or the worker is gone. A warning is deleted a day after its end.
        """


class Schedule(Protocol):
    """The RedBeat entries: one per worker, with identifiers only."""

    def put(self, workers: Sequence[Worker], now: float) -> None:
        """Schedule workers, or change their entries. An unchanged rhythm continues."""

    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule workers: no entry is left when this returns."""

    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each of these workers is due next, if it is scheduled."""

    def ids(self) -> set[str]:
        """Return the ids of workers with an entry, readable or not."""

    def quarantined(self) -> dict[str, str]:
        """Return the quarantined entries, with the reasons."""


class BeatStatus(Protocol):
    """Beat's signs of life."""

    def last_tick(self) -> float | None:
        """Return when beat last looked for due entries."""

    def canaries(self) -> Sent | None:
        """Return how many canaries beat has sent, ``None`` if it knows of none."""
