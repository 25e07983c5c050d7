"""Beat: RedBeat's scheduler over the same entries, with those that are due together sent together.

A fleet of 20,000 workers at 60 s is beyond stock RedBeat, which needs 3 ms and two round trips for each entry. Here the
due entries of one tick are read in chunks, those of ``workermon.collect`` with equal options (a cohort) become one
message, and a chunk is marked as run in one script after its messages went out: a message that could not be sent is
sent again at the next tick. Entries of other tasks run as RedBeat runs them.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from celery.schedules import schedule as every
from kombu.exceptions import EncodeError
from redbeat import schedulers
from redbeat.decoder import RedBeatJSONDecoder, RedBeatJSONEncoder

from workermon import errors, logs, models
from workermon.on_celery import schedule

log = logs.get(__name__)

#: Entries that are read, sent and marked before the lock is extended: about 60 ms.
CHUNK: Final = 500
#: Identifiers in one message.
BATCH: Final = 100
#: Entries looked at in each tick for a next run that lies too far ahead.
LOOKED_AT: Final = 100
#: Seconds. What a next run may lie beyond one interval before it is mended: RedBeat's scores are whole seconds.
SLACK: Final = 2.0


_FIELDS: Final = frozenset({"name", "task", "args", "kwargs", "options", "schedule", "enabled"})

# An entry that was deleted, changed or run by another since it was read is left as it is.
_RAN = """
local ran = 0
for i = 1, #ARGV, 4 do
  local entry, seen, following, meta = unpack(ARGV, i, i + 3)
  local score = redis.call('ZSCORE', KEYS[1], entry)
  if score and tonumber(score) == tonumber(seen) and redis.call('TYPE', entry).ok == 'hash'
      and redis.call('HEXISTS', entry, 'definition') == 1 then
    redis.call('ZADD', KEYS[1], following, entry)
    if meta ~= '' then redis.call('HSET', entry, 'meta', meta) end
    ran = ran + 1
  end
end
return ran
"""

# One command for a chunk instead of one for each entry; a key of another type gives its error as text.
_FETCH = """
local found = {}
for i = 1, #KEYS do
  local answer = redis.pcall('HMGET', KEYS[i], 'definition', 'meta')
  if answer.err then answer = {'', answer.err} end
  found[2 * i - 1], found[2 * i] = answer[1], answer[2]
end
return found
"""

# The key itself stays, for it may be anybody's; only the schedule forgets it.
_SET_ASIDE = """
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
"""


class Malformed(Exception):
    """An entry cannot be read; the message says why."""


class Due(NamedTuple):
    """An entry as it was read: its key and score as Redis gave them, and what its two fields say."""

    key: bytes
    score: float
    definition: dict[str, Any]
    meta: dict[str, Any]

    @property
    def regular(self) -> bool:
        """Tell whether it runs at an interval."""
        return type(self.definition["schedule"]) is every

    @property
    def batchable(self) -> bool:
        """Tell whether it may travel with others: a collection at an interval, and nothing but identifiers."""
        ids = self.definition["kwargs"].get("worker_ids") if self.definition["kwargs"] else None
        return (
            self.regular
            and self.definition["task"] == schedule.TASK
            and not self.definition["args"]
            and set(self.definition["kwargs"] or ()) == {"worker_ids"}
            and isinstance(ids, list)
            and all(isinstance(worker_id, str) for worker_id in ids)
        )

    @property
    def interval(self) -> float:
        """Return the seconds between two runs; only of a regular one."""
        return float(self.definition["schedule"].run_every.total_seconds())

    @property
    def phase(self) -> float:
        """Return its place on the grid of its interval, in seconds; only of a regular one."""
        cohort = str((self.definition["options"].get("headers") or {}).get("cohort", ""))
        number = cohort.rpartition("#")[2]
        if number.isdecimal():
            return schedule.phase(int(number), self.interval)
        return self.score % self.interval


class Entry(schedulers.RedBeatSchedulerEntry):
    """RedBeat's entry, for those of ``beat_schedule`` in the configuration: a broken one is written anew."""

    @classmethod
    def from_key(cls, key: str, app: Any = None) -> Any:
        """Read it; raises ``KeyError`` where it is not there or cannot be read."""
        try:
            return super().from_key(key, app=app)
        except (ValueError, TypeError, AttributeError, schedulers.redis.exceptions.ResponseError) as why:
            log.warning("beat.entry_rewritten", entry=key, reason=str(why))
            schedulers.get_redis(app).delete(key)
            raise KeyError(key) from why


