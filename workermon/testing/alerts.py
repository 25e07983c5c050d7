"""The ports that store alerts, silences and the state of accounts, in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from workermon import models, ports
from workermon.testing import memory

Stored = TypeVar("Stored")


class MemoryAlerts:
    """``ports.Alerts`` in memory."""

    def __init__(self, store: memory.MemoryStore, lifetime: Callable[[], int] = lambda: models.ALERT_HISTORY) -> None:
        self._store, self._lifetime = store, lifetime

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis[ports.Record]]:
        """Return the basis of an evaluation of these workers."""
        with self._store.lock:
            return {
                worker_id: self._basis(models.worker_subject(stored.worker), stored.record())
                for worker_id in worker_ids
                if (stored := self._store.workers.get(worker_id))
            }

    def load_monitor_alerts(self) -> ports.MonitorAlerts:
        """Return the basis of an evaluation of every account and region, and of the installation."""
        with self._store.lock:
            accounts = {
                key: self._basis(models.account_subject(key), state) for key, state in self._store.accounts.items()
            }
            return ports.MonitorAlerts(accounts, self._basis(models.INSTALLATION, None))

    def load_channel(self, channel: str) -> ports.Basis[None]:
        """Return the basis of an evaluation of a channel."""
        with self._store.lock:
            return self._basis(models.channel_subject(channel), None)

    def load_groups(self, subject_ids: Sequence[str]) -> dict[str, ports.Basis[ports.GroupRecord]]:
        """Return the basis of an evaluation of these groups, without those that have no data."""
        bases = {}
        with self._store.lock:
            for subject_id in subject_ids:
                group, stored = models.group_of(subject_id), self._store.groups.get(subject_id)
                if group is None or (stored is None and subject_id not in self._store.alerts):
                    continue
                stored_group = stored or memory.StoredGroup()
                members = {
                    rule: dict(rule_members) for rule, rule_members in stored_group.members.items() if rule_members
                }
                record = ports.GroupRecord(*group, members, stored_group.changed_from, stored_group.sequence)
                bases[subject_id] = self._basis(models.group_subject(*group), record)
        return bases

    def group_ids(self) -> list[str]:
        """Return the subject's id of every group with members, in order."""
        with self._store.lock:
            return sorted(name for name, stored in self._store.groups.items() if any(stored.members.values()))

    def commit_many(self, verdicts: Sequence[ports.Verdict]) -> list[bool]:
        """Commit them one by one."""
        return [self.commit(verdict) for verdict in verdicts]

    def commit(self, verdict: ports.Verdict) -> bool:
        """Write alerts, history and outbox if the basis still holds."""
        store, subject = self._store, verdict.basis.subject
        with store.lock:
            if not self._is_current(verdict) or verdict.basis.revision != store.revision:
                return False
            self._write(verdict)
            stored = store.workers.get(subject.id) or store.groups.get(subject.id)
            if isinstance(stored, memory.StoredWorker):
                stored.steady_by = verdict.basis.revision if verdict.is_steady else None
            if stored is not None and stored.sequence == verdict.basis.record.sequence:
                stored.changed_from = None
                store.pending.pop(subject.id, None)
            elif stored is not None and not verdict.is_steady:
                # A sample that waits was written meanwhile.
                store.pending.setdefault(subject.id, verdict.at)
            return True

    def retire(self, verdict: ports.Verdict) -> bool:
        """Commit a last verdict and delete the subject."""
        store, subject = self._store, verdict.basis.subject.id
        with store.lock:
            if not self._is_current(verdict):
                return False
            self._write(verdict, retire=True)
            for records in (store.alerts, store.workers, store.accounts, store.pending):
                records.pop(subject, None)
            _forget_worker(subject, store.ledger)
            _forget_worker(subject, store.rollups)
            _forget_worker(subject, store.rollups_due)
            return True

    def open(self) -> list[models.Alert]:
        """Return the alerts that fire, oldest first."""
        with self._store.lock:
            alerts = [
                (alert.since or 0, subject, alert.rule, alert)
                for subject, stored in self._store.alerts.items()
                for alert in stored.alerts.values()
                if alert.open
            ]
        return [alert for _, _, _, alert in sorted(alerts, key=lambda record: record[:3])]

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[models.HistoryEntry]:
        """Return what was recorded, newest first."""
        recorded = self.timeline() if alert_id is None else self.recorded(alert_id)
        return [record.entry for record in itertools.islice(recorded, max(0, limit))]

    def timeline(self, since: float = -math.inf, until: float = math.inf) -> Iterator[ports.Recorded]:
        """Yield the transitions of all alerts by time, newest first."""
        with self._store.lock:
            entries = [
                (entry.at, number, entry)
                for of_alert in self._store.history.values()
                for number, _, entry in of_alert
                if since <= entry.at <= until
            ]
            ordered = sorted(entries, key=lambda record: record[:2], reverse=True)
            yield from [ports.Recorded(number, self._joined(entry)) for _, number, entry in ordered]

    def recorded(self, alert_id: str, number: int | None = None) -> Iterator[ports.Recorded]:
        """Yield the transitions of an alert in the order of recording, newest first, starting at a given one."""
        with self._store.lock:
            entries = list(self._store.history.get(alert_id, ()))
            yield from [
                ports.Recorded(recorded_number, self._joined(entry))
                for recorded_number, _, entry in entries
                if number is None or recorded_number <= number
            ]

    def _joined(self, recorded: models.HistoryEntry) -> models.HistoryEntry:
        if recorded.notification is None:
            return recorded
        attempts = self._store.attempts.get(recorded.alert_id, ())
        tried = tuple(attempt for attempt in attempts if attempt.notification_id == recorded.notification.id)
        return recorded.model_copy(update={"attempts": tried})

    def _basis(self, subject: models.SubjectKey, record: Stored) -> ports.Basis[Stored]:
        stored = self._store.alerts.get(subject.id, memory.StoredAlerts())
        last_versions = dict(self._store.last_versions.get(subject.id, {}))
        return ports.Basis(subject, record, dict(stored.alerts), stored.version, self._store.revision, last_versions)

    def _is_current(self, verdict: ports.Verdict) -> bool:
        """Return whether the subject is still the same, and its alerts are those that the verdict is based on."""
        store, subject = self._store, verdict.basis.subject
        if subject.kind == "worker" and store.living(subject.id, subject.incarnation) is None:
            return False
        if subject.kind == "account" and subject.id not in store.accounts:
            return False
        return store.alerts.get(subject.id, memory.StoredAlerts()).version == verdict.basis.version

    def _forget(self, before: float) -> None:
        """Drop the transitions before a time."""
        if self._store.oldest >= before:
            return
        history, oldest = self._store.history, math.inf
        for alert_id, entries in list(history.items()):
            history[alert_id] = [record for record in entries if record[2].at >= before]
            oldest = min([oldest, *(record[2].at for record in history[alert_id])])
            if not history[alert_id]:
                del history[alert_id]
        self._store.oldest = oldest

    def _write(self, verdict: ports.Verdict, *, retire: bool = False) -> None:
        """Write alerts, history and outbox of a verdict, and its reports to groups."""
        store, subject = self._store, verdict.basis.subject.id
        for change in verdict.memberships:
            self._update_member(change, verdict.at)
        for alert_id, escalates_at in verdict.escalations(retire=retire).items():
            store.escalations.pop(alert_id, None)
            if escalates_at is not None:
                store.escalations[alert_id] = escalates_at
        store.alerts[subject] = memory.StoredAlerts(dict(verdict.alerts), verdict.basis.version + 1)
        for rule, transition, notification in verdict.transitions:
            alert_id = models.alert_id(subject, rule)
            entry = models.HistoryEntry(transition=transition, notification=notification, rule=rule, subject=subject)
            store.record(alert_id, verdict.at, entry)
            if notification is None:
                continue
            store.last[alert_id] = notification
            store.last_versions.setdefault(subject, {})[rule] = notification.version
            for channel in dict.fromkeys(verdict.channels.get(rule, ())):
                waiting = store.queues.setdefault((alert_id, channel), memory.NotificationQueue(retry_at=verdict.at))
                waiting.waiting.append(notification)
            if not transition.muted:
                store.publish(ports.alerts_channel(store.channel), notification.model_dump_json(by_alias=True))
        if verdict.transitions:
            self._forget(verdict.at - self._lifetime())

    def _update_member(self, change: ports.MembershipChange, at: float) -> None:
        """Store or delete a worker's report to its group."""
        group = self._store.groups.setdefault(change.group, memory.StoredGroup())
        levels = group.members.setdefault(change.rule, {})
        if change.member is None:
            levels.pop(change.worker_id, None)
            return
        levels[change.worker_id] = change.member
        group.sequence += 1
        if change.changed_from is not None:
            group.changed_from = min(change.changed_from, group.changed_from or change.changed_from)
        self._store.pending.setdefault(change.group, at)


