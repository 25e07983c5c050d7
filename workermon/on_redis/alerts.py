"""State and history of the alerts of every subject. A verdict is written in one step, with history and outbox."""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis
from pydantic import TypeAdapter

from workermon import lua, models, ports
from workermon.on_redis import accounts, client, group_packing, history, keys, unreadable_records, workers

#: The version of alerts that cannot be read. No stored alert has it.
_UNREADABLE = -1

#: State of a subject's alerts, by rule.
_STATE = TypeAdapter(dict[str, models.Alert])


class LoadWorkers(lua.Script[list[Any]]):
    """Return the configuration's revision, then of each worker its fields, the state of its alerts, its versions."""

    configuration: lua.Key
    hashes: lua.Keys
    fields: lua.Arguments


class LoadMonitorAlerts(lua.Script[list[Any]]):
    """Return the configuration's revision, then the same for the installation and for each account and region."""

    configuration: lua.Key
    accounts: lua.Key
    installation: lua.Argument
    account_prefix: lua.Argument
    alerts_prefix: lua.Argument
    versions_prefix: lua.Argument
    fields: lua.Arguments


class LoadSubject(lua.Script[list[Any]]):
    """Return the configuration's revision, the state of a subject's alerts, its versions."""

    configuration: lua.Key
    alerts: lua.Key
    versions: lua.Key


class LoadGroups(lua.Script[list[Any]]):
    """Return the configuration's revision, then each group's fields, its members, and the same for its alerts."""

    configuration: lua.Key
    hashes: lua.Keys


class CommitVerdict(lua.Script[int], shared="numbers"):
    """Write a verdict with history and outbox. Return 0, and write nothing, if what it is based on has changed."""

    record: lua.Key
    alerts: lua.Key
    configuration: lua.Key
    pending: lua.Key
    open: lua.Key
    timeline: lua.Key
    versions: lua.Key
    outbox: lua.Key
    members: lua.Key
    history: lua.Key
    size: lua.Key
    numbers: lua.Key
    groups: lua.Key
    rollups_due: lua.Key
    escalations: lua.Key
    entries: lua.Keys
    retire: lua.Argument
    subject: lua.Argument
    incarnation: lua.Argument
    version: lua.Argument
    revision: lua.Argument
    sequence: lua.Argument
    token: lua.Argument
    state: lua.Argument
    at: lua.Argument
    feed: lua.Argument
    lifetime: lua.Argument
    alerts_lifetime: lua.Argument
    max_bytes: lua.Argument
    numbers_prefix: lua.Argument
    ledger_prefix: lua.Argument
    rollups_prefix: lua.Argument
    steady: lua.Argument
    changes: lua.Arguments


