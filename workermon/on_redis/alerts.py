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

# KEYS: configuration; of each worker it, its alerts, its versions. ARGV: the fields of a record. Returns the revision,
# then what is known of each. One command for many, for sending each takes longer than reading it.
_LOAD = client.Script("""
local found = {redis.call('HGET', KEYS[1], 'revision')}
for i = 2, #KEYS, 3 do
  found[#found + 1] = {
    redis.call('HMGET', KEYS[i], unpack(ARGV)),
    redis.call('HMGET', KEYS[i + 1], 'version', 'alerts'),
    redis.call('HGETALL', KEYS[i + 2]),
  }
end
return found
""")

# KEYS: worker, alerts, configuration, unjudged, open, index, versions, outbox, workers (of a scope: scopes), the
# ledger's without the hour; of each transition its history; of each notification the last one and the lanes; of each of
# its lanes that.
# ARGV: 'commit', 'retire' or 'leave' (that of a scope), worker id, incarnation, version, revision, sequence, token,
# state, time, feed, lifetime, entries, alerts in the index; how many alerts to open and for each its id and since; how
# many to close and their ids; how many transitions and for each its alert, entry and 0, or the number of its lanes plus
# 1, rule, version, id, notification, lanes.
COMMIT = client.Script("""
local worker, alerts, unjudged, open = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local index, versions, outbox = KEYS[6], KEYS[7], KEYS[8]
local retire, worker_id, at = ARGV[1] ~= 'commit', ARGV[2], ARGV[9]
local lifetime = tonumber(ARGV[11])
local had = redis.call('HMGET', worker, 'incarnation', 'seq', 'first_hour', 'last_hour')
if had[1] ~= ARGV[3] then return 0 end
local state = redis.call('HMGET', alerts, 'version', 'token')
if state[2] == ARGV[7] then return 1 end
if (state[1] or '0') ~= ARGV[4] then return 0 end
if not retire and (redis.call('HGET', KEYS[3], 'revision') or '0') ~= ARGV[5] then return 0 end

local a, k = 14, 11
local function following()
  a = a + 1
  return ARGV[a - 1]
end
local function key()
  k = k + 1
  return KEYS[k - 1]
end

for _ = 1, tonumber(following()) do
  local alert = following()
  redis.call('ZADD', open, following(), alert)
end
for _ = 1, tonumber(following()) do redis.call('ZREM', open, following()) end
local told = false
for _ = 1, tonumber(following()) do
  local alert, history = following(), key()
  redis.call('LPUSH', history, following())
  redis.call('LTRIM', history, 0, tonumber(ARGV[12]) - 1)
  redis.call('EXPIRE', history, lifetime)
  redis.call('ZADD', index, at, alert)
  local lanes = tonumber(following()) - 1
  if lanes >= 0 then
    told = true
    local last, of_alert = key(), key()
    local rule, version = following(), following()
    local id, notification = following(), following()
    redis.call('HSET', versions, rule, version)
    redis.call('SET', last, id .. ' ' .. notification, 'EX', lifetime)
    for _ = 1, lanes do
      local lane = following()
      redis.call('RPUSH', key(), notification)
      redis.call('ZADD', outbox, 'NX', at, lane)
      redis.call('SADD', of_alert, lane)
    end
    redis.call('PUBLISH', ARGV[10], notification)
  end
end
if k > 11 then
  redis.call('ZREMRANGEBYSCORE', index, '-inf', tonumber(at) - lifetime)
  redis.call('ZREMRANGEBYRANK', index, 0, -1 - tonumber(ARGV[13]))
  redis.call('EXPIRE', index, lifetime)
end
if told or retire then redis.call('EXPIRE', versions, lifetime) end

if retire then
  redis.call('DEL', worker, alerts)
  redis.call(ARGV[1] == 'leave' and 'SREM' or 'ZREM', KEYS[9], worker_id)
  redis.call('ZREM', unjudged, worker_id)
  if had[3] then
    for hour = tonumber(had[3]), tonumber(had[4]), 3600 do redis.call('DEL', KEYS[10] .. string.format('%d', hour)) end
  end
  return 1
end
redis.call('HSET', alerts, 'version', string.format('%d', tonumber(ARGV[4]) + 1), 'token', ARGV[7], 'alerts', ARGV[8])
if had[2] == ARGV[6] then
  redis.call('HDEL', worker, 'changed_from')
  redis.call('ZREM', unjudged, worker_id)
end
return 1
""")


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
