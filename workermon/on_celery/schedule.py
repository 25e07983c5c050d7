"""The RedBeat entries: one for each worker, identifiers only, so that stock RedBeat can run them too.

Beside RedBeat's own keys (``redbeat::schedule`` and one hash for each entry) these are kept:

==================================  ======  ==============================================================
``workermon:redbeat:cohorts``       hash    worker id → ``<account>/<region>/<interval>#<number>``
``workermon:redbeat:cohort:<…>``    zset    cohort number → its members' count, of one account, region, interval
``workermon:redbeat:quarantine``    hash    name of an entry that could not be read → ``{"reason", "at"}``
``workermon:redbeat:tick``          string  when beat last looked for what is due
``workermon:redbeat:canary``        hash    when beat last sent a canary, and how often it did
==================================  ======  ==============================================================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from redbeat import schedulers

from workermon import errors, models

T = TypeVar("T")

TASK: Final = "workermon.collect"
QUEUE: Final = "workermon.collect"
#: Before a worker's id in the name of its entry.
NAME: Final = "workermon:collect:"

COHORTS: Final = "workermon:redbeat:cohorts"
COHORT: Final = "workermon:redbeat:cohort:"
QUARANTINE: Final = "workermon:redbeat:quarantine"
TICK: Final = "workermon:redbeat:tick"
CANARY: Final = "workermon:redbeat:canary"

#: Workers that share a phase: as many as one DescribeInstanceStatus call takes.
COHORT_SIZE: Final = 100
#: Consecutive multiples of it, less their whole part, are spread as evenly as can be however many there are.
GOLDEN: Final = 0.6180339887498949
#: Part of the interval over which cohorts spread; the rest is left free, so that a late run stays in its slot.
SPREAD: Final = 0.9
#: Workers in one script: it holds the server for about 3 ms.
CHUNK: Final = 200

# A worker keeps its cohort while account, region and interval stay; else it goes to the one with the fewest members,
# or founds the one with the lowest free number. Its cadence stands where the next run is at most an interval ahead.
_COHORT_LUA = """
local function leave(held)
  local group, number = string.match(held, '^(.*)#(%d+)$')
  if group and tonumber(redis.call('ZINCRBY', cohort_prefix .. group, -1, number)) <= 0 then
    redis.call('ZREM', cohort_prefix .. group, number)
  end
end
"""

_PUT = (
    """
local schedule, cohorts, quarantine = KEYS[1], KEYS[2], KEYS[3]
local now, cohort_prefix, size = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local golden, spread = tonumber(ARGV[4]), tonumber(ARGV[5])
"""
    + _COHORT_LUA
    + """
local function join(group)
  local key = cohort_prefix .. group
  local number = redis.call('ZRANGEBYSCORE', key, '-inf', size - 1, 'LIMIT', 0, 1)[1]
  if not number then
    number = 0
    while redis.call('ZSCORE', key, number) do number = number + 1 end
  end
  redis.call('ZINCRBY', key, 1, number)
  return tostring(number)
