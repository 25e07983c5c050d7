"""The whole state as stored in backups, in memory."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from workermon import models
from workermon.testing import alerts, memory


class MemorySavedStates:
    """``ports.SavedStates`` in memory."""

    def __init__(self, store: memory.MemoryStore, silences: alerts.MemorySilences) -> None:
        self._store, self._silences = store, silences

    def load(self) -> models.SavedState:
        """Return the present state."""
        store = self._store
        with store.lock:
            alert_ids = sorted({*store.history, *(alert for alert, _ in store.queues)})
            queues = sorted({*store.queues, *store.reminders})
            return models.SavedState(
                configuration=store.configuration,
                workers=tuple(
                    models.SavedWorker(
                        worker=store.workers[worker_id].worker, condition=store.workers[worker_id].condition
                    )
                    for worker_id in sorted(store.workers)
                ),
                accounts=tuple(store.accounts[key] for key in sorted(store.accounts)),
                alerts=tuple(
                    models.SavedAlerts(subject=subject, version=stored.version, alerts=stored.alerts)
                    for subject, stored in sorted(store.alerts.items())
                ),
                histories=tuple(self._history(alert_id) for alert_id in sorted(store.history)),
                queues=tuple(
                    models.SavedQueue(
                        alert_id=alert_id,
                        channel=channel,
                        notifications=tuple(store.queues.get((alert_id, channel), memory.NotificationQueue()).waiting),
                        remind_at=store.reminders.get((alert_id, channel)),
                    )
                    for alert_id, channel in queues
                    if alert_id != models.CANARY and not models.is_test(alert_id)
                ),
                silences=tuple(self._silences.every()),
                acknowledgements=tuple(self._silences.acknowledged(alert_ids).values()),
                rollups=tuple(self._rollups()),
            )

    def _rollups(self) -> Iterator[models.SavedWeek]:
        weeks: dict[tuple[str, int], dict[str, dict[int, models.RollUp]]] = {}
        for (worker_id, metric), by_hour in sorted(self._store.rollups.items()):
            for hour, rollup in by_hour.items():
                of_week = weeks.setdefault((worker_id, models.week_of(hour)), {})
                of_week.setdefault(metric, {})[hour] = rollup
        for (worker_id, week), series in sorted(weeks.items()):
            packed = {name: base64.b64encode(models.pack(week, of)).decode() for name, of in series.items()}
            yield models.SavedWeek(worker_id=worker_id, week=week, series=packed)

    def _history(self, alert_id: str) -> models.SavedHistory:
        store = self._store
        subject, rule = models.alert_parts(alert_id)
        return models.SavedHistory(
            alert_id=alert_id,
            entries=tuple(models.SavedEntry(at=at, entry=entry) for _, at, entry in store.history[alert_id]),
            attempts=tuple(store.attempts.get(alert_id, ())),
            last=store.last.get(alert_id),
            last_version=store.last_versions.get(subject, {}).get(rule),
        )

    def replace(self, state: models.SavedState, at: float, *, force: bool = False) -> bool:
        """Replace the present state."""
        store = self._store
        with store.lock:
            if not force and (store.configuration or store.workers or store.history or self._silences.every()):
                return False
            for records in (
                store.workers, store.ledger, store.pending, store.history, store.attempts, store.last,
                store.last_versions, store.queues, store.reminders, store.escalations, store.accounts,
                store.intervals_at, store.alerts, store.groups,
                store.rollups, store.rollups_due,
            ):  # fmt: skip
                records.clear()
            store.configuration = state.configuration
            store.changes += 1
            for saved in state.workers:
                store.workers[saved.worker.id] = memory.StoredWorker(saved.worker, saved.condition)
            for account in state.accounts:
                store.accounts[account.key], store.intervals_at[account.key] = account, account.at
            for subject in state.alerts:
                store.alerts[subject.subject] = memory.StoredAlerts(dict(subject.alerts), subject.version)
                for rule, alert in subject.alerts.items():
                    if alert.escalates_at is not None:
                        store.escalations[models.alert_id(subject.subject, rule)] = alert.escalates_at
            self._restore_histories(state)
            self._restore_queues(state, at)
            for week in state.rollups:
                for metric, data in week.series.items():
                    stored = store.rollups.setdefault((week.worker_id, metric), {})
                    stored.update(models.unpack(week.week, base64.b64decode(data)))
            self._silences.replace(state.silences, state.acknowledgements)
            return True

    def _restore_histories(self, state: models.SavedState) -> None:
        entries = [(saved.at, -place, history.alert_id, saved.entry)
                   for history in state.histories for place, saved in enumerate(history.entries)]  # fmt: skip
        for at, _, alert_id, entry in sorted(entries, key=lambda record: record[:3]):
            self._store.record(alert_id, at, entry)
        for history in state.histories:
            subject, rule = models.alert_parts(history.alert_id)
            self._store.attempts[history.alert_id] = list(history.attempts)
            if history.last is not None:
                self._store.last[history.alert_id] = history.last
            if history.last_version is not None:
                self._store.last_versions.setdefault(subject, {})[rule] = history.last_version

    def _restore_queues(self, state: models.SavedState, at: float) -> None:
        for queue in state.queues:
            key = (queue.alert_id, queue.channel)
            if queue.notifications:
                self._store.queues[key] = memory.NotificationQueue(list(queue.notifications), retry_at=at)
            if queue.remind_at is not None:
                self._store.reminders[key] = queue.remind_at