class RedisAlerts:
    """``ports.Alerts`` on Redis; notifications are also published on ``<channel>:alerts``.

    ``lifetime`` returns for how many seconds the history is kept from now on.
    """

    def __init__(
        self, redis_client: redis.Redis, channel: str, lifetime: Callable[[], int] = lambda: models.ALERT_HISTORY
    ) -> None:
        self._client = redis_client
        self._lifetime = lifetime
        self._feed = f"{channel}:alerts"

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis[ports.Record]]:
        """Return the basis of an evaluation of these workers, without unknown ones. Each is read in one step."""
        bases = {}
        for start in range(0, len(worker_ids), workers.CHUNK):
            chunk = worker_ids[start : start + workers.CHUNK]
            loading = LoadWorkers(
                configuration=keys.CONFIGURATION,
                hashes=[
                    name
                    for worker_id in chunk
                    for name in (keys.worker(worker_id), keys.alerts(worker_id), keys.versions(worker_id))
                ],
                fields=workers.FIELDS,
            )
            revision, *replies = client.run(self._client, loading)
            for worker_id, (fields, *alerts) in zip(chunk, replies, strict=True):
                record = workers.record(self._client, worker_id, fields)
                if record is None:
                    continue
                basis = self._basis(models.worker_subject(record.worker), record, revision, *alerts)
                if basis.version != _UNREADABLE:
                    bases[worker_id] = basis
        return bases

    def load_monitor_alerts(self) -> ports.MonitorAlerts:
        """Return the basis of an evaluation of every account and region, and of the installation, read in one step."""
        loading = LoadMonitorAlerts(
            configuration=keys.CONFIGURATION,
            accounts=keys.ACCOUNTS,
            installation=models.INSTALLATION.id,
            account_prefix=keys.account(""),
            alerts_prefix=keys.alerts(""),
            versions_prefix=keys.versions(""),
            fields=accounts.FIELDS,
        )
        revision, installation, *rows = client.run(self._client, loading)
        bases = {}
        for name, fields, *alerts in rows:
            key = unreadable_records.text(name)
            state = accounts.state(self._client, key, fields)
            if state is None:
                continue
            basis = self._basis(models.account_subject(key), state, revision, *alerts)
            if basis.version != _UNREADABLE:
                bases[key] = basis
        return ports.MonitorAlerts(bases, self._basis(models.INSTALLATION, None, revision, *installation))

    def load_channel(self, channel: str) -> ports.Basis[None]:
        """Return the basis of an evaluation of a channel."""
        subject = models.channel_subject(channel)
        loading = LoadSubject(
            configuration=keys.CONFIGURATION, alerts=keys.alerts(subject.id), versions=keys.versions(subject.id)
        )
        return self._basis(subject, None, *client.run(self._client, loading))

    def load_groups(self, subject_ids: Sequence[str]) -> dict[str, ports.Basis[ports.GroupRecord]]:
        """Return the basis of an evaluation of these groups, without those that have no data. One read each."""
        groups = [(subject_id, group) for subject_id in subject_ids if (group := models.group_of(subject_id))]
        bases: dict[str, ports.Basis[ports.GroupRecord]] = {}
        for start in range(0, len(groups), workers.CHUNK):
            chunk = groups[start : start + workers.CHUNK]
            parts = (keys.group, keys.group_members, keys.alerts, keys.versions)
            loading = LoadGroups(
                configuration=keys.CONFIGURATION, hashes=[name(subject_id) for subject_id, _ in chunk for name in parts]
            )
            revision, *replies = client.run(self._client, loading)
            for (subject_id, (by, value)), (fields, members, *alerts) in zip(chunk, replies, strict=True):
                if fields[0] is None and alerts[0][1] is None:
                    continue
                record = self._group(by, value, fields, members)
                basis = self._basis(models.group_subject(by, value), record, revision, *alerts)
                if basis.version != _UNREADABLE:
                    bases[subject_id] = basis
        return bases

    def _group(
        self, by: str, value: str, fields: Sequence[bytes | None], members: Sequence[bytes]
    ) -> ports.GroupRecord:
        subject = models.group_subject(by, value).id
        members_by_rule: dict[str, dict[str, models.GroupMember]] = {}
        for field, raw in zip(members[::2], members[1::2], strict=True):
            rule, _, worker_id = field.decode().partition(" ")
            try:
                members_by_rule.setdefault(rule, {})[worker_id] = group_packing.unpacked(raw.decode())
            except ValueError:
                unreadable_records.note(
                    self._client, keys.group_members(subject), f"{worker_id} says nothing that is known"
                )
        sequence, changed_from = (
            None if raw is None else unreadable_records.number(self._client, keys.group(subject), raw) for raw in fields
        )
        return ports.GroupRecord(
            by, value, members_by_rule, None if changed_from is None else int(changed_from), int(sequence or 0)
        )

    def group_ids(self) -> list[str]:
        """Return the subject's id of every group with members, in order."""
        with client.guard(self._client):
            names: Any = self._client.smembers(keys.GROUPS)
        return sorted(client.texts(names))

    def _state(self, subject: str, raw: bytes) -> dict[str, models.Alert]:
        return unreadable_records.parsed_by(self._client, keys.alerts(subject), _STATE, raw) or {}

    def _basis(
        self,
        subject: models.SubjectKey,
        record: Any,
        revision: bytes | None,
        state: Sequence[Any],
        versions: Sequence[bytes],
    ) -> ports.Basis[Any]:
        """Return a basis. If the alerts cannot be read, no verdict over it is ever written, so they stay unchanged."""
        version, raw = state
        name = keys.alerts(subject.id)
        alerts = unreadable_records.parsed_by(self._client, name, _STATE, raw) if raw else {}
        number = unreadable_records.number(self._client, f"{name} version", version or b"0")
        last_versions = {
            unreadable_records.text(rule): unreadable_records.number(self._client, keys.versions(subject.id), last)
            for rule, last in zip(versions[::2], versions[1::2], strict=True)
        }
        return ports.Basis(
            subject=subject,
            record=record,
            alerts=alerts or {},
            version=_UNREADABLE if alerts is None or number is None else int(number),
            revision=int(unreadable_records.number(self._client, keys.CONFIGURATION, revision) or 0),
            last_versions={rule: int(last) for rule, last in last_versions.items() if last is not None},
        )

    def commit(self, verdict: ports.Verdict) -> bool:
        """Write alerts, history and outbox in one step, if the basis still holds."""
        return bool(client.run(self._client, self.writing(verdict, self._lifetime())))

    def commit_many(self, verdicts: Sequence[ports.Verdict]) -> list[bool]:
        """Commit verdicts in one round trip, each in a step of its own."""
        lifetime = self._lifetime()  # once: each call asks Redis for the configuration in force
        calls = [self.writing(verdict, lifetime) for verdict in verdicts]
        replies = client.run_each(self._client, calls)
        for verdict, reply in zip(verdicts, replies, strict=True):
            if isinstance(reply, Exception):
                unreadable_records.note(
                    self._client, keys.alerts(verdict.basis.subject.id), f"no verdict is written: {reply}"
                )
        return [not isinstance(reply, Exception) and bool(reply) for reply in replies]

    def retire(self, verdict: ports.Verdict) -> bool:
        """Commit a last verdict, and delete every key and membership of the subject, in one step."""
        return bool(client.run(self._client, self.writing(verdict, self._lifetime(), retire=True)))

    def writing(self, verdict: ports.Verdict, lifetime: int, *, retire: bool = False) -> CommitVerdict:
        """Return the call that writes a verdict, and deletes the subject if ``retire``.

        Transitions are kept for ``lifetime`` seconds.
        """
        basis = verdict.basis
        kind, subject, incarnation = basis.subject
        names, changes = _transitions(verdict)
        alerts = keys.alerts(subject)
        record, members = {
            "worker": (keys.worker(subject), keys.WORKERS),
            "account": (keys.account(subject), keys.ACCOUNTS),
            "group": (keys.group(subject), keys.GROUPS),
        }.get(kind, (alerts, alerts))
        return CommitVerdict(
            record=record,
            alerts=alerts,
            configuration=keys.CONFIGURATION,
            pending=keys.PENDING,
            open=keys.OPEN,
            timeline=keys.TIMELINE,
            versions=keys.versions(subject),
            outbox=keys.OUTBOX,
            members=members,
            history=keys.HISTORY_ENTRIES,
            size=keys.HISTORY_SIZE,
            numbers=keys.HISTORY_NUMBERS,
            groups=keys.GROUPS,
            rollups_due=keys.ROLLUPS_DUE,
            escalations=keys.ESCALATIONS,
            entries=[
                *names,
                *(name for membership in verdict.memberships for name in _names_of_group(membership.group)),
            ],
            retire=int(retire),
            subject=subject,
            incarnation="" if record == alerts or kind == "group" else incarnation,
            version=basis.version,
            revision=basis.revision,
            sequence=basis.record.sequence if kind in ("worker", "group") else "",
            # redis-py repeats a commit whose answer was lost, so the script must recognize it.
            token=secrets.token_hex(8),
            state=_STATE.dump_json(verdict.alerts, by_alias=True, exclude_defaults=True),
            at=repr(verdict.at),
            feed=self._feed,
            lifetime=lifetime,
            alerts_lifetime="" if kind in ("worker", "account") else _lifetime(verdict),
            max_bytes=keys.HISTORY_BYTES,
            numbers_prefix=keys.numbers_of(""),
            ledger_prefix=keys.ledger(subject, ""),
            rollups_prefix=keys.rollups(subject, ""),
            steady=basis.revision if verdict.is_steady else "",
            changes=[
                *_opened_and_closed(verdict, retire=retire),
                *_escalations(verdict, retire=retire),
                *changes,
                *_memberships(verdict),
            ],
        )

    def open(self) -> list[models.Alert]:
        """Return the alerts that fire, oldest first."""
        with client.guard(self._client):
            alert_ids = client.texts(self._client.zrange(keys.OPEN, 0, -1))
        # A subject may contain slashes, a rule's name does not.
        owners = list(dict.fromkeys(alert_id.rpartition("/")[0] for alert_id in alert_ids))
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for subject in owners:
                pipe.hget(keys.alerts(subject), "alerts")
            states: list[Any] = pipe.execute()
        open_alerts = {
            f"{subject}/{rule}": alert
            for subject, state in zip(owners, states, strict=True)
            if state
            for rule, alert in self._state(subject, state).items()
        }
        # An alert resolved or removed between the two reads is not open.
        return [
            open_alerts[alert_id] for alert_id in alert_ids if alert_id in open_alerts and open_alerts[alert_id].open
        ]

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[models.HistoryEntry]:
        """Return the recorded transitions, newest first, with the attempts to deliver them."""
        recorded = self.timeline() if alert_id is None else self.recorded(alert_id)
        return [record.entry for record in itertools.islice(recorded, max(0, limit))]

    def timeline(self, since: float = -math.inf, until: float = math.inf) -> Iterator[ports.Recorded]:
        """Yield the transitions of all alerts by time, newest first."""
        return history.timeline(self._client, since, until)

    def recorded(self, alert_id: str, number: int | None = None) -> Iterator[ports.Recorded]:
        """Yield the transitions of an alert in the order of recording, newest first, starting at a given one."""
        return history.recorded(self._client, alert_id, number)