class Scheduler(schedulers.RedBeatScheduler):
    """``beat_scheduler``; a lost Redis ends it with an error, and its supervisor starts it again."""

    Entry = Entry
    lock: Any = None
    #: The time now, in seconds since 1970.
    clock = staticmethod(time.time)

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._looked_up_to = 0
        self._intervals: dict[bytes, float] = {}
        self._canary_due = 0.0
        super().__init__(app, *args, **kwargs)

    @property
    def _redis(self) -> Any:
        return schedulers.get_redis(self.app)

    @property
    def _schedule_key(self) -> str:
        return str(self.app.redbeat_conf.schedule_key)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; returns the seconds until the next look."""
        self._hold()
        now = self.clock()
        client = self._redis
        pipe = client.pipeline(transaction=False)
        pipe.set(schedule.TICK, f"{now:.3f}")
        pipe.execute_command("ZRANGE", self._schedule_key, 0, f"{now:.6f}", "BYSCORE", "WITHSCORES", NEVER_DECODE=True)
        due = _scored(pipe.execute()[1])
        for number, some in enumerate(schedule.chunks(due, CHUNK)):
            if number:
                self._hold()
            self._dispatch(some, now)
        self._look(now)
        if now >= self._canary_due:
            self._send_canary(now)
        soonest = client.execute_command(
            "ZRANGE",
            self._schedule_key,
            f"({now:.6f}",
            "+inf",
            "BYSCORE",
            "LIMIT",
            0,
            1,
            "WITHSCORES",
            NEVER_DECODE=True,
        )
        ahead = [score - self.clock() for _, score in _scored(soonest)]
        return max(0.0, min([*ahead, float(self.max_interval)]))

    def close(self) -> None:
        """Release the lock, which may be out of reach."""
        try:
            super().close()
        except schedulers.redis.exceptions.RedisError as why:
            log.warning("beat.lock_left", reason=type(why).__name__, lasts=self.lock_timeout)
            self.lock = None

    def _hold(self) -> None:
        if not self.lock_key:
            return
        if self.lock is None:
            raise errors.RedisUnavailable("beat", "it could not take its lock in Redis", "see that Redis runs")
        self.lock.extend(int(self.lock_timeout))

    # --- reading -------------------------------------------------------------------------------------------------

    def _read(self, members: Sequence[tuple[bytes, float]]) -> list[Due]:
        """Return the sound ones; those that cannot be read are set aside with the reason."""
        if not members:
            return []
        answers = self._redis.execute_command(
            "EVAL", _FETCH, len(members), *(key for key, _ in members), NEVER_DECODE=True
        )
        read: list[Due] = []
        for (key, score), answer in zip(members, zip(answers[::2], answers[1::2], strict=True), strict=True):
            try:
                found = _parse(key, score, answer, str(self.app.redbeat_conf.key_prefix))
            except Malformed as why:
                self._set_aside(key, str(why))
            else:
                if found is None:
                    self._redis.zrem(self._schedule_key, key)
                else:
                    read.append(found)
                    if found.regular:
                        self._intervals[key] = found.interval
        return read

    def _set_aside(self, key: bytes, reason: str) -> None:
        name = schedule.text(key).removeprefix(str(self.app.redbeat_conf.key_prefix))
        record = json.dumps({"reason": reason, "at": round(self.clock(), 3)})
        self._redis.eval(_SET_ASIDE, 2, self._schedule_key, schedule.QUARANTINE, key, name, record)
        log.error("beat.entry_quarantined", entry=name, reason=reason)

    # --- sending -------------------------------------------------------------------------------------------------

    def _dispatch(self, members: Sequence[tuple[bytes, float]], now: float) -> None:
        groups: dict[str, list[Due]] = {}
        for entry in self._read(members):
            if not entry.definition["enabled"]:
                continue
            if entry.batchable:
                groups.setdefault(json.dumps(entry.definition["options"], sort_keys=True), []).append(entry)
            else:
                self._dispatch_stock(entry)
        sent: list[Due] = []
        for entries in groups.values():
            for some in schedule.chunks(entries, BATCH):
                if self._send(some):
                    sent += some
        self._ran(sent, now)

    def _send(self, entries: Sequence[Due]) -> bool:
        options = dict(entries[0].definition["options"])
        options["headers"] = {**(options.get("headers") or {}), "celery_beat_task": True}
        worker_ids = list(dict.fromkeys(i for entry in entries for i in entry.definition["kwargs"]["worker_ids"]))
        try:
            self.app.send_task(schedule.TASK, kwargs={"worker_ids": worker_ids}, producer=self.producer, **options)
        except (ValueError, TypeError, LookupError, EncodeError) as why:
            # It can never be sent: an unknown queue, an unreadable 'expires'.
            for entry in entries:
                self._set_aside(entry.key, f"its message cannot be made: {why!r}")
            return False
        except Exception as why:
            # Not marked as run, so the next tick tries again; whatever it is, the other messages are to go out.
            log.error(
                "beat.not_sent", workers=len(worker_ids), cohort=options["headers"].get("cohort"), reason=repr(why)
            )
            return False
        log.debug("beat.sent", workers=len(worker_ids), cohort=options["headers"].get("cohort"))
        return True

    def _ran(self, entries: Sequence[Due], now: float) -> None:
        if not entries:
            return
        args: list[Any] = []
        written: dict[tuple[float, int], str] = {}  # a cohort's members share it
        for entry in entries:
            interval = entry.interval
            upcoming = schedule.following(now, entry.phase, interval)
            count = entry.meta.get("total_run_count")
            # The place on the grid, not the moment of sending, so that stock RedBeat keeps the cadence too.
            ran = (upcoming - interval, (count if isinstance(count, int) else 0) + 1)
            if ran not in written:
                meta = {"last_run_at": datetime.fromtimestamp(ran[0], UTC), "total_run_count": ran[1]}
                written[ran] = json.dumps(meta, cls=RedBeatJSONEncoder)
            args += [entry.key, repr(entry.score), f"{upcoming:.6f}", written[ran]]
        self._redis.register_script(_RAN)(keys=[self._schedule_key], args=args)

    def _dispatch_stock(self, entry: Due) -> None:
        try:
            made = self.Entry(app=self.app, **entry.definition)
            made.last_run_at = _past(entry.meta.get("last_run_at"), self.app.now())
            made.total_run_count = entry.meta.get("total_run_count") or 0
            made.is_due()
        except Exception as why:
            # Whatever somebody's schedule raises, it must not stop the others.
            self._set_aside(entry.key, f"it cannot be scheduled: {why!r}")
            return
        self.maybe_due(made, **self._maybe_due_kwargs)

    def _send_canary(self, now: float) -> None:
        """Send one each minute, over restarts too; the first a minute after the first start.

        It is no entry: those are the workers', and nothing else.
        """
        try:
            at, times = self._redis.hmget(schedule.CANARY, "at", "times")
            last, number = None if at is None else float(at), int(times or 0)
        except (ValueError, schedulers.redis.exceptions.ResponseError):
            self._redis.delete(schedule.CANARY)
            last, number = None, 0
        if last is None or not last <= now:  # a clock was wrong
            self._redis.hset(schedule.CANARY, mapping={"at": f"{now:.3f}", "times": number})
            last = now
        self._canary_due = last + models.CANARY_EVERY
        if now < self._canary_due:
            return
        self._canary_due = now + models.CANARY_EVERY
        try:
            self.app.send_task(
                "workermon.canary", kwargs={"stages": ["collect"]}, queue=schedule.QUEUE, expires=models.CANARY_EVERY,
                producer=self.producer,
            )  # fmt: skip
        except Exception as why:
            # Whatever it is, the collections have to go on.
            log.error("beat.canary_not_sent", reason=repr(why))
            return
        self._redis.hset(schedule.CANARY, mapping={"at": f"{now:.3f}", "times": number + 1})

    # --- mending -------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Look at some entries, others at each tick: a next run too far ahead (a clock was wrong) would starve one."""
        members = _scored(
            self._redis.execute_command(
                "ZRANGE", self._schedule_key, self._looked_up_to, self._looked_up_to + LOOKED_AT - 1, "WITHSCORES",
                NEVER_DECODE=True,
            )
        )  # fmt: skip
        if len(members) < LOOKED_AT and self._looked_up_to + len(members) < len(self._intervals) / 2:
            self._intervals.clear()  # most of them are gone
        self._looked_up_to = self._looked_up_to + LOOKED_AT if len(members) == LOOKED_AT else 0
        # Who runs within an interval that was read before need not be read again.
        strange = [each for each in members if each[1] > now + self._intervals.get(each[0], 0.0) + SLACK]
        args: list[Any] = []
        for entry in self._read(strange):
            if entry.regular and entry.score > now + entry.interval + SLACK:
                upcoming = schedule.following(now, entry.phase, entry.interval)
                args += [entry.key, repr(entry.score), f"{upcoming:.6f}", ""]
                log.warning("beat.entry_mended", entry=schedule.text(entry.key), was=entry.score, due=upcoming)
        if args:
            self._redis.register_script(_RAN)(keys=[self._schedule_key], args=args)