end
for i = 6, #ARGV, 6 do
  local entry, name, id, group, interval, template = unpack(ARGV, i, i + 5)
  interval = tonumber(interval)
  local held = redis.call('HGET', cohorts, id)
  local number = held and string.sub(held, 1, #group + 1) == group .. '#' and string.sub(held, #group + 2)
  local stands = number ~= nil and number ~= false
  if not stands then
    if held then leave(held) end
    number = join(group)
    redis.call('HSET', cohorts, id, group .. '#' .. number)
  end
  local kind = redis.call('TYPE', entry).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', entry) end
  local definition = string.gsub(template, '#@number@', '#' .. number, 1)
  if redis.call('HGET', entry, 'definition') ~= definition then
    redis.call('HSET', entry, 'definition', definition)
  end
  redis.call('HSETNX', entry, 'meta', '{"last_run_at": null}')
  local score = tonumber(redis.call('ZSCORE', schedule, entry))
  if not (stands and score and score >= 0 and score <= now + interval) then
    local phase = (tonumber(number) * golden % 1) * spread * interval
    local due = (math.floor((now - phase) / interval) + 1) * interval + phase
    redis.call('ZADD', schedule, string.format('%.6f', due), entry)
  end
  redis.call('HDEL', quarantine, name)
end
"""
)

_DELETE = (
    """
local schedule, cohorts, quarantine, cohort_prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
"""
    + _COHORT_LUA
    + """
for i = 2, #ARGV, 3 do
  local entry, name, id = unpack(ARGV, i, i + 2)
  redis.call('ZREM', schedule, entry)
  redis.call('DEL', entry)
  redis.call('HDEL', quarantine, name)
  local held = redis.call('HGET', cohorts, id)
  if held then
    leave(held)
    redis.call('HDEL', cohorts, id)
  end
end
"""
)


def phase(number: int, interval: float) -> float:
    """Return how many seconds after each multiple of ``interval`` cohort ``number`` is due."""
    return (number * GOLDEN % 1) * SPREAD * interval


def following(now: float, after: float, interval: float) -> float:
    """Return the first time later than ``now`` on the grid of ``interval`` seconds with phase ``after``."""
    return (math.floor((now - after) / interval) + 1) * interval + after


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def reaching() -> Iterator[None]:
    """Turn what redis-py raises into ``errors.RedisUnavailable``; the module itself is RedBeat's to import."""
    try:
        yield
    except schedulers.redis.exceptions.RedisError as why:
        reason = "it refuses the password" if "auth" in type(why).__name__.lower() else type(why).__name__
        raise errors.RedisUnavailable("Redis (schedule)", reason, "see that it runs and takes our password") from None


def definition(worker: models.Worker) -> str:
    """Return the JSON of a worker's entry, with ``@number@`` where the number of its cohort belongs."""
    return json.dumps(
        {
            "name": NAME + worker.id,
            "task": TASK,
            "args": [],
            "kwargs": {"worker_ids": [worker.id]},
            "options": {
                "queue": QUEUE,
                "expires": worker.interval,
                "headers": {"cohort": f"{_group(worker)}#@number@"},
            },
            "schedule": {"__type__": "interval", "every": float(worker.interval), "relative": False},
            "enabled": True,
        }
    )


def _group(worker: models.Worker) -> str:
    return f"{worker.scope.key}/{worker.interval}"


class RedBeatSchedule:
    """``ports.Schedule`` in RedBeat's keys, written in bulk (RedBeat's own ``save`` takes ten times as long)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def _redis(self) -> Any:
        # RedBeat's own way, so that Sentinel and TLS are dealt with once; it keeps the client on the application.
        return getattr(self._app, schedulers.REDBEAT_REDIS_KEY, None) or schedulers.get_redis(self._app)

    @property
    def _keys(self) -> list[str]:
        schedulers.ensure_conf(self._app)
        return [self._app.redbeat_conf.schedule_key, COHORTS, QUARANTINE]

    def _entry(self, worker_id: str) -> str:
        schedulers.ensure_conf(self._app)
        return str(self._app.redbeat_conf.key_prefix) + NAME + worker_id

    def put(self, workers: Sequence[models.Worker], now: float) -> None:
        """Schedule them, or change what is scheduled; a cadence that stands is kept, what is broken is mended."""
        with reaching():
            put = self._redis.register_script(_PUT)
            for some in chunks(workers, CHUNK):
                args: list[Any] = [f"{now:.6f}", COHORT, COHORT_SIZE, GOLDEN, SPREAD]
                for worker in some:
                    args += [
                        self._entry(worker.id),
                        NAME + worker.id,
                        worker.id,
                        _group(worker),
                        worker.interval,
                        definition(worker),
                    ]
                put(keys=self._keys, args=args)

    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule them, checked: no entry is left when this returns.

        A stock RedBeat that is just dispatching one writes its ``meta`` again, hence the second look.
        """
        left = list(worker_ids)
        with reaching():
            delete = self._redis.register_script(_DELETE)
            for _ in range(3):
                for some in chunks(left, CHUNK):
                    args: list[Any] = [COHORT]
                    for worker_id in some:
                        args += [self._entry(worker_id), NAME + worker_id, worker_id]
                    delete(keys=self._keys, args=args)
                left = self._left(left)
                if not left:
                    return
        raise errors.WorkermonError(
            f"schedule of {left[0]}", "its entry comes back after it was deleted", "stop the other beat, then try again"
        )

    def _left(self, worker_ids: Sequence[str]) -> list[str]:
        found: list[str] = []
        for some in chunks(worker_ids, CHUNK):
            pipe = self._redis.pipeline(transaction=False)
            for worker_id in some:
                pipe.exists(self._entry(worker_id))
                pipe.zscore(self._keys[0], self._entry(worker_id))
            answers = pipe.execute()
            found += [
                worker_id
                for worker_id, there, score in zip(some, answers[::2], answers[1::2], strict=True)
                if there or score is not None
            ]
        return found

    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each scheduled worker of these is next due."""
        runs: dict[str, float] = {}
        with reaching():
            for some in chunks(worker_ids, CHUNK):
                scores = self._redis.zmscore(self._keys[0], [self._entry(worker_id) for worker_id in some])
                runs |= {worker_id: score for worker_id, score in zip(some, scores, strict=True) if score is not None}
        return runs

    def ids(self) -> set[str]:
        """Return the ids of the workers that have an entry, sound or broken."""
        with reaching():
            return self._scheduled() | self._hashes() | set(self._set_aside())

    def quarantined(self) -> dict[str, str]:
        """Return the workers whose entry does not run, by id with the reason: it could not be read, or lost its place.

        Entries of other tasks that were set aside are not ours to mend: they are in the log and in ``QUARANTINE``.
        """
        with reaching():
            # In this order an entry that is made meanwhile is not taken for a broken one.
            orphans = self._hashes() - self._scheduled()
            return dict.fromkeys(sorted(orphans), "it is in no schedule") | self._set_aside()

    def _scheduled(self) -> set[str]:
        answer = self._redis.execute_command("ZRANGE", self._keys[0], 0, -1, NEVER_DECODE=True)
        return self._ids_of(answer)

    def _hashes(self) -> set[str]:
        # A hash that is in no schedule is what a dispatch leaves that crossed a removal.
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._entry("")) + "*"
        found: set[str] = set()
        cursor = "0"
        while True:
            answer = self._redis.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, NEVER_DECODE=True)
            cursor = answer[0].decode() if isinstance(answer[0], bytes) else str(answer[0])
            found |= self._ids_of(answer[1])
            if cursor == "0":
                return found

    def _ids_of(self, names: Sequence[bytes]) -> set[str]:
        start = self._entry("")
        return {name.removeprefix(start) for name in map(text, names) if name.startswith(start)}

    def _set_aside(self) -> dict[str, str]:
        held = self._redis.hgetall(QUARANTINE)
        return {
            name.removeprefix(NAME): str(json.loads(value)["reason"])
            for name, value in sorted(held.items())
            if name.startswith(NAME)
        }

    def last_tick(self) -> float | None:
        """Return when beat last looked for what is due; a stock RedBeat shows it by extending its lock each time."""
        schedulers.ensure_conf(self._app)
        own = self._app.redbeat_conf
        with reaching():
            at = self._redis.get(TICK)
            left = self._redis.pttl(own.lock_key) if own.lock_key else -2
            clock = self._redis.time() if left > 0 else (0, 0)
        looked = [] if at is None else [float(at)]
        if left > 0:
            looked.append(clock[0] + clock[1] / 1e6 - max(0.0, (own.lock_timeout or 0) - left / 1000))
        return max(looked, default=None)

    def canaries(self) -> models.Sent | None:
        """Return how many canaries beat has sent; a stock RedBeat sends none."""
        try:
            with reaching():
                at, times = self._redis.hmget(CANARY, "at", "times")
            return None if at is None else models.Sent(float(at), int(times or 0))
        except ValueError:
            return None  # beat writes it anew


def text(raw: bytes) -> str:
    """Return bytes from Redis as text, what is no UTF-8 as escapes."""
    return raw.decode("utf-8", "backslashreplace")