def _lifetime(verdict: ports.Verdict) -> int:
    """Return for how many seconds alerts are kept that nobody removes; 0 while one of them is open."""
    if verdict.basis.subject.kind == "group" and any(verdict.basis.record.members.values()):
        return 0
    return 0 if any(alert.open for alert in verdict.alerts.values()) else keys.HISTORY


def _names_of_group(subject: str) -> tuple[str, str]:
    return keys.group(subject), keys.group_members(subject)


def _memberships(verdict: ports.Verdict) -> list[lua.Value]:
    """Return the changes of memberships in the form that the script expects."""
    arguments: list[lua.Value] = [len(verdict.memberships)]
    for change in verdict.memberships:
        text = "" if change.member is None else group_packing.packed(change.member)
        since = "" if change.changed_from is None else change.changed_from
        arguments += [change.group, f"{change.rule} {change.worker_id}", text, since]
    return arguments


def _opened_and_closed(verdict: ports.Verdict, *, retire: bool) -> list[lua.Value]:
    """Return which alerts a verdict opens (or gives a new beginning) and closes, as the script expects it."""
    subject, before = verdict.basis.subject.id, verdict.basis.alerts
    if retire:
        closed = [f"{subject}/{rule}" for rule in {**before, **verdict.alerts}]
        return [0, len(closed), *closed]
    opened = [
        (f"{subject}/{rule}", alert.since or 0)
        for rule, alert in verdict.alerts.items()
        if alert.open and not (rule in before and before[rule].open and before[rule].since == alert.since)
    ]
    closed = [
        f"{subject}/{rule}"
        for rule, alert in before.items()
        if alert.open and not (rule in verdict.alerts and verdict.alerts[rule].open)
    ]
    return [len(opened), *(part for alert in opened for part in alert), len(closed), *closed]


