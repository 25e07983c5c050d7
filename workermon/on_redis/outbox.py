"""Notifications on their way: each alert has a lane for each channel, sent from in order, under a lease with a fence.

A fence is a number that no other claim has. A claim's outcome counts only where the lane still has its fence; one that
nobody has claimed since is good also after its lease. A parcel that is sent once more because its fence was stale has
a negative number: no lane has that.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import alerts, client, keys

#: Lanes looked at for those that are stuck.
LOOKED_AT = 1000

# KEYS: outbox, reminders. ARGV: now, limit, prefixes of leases, lanes, last notifications and sets of lanes, and from
# when on a time is that of a clock that was ahead.
_DUE = client.Script("""
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 500)) do
  redis.call('ZREM', KEYS[2], lane)
  local alert = string.match(lane, '^[^:]*:(.*)$')
  local last = redis.call('GET', ARGV[5] .. alert)
  if last and redis.call('EXISTS', ARGV[4] .. lane) == 0 and string.find(last, '"status":"firing"', 1, true) then
    local notification = string.match(last, '^%S+ {(.*)$')
    redis.call('RPUSH', ARGV[4] .. lane, '{"reminder":true,' .. string.gsub(notification, ',"reminder":false', '', 1))
    redis.call('ZADD', KEYS[1], ARGV[1], lane)
    redis.call('SADD', ARGV[6] .. alert, lane)
  end
