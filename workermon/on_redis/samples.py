"""The ledger of samples: what a collection brought is written, and announced on the channel, in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import redis

from workermon import models, ports
from workermon.config import catalogue
from workermon.on_redis import client, keys, ledger, workers

#: Hours beyond which the ledger is first asked where it begins and ends.
_MANY = 30

#: Seconds. A slot that passed so shortly before the last complete one is complete too; above a task's time limit.
BEHIND = 120

# Whether a slot, "<interval>:<number>", is complete by the last one that is.
_COMPLETE = f"""
local function complete(last, slot)
  if not last then return false end
  if last == slot then return true end
  local interval, number = string.match(last, '^(%d+):(%d+)$')
  local same, asked = string.match(slot, '^(%d+):(%d+)$')
  if not interval or interval ~= same then return false end
  local behind = (tonumber(number) - tonumber(asked)) * tonumber(interval)
  return behind >= 0 and behind <= {BEHIND}
end
"""

# KEYS: the workers. ARGV: milliseconds, then incarnation and slot of each.
_CLAIM = client.Script(
    _COMPLETE
    + """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local replies = {}
for i = 1, #KEYS do
  local incarnation, slot = ARGV[2 * i], ARGV[2 * i + 1]
  local had = redis.call('HMGET', KEYS[i], 'incarnation', 'slot', 'claim')
  local claimed, till
  if had[3] then claimed, till = string.match(had[3], '^(.+) (%d+)$') end
  if had[1] ~= incarnation then
    replies[i] = 'gone'
  elseif complete(had[2], slot) then
    replies[i] = 'complete'
  elseif claimed == slot and tonumber(till) > now then
    replies[i] = 'taken'
  else
    redis.call('HSET', KEYS[i], 'claim', slot .. ' ' .. string.format('%d', now + tonumber(ARGV[1])))
    replies[i] = 'claimed'
  end
end
return replies
"""
)

# KEYS: worker, unjudged, then the hours. ARGV: worker id, incarnation, slot, whether to write again, time, retention,
# condition, trouble, channel, event; for each hour its start and number of runs; for each run "field offset time period
# wins" (in one, for each argument costs its sender; wins: 1 where the first write does) and its data.
_WRITE = client.Script(
    _COMPLETE
    + """
local worker = KEYS[1]
local had = redis.call('HMGET', worker, 'incarnation', 'slot', 'changed_from', 'first_hour', 'last_hour', 'trouble')
if had[1] ~= ARGV[2] then return 'gone' end
local repeated = ARGV[4] == '0' and complete(had[2], ARGV[3])
local at, retention = tonumber(ARGV[5]), tonumber(ARGV[6])
local empty = string.rep('\\0', 8)
local changed
local known_first, known_last = tonumber(had[4] or ''), tonumber(had[5] or '')
local first, last = known_first, known_last
local next = 11

