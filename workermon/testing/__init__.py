"""Every port in memory, for our tests and our users': the same promises as the real ones, no server, no network.

The repository's ports share one ``MemoryStore``, as the real ones share one Redis. All are safe between threads.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workermon import errors, models, ports
from workermon.config import catalogue as metrics

#: Seconds. A slot that passed so shortly before the last complete one is complete too (as on Redis).
_BEHIND = 120
#: Attempts kept of one alert, and entries of its history (as on Redis).
_KEPT = 100

Dimensions = tuple[tuple[str, str], ...]


class ManualClock:
    """A clock that stands still until it is told: ``clock()`` is the time now, in seconds since 1970."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time now."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the time then."""
        self.now += seconds
        return self.now


@dataclass
class _Kept:
    worker: models.Worker
    condition: models.Condition = field(default_factory=models.Condition)
    slot: tuple[int, int] | None = None
    #: Which slot is claimed, and until when on the store's clock.
    claim: tuple[tuple[int, int], float] | None = None
    dimensions: dict[str, list[Dimensions]] = field(default_factory=dict)
    dimensions_at: float = 0.0
    changed_from: int | None = None
    sequence: int = 0
    version: int = 0
    alerts: dict[str, models.Alert] = field(default_factory=dict)

    def complete(self, slot: tuple[int, int]) -> bool:
        """Tell whether a slot, (interval, number), is complete."""
        if self.slot is None or self.slot[0] != slot[0]:
            return False
        return 0 <= (self.slot[1] - slot[1]) * slot[0] <= _BEHIND

    def record(self) -> ports.Record:
        return ports.Record(
            self.worker, self.condition, dict(self.dimensions), self.dimensions_at, self.changed_from, self.sequence
        )


@dataclass
class _Lane:
    waiting: list[models.Notification] = field(default_factory=list)
    retry_at: float = 0.0
    leased_until: float = 0.0
    fence: int | None = None
    attempts: int = 0


class MemoryStore:
    """What the repository's ports share. ``clock`` is the time of leases, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, channel: str = "workermon:metrics") -> None:
        self.clock = clock
        self.channel = channel
        self.lock = threading.RLock()
        #: Every message that was published, as (channel, text), oldest first.
        self.published: list[tuple[str, str]] = []
        self.workers: dict[str, _Kept] = {}
        #: Value by timestamp, of each (worker id, metric, period).
        self.ledger: dict[tuple[str, str, int], dict[int, float]] = {}
        self.pending: dict[str, float] = {}
        self.history: dict[str, list[tuple[float, models.HistoryEntry]]] = {}
        self.attempts: dict[str, list[models.Attempt]] = {}
        self.last: dict[str, models.Notification] = {}
        self.last_versions: dict[str, dict[str, int]] = {}
        self.lanes: dict[tuple[str, str], _Lane] = {}
        #: When each lane is told again, by (alert id, channel).
        self.reminders: dict[tuple[str, str], float] = {}
        #: State of the alerts of each account and region.
        self.accounts: dict[str, dict[str, models.Alert]] = {}
        self.fences = itertools.count(1)
        self.configuration: models.Configuration | None = None
        self.changes = 0
        self._listeners: list[queue.SimpleQueue[tuple[str, str]]] = []

    def publish(self, channel: str, text: str) -> None:
        """Hand a message to every listener there is."""
        with self.lock:
            self.published.append((channel, text))
            for listener in self._listeners:
                listener.put((channel, text))

    def subscribe(self) -> queue.SimpleQueue[tuple[str, str]]:
        """Return a queue of what is published from now on."""
        with self.lock:
            self._listeners.append(queue.SimpleQueue())
            return self._listeners[-1]

    def unsubscribe(self, listener: queue.SimpleQueue[tuple[str, str]]) -> None:
        """End a subscription."""
        with self.lock:
            self._listeners.remove(listener)

    def tell(self, subject: str, verdict: ports.Verdict | ports.AccountVerdict) -> None:
        """Write the history and the outbox of a verdict; the caller holds the lock."""
        for rule, transition, notification in verdict.transitions:
            alert_id = f"{subject}/{rule}"
            recorded = models.HistoryEntry(
                transition=transition, notification=notification, rule=rule, worker_id=subject
            )
            entries = self.history.setdefault(alert_id, [])
            entries.insert(0, (verdict.at, recorded))
            del entries[_KEPT:]
            if notification is None:
                continue
            self.last[alert_id] = notification
            self.last_versions.setdefault(subject, {})[rule] = notification.version
            for channel in dict.fromkeys(verdict.channels.get(rule, ())):
                lane = self.lanes.setdefault((alert_id, channel), _Lane(retry_at=verdict.at))
                lane.waiting.append(notification)
            self.publish(f"{self.channel}:alerts", notification.model_dump_json(by_alias=True))

    def living(self, worker_id: str, incarnation: str) -> _Kept | None:
        """Return what is kept of a worker, where it still is the one meant."""
        kept = self.workers.get(worker_id)
        return kept if kept and kept.worker.incarnation == incarnation else None


