"""The repository of workers, the schedule and the set-up as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from workermon.models import Condition, Sent, Worker


class Record(NamedTuple):
    """A worker as it was set up, and as it was last found.

    ``dimensions`` is what ListMetrics said, by metric name; ``changed_from`` is the earliest datapoint that was
    written since the last evaluation (``None``: none), ``sequence`` counts the writes.
    """

    worker: Worker
    condition: Condition
    dimensions: dict[str, list[tuple[tuple[str, str], ...]]]
    dimensions_at: float
    changed_from: int | None
    sequence: int


class Workers(Protocol):
    """The repository of monitored workers."""

    def add(self, workers: Sequence[Worker]) -> None:
        """Add them all or none; raises ``errors.InvalidInput`` where one is monitored already."""

    def update(self, worker: Worker) -> bool:
        """Replace how it is set up; ``False`` where its incarnation is no longer there."""

    def get(self, worker_ids: Sequence[str]) -> dict[str, Record]:
        """Return those of them that are known."""

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""

    def known(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of them are monitored, and read nothing else of them."""

    def every(self, chunk: int = 500) -> Iterator[Record]:
        """Yield the whole fleet, read in chunks."""

    def found_dimensions(
        self, worker: Worker, dimensions: dict[str, list[tuple[tuple[str, str], ...]]], at: float
    ) -> bool:
        """Remember what ListMetrics said of a worker, unless its incarnation is gone."""


class Schedule(Protocol):
    """The RedBeat entries: one for each worker, identifiers only."""

    def put(self, workers: Sequence[Worker], now: float) -> None:
        """Schedule them, or change what is scheduled; a cadence that stands is kept."""

    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule them, checked: no entry is left when this returns."""

    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each scheduled worker of these is next due."""

    def ids(self) -> set[str]:
        """Return the ids of the workers that have an entry, sound or broken."""

    def quarantined(self) -> dict[str, str]:
        """Return the entries that were set aside because they could not be read, each with the reason."""

    def last_tick(self) -> float | None:
        """Return when beat last looked for what is due."""

    def canaries(self) -> Sent | None:
        """Return how many canaries beat has sent, ``None`` where it knows of none."""