local function merge(old, fresh)
  local slots = {}
  for i = 1, #fresh, 8 do
    local kept = string.sub(old, i, i + 7)
    slots[#slots + 1] = (#kept == 8 and kept ~= empty) and kept or string.sub(fresh, i, i + 7)
  end
  return table.concat(slots)
end

for k = 3, #KEYS do
  local hour, runs = tonumber(ARGV[next]), tonumber(ARGV[next + 1])
  local heads, fields, texts, dirty = {}, {}, {}, {}
  -- All fields of an hour are read at once and written at once: each call counts.
  for i = 1, runs do
    local field, place, moment, every, wins =
      string.match(ARGV[next + 2 * i], '^(.*) (%-?%d+) (%-?%d+) (%d+) ([01])$')
    heads[i] = {field, tonumber(place) * 8, tonumber(moment), tonumber(every), wins == '1', ARGV[next + 2 * i + 1]}
    if texts[field] == nil then
      texts[field] = false
      fields[#fields + 1] = field
    end
  end
  next = next + 2 + 2 * runs
  for i = 1, #fields, 1000 do
    local some = redis.call('HMGET', KEYS[k], unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #some do texts[fields[i + j - 1]] = some[j] or '' end
  end
  for i = 1, runs do
    local field, offset, time, period, wins, fresh = unpack(heads[i])
    local text = texts[field]
    local old = string.sub(text, offset + 1, offset + #fresh)
    if wins then fresh = merge(old, fresh) end
    if old ~= fresh then
      local i = 1
      while string.sub(old, i, i + 7) == string.sub(fresh, i, i + 7) do i = i + 8 end
      local since = time + (i - 1) / 8 * period
      if not changed or since < changed then changed = since end
      if #text < offset then text = text .. string.rep('\\0', offset - #text) end
      texts[field] = string.sub(text, 1, offset) .. fresh .. string.sub(text, offset + #fresh + 1)
      dirty[field] = true
    end
  end
  local written = {}
  for _, field in ipairs(fields) do
    if dirty[field] then
      written[#written + 1] = field
      written[#written + 1] = texts[field]
    end
  end
  if #written > 0 then
    for i = 1, #written, 1000 do redis.call('HSET', KEYS[k], unpack(written, i, math.min(i + 999, #written))) end
    local life = math.ceil(hour + 3600 + retention - at)
    if redis.call('TTL', KEYS[k]) < life then redis.call('EXPIRE', KEYS[k], life) end
    if not first or hour < first then first = hour end
    if not last or hour > last then last = hour end
  end
end

local said = {}
local function say(field, value)
  said[#said + 1] = field
  said[#said + 1] = value
end
if changed then
  local since = tonumber(had[3] or '')
  if not since or changed < since then say('changed_from', string.format('%d', changed)) end
  if last ~= known_last then
    local prefix = string.match(KEYS[3], '^(.*:)')
    while first < last and redis.call('EXISTS', prefix .. string.format('%d', first)) == 0 do first = first + 3600 end
  end
  if first ~= known_first or last ~= known_last then
    say('first_hour', string.format('%d', first))
    say('last_hour', string.format('%d', last))
  end
end
if changed or not repeated then
  redis.call('HINCRBY', worker, 'seq', 1)
  redis.call('ZADD', KEYS[2], 'NX', ARGV[5], ARGV[1])
end
if not repeated then
  say('condition', ARGV[7])
  say('slot', ARGV[3])
  if ARGV[8] ~= '' then say('trouble', ARGV[8]) elseif had[6] then redis.call('HDEL', worker, 'trouble') end
end
if #said > 0 then redis.call('HSET', worker, unpack(said)) end
if repeated then return 'repeated' end
redis.call('PUBLISH', ARGV[9], ARGV[10])
return 'accepted'
"""
)

# KEYS: worker, unjudged. ARGV: worker id, time.
_MARK = client.Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'seq', 1)
  redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[1])
end
return 1
""")


def _slot(interval: int, number: int) -> str:
    return f"{interval}:{number}"


Writes = Sequence[tuple[models.Sample, models.Condition, str]]


class RedisSamples:
    """``ports.Samples`` on Redis. ``retention`` says for how many seconds datapoints are kept from now on."""

    def __init__(self, redis_client: redis.Redis, channel: str, retention: Callable[[], int]) -> None:
        self._client = redis_client
        self._channel = channel
        self._retention = retention

    def claim(self, claimants: Sequence[models.Worker], now: float, lease: float) -> list[ports.Claim]:
        """Claim each worker's slot, all in one step."""
        if not claimants:
            return []
        arguments: list[client.Argument] = [max(1, int(lease * 1000))]
        for worker in claimants:
            arguments += [worker.incarnation, _slot(worker.interval, int(now // worker.interval))]
        replies = _CLAIM.run(self._client, [keys.worker(worker.id) for worker in claimants], arguments)
        return [cast("ports.Claim", reply.decode()) for reply in replies]

    def write(
        self, sample: models.Sample, condition: models.Condition, event: str, *, again: bool = False
    ) -> ports.Written:
        """Write datapoints, condition, the mark and the event in one step."""
        return self.write_many([(sample, condition, event)], again=again)[0]

    def write_many(self, writes: Writes, *, again: bool = False) -> list[ports.Written]:
        """Write many samples in one round trip; each is a step of its own."""
        retention = self._retention()
        calls = [self._call(sample, condition, event, again, retention) for sample, condition, event in writes]
        return [ports.Written(reply.decode()) for reply in _WRITE.run_many(self._client, calls)]

    def _call(
        self, sample: models.Sample, condition: models.Condition, event: str, again: bool, retention: int
    ) -> tuple[list[str | bytes], list[client.Argument]]:
        worker = sample.worker
        hours: dict[int, list[ledger.Run]] = {}
        for metric, series in catalogue.brought(sample, retention).items():
            for run in ledger.runs(metric, series):
                hours.setdefault(run.hour, []).append(run)
        arguments: list[client.Argument] = [
            worker.id,
            worker.incarnation,
            _slot(worker.interval, sample.slot),
            int(again),
            repr(sample.collected_at),
            retention,
            condition.model_dump_json(exclude={"last_error"}, exclude_defaults=True),
            condition.last_error.model_dump_json() if condition.last_error else "",
            self._channel,
            event,
        ]
        for hour, runs in hours.items():
            arguments += [hour, len(runs)]
            for run in runs:
                first_wins = run.field.startswith(f"{catalogue.STATUS_CHECK_FAILED}:")
                head = f"{run.field} {run.offset} {run.at} {run.period} {int(first_wins)}"
                arguments += [head, run.data]
        return [keys.worker(worker.id), keys.PENDING, *(keys.ledger(worker.id, hour) for hour in hours)], arguments

    def failed(self, worker: models.Worker, last_error: models.CollectionError) -> None:
        """Remember why a collection failed, and give the slot's claim back."""
        self.failed_many([(worker, last_error)])

    def failed_many(self, failures: Sequence[tuple[models.Worker, models.CollectionError]]) -> None:
        """Do that for many in one round trip; each is a step of its own."""
        calls: list[tuple[list[str | bytes], list[client.Argument]]] = [
            ([keys.worker(worker.id)], [worker.incarnation, "trouble", last_error.model_dump_json(), "claim", ""])
            for worker, last_error in failures
        ]
        workers.SET.run_many(self._client, calls)

    def read(
        self, wanted: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], models.Series]:
        """Return the series of each (worker id, metric, period in seconds), read in one round trip."""
        periods: dict[str, set[int]] = {}
        for worker_id, _, period in wanted:
            periods.setdefault(worker_id, set()).add(period)
        hours = self._hours(periods, since, until)
        found: dict[tuple[str, str], models.Series] = {}
        for worker_id, metric, period in wanted:
            points: list[models.Datapoint] = []
            phases = set()
            for hour, fields in hours.get(worker_id, {}).items():
                for phase, data in fields.get((metric, period), ()):
                    phases.add(phase)
                    points += ledger.datapoints(data, hour, period, phase, int(since // period), int(until // period))
            if len(phases) > 1:
                points = ledger.merged(period, points)
            found[worker_id, metric] = models.Series(
                period, tuple([point for point in points if since <= point.at <= until])
            )
        return found

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods in seconds under which the ledger holds datapoints of a metric."""
        hours = self._hours({worker_id: {models.DAY}}, since, until).get(worker_id, {})
        present = {period for fields in hours.values() for name, period in fields if name == metric}
        return [
            period
            for period in sorted(present)
            if any(
                since <= point.at <= until
                for hour, fields in hours.items()
                for phase, data in fields.get((metric, period), ())
                for point in ledger.datapoints(data, hour, period, phase, int(since // period), int(until // period))
            )
        ]

    def _hours(
        self, periods: dict[str, set[int]], since: float, until: float
    ) -> dict[str, dict[int, dict[tuple[str, int], list[tuple[int, bytes]]]]]:
        """Return the sorted fields of each worker's hours that may hold datapoints between two times."""
        spans = {
            worker_id: (min(ledger.hour_of(since, period) for period in of), int(until // ledger.HOUR) * ledger.HOUR)
            for worker_id, of in periods.items()
        }
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            long = [one for one, (first, last) in spans.items() if last - first > _MANY * ledger.HOUR]
            if long:
                for worker_id in long:
                    pipe.hmget(keys.worker(worker_id), "first_hour", "last_hour")
                for worker_id, (begin, end) in zip(long, pipe.execute(), strict=True):
                    first, last = spans[worker_id]
                    # Nothing was ever written: an empty span.
                    spans[worker_id] = (max(first, int(begin)), min(last, int(end))) if begin else (1, 0)
            asked = [
                (worker_id, hour)
                for worker_id, (first, last) in spans.items()
                for hour in range(first, last + 1, ledger.HOUR)
            ]
            for worker_id, hour in asked:
                pipe.hgetall(keys.ledger(worker_id, hour))
            replies = cast("list[dict[bytes, bytes]]", pipe.execute())
        found: dict[str, dict[int, dict[tuple[str, int], list[tuple[int, bytes]]]]] = {}
        for (worker_id, hour), fields in zip(asked, replies, strict=True):
            if fields:
                found.setdefault(worker_id, {})[hour] = ledger.fields(fields)
        return found

    def pending(self, before: float, limit: int) -> list[str]:
        """Return workers with a sample that was written by that time and is not judged yet, oldest first."""
        with client.guard(self._client):
            return client.texts(self._client.zrangebyscore(keys.PENDING, "-inf", before, start=0, num=limit))

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as to be judged."""
        calls = [([keys.worker(one), keys.PENDING], [one, repr(at)]) for one in worker_ids]
        _MARK.run_many(self._client, calls)