class MemoryWorkers:
    """``ports.Workers`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def add(self, workers: Sequence[models.Worker]) -> None:
        """Add them all or none."""
        with self._store.lock:
            seen: set[str] = set()
            for worker in workers:
                if worker.id in seen:
                    raise errors.InvalidInput(f"worker {worker.id}", "it is named twice", "name it once")
                seen.add(worker.id)
                if worker.id in self._store.workers and not self._store.living(worker.id, worker.incarnation):
                    raise errors.InvalidInput(
                        f"worker {worker.id}", "it is monitored already", "see 'workermon show', or remove it first"
                    )
            for worker in workers:
                self._store.workers.setdefault(worker.id, _Kept(worker))

    def update(self, worker: models.Worker) -> bool:
        """Replace how a worker is set up, where its incarnation is there."""
        with self._store.lock:
            kept = self._store.living(worker.id, worker.incarnation)
            if kept is None:
                return False
            kept.worker = worker
            return True

    def get(self, worker_ids: Sequence[str]) -> dict[str, ports.Record]:
        """Return those of them that are known."""
        with self._store.lock:
            return {one: self._store.workers[one].record() for one in worker_ids if one in self._store.workers}

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""
        with self._store.lock:
            return sorted(self._store.workers)

    def known(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of them are monitored."""
        with self._store.lock:
            return {one for one in worker_ids if one in self._store.workers}

    def every(self, chunk: int = 500) -> Iterator[ports.Record]:
        """Yield the whole fleet."""
        ids = self.ids()
        for start in range(0, len(ids), chunk):
            yield from self.get(ids[start : start + chunk]).values()

    def found_dimensions(self, worker: models.Worker, dimensions: dict[str, list[Dimensions]], at: float) -> bool:
        """Remember what ListMetrics said, unless the incarnation is gone."""
        with self._store.lock:
            kept = self._store.living(worker.id, worker.incarnation)
            if kept is None:
                return False
            kept.dimensions, kept.dimensions_at = {name: list(sets) for name, sets in dimensions.items()}, at
            return True


