"""The ports that store and announce samples, in memory."""

from __future__ import annotations

import queue
import select
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

from workermon import models, ports
from workermon.testing import memory

#: Seconds between two looks at the file descriptor that ends the messages: a queue cannot be waited for with it.
CHECK_INTERVAL = 0.02


class MemorySamples:
    """``ports.Samples`` in memory."""

    def __init__(
        self,
        store: memory.MemoryStore,
        retention: Callable[[], int] = lambda: models.DAY,
        rollups: Callable[[], int] = lambda: models.ROLLUPS,
    ) -> None:
        self._store = store
        self._retention = retention
        self._rollups = rollups

    def claim(self, workers: Sequence[models.Worker], now: float, lease: float) -> list[ports.Claim]:
        """Claim each worker's slot."""
        with self._store.lock:
            return [self._claim(worker, (worker.interval, int(now // worker.interval)), lease) for worker in workers]

    def _claim(self, worker: models.Worker, slot: tuple[int, int], lease: float) -> ports.Claim:
        stored = self._store.living(worker.id, worker.incarnation)
        if stored is None:
            return "gone"
        if stored.complete(slot):
            return "complete"
        if stored.claim is not None and stored.claim[0] == slot and stored.claim[1] > self._store.clock():
            return "held"
        stored.claim = slot, self._store.clock() + lease
        return "claimed"

    def write(
        self, sample: models.Sample, condition: models.Condition, event: str, *, force: bool = False
    ) -> ports.Written:
        """Write datapoints, condition, pending mark and event."""
        with self._store.lock:
            worker = sample.worker
            stored = self._store.living(worker.id, worker.incarnation)
            if stored is None:
                return ports.Written("gone")
            slot = (worker.interval, sample.slot)
            complete = stored.complete(slot)
            changed = self._merge(sample, complete=complete)
            repeated = complete and not force
            if changed is not None:
                stored.changed_from = changed if stored.changed_from is None else min(changed, stored.changed_from)
            if changed is not None or not repeated:
                stored.sequence += 1
                if sample.steady_revision is None or stored.steady_by != sample.steady_revision:
                    self._store.pending.setdefault(worker.id, sample.collected_at)
            if repeated:
                return ports.Written("repeated")
            stored.condition, stored.slot = condition, slot
            self._store.publish(self._store.channel, event)
            return ports.Written("accepted")

    def write_many(
        self, writes: Sequence[tuple[models.Sample, models.Condition, str]], *, force: bool = False
    ) -> list[ports.Written]:
        """Write many samples, each in a step of its own."""
        return [self.write(sample, condition, event, force=force) for sample, condition, event in writes]

    def _merge(self, sample: models.Sample, *, complete: bool) -> int | None:
        worker_id, changed, hours = sample.worker.id, None, set()
        for metric, (period, points) in sample.ledger_series(self._retention()).items():
            ledger = self._store.ledger.setdefault((worker_id, metric, period), {})
            for at, value in points:
                present = ledger.get(at)
                # Only a clock that was ahead can have written it before its slot was complete.
                if present == value or (present is not None and complete and metric in models.CHECK_METRICS):
                    continue
                ledger[at] = value
                hours.add(at // models.HOUR * models.HOUR)
                changed = at if changed is None else min(changed, at)
        for hour in hours:
            self._mark_hour(worker_id, hour, sample.collected_at)
        return changed

    def _mark_hour(self, worker_id: str, hour: int, now: float) -> None:
        if self._rollups():
            latest = max(hour + models.HOUR + self._retention() - 600, now)
            due = min(max(hour + models.HOUR, now) + ports.ROLLUP_DELAY, latest)
            self._store.rollups_due[worker_id, hour] = due

    def failed(self, worker: models.Worker, last_error: models.CollectionError) -> None:
        """Store why a collection failed, and release the slot's claim."""
        with self._store.lock:
            stored = self._store.living(worker.id, worker.incarnation)
            if stored is not None:
                stored.condition = stored.condition.model_copy(update={"last_error": last_error})
                stored.claim = None

    def failed_many(self, failures: Sequence[tuple[models.Worker, models.CollectionError]]) -> None:
        """Do that for many workers."""
        for worker, last_error in failures:
            self.failed(worker, last_error)

    def read(
        self, series_keys: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], models.Series]:
        """Return the series of each (worker id, metric, period)."""
        series: dict[tuple[str, str], models.Series] = {}
        with self._store.lock:
            for worker_id, metric, period in series_keys:
                slots: dict[int, models.Datapoint] = {}
                for at, value in sorted(self._store.ledger.get((worker_id, metric, period), {}).items()):
                    slots[at // period] = models.Datapoint(at, value)
                points = tuple(slots[slot] for slot in sorted(slots) if since <= slots[slot].at <= until)
                series[worker_id, metric] = models.Series(period, points)
        return series

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods for which there are datapoints."""
        with self._store.lock:
            return sorted(
                period
                for (worker, name, period), points in self._store.ledger.items()
                if (worker, name) == (worker_id, metric) and any(since <= at <= until for at in points)
            )

    def pending(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return workers with a sample that is not evaluated yet, oldest first."""
        with self._store.lock:
            pending = self._store.pending.items()
            marks = sorted((at, pending_id) for pending_id, at in pending if at <= now - age or models.leads(at, now))
            return [worker_id for _, worker_id in marks[:limit]]

    def marked(self, worker_ids: Sequence[str]) -> list[str]:
        """Return the pending ones of these workers."""
        with self._store.lock:
            return [worker_id for worker_id in worker_ids if worker_id in self._store.pending]

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as pending."""
        with self._store.lock:
            for worker_id in worker_ids:
                if stored := self._store.workers.get(worker_id) or self._store.groups.get(worker_id):
                    stored.sequence += 1
                    self._store.pending.setdefault(worker_id, at)


class MemoryRollUps:
    """``ports.RollUps`` in memory."""

    def __init__(self, store: memory.MemoryStore, lifetime: Callable[[], int] = lambda: models.ROLLUPS) -> None:
        self._store = store
        self._lifetime = lifetime

    def claim(self, now: float, limit: int, lease: float) -> list[ports.LedgerHour]:
        """Claim due hours, with their datapoints."""
        with self._store.lock:
            marks = self._store.rollups_due
            due = sorted((at, worker_id, hour) for (worker_id, hour), at in marks.items() if at <= now)[:limit]
            claimed = []
            for _, worker_id, hour in due:
                marks[worker_id, hour] = now + lease
                points: dict[str, dict[int, float]] = {}
                for (owner, metric, _), values in sorted(self._store.ledger.items(), key=lambda item: -item[0][2]):
                    if owner == worker_id:
                        of_hour = {at: value for at, value in values.items() if hour <= at < hour + models.HOUR}
                        points.setdefault(metric, {}).update(of_hour)
                series = {
                    metric: tuple(map(models.datapoint, sorted(values.items())))
                    for metric, values in points.items()
                    if values
                }
                stored = self._store.workers.get(worker_id)
                incarnation = stored.worker.incarnation if stored is not None else ""
                claimed.append(ports.LedgerHour(worker_id, incarnation, hour, now + lease, series))
            return claimed

    def save(self, rolled: Sequence[tuple[ports.LedgerHour, Mapping[str, models.RollUp]]], now: float) -> None:
        """Store roll-ups, and remove the marks."""
        store = self._store
        with store.lock:
            for hour, rollups in rolled:
                if store.living(hour.worker_id, hour.incarnation) is not None and self._lifetime():
                    for metric, rollup in rollups.items():
                        stored = store.rollups.setdefault((hour.worker_id, metric), {})
                        if hour.hour not in stored or stored[hour.hour].number <= rollup.number:
                            stored[hour.hour] = _single(rollup)
                        for at in [at for at in stored if models.week_of(at) + models.WEEK + self._lifetime() < now]:
                            del stored[at]
                if store.rollups_due.get((hour.worker_id, hour.hour)) == hour.lease_ends_at:
                    del store.rollups_due[hour.worker_id, hour.hour]

    def read(self, worker_id: str, metric: str, since: float, until: float) -> dict[int, models.RollUp]:
        """Return the stored roll-ups."""
        with self._store.lock:
            stored = self._store.rollups.get((worker_id, metric), {})
            return {hour: stored[hour] for hour in sorted(stored) if since <= hour <= until}


def _single(rollup: models.RollUp) -> models.RollUp:
    """Return a roll-up with the stored precision."""
    week = models.week_of(rollup.at)
    return models.unpack(week, models.pack(week, {rollup.at: rollup}))[rollup.at]


class MemoryFeed:
    """``ports.Feed`` in memory: the messages published in its store."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store

    def publish(self, text: str) -> None:
        """Send any text, valid or not, to the subscribers."""
        self._store.publish(self._store.channel, text)

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
        until: int | None = None,
    ) -> Generator[str | None, None, None]:
        """Yield each message as it arrives, ``None`` if none arrived in time."""
        listener = self._store.subscribe()
        try:
            yield None
            while True:
                wait_until = time.monotonic() + (timeout() if callable(timeout) else timeout)
                try:
                    channel, text = _next(listener, wait_until, until)
                except queue.Empty:
                    if _is_readable(until):
                        return
                    yield None
                    continue
                if channel == ports.canary_channel(self._store.channel):
                    if canary is not None:
                        canary(text)
                elif alerts or channel == self._store.channel:
                    yield text
        finally:
            self._store.unsubscribe(listener)


def _next(messages: queue.SimpleQueue[tuple[str, str]], deadline: float, until: int | None) -> tuple[str, str]:
    """Return the next message. Raises ``Empty`` at the deadline, or once the file descriptor is readable."""
    while until is not None and not _is_readable(until):
        remaining = deadline - time.monotonic()
        try:
            return messages.get(timeout=max(0.0, min(remaining, CHECK_INTERVAL)))
        except queue.Empty:
            if remaining <= CHECK_INTERVAL:
                raise
    return messages.get(timeout=max(0.0, deadline - time.monotonic()) if until is None else 0.0)


def _is_readable(file: int | None) -> bool:
    return file is not None and bool(select.select([file], [], [], 0)[0])