def _forget_worker(worker_id: str, records: dict[Any, Any]) -> None:
    for key in [key for key in records if key[0] == worker_id]:
        del records[key]


class EvaluationSources(NamedTuple):
    """The ports that ``MemoryEvaluationInputs`` reads."""

    alerts: ports.Alerts
    silences: ports.Silences
    unreadable: ports.Unreadable
    liveness: ports.Liveness


class MemoryEvaluationInputs:
    """``ports.EvaluationInputs`` over other ports, which ``sources`` returns."""

    def __init__(self, sources: Callable[[], EvaluationSources]) -> None:
        self._sources = sources

    def load(self, worker_ids: Sequence[str]) -> ports.EvaluationInput:
        """Return what the other ports return."""
        sources = self._sources()
        return ports.EvaluationInput(
            monitor_alerts=sources.alerts.load_monitor_alerts(),
            silences=sources.silences.every(),
            unreadable=sources.unreadable.load(),
            monitoring_since=sources.liveness.monitoring_since(),
            workers=sources.alerts.load(worker_ids),
        )


class MemoryAccounts:
    """``ports.Accounts`` in memory."""

    def __init__(self, store: memory.MemoryStore) -> None:
        self._store = store

    def note(self, key: str, at: float, interval: int, last_error: models.CollectionError | None) -> None:
        """Record the result of a collection. A result older than the last success changes nothing."""
        store = self._store
        with store.lock:
            state = store.accounts.get(key) or models.AccountState(key=key, at=0, interval=interval)
            if interval <= state.interval or abs(at - store.intervals_at[key]) > 10 * state.interval:
                store.intervals_at[key] = at
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
            store.accounts[key] = state

    def note_lost(self, key: str, lost: Sequence[models.LostMetric]) -> None:
        """Record which metrics much of the fleet there has lost."""
        store = self._store
        with store.lock:
            if key in store.accounts:
                store.accounts[key] = store.accounts[key].model_copy(update={"lost_metrics": tuple(lost)})

    def load(self) -> dict[str, models.AccountState]:
        """Return the state of every account and region."""
        with self._store.lock:
            return dict(self._store.accounts)