class MemorySamples:
    """``ports.Samples`` in memory."""

    def __init__(self, store: MemoryStore, retention: Callable[[], int] = lambda: models.DAY) -> None:
        self._store = store
        self._retention = retention

    def claim(self, workers: Sequence[models.Worker], now: float, lease: float) -> list[ports.Claim]:
        """Claim each worker's slot."""
        with self._store.lock:
            return [self._claim(worker, (worker.interval, int(now // worker.interval)), lease) for worker in workers]

    def _claim(self, worker: models.Worker, slot: tuple[int, int], lease: float) -> ports.Claim:
        kept = self._store.living(worker.id, worker.incarnation)
        if kept is None:
            return "gone"
        if kept.complete(slot):
            return "complete"
        if kept.claim is not None and kept.claim[0] == slot and kept.claim[1] > self._store.clock():
            return "taken"
        kept.claim = slot, self._store.clock() + lease
        return "claimed"

    def write(
        self, sample: models.Sample, condition: models.Condition, event: str, *, again: bool = False
    ) -> ports.Written:
        """Write datapoints, condition, the mark and the event."""
        with self._store.lock:
            worker = sample.worker
            kept = self._store.living(worker.id, worker.incarnation)
            if kept is None:
                return ports.Written("gone")
            changed = self._merge(worker.id, metrics.brought(sample, self._retention()))
            slot = (worker.interval, sample.slot)
            repeated = kept.complete(slot) and not again
            if changed is not None:
                kept.changed_from = changed if kept.changed_from is None else min(changed, kept.changed_from)
            if changed is not None or not repeated:
                kept.sequence += 1
                self._store.pending.setdefault(worker.id, sample.collected_at)
            if repeated:
                return ports.Written("repeated")
            kept.condition, kept.slot = condition, slot
            self._store.publish(self._store.channel, event)
            return ports.Written("accepted")

    def write_many(
        self, writes: Sequence[tuple[models.Sample, models.Condition, str]], *, again: bool = False
    ) -> list[ports.Written]:
        """Write many samples; each is a step of its own."""
        return [self.write(sample, condition, event, again=again) for sample, condition, event in writes]

    def _merge(self, worker_id: str, brought: Mapping[str, models.Series]) -> int | None:
        changed: int | None = None
        for metric, (period, points) in brought.items():
            ledger = self._store.ledger.setdefault((worker_id, metric, period), {})
            for at, value in points:
                had = ledger.get(at)
                if had == value or (had is not None and metric == metrics.STATUS_CHECK_FAILED):
                    continue
                ledger[at] = value
                changed = at if changed is None else min(changed, at)
        return changed

    def failed(self, worker: models.Worker, last_error: models.CollectionError) -> None:
        """Remember why a collection failed, and give the slot's claim back."""
        with self._store.lock:
            kept = self._store.living(worker.id, worker.incarnation)
            if kept is not None:
                kept.condition = kept.condition.model_copy(update={"last_error": last_error})
                kept.claim = None

    def failed_many(self, failures: Sequence[tuple[models.Worker, models.CollectionError]]) -> None:
        """Do that for many."""
        for worker, last_error in failures:
            self.failed(worker, last_error)

    def read(
        self, wanted: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], models.Series]:
        """Return the series of each (worker id, metric, period)."""
        found: dict[tuple[str, str], models.Series] = {}
        with self._store.lock:
            for worker_id, metric, period in wanted:
                slots: dict[int, models.Datapoint] = {}
                for at, value in sorted(self._store.ledger.get((worker_id, metric, period), {}).items()):
                    slots[at // period] = models.Datapoint(at, value)
                points = tuple(slots[slot] for slot in sorted(slots) if since <= slots[slot].at <= until)
                found[worker_id, metric] = models.Series(period, points)
        return found

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods under which there are datapoints."""
        with self._store.lock:
            return sorted(
                period
                for (worker, name, period), points in self._store.ledger.items()
                if (worker, name) == (worker_id, metric) and any(since <= at <= until for at in points)
            )

    def pending(self, before: float, limit: int) -> list[str]:
        """Return workers with a sample not judged yet, oldest first."""
        with self._store.lock:
            marks = sorted((at, worker_id) for worker_id, at in self._store.pending.items() if at <= before)
            return [worker_id for _, worker_id in marks[:limit]]

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as to be judged."""
        with self._store.lock:
            for worker_id in worker_ids:
                if kept := self._store.workers.get(worker_id):
                    kept.sequence += 1
                    self._store.pending.setdefault(worker_id, at)


class MemoryLearnedDelays:
    """``ports.Learnt`` in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._lock = store.lock if store else threading.RLock()
        self._kept: dict[tuple[str, str | None], dict[str, Any]] = {}

    def load(self, scope: models.AccountRegion) -> dict[str, Any]:
        """Return all of it."""
        with self._lock:
            return dict(self._kept.get((scope.key, scope.role_arn), {}))

    def save(self, scope: models.AccountRegion, values: Mapping[str, Any]) -> None:
        """Keep these beside the others."""
        with self._lock:
            self._kept.setdefault((scope.key, scope.role_arn), {}).update(json.loads(json.dumps(dict(values))))


class MemoryServer:
    """``ports.Server`` in memory, with settings and a clock of a test's choice."""

    def __init__(self, now: ports.Clock, **own: str) -> None:
        self.ahead, self._now = 0.0, now
        self.own = {"maxmemory_policy": "noeviction", "aof_enabled": "1", "redis_version": "9"} | own

    def settings(self) -> dict[str, str]:
        """Return its settings."""
        return dict(self.own)

    def time(self) -> float:
        """Return its clock."""
        return self._now() + self.ahead


class MemorySilences:
    """``ports.Silences`` in memory."""

    def __init__(self) -> None:
        self._silences: dict[str, models.Silence] = {}
        self._acknowledged: dict[str, models.Acknowledgement] = {}

    def every(self) -> list[models.Silence]:
        """Return those that were not taken back."""
        return sorted(self._silences.values(), key=lambda silence: (silence.ends, silence.id))

    def add(self, silence: models.Silence) -> None:
        """Put it in force."""
        self.remove([one.id for one in self.every() if one.ends <= silence.begins])
        self._silences[silence.id] = silence

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Take them back."""
        for each in silence_ids:
            self._silences.pop(each, None)

    def acknowledge(self, acknowledged: models.Acknowledgement) -> None:
        """Note who has seen an alert."""
        self._acknowledged[acknowledged.alert_id] = acknowledged

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, models.Acknowledgement]:
        """Return who has seen these alerts last."""
        return {each: self._acknowledged[each] for each in alert_ids if each in self._acknowledged}


class MemoryAlerts:
    """``ports.Alerts`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis]:
        """Return the basis of a judgement."""
        store = self._store
        with store.lock:
            revision = store.configuration.revision if store.configuration else 0
            return {
                one: ports.Basis(
                    kept.record(), dict(kept.alerts), kept.version, revision, dict(store.last_versions.get(one, {}))
                )
                for one in worker_ids
                if (kept := store.workers.get(one))
            }

    def commit_many(self, verdicts: Sequence[ports.Verdict]) -> list[bool]:
        """Commit them one by one."""
        return [self.commit(verdict) for verdict in verdicts]

    def commit(self, verdict: ports.Verdict) -> bool:
        """Write alerts, history and outbox where the basis still holds."""
        store = self._store
        with store.lock:
            revision = store.configuration.revision if store.configuration else 0
            kept = self._holding(verdict)
            if kept is None or verdict.basis.revision != revision:
                return False
            kept.alerts = dict(verdict.alerts)
            kept.version += 1
            if kept.sequence == verdict.basis.record.sequence:
                kept.changed_from = None
                store.pending.pop(kept.worker.id, None)
            store.tell(kept.worker.id, verdict)
            return True

    def retire(self, verdict: ports.Verdict) -> bool:
        """Commit a last verdict and forget the worker."""
        store = self._store
        with store.lock:
            kept = self._holding(verdict)
            if kept is None:
                return False
            store.tell(kept.worker.id, verdict)
            del store.workers[kept.worker.id]
            store.pending.pop(kept.worker.id, None)
            for key in [key for key in store.ledger if key[0] == kept.worker.id]:
                del store.ledger[key]
            return True

    def open(self) -> list[models.Alert]:
        """Return the alerts that fire, the oldest first."""
        with self._store.lock:
            alerts = [
                (alert.since or 0, kept.worker.id, alert.rule, alert)
                for kept in self._store.workers.values()
                for alert in kept.alerts.values()
                if alert.open
            ]
            alerts += [
                (alert.since or 0, scope, alert.rule, alert)
                for scope, of_scope in self._store.accounts.items()
                for alert in of_scope.values()
                if alert.open
            ]
            return [found[3] for found in sorted(alerts, key=lambda found: found[:3])]

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[models.HistoryEntry]:
        """Return what was recorded, newest first."""
        with self._store.lock:
            if alert_id is not None:
                entries = list(self._store.history.get(alert_id, ()))
            else:
                entries = [entry for one in sorted(self._store.history) for entry in self._store.history[one]]
                entries.sort(key=lambda entry: -entry[0])
            return [self._joined(recorded) for _, recorded in entries[:limit]]

    def _joined(self, recorded: models.HistoryEntry) -> models.HistoryEntry:
        if recorded.notification is None:
            return recorded
        attempts = self._store.attempts.get(f"{recorded.worker_id}/{recorded.rule}", ())
        tried = tuple(one for one in attempts if one.notification_id == recorded.notification.id)
        return recorded.model_copy(update={"attempts": tried})

    def _holding(self, verdict: ports.Verdict) -> _Kept | None:
        worker = verdict.basis.record.worker
        kept = self._store.living(worker.id, worker.incarnation)
        return kept if kept and kept.version == verdict.basis.version else None


class MemoryOutbox:
    """``ports.Outbox`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def due(self, now: float, limit: int) -> list[str]:
        """Return alert ids with a lane that may be tried."""
        with self._store.lock:
            for key in [key for key, at in self._store.reminders.items() if at <= now]:
                del self._store.reminders[key]
                last = self._store.last.get(key[0])
                if last is not None and last.status == "firing" and key not in self._store.lanes:
                    again = last.model_copy(update={"reminder": True})
                    self._store.lanes[key] = _Lane(retry_at=now, waiting=[again])
            lanes = sorted((lane.retry_at, *key) for key, lane in self._store.lanes.items() if self._free(lane, now))
            return list(dict.fromkeys(alert_id for _, alert_id, _ in lanes))[:limit]

    def claim(self, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
        """Claim the head of each due lane."""
        with self._store.lock:
            parcels = []
            for (owner, channel), lane in sorted(self._store.lanes.items(), key=lambda item: item[0]):
                if owner != alert_id or not self._free(lane, now):
                    continue
                lane.fence, lane.leased_until = next(self._store.fences), self._store.clock() + lease
                lane.attempts += 1
                parcels.append(
                    models.ClaimedNotification(
                        alert_id=alert_id,
                        channel=channel,
                        notification=lane.waiting[0],
                        fence=lane.fence,
                        attempt=lane.attempts,
                    )
                )
            return parcels

    def delivered(
        self, parcel: models.ClaimedNotification, at: float, remind_at: float | None = None
    ) -> models.ClaimedNotification | None:
        """Record acceptance; the present state where the fence was stale."""
        with self._store.lock:
            lane = self._claimed(parcel)
            self._attempted(parcel, at, None)
            if lane is not None:
                self._take_off(parcel, lane, remind_at)
                return None
            last = self._store.last.get(parcel.alert_id)
            if last is None or last.id == parcel.notification.id or self._will_follow(parcel):
                return None
            return parcel.model_copy(
                update={"notification": last, "fence": -next(self._store.fences), "attempt": parcel.attempt + 1}
            )

    def failed(self, parcel: models.ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt and wait."""
        with self._store.lock:
            lane = self._claimed(parcel)
            self._attempted(parcel, at, error)
            if lane is not None:
                lane.fence, lane.leased_until, lane.retry_at = None, 0.0, retry_at
                return True
            last = self._store.last.get(parcel.alert_id)
            unsaid = last is not None and (last.id != parcel.notification.id or parcel.fence < 0)
            if last is not None and unsaid and not self._will_follow(parcel):
                key = (parcel.alert_id, parcel.channel)
                self._store.lanes.setdefault(key, _Lane(retry_at=retry_at)).waiting.append(last)
            return False

    def give_up(
        self, parcel: models.ClaimedNotification, at: float, error: str, remind_at: float | None = None
    ) -> bool:
        """Record the last attempt and take the notification off."""
        with self._store.lock:
            lane = self._claimed(parcel)
            self._attempted(parcel, at, error)
            if lane is None:
                return False
            self._take_off(parcel, lane, remind_at)
            return True

    def skip(self, parcel: models.ClaimedNotification, at: float, remind_at: float | None) -> bool:  # noqa: ARG002 - of the port
        """Take the notification off as if it had not been there."""
        with self._store.lock:
            lane = self._claimed(parcel)
            if lane is None:
                return False
            self._take_off(parcel, lane, remind_at)
            return True

    def postpone(self, parcel: models.ClaimedNotification, retry_at: float) -> bool:
        """Give a claim back as if it had not been made."""
        with self._store.lock:
            lane = self._claimed(parcel)
            if lane is None:
                return False
            lane.fence, lane.leased_until, lane.retry_at = None, 0.0, retry_at
            lane.attempts -= 1
            return True

    def last_error(self, channel: str) -> models.Notification | None:
        """Return what was last told of the delivery to a channel itself."""
        with self._store.lock:
            return self._store.last.get(models.delivery_alert(channel))

    def tell(
        self, channel: str, notification: models.Notification, before: str | None, to: Sequence[str], at: float
    ) -> bool:
        """Write what is told of the delivery to a channel, where nothing else was told meanwhile."""
        alert_id = models.delivery_alert(channel)
        with self._store.lock:
            last = self._store.last.get(alert_id)
            if last is not None and last.id == notification.id:
                return True
            if (last.id if last else None) != before:
                return False
            self._store.last[alert_id] = notification
            recorded = models.told_of_delivery(channel, notification)
            self._store.history.setdefault(alert_id, []).insert(0, (at, recorded))
            self._store.accounts[alert_id.rpartition("/")[0]] = {recorded.rule: models.alert_of_delivery(notification)}
            if not isinstance(notification, models.SilencedNotification):
                self._store.publish(f"{self._store.channel}:alerts", notification.model_dump_json(by_alias=True))
            for one in dict.fromkeys(to):
                self._store.lanes.setdefault((alert_id, one), _Lane(retry_at=at)).waiting.append(notification)
            return True

    def release(self, notification: models.Notification, at: float) -> bool:
        """Put the canary's parcel on its way, unless the last one still is."""
        key = (models.CANARY, models.CANARY_CHANNEL)
        with self._store.lock:
            if key in self._store.lanes:
                return False
            self._store.lanes[key] = _Lane(retry_at=at, waiting=[notification])
            return True

    def backlog(self) -> int:
        """Return how many notifications wait."""
        with self._store.lock:
            return sum(len(lane.waiting) for key, lane in self._store.lanes.items() if key[0] != models.CANARY)

    def stuck(self, before: float, limit: int = 100) -> list[ports.StuckQueue]:
        """Return lanes that were tried in vain for long, the oldest first."""
        found = []
        with self._store.lock:
            for (alert_id, channel), lane in self._store.lanes.items():
                tried = [
                    one
                    for one in self._store.attempts.get(alert_id, ())
                    if one.channel == channel and one.notification_id == lane.waiting[0].id
                ]
                if tried and tried[-1].error is not None and tried[0].at <= before:
                    found.append(ports.StuckQueue(alert_id, channel, len(tried), tried[0].at, tried[-1].error))
        return sorted(found, key=lambda one: one.since)[:limit]

    def _free(self, lane: _Lane, now: float) -> bool:
        may = lane.retry_at <= now or lane.retry_at > now + ports.LONGEST_WAIT
        return may and lane.leased_until <= self._store.clock()

    def _claimed(self, parcel: models.ClaimedNotification) -> _Lane | None:
        lane = self._store.lanes.get((parcel.alert_id, parcel.channel))
        return lane if lane and lane.fence == parcel.fence else None

    def _will_follow(self, parcel: models.ClaimedNotification) -> bool:
        """Tell whether something waits that nobody sends at this moment, so that it will be the last word."""
        lane = self._store.lanes.get((parcel.alert_id, parcel.channel))
        return lane is not None and len(lane.waiting) > (0 if lane.fence is None else 1)

    def _take_off(self, parcel: models.ClaimedNotification, lane: _Lane, remind_at: float | None) -> None:
        self._store.reminders.pop((parcel.alert_id, parcel.channel), None)
        if remind_at is not None:
            self._store.reminders[parcel.alert_id, parcel.channel] = remind_at
        lane.waiting.pop(0)
        lane.fence, lane.leased_until, lane.attempts, lane.retry_at = None, 0.0, 0, 0.0
        if not lane.waiting:
            del self._store.lanes[parcel.alert_id, parcel.channel]

    def _attempted(self, parcel: models.ClaimedNotification, at: float, error: str | None) -> None:
        attempts = self._store.attempts.setdefault(parcel.alert_id, [])
        attempts.append(
            models.Attempt(notification_id=parcel.notification.id, channel=parcel.channel, at=at, error=error)
        )
        del attempts[:-_KEPT]


class MemoryConfigurations:
    """``ports.Configurations`` in memory."""

    def __init__(self, store: MemoryStore, default: models.Configuration) -> None:
        self._store = store
        self._default = default.model_copy(update={"revision": 0})

    def load(self) -> models.Configuration:
        """Return the configuration in force."""
        return self._store.configuration or self._default

    def save(self, configuration: models.Configuration) -> bool:
        """Put it in force, where its revision is the next one."""
        with self._store.lock:
            if configuration.revision != self.load().revision + 1:
                return False
            self._store.configuration = configuration
            return True


class MemorySetup:
    """``ports.Setup`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def mark(self) -> str:
        """Return what is another one after every change."""
        with self._store.lock:
            return f"{self._store.configuration.revision if self._store.configuration else 0}/{self._store.changes}"

    def put(self, change: ports.Change) -> bool:
        """Write all of it where nothing that it is based on has changed."""
        store = self._store
        with store.lock:
            fleet = {one: kept.worker for one, kept in store.workers.items()}
            same = self.mark() == change.mark and fleet.keys() == change.fleet.keys()
            same = same and all(fleet[worker.id] == change.fleet[worker.id] for worker in change.updated)
            bases = [verdict.basis for verdict in change.leaving]
            if not same or any(store.workers[it.record.worker.id].version != it.version for it in bases):
                return False
            store.changes += 1
            store.workers.update((worker.id, _Kept(worker)) for worker in change.added)
            for worker in change.updated:
                store.workers[worker.id].worker = worker
            for verdict in change.leaving:
                MemoryAlerts(store).retire(verdict)
            if change.configuration is not None:
                store.configuration = change.configuration
                MemorySamples(store).mark_pending(list(store.workers), change.at)
            return True


class MemoryPulse:
    """``ports.Pulse`` in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._lock = store.lock if store else threading.RLock()
        self._marks: dict[str, float] = {}
        self._since: float | None = None
        self._collects: float | None = None
        self._counts: dict[str, int] = {}

    def mark(self, part: str, at: float) -> None:
        """Note a sign of life."""
        with self._lock:
            if part == "listener":
                self._since = at if self._since is None else self._since
                self.judges(at)
                if self._marks.get("listener", at) - at > ports.BREAK:
                    self._since, self._collects = at, None
            elif part == "collect" and self._since is not None:
                self._collects = at if self._collects is None or self._collects < self._since else self._collects
            self._marks[part] = at

    def judges(self, at: float) -> None:
        """Note that somebody judges, whom the listener need not have woken."""
        with self._lock:
            heard = self._marks.get("listener")
            if heard is not None and at - heard > ports.BREAK:
                self._since = at

    def marks(self) -> dict[str, float]:
        """Return when each part last did its work."""
        with self._lock:
            return dict(self._marks)

    def monitoring_since(self) -> float | None:
        """Return since when listener and collection are there without a break."""
        with self._lock:
            if self._since is None:
                return None
            collects = self._collects is not None and self._collects >= self._since
            return self._collects if collects else self._since + ports.START_UP

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + number

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)


class MemoryThrottle:
    """``ports.Throttle`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Tokens and when they were counted, by channel; until when a channel pauses.
        self._buckets: dict[str, tuple[float, float]] = {}
        self._paused: dict[str, float] = {}
        self._windows: dict[str, float] = {}

    def take(self, channel: str, limit: models.Limit, *, critical: bool, now: float) -> float:
        """Take a token, or return how long to wait."""
        with self._lock:
            if (until := self._paused.get(channel, now)) > now:
                return until - now
            had, at = self._buckets.get(channel, (limit.bucket, now))
            tokens = min(limit.bucket, had + max(0.0, now - at) * limit.rate)
            need = 1 if critical else 1 + limit.bucket // 2
            granted = tokens >= need
            self._buckets[channel] = tokens - granted, now
            return 0.0 if granted else max(0.001, (need - tokens) / limit.rate)

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group closes."""
        with self._lock:
            if created >= self._windows.get(group, created):
                self._windows[group] = now + wait
            return self._windows[group]

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Let nothing out for that long."""
        with self._lock:
            self._paused[channel] = max(self._paused.get(channel, now), now + seconds)


class MemoryLeases:
    """``ports.Leases`` in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = store or MemoryStore()
        self._held: dict[str, tuple[str, float]] = {}

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take or extend a lease."""
        with self._store.lock:
            now = self._store.clock()
            holder, until = self._held.get(name, (owner, now))
            if holder != owner and until > now:
                return False
            self._held[name] = (owner, now + seconds)
            return True

    def release(self, name: str, owner: str) -> None:
        """Give it back."""
        with self._store.lock:
            if self._held.get(name, ("", 0.0))[0] == owner:
                del self._held[name]


class MemoryFeed:
    """``ports.Feed`` in memory: what is published in its store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def publish(self, text: str) -> None:
        """Send any text, sound or not, to those that listen."""
        self._store.publish(self._store.channel, text)

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
    ) -> Iterator[str | None]:
        """Yield each message as it comes, ``None`` when none came in time."""
        listener = self._store.subscribe()
        try:
            yield None
            while True:
                try:
                    channel, text = listener.get(timeout=timeout() if callable(timeout) else timeout)
                except queue.Empty:
                    yield None
                    continue
                if channel == f"{self._store.channel}:canary":
                    if canary is not None:
                        canary(text)
                elif alerts or channel == self._store.channel:
                    yield text
        finally:
            self._store.unsubscribe(listener)


class MemoryAccounts:
    """``ports.Scopes`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._kept: dict[str, ports.AccountBasis] = {}
        self._interval_at: dict[str, float] = {}

    def note(self, scope: str, at: float, interval: int, last_error: models.CollectionError | None) -> None:
        """Note how a collection went; one older than the last success changes nothing."""
        with self._store.lock:
            had = self._kept.get(scope)
            basis = had or ports.AccountBasis(models.AccountState(key=scope, at=0, interval=interval), {}, 0, 0, {})
            state = basis.state
            if interval <= state.interval or at - self._interval_at[scope] > 10 * state.interval:
                self._interval_at[scope] = at
                state = state.model_copy(update={"interval": interval})
            set_back = max(state.succeeded_at or 0, state.at) - at > ports.SET_BACK
            if state.succeeded_at is None or at > state.succeeded_at or set_back:
                since = state.failing_since
                changes: dict[str, object] = {"at": at if set_back else max(at, state.at)}
                changes["sequence"] = state.sequence + 1
                if last_error is not None:
                    changes |= {"last_error": last_error, "failing_since": at if since is None else min(at, since)}
                else:
                    changes |= {"last_error": None, "failing_since": None, "succeeded_at": at}
                    changes |= {} if since is None else {"recovered_at": at}
                state = state.model_copy(update=changes)
            self._kept[scope] = basis._replace(state=state)

    def load(self) -> dict[str, ports.AccountBasis]:
        """Return the basis of a judgement of every scope."""
        store = self._store
        with store.lock:
            revision = store.configuration.revision if store.configuration else 0
            return {
                key: basis._replace(
                    alerts=dict(basis.alerts), revision=revision, last_versions=dict(store.last_versions.get(key, {}))
                )
                for key, basis in self._kept.items()
            }

    def forget(self, scope: str, version: int) -> bool:
        """Forget how it went there, unless its alerts moved on."""
        with self._store.lock:
            kept = self._kept.get(scope)
            if kept is not None and kept.version != version:
                return False
            self._kept.pop(scope, None)
            self._store.accounts.pop(scope, None)
            return True

    def retire(self, verdict: ports.AccountVerdict) -> bool:
        """Commit a last verdict and forget how it went there."""
        with self._store.lock:
            key = verdict.basis.state.key
            return self.commit(verdict) and self.forget(key, self._kept[key].version)

    def commit(self, verdict: ports.AccountVerdict) -> bool:
        """Write alert, history and outbox where the basis still holds."""
        store, key = self._store, verdict.basis.state.key
        with store.lock:
            revision = store.configuration.revision if store.configuration else 0
            kept = self._kept.get(key)
            if kept is None or kept.version != verdict.basis.version or verdict.basis.revision != revision:
                return False
            self._kept[key] = kept._replace(alerts=dict(verdict.alerts), version=kept.version + 1)
            store.accounts[key] = dict(verdict.alerts)
            store.tell(key, verdict)
            return True


class MemoryLimiter:
    """``ports.Limiter`` that lets everything through and remembers it; ``trouble`` is raised while it is set."""

    def __init__(self) -> None:
        self.last_error: errors.AwsError | None = None
        #: What was asked for and noted, as (what, scope, api), oldest first.
        self.calls: list[tuple[str, str, str]] = []
        self.shares: dict[tuple[str, str], float] = {}

    def take(self, scope: str, api: str) -> None:
        """Return at once, or raise the trouble."""
        self.calls.append(("take", scope, api))
        if self.last_error is not None:
            raise self.last_error

    def throttled(self, scope: str, api: str) -> None:
        """Note a refusal: half of what the rate was."""
        self.calls.append(("throttled", scope, api))
        self.shares[scope, api] = self.shares.get((scope, api), 1.0) / 2

    def silent(self, scope: str, api: str) -> None:
        """Note a silence."""
        self.calls.append(("silent", scope, api))
        self.shares[scope, api] = 0.0

    def answered(self, scope: str, api: str) -> None:
        """End a silence."""
        if self.shares.get((scope, api)) == 0.0:
            del self.shares[scope, api]

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return which part of its full rate each slowed one has."""
        return dict(self.shares)


class MemoryCosts:
    """``ports.Costs`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hours: dict[int, models.Hour] = {}
        self._stretch = models.BudgetDecision()

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request and what it asked for."""
        start = int(at // 3600) * 3600
        with self._lock:
            hour = self._hours.get(start) or models.Hour(start=start, begun=at)
            calls, asked, full = dict(hour.calls), dict(hour.metrics), dict(hour.full)
            calls[scope, operation] = calls.get((scope, operation), 0) + 1
            for metric, number in metrics.items():
                weight = self._stretch.weights.get(metric, 1)
                asked[scope, metric] = asked.get((scope, metric), 0) + number
                full[scope, metric] = full.get((scope, metric), 0) + number * weight
            self._hours[start] = hour.model_copy(update={"calls": calls, "metrics": asked, "full": full})

    def hours(self, since: float) -> list[models.Hour]:
        """Return the hours since the one that a time is in."""
        with self._lock:
            return [self._hours[start] for start in sorted(self._hours) if start >= since // 3600 * 3600]

    def budget_decision(self) -> models.BudgetDecision:
        """Return what the budget makes of the periods."""
        return self._stretch

    def decide(self, budget_decision: models.BudgetDecision, before: models.BudgetDecision) -> bool:
        """Put a decision in force, unless another one came between."""
        with self._lock:
            if self._stretch not in (before, budget_decision):
                return False
            self._stretch = budget_decision
            return True


class MemoryCanary:
    """``ports.Canary`` in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._trace = ports.Trace({}, {}, 0)

    def publish(self, begun: float, at: float, sent: int) -> None:
        """Note that it is published, and publish it."""
        with self._store.lock:
            before = self._trace.reached.get("published")
            if before is None or at - before.at > ports.CANARY_BREAK:
                self._trace.lost.clear()
            self._trace = self._trace._replace(sent=sent)
            self._note("published", begun, at)
            self._store.publish(f"{self._store.channel}:canary", repr(begun))

    def reach(self, step: str, begun: float, at: float) -> None:
        """Note that it came to a later step."""
        with self._store.lock:
            self._note(step, begun, at)

    def trace(self) -> ports.Trace:
        """Return how far they came."""
        with self._store.lock:
            return ports.Trace(dict(self._trace.reached), dict(self._trace.lost), self._trace.sent)

    def _note(self, step: str, begun: float, at: float) -> None:
        self._trace.reached[step] = ports.Reached(begun, at)
        self._trace.lost.pop(step, None)
        after = ports.CANARY_STEPS[ports.CANARY_STEPS.index(step) + 1 :]
        if after:
            self._trace.lost[after[0]] = self._trace.lost.get(after[0], 0) + 1


class MemorySchedule:
    """``ports.Schedule`` in memory. ``broken``, ``ticked`` and ``sent`` are for tests to set."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, float]] = {}
        self.broken: dict[str, str] = {}
        self.ticked: float | None = None
        self.sent: models.Sent | None = None

    def put(self, workers: Sequence[models.Worker], now: float) -> None:
        """Schedule them; a cadence that stands is kept."""
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
        return {one: self.entries[one][1] for one in worker_ids if one in self.entries}

    def ids(self) -> set[str]:
        """Return who has an entry, sound or broken."""
        return set(self.entries) | set(self.broken)

    def quarantined(self) -> dict[str, str]:
        """Return the entries set aside."""
        return dict(self.broken)

    def last_tick(self) -> float | None:
        """Return when beat last looked."""
        return self.ticked

    def canaries(self) -> models.Sent | None:
        """Return how many canaries beat has sent."""
        return self.sent


class MemoryDispatcher:
    """``ports.Bell`` that remembers who was rung for, oldest first."""

    def __init__(self) -> None:
        self.evaluated: list[str] = []
        self.delivered: list[str] = []
        self.canaries = 0

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Have these workers judged."""
        self.evaluated.extend(worker_ids)

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Have these alerts' notifications sent."""
        self.delivered.extend(alert_ids)

    def canary(self) -> None:
        """Have the canary that was heard judged."""
        self.canaries += 1


class MemoryNodes:
    """``ports.Nodes``: these names answer."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        #: Messages that wait, by queue.
        self.waiting: dict[str, int] = {}

    def queues(self) -> dict[str, int]:
        """Return what waits."""
        return dict(self.waiting)

    def ping(self, timeout: float = 1.0) -> list[str]:  # noqa: ARG002 - they answer at once
        """Return the names."""
        return list(self.names)


class MemorySecrets:
    """``ports.Secrets`` over a mapping from an environment variable's or file's name to its value."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __call__(self, ref: models.SecretRef) -> str:
        """Return it."""
        name = ref.env or ref.file or ""
        if name not in self._values:
            raise errors.InvalidInput(f"secret {name}", "it is not set", "set it")
        return self._values[name]


class MemoryEc2:
    """``ports.Ec2`` over instances that a test puts in. ``trouble`` is raised by every call while it is set.

    ``calls`` lists what was asked, as (operation, scope, ids).
    """

    def __init__(self, *instances: models.Instance) -> None:
        self._instances: dict[tuple[str, str], models.Instance] = {}
        self._checks: dict[str, models.Checks | None] = {}
        #: What is scheduled, by instance id.
        self.events: dict[str, tuple[models.ScheduledEvent, ...]] = {}
        self._account: dict[str, str] = {}
        self.last_error: Exception | None = None
        #: AWS' own time.
        self.clock: Callable[[], float | None] = lambda: None
        self.calls: list[tuple[str, models.AccountRegion, tuple[str, ...]]] = []
        for instance in instances:
            self.put(instance)

    def put(
        self,
        instance: models.Instance,
        checks: models.Checks | Literal["as usual"] | None = "as usual",
        account: str = "default",
    ) -> None:
        """Put an instance in, or replace it; usually a running one has both checks ok, another none."""
        if checks == "as usual":
            checks = models.Checks(system="ok", instance="ok") if instance.status == "running" else None
        self._instances[f"{account}/{instance.region}", instance.id] = instance
        self._checks[instance.id] = checks

    def become(self, instance_id: str, status: models.Status, code: str | None = None) -> None:
        """Change an instance's status, and its checks as usual; ``code`` is that of EC2's reason."""
        reason = None if code is None else models.StateReason(code=code)
        for (scope, found), instance in list(self._instances.items()):
            if found == instance_id:
                changed = instance.model_copy(update={"status": status, "reason": reason})
                self.put(changed, account=scope.rpartition("/")[0])

    def forget(self, instance_id: str) -> None:
        """Make EC2 know the instance no more."""
        self._instances = {key: value for key, value in self._instances.items() if key[1] != instance_id}

    def describe(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.Instance]:
        """Return what is known of these ids."""
        self._call("describe", scope, instance_ids)
        return {one: self._instances[scope.key, one] for one in instance_ids if (scope.key, one) in self._instances}

    def statuses(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.InstanceStatus]:
        """Return state and checks of these ids."""
        self._call("statuses", scope, instance_ids)
        return {
            one: models.InstanceStatus(
                id=one, status=instance.status, checks=self._checks[one], events=self.events.get(one, ())
            )
            for one in instance_ids
            if (instance := self._instances.get((scope.key, one)))
        }

    def time(self, scope: models.AccountRegion) -> float | None:
        """Return AWS' own time."""
        self._call("time", scope, ())
        return self.clock()

    def find(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> list[models.Instance]:
        """Return every instance that carries these tags and is not gone."""
        self._call("find", scope, ())
        return [
            instance
            for (key, _), instance in sorted(self._instances.items(), key=lambda item: item[0])
            if key == scope.key and instance.status not in models.GONE and tags.items() <= instance.tags.items()
        ]

    def _call(self, operation: str, scope: models.AccountRegion, instance_ids: Sequence[str]) -> None:
        self.calls.append((operation, scope, tuple(instance_ids)))
        if self.last_error is not None:
            raise self.last_error


class MemoryCloudWatch:
    """``ports.CloudWatch`` over datapoints that a test puts in, given back as they are.

    ``trouble`` is raised by every call while it is set, ``failing`` fails the queries of a CloudWatch metric name.
    ``calls`` lists the queries of each fetch.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, frozenset[tuple[str, str]]], dict[int, float]] = {}
        self.last_error: Exception | None = None
        self.failing: dict[str, Exception] = {}
        self.calls: list[tuple[models.Query, ...]] = []

    def put(
        self,
        instance_id: str,
        metric_name: str,
        points: Iterable[tuple[int, float]],
        *,
        namespace: str = "AWS/EC2",
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        """Put datapoints in, as (timestamp, value); ``dimensions`` are those beside ``InstanceId``."""
        kept = frozenset({"InstanceId": instance_id, **(dimensions or {})}.items())
        self._points.setdefault((namespace, metric_name, kept), {}).update(points)

    def fetch(
        self,
        scope: models.AccountRegion,  # noqa: ARG002 - an instance id is unique over accounts and regions
        queries: Sequence[models.Query],
        until: float,
    ) -> ports.Answer:
        """Return datapoints in order of time."""
        self.calls.append(tuple(queries))
        if self.last_error is not None:
            raise self.last_error
        answer = ports.Answer({}, {})
        for place, query in enumerate(queries):
            if query.metric_name in self.failing:
                answer.failed[place] = self.failing[query.metric_name]
                continue
            points = self._points.get((query.namespace, query.metric_name, frozenset(query.dimensions)), {})
            found = (models.Datapoint(at, value) for at, value in sorted(points.items()) if query.since <= at <= until)
            answer.series[place] = models.Series(
                query.period, tuple(point for point in found if point.value == point.value)
            )
        return answer

    def dimensions(
        self,
        scope: models.AccountRegion,  # noqa: ARG002 - as above
        namespace: str,
        metric_name: str,
        instance_ids: Sequence[str] | None,
    ) -> dict[str, list[Dimensions]]:
        """Return the dimension sets under which each instance has datapoints."""
        if self.last_error is not None:
            raise self.last_error
        found: dict[str, list[Dimensions]] = {}
        for place, name, dimensions in self._points:
            owner = dict(dimensions).get("InstanceId", "")
            if (place, name) == (namespace, metric_name) and (instance_ids is None or owner in instance_ids):
                found.setdefault(owner, []).append(tuple(sorted(dimensions)))
        return {owner: sorted(sets) for owner, sets in found.items()}
