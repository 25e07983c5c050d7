"""The ports that keep alerts and what keeps them from people, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workermon import models, ports
from workermon.testing import memory


class MemoryAlerts:
    """``ports.Alerts`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
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

    def _holding(self, verdict: ports.Verdict) -> memory.StoredWorker | None:
        worker = verdict.basis.record.worker
        kept = self._store.living(worker.id, worker.incarnation)
        return kept if kept and kept.version == verdict.basis.version else None


class MemoryAccounts:
    """``ports.Scopes`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
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