def _scored(answer: Sequence[Any]) -> list[tuple[bytes, float]]:
    """Return ``ZRANGE … WITHSCORES`` as pairs; RESP3 gives pairs already, RESP2 a flat list."""
    if answer and isinstance(answer[0], (list, tuple)):
        return [(member, float(score)) for member, score in answer]
    return [(member, float(score)) for member, score in zip(answer[::2], answer[1::2], strict=True)]


def _past(at: Any, now: datetime) -> Any:
    # Beat would wait for a last run in the future to pass.
    return None if isinstance(at, datetime) and at > now else at


#: RedBeat makes one for each entry that it reads, which takes as long as the reading.
_DECODER: Final = RedBeatJSONDecoder()
_TYPED: Final = '"__type__"'


@functools.lru_cache(1000)
def _interval(seconds: float, relative: object) -> Any:
    return every(run_every=seconds, relative=relative)


def _decoded(written: str) -> Any:
    """Read a definition or meta as RedBeat does; an interval without its hooks, for most entries have nothing else."""
    if written.count(_TYPED) == 1:
        found = json.loads(written)
        plan = found.get("schedule") if isinstance(found, dict) else None
        if isinstance(plan, dict) and plan.get("__type__") == "interval" and type(plan.get("every")) in (int, float):
            found["schedule"] = _interval(plan["every"], plan["relative"])
            return found
    return _DECODER.decode(written)