end
local found, seen = {}, {}
for _, range in ipairs({{'-inf', ARGV[1]}, {'(' .. ARGV[7], '+inf'}}) do
  local start = 0
  while #found < tonumber(ARGV[2]) do
    local lanes = redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2], 'LIMIT', start, 200)
    if #lanes == 0 then break end
    start = start + #lanes
    for _, lane in ipairs(lanes) do
      local alert = string.match(lane, '^[^:]*:(.*)$')
      if not seen[alert] and #found < tonumber(ARGV[2]) and redis.call('EXISTS', ARGV[3] .. lane) == 0 then
        seen[alert] = true
        found[#found + 1] = alert
      end
    end
  end
end
return found
""")

# KEYS: outbox, the alert's lanes, fence. ARGV: now, lease in milliseconds, token, prefixes of lane, state and lease,
# and from when on a time is that of a clock that was ahead.
_CLAIM = client.Script("""
local claimed = {}
local lanes = redis.call('SMEMBERS', KEYS[2])
table.sort(lanes)
for _, lane in ipairs(lanes) do
  local state, lease = ARGV[5] .. lane, ARGV[6] .. lane
  local holder, at = redis.call('GET', lease), redis.call('ZSCORE', KEYS[1], lane)
  local head = redis.call('LINDEX', ARGV[4] .. lane, 0)
  if head and not holder and at and (tonumber(at) <= tonumber(ARGV[1]) or tonumber(at) > tonumber(ARGV[7])) then
    redis.call('HSET', state, 'fence', redis.call('INCR', KEYS[3]))
    redis.call('HINCRBY', state, 'attempts', 1)
    redis.call('SET', lease, ARGV[3], 'PX', ARGV[2])
    holder = ARGV[3]
  end
  if head and holder == ARGV[3] then
    local had = redis.call('HMGET', state, 'fence', 'attempts')
    claimed[#claimed + 1] = {lane, head, had[1], had[2]}
  end
end
return claimed
""")

# KEYS: outbox, the alert's lanes, lane, state, lease, attempts, last, fence, reminders. ARGV: lane, fence,
# notification's id, 'delivered', 'failed', 'given up' or 'skipped', attempt, time of the next try, time, lifetime,
# attempts kept, time of the next reminder ('' for none).
_SETTLE = client.Script("""
local outbox, lanes, lane, state, lease, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local name, fence, id, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('HGET', state, 'fence') or ''
local mine = holder == fence
local number = math.abs(tonumber(fence))
if not mine and redis.call('ZCOUNT', attempts, number, number) > 0 then return {1} end

-- What a stale fence did is told apart by its half.
if how ~= 'skipped' then
  redis.call('ZADD', attempts, mine and number or number + 0.5, ARGV[5])
  redis.call('ZREMRANGEBYRANK', attempts, 0, -1 - tonumber(ARGV[9]))
  redis.call('EXPIRE', attempts, ARGV[8])
end
if mine then
  redis.call('DEL', lease)
  if how == 'failed' then
    redis.call('HSET', state, 'fence', '')
    redis.call('ZADD', outbox, ARGV[6], name)
    return {1}
  end
  if ARGV[10] == '' then
    redis.call('ZREM', KEYS[9], name)
  else
    redis.call('ZADD', KEYS[9], ARGV[10], name)
  end
  redis.call('LPOP', lane)
  redis.call('DEL', state)
  if redis.call('EXISTS', lane) == 1 then
    redis.call('ZADD', outbox, 0, name)
  else
    redis.call('ZREM', outbox, name)
    redis.call('SREM', lanes, name)
  end
  return {1}
end

local last = redis.call('GET', KEYS[7])
if not last then return {0} end
local last_id, notification = string.match(last, '^(%S+) (.*)$')
-- What nobody sends at this moment will be sent later than this parcel was, and so be the last word.
if redis.call('LLEN', lane) > (holder == '' and 0 or 1) then return {0} end
if how == 'delivered' and last_id ~= id then
  return {0, notification, -redis.call('INCR', KEYS[8])}
end
if how == 'failed' and (last_id ~= id or tonumber(fence) < 0) then
  redis.call('RPUSH', lane, notification)
  redis.call('ZADD', outbox, ARGV[6], name)
  redis.call('SADD', lanes, name)
end
return {0}
""")

# KEYS: outbox, state, lease. ARGV: lane, fence, time of the next try.
_POSTPONE = client.Script("""
if redis.call('HGET', KEYS[2], 'fence') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[2], 'fence', '')
redis.call('HINCRBY', KEYS[2], 'attempts', -1)
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
""")

# KEYS: last, history, index, outbox, the alert's lanes, open alerts, state, each lane. ARGV: the id told last ('' for
# none), id, notification, entry of the history, alert, time, lifetime, entries kept, state ('' where it does not fire),
# since when, feed ('' where nobody is told), the lanes' names.
_TELL = client.Script("""
local had = redis.call('GET', KEYS[1])
local last = had and string.match(had, '^(%S+) ') or ''
if last == ARGV[2] then return 1 end
if last ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[7])
redis.call('LPUSH', KEYS[2], ARGV[4])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[8]) - 1)
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
redis.call('EXPIRE', KEYS[3], ARGV[7])
if ARGV[9] == '' then
  redis.call('ZREM', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[7])
else
  redis.call('ZADD', KEYS[6], ARGV[10], ARGV[5])
  redis.call('HSET', KEYS[7], 'alerts', ARGV[9])
end
if ARGV[11] ~= '' then redis.call('PUBLISH', ARGV[11], ARGV[3]) end
for place = 8, #KEYS do
  redis.call('RPUSH', KEYS[place], ARGV[3])
  redis.call('ZADD', KEYS[4], 'NX', ARGV[6], ARGV[place + 4])
  redis.call('SADD', KEYS[5], ARGV[place + 4])
