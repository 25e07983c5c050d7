"""State and history of the alerts of every subject. A verdict is written in one step, with history and outbox."""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import bases, client, group_packing, history, keys, unreadable_records


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
    """``ports.Alerts`` on Redis; notifications are also published on ``ports.alerts_channel``.

    ``lifetime`` returns for how many seconds the history is kept from now on.
    """

    def __init__(
        self, redis_client: redis.Redis, channel: str, lifetime: Callable[[], int] = lambda: models.ALERT_HISTORY
    ) -> None:
        self._client = redis_client
        self._lifetime = lifetime
        self._feed = ports.alerts_channel(channel)

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis[ports.Record]]:
        """Return the basis of an evaluation of these workers, without unknown ones. Each is read in one step."""
        loading = bases.loading_workers(worker_ids)
        return bases.of_workers(self._client, worker_ids, client.run_many(self._client, loading))

    def load_monitor_alerts(self) -> ports.MonitorAlerts:
        """Return the basis of an evaluation of every account and region, and of the installation, read in one step."""
        return bases.of_monitor(self._client, client.run(self._client, bases.loading_monitor()))

    def load_channel(self, channel: str) -> ports.Basis[None]:
        """Return the basis of an evaluation of a channel."""
        return bases.of_channel(self._client, channel)

    def load_groups(self, subject_ids: Sequence[str]) -> dict[str, ports.Basis[ports.GroupRecord]]:
        """Return the basis of an evaluation of these groups, without those that have no data. One read each."""
        return bases.of_groups(self._client, subject_ids)

    def group_ids(self) -> list[str]:
        """Return the subject's id of every group with members, in order."""
        with client.guard(self._client):
            names: Any = self._client.smembers(keys.GROUPS)
        return sorted(client.texts(names))

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
            state=bases.STATE.dump_json(verdict.alerts, by_alias=True, exclude_defaults=True),
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
        owners = list(dict.fromkeys(models.alert_parts(alert_id).subject_id for alert_id in alert_ids))
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for subject in owners:
                pipe.hget(keys.alerts(subject), "alerts")
            states: list[Any] = pipe.execute()
        open_alerts = {
            models.alert_id(subject, rule): alert
            for subject, state in zip(owners, states, strict=True)
            if state
            for rule, alert in bases.state(self._client, subject, state).items()
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
        closed = [models.alert_id(subject, rule) for rule in {**before, **verdict.alerts}]
        return [0, len(closed), *closed]
    opened = [
        (models.alert_id(subject, rule), alert.since or 0)
        for rule, alert in verdict.alerts.items()
        if alert.open and not (rule in before and before[rule].open and before[rule].since == alert.since)
    ]
    closed = [
        models.alert_id(subject, rule)
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
        alert_id = models.alert_id(subject, rule)
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