@functools.lru_cache(1000)
def _meta(written: bytes) -> Any:
    # The members of a cohort have the same.
    return _DECODER.decode(written.decode())


def _parse(key: bytes, score: float, answer: Any, prefix: str) -> Due | None:
    """Read an entry strictly; ``None`` where it is gone. Raises ``Malformed`` with the reason."""
    if answer[0] == b"" and answer[1]:
        raise Malformed(f"its key holds no entry: {schedule.text(answer[1])}")
    if answer[0] is None:
        return None
    definition: Any
    try:
        definition = _decoded(answer[0].decode())
    except Exception as why:
        # RedBeat's decoder builds schedules from what it reads, so anything may come out of it.
        raise Malformed(f"its definition cannot be read: {why!r}") from None
    if not isinstance(definition, dict):
        raise Malformed("its definition is no JSON object")
    if unknown := set(definition) - _FIELDS:
        raise Malformed(f"its definition has the unknown field {min(unknown)!r}")
    definition = {"args": [], "kwargs": {}, "options": {}, "enabled": True} | definition
    if definition.get("name") is None or prefix + str(definition["name"]) != schedule.text(key):
        raise Malformed(f"its name {definition.get('name')!r} is not that of its key")
    if not isinstance(definition.get("task"), str):
        raise Malformed("it names no task")
    for field, kind in (("args", (list, type(None))), ("kwargs", (dict, type(None))), ("options", (dict, type(None)))):
        if not isinstance(definition[field], kind):
            raise Malformed(f"its {field} are of the wrong type")
    definition["options"] = definition["options"] or {}
    if not isinstance(definition["options"].get("headers") or {}, dict):
        raise Malformed("its headers are of the wrong type")
    plan = definition.get("schedule")
    if not hasattr(plan, "is_due"):
        raise Malformed("its schedule is of an unknown type")
    if isinstance(plan, every) and hasattr(plan, "run_every") and not plan.run_every.total_seconds() > 0:
        raise Malformed("its interval is not above zero")
    try:
        meta = _meta(answer[1] or b"")
    except Exception:
        meta = {}
    return Due(key, score, definition, meta if isinstance(meta, dict) else {"last_run_at": None})
