"""The whole state as stored in backups: read in a few passes, written in one transaction."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic
import redis

from workermon import models
from workermon.on_redis import accounts, client, history, keys, silences, unreadable_records, workers

_STATE = pydantic.TypeAdapter(dict[str, models.Alert])
_LOST_METRICS = pydantic.TypeAdapter(tuple[models.LostMetric, ...])

#: Keys that a restore replaces. All others stay: tokens, sessions, audit trail, signs of life, limits, costs.
_REPLACED = (
    keys.WORKERS, keys.PENDING, keys.OPEN, keys.OUTBOX, keys.REMINDERS, keys.FAILING_CHANNELS, keys.SILENCES,
    keys.ACCOUNTS, keys.GROUPS, keys.ROLLUPS_DUE, keys.ESCALATIONS,
)  # fmt: skip
_REPLACED_FORMS = (
    keys.worker("*"), keys.LEDGER + "*", keys.ROLLUPS + "*", keys.alerts("*"), keys.HISTORY_PREFIX + "*",
    keys.QUEUE + "*",
    keys.STATE + "*", keys.LEASE + "*", keys.queues("*"), keys.LABELS + "*", keys.account("*"),
    keys.group("*"), keys.group_members("*"),
)  # fmt: skip
#: If one of these exists, workermon is already set up here.
_SET_UP = (keys.WORKERS, keys.OPEN, keys.SILENCES, keys.TIMELINE)
#: Keys in one command.
_CHUNK = 500


class RedisSavedStates:
    """``ports.SavedStates`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def load(self) -> models.SavedState:
        """Return the present state.

        Alerts are read before their outbox, so that a notification written meanwhile is not left out.
        """
        with client.guard(self._client):
            raw: Any = self._client.hget(keys.CONFIGURATION, "document")
        stored_alerts = tuple(self._alerts())
        histories = tuple(self._histories())
        stored = silences.RedisSilences(self._client)
        alert_ids = [saved_history.alert_id for saved_history in histories]
        return models.SavedState(
            configuration=unreadable_records.parsed(self._client, keys.CONFIGURATION, models.Configuration, raw)
            if raw
            else None,
            workers=tuple(
                models.SavedWorker(worker=record.worker, condition=record.condition)
                for record in workers.RedisWorkers(self._client).every()
            ),
            accounts=tuple(accounts.RedisAccounts(self._client).load().values()),
            alerts=stored_alerts,
            histories=histories,
            queues=tuple(self._queues()),
            silences=tuple(stored.every()),
            acknowledgements=tuple(stored.acknowledged(alert_ids).values()),
            rollups=tuple(self._rollups()),
        )

    def _unusable_counters(self) -> list[str]:
        """Return which counters are not numbers. One of another type is set aside, which a transaction cannot do."""
        unusable = []
        for name in (keys.HISTORY_NUMBERS, keys.FENCE):
            with client.guard(self._client):
                raw: Any = self._client.get(name)
            if raw is not None and not raw.isdigit():
                unusable.append(name)
        return unusable

    def _names(self, form: str) -> list[str]:
        with client.guard(self._client):
            return sorted(set(client.texts(self._client.scan_iter(match=form, count=1000))))

    def _alerts(self) -> Iterator[models.SavedAlerts]:
        for name in self._names(keys.alerts("*")):
            with client.guard(self._client):
                fields: Any = self._client.hmget(name, ["version", "alerts"])
            version, raw = fields
            alerts = unreadable_records.parsed_by(self._client, name, _STATE, raw) if raw else None
            number = unreadable_records.number(self._client, f"{name} version", version or b"0")
            if alerts is not None and number is not None:
                subject = name.removeprefix(keys.alerts(""))
                yield models.SavedAlerts(subject=subject, version=int(number), alerts=alerts)

    def _histories(self) -> Iterator[models.SavedHistory]:
        for name in self._names(keys.numbers_of("*")):
            alert_id = name.removeprefix(keys.numbers_of(""))
            subject, rule = models.alert_parts(alert_id)
            with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
                pipe.zrange(name, 0, -1, desc=True)
                pipe.zrange(keys.attempts(alert_id), 0, -1)
                pipe.get(keys.last(alert_id))
                pipe.hget(keys.versions(subject), rule)
                numbers, attempts, last, version = pipe.execute()
                entries: Any = self._client.hmget(keys.HISTORY_ENTRIES, numbers) if numbers else []
            read = [self._part(name, models.HistoryEntry, fields) for fields in entries if fields is not None]
            times = [
                (unreadable_records.number(self._client, name, at), entry) for at, entry in read if entry is not None
            ]
            last_version = unreadable_records.number(self._client, keys.versions(subject), version)
            tried = [self._part(keys.attempts(alert_id), models.Attempt, fields)[1] for fields in attempts]
            yield models.SavedHistory(
                alert_id=alert_id,
                entries=tuple(models.SavedEntry(at=at, entry=entry) for at, entry in times if at is not None),
                attempts=tuple(attempt for attempt in tried if attempt is not None),
                last=self._part(keys.last(alert_id), models.Notification, last)[1] if last else None,
                last_version=None if last_version is None else int(last_version),
            )

    def _part(
        self, name: str, model: type[unreadable_records.Model], raw: bytes
    ) -> tuple[bytes, unreadable_records.Model | None]:
        """Split a record into the text before its first space and the model after it."""
        before, _, text = raw.partition(b" ")
        return before, unreadable_records.parsed(self._client, name, model, text)

    def _rollups(self) -> Iterator[models.SavedWeek]:
        for name in self._names(keys.ROLLUPS + "*"):
            worker_id, _, week = name.removeprefix(keys.ROLLUPS).rpartition(":")
            with client.guard(self._client):
                fields: Any = self._client.hgetall(name)
            series = {
                unreadable_records.text(metric): base64.b64encode(data).decode() for metric, data in fields.items()
            }
            if week.isdecimal():
                yield models.SavedWeek(worker_id=worker_id, week=int(week), series=series)

    def _queues(self) -> Iterator[models.SavedQueue]:
        with client.guard(self._client):
            waiting: Any = self._client.zrange(keys.OUTBOX, 0, -1)
            reminders: Any = self._client.zrange(keys.REMINDERS, 0, -1, withscores=True)
        remind_at = {unreadable_records.text(member): at for member, at in reminders}
        for member in sorted({*client.texts(waiting), *remind_at}):
            alert_id, channel = keys.of_queue(member)
            if alert_id == models.CANARY or models.is_test(alert_id):
                continue
            with client.guard(self._client):
                raws: Any = self._client.lrange(keys.QUEUE + member, 0, -1)
            read = [
                unreadable_records.parsed(self._client, keys.QUEUE + member, models.Notification, raw) for raw in raws
            ]
            yield models.SavedQueue(
                alert_id=alert_id,
                channel=channel,
                notifications=tuple(notification for notification in read if notification is not None),
                remind_at=remind_at.get(member),
            )

    def replace(self, state: models.SavedState, at: float, *, force: bool = False) -> bool:
        """Replace the present state, in one transaction."""
        stale = [name for form in _REPLACED_FORMS for name in self._names(form)]
        unusable = self._unusable_counters()
        with client.guard(self._client), self._client.pipeline(transaction=True) as pipe:
            try:
                if not force:
                    pipe.watch(keys.CONFIGURATION, *_SET_UP)
                counts: Any = self._client.hmget(keys.CONFIGURATION, ["revision", "changes"])
                before = [
                    int(unreadable_records.number(self._client, keys.CONFIGURATION, count) or 0) for count in counts
                ]
                if not force and (counts[0] or self._client.exists(*_SET_UP)):
                    return False
                pipe.multi()
                for start in range(0, len(stale), _CHUNK):
                    pipe.delete(*stale[start : start + _CHUNK])
                pipe.delete(*_REPLACED, *unusable)
                pipe.set(keys.SCHEMA, models.SCHEMA)
                _restore_configuration(pipe, state, *before)
                _restore_workers(pipe, state.workers)
                _restore_accounts(pipe, state.accounts)
                _restore_alerts(pipe, state)
                _restore_histories(pipe, state)
                _restore_rollups(pipe, state, at)
                _restore_queues(pipe, state.queues, at)
                for silence in state.silences:
                    pipe.hset(keys.SILENCES, silence.id, silence.model_dump_json())
                for acknowledgement in state.acknowledgements:
                    pipe.set(
                        keys.acknowledged(acknowledgement.alert_id), acknowledgement.model_dump_json(), ex=keys.HISTORY
                    )
                pipe.execute()
            except redis.WatchError:
                return False
        return True


def _restore_configuration(pipe: Any, state: models.SavedState, revision: int, changes: int) -> None:
    """Save the configuration. If there was one before, use a revision that no process has cached."""
    pipe.delete(keys.CONFIGURATION)
    pipe.hset(keys.CONFIGURATION, "changes", changes + 1)
    if state.configuration is not None:
        newest = max(state.configuration.revision, revision + 1)
        saved = state.configuration.model_copy(update={"revision": newest})
        pipe.hset(keys.CONFIGURATION, mapping={"revision": newest, "document": saved.model_dump_json()})


def _restore_workers(pipe: Any, saved: Iterable[models.SavedWorker]) -> None:
    for worker, condition in ((saved_worker.worker, saved_worker.condition) for saved_worker in saved):
        fields = {
            "incarnation": worker.incarnation,
            "spec": worker.model_dump_json(),
            "seq": 0,
            "condition": condition.model_dump_json(exclude={"last_error"}, exclude_defaults=True),
        }
        if condition.last_error is not None:
            fields["last_error"] = condition.last_error.model_dump_json()
        pipe.hset(keys.worker(worker.id), mapping=fields)
        pipe.zadd(keys.WORKERS, {worker.id: 0})


def _restore_accounts(pipe: Any, saved: Iterable[models.AccountState]) -> None:
    for account in saved:
        fields: dict[str, Any] = {
            "incarnation": models.account_subject(account.key).incarnation,
            "at": repr(account.at),
            "interval": account.interval,
            "interval_at": repr(account.at),
            "seq": account.sequence,
        }
        for name in ("succeeded_at", "recovered_at", "failing_since"):
            time = getattr(account, name)
            if time is not None:
                fields[name] = repr(time)
        if account.last_error is not None:
            fields["last_error"] = account.last_error.model_dump_json()
        if account.lost_metrics:
            fields["lost_metrics"] = _LOST_METRICS.dump_json(account.lost_metrics)
        pipe.hset(keys.account(account.key), mapping=fields)
        pipe.sadd(keys.ACCOUNTS, account.key)


def _restore_alerts(pipe: Any, state: models.SavedState) -> None:
    owned = {saved.worker.id for saved in state.workers} | {saved.key for saved in state.accounts}
    for saved in state.alerts:
        name = keys.alerts(saved.subject)
        raw = _STATE.dump_json(saved.alerts, by_alias=True, exclude_defaults=True)
        pipe.hset(name, mapping={"version": saved.version, "alerts": raw})
        fires = {
            models.alert_id(saved.subject, rule): alert.since or 0 for rule, alert in saved.alerts.items() if alert.open
        }
        due = {
            models.alert_id(saved.subject, rule): alert.escalates_at
            for rule, alert in saved.alerts.items()
            if alert.escalates_at is not None
        }
        if due:
            pipe.zadd(keys.ESCALATIONS, due)
        if fires:
            pipe.zadd(keys.OPEN, fires)
        elif saved.subject not in owned:
            pipe.expire(name, keys.HISTORY)


def _restore_histories(pipe: Any, state: models.SavedState) -> None:
    lifetime = state.configuration.alert_history if state.configuration is not None else models.ALERT_HISTORY
    entries = sorted(
        ((entry.at, -place, history.alert_id, entry.entry) for history in state.histories
         for place, entry in enumerate(history.entries)),
        key=lambda record: record[:3],
    )  # fmt: skip
    if entries:
        pipe.incrby(keys.HISTORY_NUMBERS, len(entries))
    history.adding(pipe, [(alert_id, at, entry) for at, _, alert_id, entry in entries], lifetime)
    for saved in state.histories:
        subject, rule = models.alert_parts(saved.alert_id)
        if saved.attempts:
            # Only their order matters. New fences continue above them.
            texts = [f"{place} {attempt.model_dump_json()}" for place, attempt in enumerate(saved.attempts, 1)]
            pipe.zadd(keys.attempts(saved.alert_id), {text: place for place, text in enumerate(texts, 1)})
            pipe.expire(keys.attempts(saved.alert_id), lifetime)
        if saved.last is not None:
            text = f"{saved.last.id} {saved.last.model_dump_json(by_alias=True)}"
            pipe.set(keys.last(saved.alert_id), text, ex=lifetime)
        if saved.last_version is not None:
            pipe.hset(keys.versions(subject), rule, saved.last_version)
            pipe.expire(keys.versions(subject), lifetime)
    pipe.incrby(keys.FENCE, 2 * keys.ATTEMPTS)


def _restore_rollups(pipe: Any, state: models.SavedState, at: float) -> None:
    lifetime = state.configuration.rollups if state.configuration is not None else models.ROLLUPS
    worker_ids = {saved_worker.worker.id for saved_worker in state.workers}
    first: dict[str, int] = {}
    for saved in state.rollups:
        lifetime_left = math.ceil(saved.week + models.WEEK + lifetime - at)
        if saved.worker_id not in worker_ids or lifetime_left <= 0 or not saved.series:
            continue
        name = keys.rollups(saved.worker_id, saved.week)
        pipe.hset(name, mapping={metric: base64.b64decode(data) for metric, data in saved.series.items()})
        pipe.expire(name, lifetime_left)
        first[saved.worker_id] = min(first.get(saved.worker_id, saved.week), saved.week)
    for worker_id, week in first.items():
        # The ledger's hours are not restored. Its start tells the earliest time for which weeks may exist.
        hour = int(at // models.HOUR) * models.HOUR
        pipe.hset(keys.worker(worker_id), mapping={"first_week": week, "first_hour": hour, "last_hour": hour})


def _restore_queues(pipe: Any, saved: Iterable[models.SavedQueue], at: float) -> None:
    for queue in saved:
        name = keys.queue(queue.alert_id, queue.channel)
        if queue.notifications:
            pipe.rpush(
                keys.QUEUE + name,
                *(notification.model_dump_json(by_alias=True) for notification in queue.notifications),
            )
            pipe.zadd(keys.OUTBOX, {name: at})
            pipe.sadd(keys.queues(queue.alert_id), name)
        if queue.remind_at is not None:
            pipe.zadd(keys.REMINDERS, {name: queue.remind_at})
