"""State and history of the alerts; a verdict, its history and its place in the outbox are written in one step."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import redis
from pydantic import TypeAdapter

from workermon import models, ports
from workermon.on_redis import client, keys, workers

#: State of the alerts of one subject, by rule.
STATE = TypeAdapter(dict[str, models.Alert])

_LOAD = client.Script.load("load_alerts")

COMMIT = client.Script.load("commit_verdict")


class Subject(NamedTuple):
    """What a verdict is about: a worker, or an account and region; ``key`` names the hash that has its ``seq``."""

    id: str
    key: str
    incarnation: str
    sequence: int


class RedisAlerts:
    """``ports.Alerts`` on Redis; notifications are also published on ``<channel>:alerts``."""

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client = redis_client
        self._feed = f"{channel}:alerts"

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis]:
        """Return the basis of a judgement of those workers that are known; each is read in one step."""
        found = {}
        for start in range(0, len(worker_ids), workers.CHUNK):
            some = worker_ids[start : start + workers.CHUNK]
            names = [name for one in some for name in (keys.worker(one), keys.alerts(one), keys.versions(one))]
            revision, *replies = _LOAD.run(self._client, [keys.CONFIGURATION, *names], workers.FIELDS)
            for worker_id, (fields, (version, state), told) in zip(some, replies, strict=True):
                record = workers.record(fields)
                if record is not None:
                    found[worker_id] = ports.Basis(
                        record=record,
                        alerts=STATE.validate_json(state) if state else {},
                        version=int(version or 0),
                        revision=int(revision or 0),
                        last_versions={
                            rule.decode(): int(last) for rule, last in zip(told[::2], told[1::2], strict=True)
                        },
                    )
        return found

    def commit(self, verdict: ports.Verdict) -> bool:
        """Write alerts, history and outbox in one step, where the basis still holds."""
        return self._write("commit", verdict)

    def commit_many(self, verdicts: Sequence[ports.Verdict]) -> list[bool]:
        """Commit verdicts in one round trip, each a step of its own."""
        calls = [self._call("commit", _subject(verdict), verdict) for verdict in verdicts]
        return [bool(reply) for reply in COMMIT.run_many(self._client, calls)]

    def retire(self, verdict: ports.Verdict) -> bool:
        """Commit a last verdict and delete every key and member of the worker, in one step.

        A changed configuration does not stand in the way: it is the worker that goes.
        """
        return self._write("retire", verdict)

    def retiring(self, verdict: ports.Verdict) -> tuple[list[str], list[client.Argument]]:
        """Return what ``COMMIT`` takes to commit a last verdict."""
        return self._call("retire", _subject(verdict), verdict)

    def _write(self, mode: str, verdict: ports.Verdict) -> bool:
        return self.write(mode, _subject(verdict), verdict)

    def write(self, mode: str, subject: Subject, verdict: ports.Verdict | ports.AccountVerdict) -> bool:
        """Write a verdict of whatever it is about, in one step."""
        return bool(COMMIT.run(self._client, *self._call(mode, subject, verdict)))

    def _call(
        self, mode: str, subject: Subject, verdict: ports.Verdict | ports.AccountVerdict
    ) -> tuple[list[str], list[client.Argument]]:
        basis = verdict.basis
        to_open, to_close = _turns(subject.id, verdict, retire=mode != "commit")
        names = [
            subject.key,
            keys.alerts(subject.id),
            keys.CONFIGURATION,
            keys.PENDING,
            keys.OPEN,
            keys.HISTORY_INDEX,
            keys.versions(subject.id),
            keys.OUTBOX,
            keys.SCOPES if mode == "leave" else keys.WORKERS,
            keys.ledger(subject.id, ""),
        ]
        arguments: list[client.Argument] = [
            mode,
            subject.id,
            subject.incarnation,
            basis.version,
            basis.revision,
            subject.sequence,
            # A commit whose answer was lost is sent again, and must know itself.
            secrets.token_hex(8),
            STATE.dump_json(verdict.alerts, by_alias=True, exclude_defaults=True),
            repr(verdict.at),
            self._feed,
            keys.HISTORY,
            keys.ENTRIES,
            keys.ALERTS,
            len(to_open),
            *(part for turn in to_open for part in turn),
            len(to_close),
            *to_close,
            len(verdict.transitions),
        ]
        for rule, transition, notification in verdict.transitions:
            alert_id = f"{subject.id}/{rule}"
            recorded = models.HistoryEntry(
                transition=transition, notification=notification, rule=rule, worker_id=subject.id
            )
            names.append(keys.history(alert_id))
            arguments += [alert_id, f"{verdict.at!r} {recorded.model_dump_json(by_alias=True)}"]
            if notification is None:
                arguments.append(0)
                continue
            lanes = [keys.lane(alert_id, channel) for channel in dict.fromkeys(verdict.channels.get(rule, ()))]
            names += [keys.last(alert_id), keys.lanes(alert_id), *(f"{keys.LANE}{lane}" for lane in lanes)]
            text = notification.model_dump_json(by_alias=True)
            arguments += [len(lanes) + 1, rule, notification.version, notification.id, text, *lanes]
        return names, arguments

    def open(self) -> list[models.Alert]:
        """Return the alerts that fire, the oldest first."""
        with client.guard(self._client):
            alert_ids = client.texts(self._client.zrange(keys.OPEN, 0, -1))
        # What an alert is about may have slashes of its own, a rule's name has none.
        owners = list(dict.fromkeys(alert_id.rpartition("/")[0] for alert_id in alert_ids))
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for worker_id in owners:
                pipe.hget(keys.alerts(worker_id), "alerts")
            states: list[Any] = pipe.execute()
        found = {
            f"{worker_id}/{rule}": alert
            for worker_id, state in zip(owners, states, strict=True)
            if state
            for rule, alert in STATE.validate_json(state).items()
        }
        # What was resolved or removed between the two readings is not open.
        return [found[alert_id] for alert_id in alert_ids if alert_id in found and found[alert_id].open]

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[models.HistoryEntry]:
        """Return what was recorded, newest first, with the attempts to deliver it."""
        if limit < 1:
            return []
        if alert_id is not None:
            return self._joined(self._entries([alert_id], limit))
        with client.guard(self._client):
            index: Any = self._client.zrange(keys.HISTORY_INDEX, 0, -1, desc=True, withscores=True)
        entries: list[tuple[float, models.HistoryEntry]] = []
        for start in range(0, len(index), 50):
            chunk = index[start : start + 50]
            if len(entries) >= limit and entries[limit - 1][0] > chunk[0][1]:
                break  # none of the others has anything as new as what is there already
            entries += self._entries([member.decode() for member, _ in chunk], limit)
            entries.sort(key=lambda entry: -entry[0])
        return self._joined(entries[:limit])

    def _entries(self, alert_ids: Sequence[str], limit: int) -> list[tuple[float, models.HistoryEntry]]:
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for alert_id in alert_ids:
                pipe.lrange(keys.history(alert_id), 0, limit - 1)
            replies = pipe.execute()
        found = []
        for texts in replies:
            for text in texts:
                at, _, entry = text.partition(b" ")
                found.append((float(at), models.HistoryEntry.model_validate_json(entry)))
        return found

    def _joined(self, entries: Iterable[tuple[float, models.HistoryEntry]]) -> list[models.HistoryEntry]:
        found = [recorded for _, recorded in entries]
        alert_ids = list(dict.fromkeys(f"{one.worker_id}/{one.rule}" for one in found if one.notification))
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for alert_id in alert_ids:
                pipe.zrange(keys.attempts(alert_id), 0, -1)
            replies = pipe.execute()
        tried: dict[tuple[str, str], list[models.Attempt]] = {}
        for alert_id, members in zip(alert_ids, replies, strict=True):
            for member in members:
                attempt = models.Attempt.model_validate_json(member.partition(b" ")[2])
                tried.setdefault((alert_id, attempt.notification_id), []).append(attempt)
        return [
            one.model_copy(update={"attempts": tuple(tried.get((f"{one.worker_id}/{one.rule}", notification.id), ()))})
            if (notification := one.notification)
            else one
            for one in found
        ]


def _subject(verdict: ports.Verdict) -> Subject:
    record = verdict.basis.record
    return Subject(record.worker.id, keys.worker(record.worker.id), record.worker.incarnation, record.sequence)


def _turns(
    worker_id: str, verdict: ports.Verdict | ports.AccountVerdict, *, retire: bool
) -> tuple[list[tuple[str, int]], list[str]]:
    """Return which alerts a verdict opens (or gives a new beginning), and which it closes."""
    before = verdict.basis.alerts
    if retire:
        return [], [f"{worker_id}/{rule}" for rule in {**before, **verdict.alerts}]
    fresh = models.Alert(rule="")
    to_open = [
        (f"{worker_id}/{rule}", alert.since or 0)
        for rule, alert in verdict.alerts.items()
        if alert.open and not (before.get(rule, fresh).open and before[rule].since == alert.since)
    ]
    to_close = [
        f"{worker_id}/{rule}"
        for rule, alert in before.items()
        if alert.open and not verdict.alerts.get(rule, fresh).open
    ]
    return to_open, to_close