class MemorySilences:
    """``ports.Silences`` in memory."""

    def __init__(self) -> None:
        self._silences: dict[str, models.Silence] = {}
        self._acknowledged: dict[str, models.Acknowledgement] = {}

    def every(self) -> list[models.Silence]:
        """Return the silences that were not removed."""
        return sorted(self._silences.values(), key=lambda silence: (silence.ends, silence.id))

    def add(self, silence: models.Silence) -> None:
        """Put a silence in force."""
        self.remove([stored.id for stored in self.every() if stored.ends <= silence.begins])
        self._silences[silence.id] = silence

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Remove these silences."""
        for silence_id in silence_ids:
            self._silences.pop(silence_id, None)

    def acknowledge(self, acknowledged: models.Acknowledgement) -> None:
        """Record who has seen an alert."""
        self._acknowledged[acknowledged.alert_id] = acknowledged

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, models.Acknowledgement]:
        """Return who acknowledged these alerts last."""
        return {alert_id: self._acknowledged[alert_id] for alert_id in alert_ids if alert_id in self._acknowledged}

    def replace(self, silences: Iterable[models.Silence], acknowledgements: Iterable[models.Acknowledgement]) -> None:
        """Replace all silences with these."""
        self._silences = {silence.id: silence for silence in silences}
        self._acknowledged = {acknowledgement.alert_id: acknowledgement for acknowledgement in acknowledgements}