end
return 1
""")

# KEYS: outbox, the canary's lanes, its lane. ARGV: the lane's name, notification, time.
_RELEASE = client.Script("""
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('RPUSH', KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
""")

#: The canary's lane.
_CANARY = keys.lane(models.CANARY, models.CANARY_CHANNEL)

# KEYS: outbox. ARGV: the lanes' prefix, the canary's lane.
_BACKLOG = client.Script("""
local waiting = 0
for _, lane in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if lane ~= ARGV[2] then waiting = waiting + redis.call('LLEN', ARGV[1] .. lane) end
end
return waiting
""")


class RedisOutbox:
    """``ports.Outbox`` on Redis; what is told of the delivery itself is also published on ``<channel>:alerts``."""

    def __init__(self, redis_client: redis.Redis, channel: str = "workermon:metrics") -> None:
        self._client = redis_client
        self._feed = f"{channel}:alerts"

    def due(self, now: float, limit: int) -> list[str]:
        """Return alert ids with a lane that may be tried and is under nobody's lease, the longest due first."""
        prefixes = [keys.LEASE, keys.LANE, keys.LAST, keys.lanes("")]
        ahead = repr(now + ports.LONGEST_WAIT)
        return client.texts(_DUE.run(self._client, [keys.OUTBOX, keys.REMINDERS], [repr(now), limit, *prefixes, ahead]))

    def claim(self, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
        """Claim the head of each due lane of an alert for ``lease`` seconds of Redis' own time."""
        replies = _CLAIM.run(
            self._client,
            [keys.OUTBOX, keys.lanes(alert_id), keys.FENCE],
            # A claim whose answer was lost is sent again, and must know its leases.
            [
                repr(now),
                max(1, int(lease * 1000)),
                secrets.token_hex(8),
                keys.LANE,
                keys.STATE,
                keys.LEASE,
                repr(now + ports.LONGEST_WAIT),
            ],
        )
        return [
            models.ClaimedNotification(
                alert_id=alert_id,
                channel=keys.of_lane(lane.decode())[1],
                notification=models.Notification.model_validate_json(head),
                fence=int(fence),
                attempt=int(attempts),
            )
            for lane, head, fence, attempts in replies
        ]

    def delivered(
        self, parcel: models.ClaimedNotification, at: float, remind_at: float | None = None
    ) -> models.ClaimedNotification | None:
        """Record acceptance; the present state where the fence was stale and something was told since."""
        reply = self._settle(parcel, "delivered", at, None, at, remind_at)
        if len(reply) == 1:
            return None
        _, notification, fence = reply
        return parcel.model_copy(
            update={
                "notification": models.Notification.model_validate_json(notification),
                "fence": int(fence),
                "attempt": parcel.attempt + 1,
            }
        )

    def failed(self, parcel: models.ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt and wait; where the fence was stale, have the present state sent once more if need be."""
        return bool(self._settle(parcel, "failed", at, error, retry_at)[0])

    def give_up(
        self, parcel: models.ClaimedNotification, at: float, error: str, remind_at: float | None = None
    ) -> bool:
        """Record the last attempt and take the notification off."""
        return bool(self._settle(parcel, "given up", at, error, at, remind_at)[0])

    def skip(self, parcel: models.ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Take the notification off as if it had not been there."""
        return bool(self._settle(parcel, "skipped", at, None, at, remind_at)[0])

    def postpone(self, parcel: models.ClaimedNotification, retry_at: float) -> bool:
        """Give a claim back as if it had not been made."""
        lane = keys.lane(parcel.alert_id, parcel.channel)
        names = [keys.OUTBOX, keys.STATE + lane, keys.LEASE + lane]
        return bool(_POSTPONE.run(self._client, names, [lane, parcel.fence, repr(retry_at)]))

    def last_error(self, channel: str) -> models.Notification | None:
        """Return what was last told of the delivery to a channel itself."""
        with client.guard(self._client):
            said: Any = self._client.get(keys.last(models.delivery_alert(channel)))
        return models.of_delivery(said.partition(b" ")[2]) if said else None

    def tell(
        self, channel: str, notification: models.Notification, before: str | None, to: Sequence[str], at: float
    ) -> bool:
        """Write what is told of the delivery to a channel, where nothing else was told meanwhile."""
        alert_id = models.delivery_alert(channel)
        lanes = [keys.lane(alert_id, one) for one in dict.fromkeys(to)]
        recorded = models.told_of_delivery(channel, notification)
        alert = models.alert_of_delivery(notification)
        names = [keys.last(alert_id), keys.history(alert_id), keys.HISTORY_INDEX, keys.OUTBOX, keys.lanes(alert_id)]
        names += [keys.OPEN, keys.alerts(alert_id.rpartition("/")[0])]
        return bool(
            _TELL.run(
                self._client,
                [*names, *(keys.LANE + lane for lane in lanes)],
                [
                    before or "",
                    notification.id,
                    notification.model_dump_json(by_alias=True),
                    f"{at!r} {recorded.model_dump_json(by_alias=True)}",
                    alert_id,
                    repr(at),
                    keys.HISTORY,
                    keys.ENTRIES,
                    alerts.STATE.dump_json({alert.rule: alert}, by_alias=True, exclude_defaults=True)
                    if alert.open
                    else "",
                    alert.since or 0,
                    "" if isinstance(notification, models.SilencedNotification) else self._feed,
                    *lanes,
                ],
            )
        )

    def release(self, notification: models.Notification, at: float) -> bool:
        """Put the canary's parcel on its way, unless the last one still is."""
        names = [keys.OUTBOX, keys.lanes(models.CANARY), keys.LANE + _CANARY]
        return bool(_RELEASE.run(self._client, names, [_CANARY, notification.model_dump_json(by_alias=True), repr(at)]))

    def backlog(self) -> int:
        """Return how many notifications wait; the canary's parcel is none."""
        return int(_BACKLOG.run(self._client, [keys.OUTBOX], [keys.LANE, _CANARY]))

    def stuck(self, before: float, limit: int = 100) -> list[ports.StuckQueue]:
        """Return lanes that were tried in vain for long, the oldest first; looks at a thousand lanes at most."""
        with client.guard(self._client):
            lanes = client.texts(self._client.zrange(keys.OUTBOX, 0, LOOKED_AT - 1))
            with self._client.pipeline(transaction=False) as pipe:
                for lane in lanes:
                    pipe.lindex(keys.LANE + lane, 0)
                    pipe.zrange(keys.attempts(keys.of_lane(lane)[0]), 0, -1)
                replies = pipe.execute()
        found = []
        for lane, head, entries in zip(lanes, replies[::2], replies[1::2], strict=True):
            alert_id, channel = keys.of_lane(lane)
            if head is None:
                continue
            told = models.Notification.model_validate_json(head).id
            tried = [models.Attempt.model_validate_json(entry.partition(b" ")[2]) for entry in entries]
            tried = [one for one in tried if one.channel == channel and one.notification_id == told]
            if tried and tried[-1].error is not None and tried[0].at <= before:
                found.append(ports.StuckQueue(alert_id, channel, len(tried), tried[0].at, tried[-1].error))
        return sorted(found, key=lambda one: one.since)[:limit]

    def _settle(
        self,
        parcel: models.ClaimedNotification,
        how: str,
        at: float,
        error: str | None,
        retry_at: float,
        remind_at: float | None = None,
    ) -> Any:
        lane = keys.lane(parcel.alert_id, parcel.channel)
        attempt = models.Attempt(notification_id=parcel.notification.id, channel=parcel.channel, at=at, error=error)
        return _SETTLE.run(
            self._client,
            [
                keys.OUTBOX,
                keys.lanes(parcel.alert_id),
                keys.LANE + lane,
                keys.STATE + lane,
                keys.LEASE + lane,
                keys.attempts(parcel.alert_id),
                keys.last(parcel.alert_id),
                keys.FENCE,
                keys.REMINDERS,
            ],
            [
                lane,
                parcel.fence,
                parcel.notification.id,
                how,
                f"{parcel.fence} {attempt.model_dump_json()}",
                repr(retry_at),
                repr(at),
                keys.HISTORY,
                keys.ENTRIES,
                "" if remind_at is None else repr(remind_at),
            ],
        )