def _escalations(verdict: ports.Verdict, *, retire: bool) -> list[lua.Value]:
    """Return which alerts have a new time of escalation, in the form that the script expects."""
    changed = verdict.escalations(retire=retire)
    times = ("" if at is None else repr(at) for at in changed.values())
    return [len(changed), *(part for pair in zip(changed, times, strict=True) for part in pair)]


def _transitions(verdict: ports.Verdict) -> tuple[list[str], list[lua.Value]]:
    """Return the keys and arguments of a verdict's transitions, in the form that the script expects."""
    subject = verdict.basis.subject.id
    names: list[str] = []
    arguments: list[lua.Value] = [len(verdict.transitions)]
    for rule, transition, notification in verdict.transitions:
        alert_id = f"{subject}/{rule}"
        entry = models.HistoryEntry(transition=transition, notification=notification, rule=rule, subject=subject)
        names.append(keys.numbers_of(alert_id))
        arguments += [alert_id, repr(entry.at), history.text(verdict.at, entry)]
        if notification is None:
            arguments.append(0)
            continue
        queues = [keys.queue(alert_id, channel) for channel in dict.fromkeys(verdict.channels.get(rule, ()))]
        names += [keys.last(alert_id), keys.queues(alert_id), *(f"{keys.QUEUE}{queue}" for queue in queues)]
        text = notification.model_dump_json(by_alias=True)
        published = int(not transition.muted)
        arguments += [len(queues) + 1, rule, notification.version, notification.id, text, published, *queues]
    return names, arguments
