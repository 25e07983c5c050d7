"""Beat: RedBeat's scheduler over the same entries, which sends those that are due together as few messages.

Stock RedBeat needs 3 ms and two round trips for each entry: too slow for 20,000 workers at 60 s. This scheduler reads
the due entries of a tick in chunks and sends the collections of a cohort as one message. It marks a chunk as run after
its messages went out, in one script. If a message cannot be sent, the next tick sends it. Entries of other tasks run as
RedBeat runs them.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from kombu.exceptions import EncodeError
from redbeat import schedulers
from redbeat.decoder import RedBeatJSONEncoder

from workermon import errors, logs, lua, models, settings
from workermon.on_celery import broker, changes, coalescing, dispatcher, entry, schedule, watchdog, wrong_types
from workermon.on_celery.entry import StoredEntry

log = logs.get(__name__)

#: Seconds between two ticks if nothing is due: long enough to cost little, and short beside the lock's duration. The
#: ticks are at multiples of it on the machine's monotonic clock, as are the listener's sweeps, so that the server wakes
#: up once for both.
IDLE_INTERVAL: Final = 2.0
#: Entries read, sent and marked before the lock is extended: about 60 ms.
CHUNK: Final = 500
#: Entries that each tick checks at most for a next run too far ahead.
CHECKED_EACH_TICK: Final = 100
#: Seconds. After failing for so long the process ends, so that its supervisor restarts it.
MAX_FAILING: Final = 60.0
#: Seconds. How far a next run may lie beyond one interval before it is repaired: RedBeat's scores are whole seconds.
REPAIR_TOLERANCE: Final = 2.0

#: Seconds. If an entry's next run is this far off its cohort's place, the entry has not moved there yet.
PLACE_TOLERANCE: Final = 0.01
#: Seconds between two reads of the cohorts' places.
PHASES_EVERY: Final = 10.0


class LookAtSchedule(lua.Script[list[Any]]):
    """Extend beat's lock, record the tick, and return the due entries, the next one, and some that are far ahead.

    Each is followed by its next run. The number of entries comes last. Does and returns nothing if another beat holds
    the lock.
    """

    schedule: lua.Key
    tick: lua.Key
    locks: lua.Keys
    token: lua.Argument
    milliseconds: lua.Argument
    now: lua.Argument
    ahead_of: lua.Argument
    offset: lua.Argument
    limit: lua.Argument


class ReadEntries(lua.Script[list[Any]]):
    """Return definition and meta of each entry, alternating."""

    entries: lua.Keys


class MarkRun(lua.Script[int]):
    """Give entries their next run; ``runs``: key, next run as read before, new next run, and meta of each."""

    schedule: lua.Key
    runs: lua.Arguments


class QuarantineEntry(lua.Script[int]):
    """Take an entry that cannot run off the schedule and store the reason."""

    schedule: lua.Key
    quarantine: lua.Key
    entry: lua.Argument
    name: lua.Argument
    record: lua.Argument


class _Look(NamedTuple):
    """Entries with their next runs: the due ones and the next one; and the number of all entries."""

    due: list[tuple[bytes, float]]
    next: list[tuple[bytes, float]]
    #: Some entries whose next run is further ahead than the shortest interval.
    far: list[tuple[bytes, float]]
    entries: int


class Entry(schedulers.RedBeatSchedulerEntry):
    """RedBeat's entry, for the ``beat_schedule`` of the configuration. A broken entry is rewritten."""

    @classmethod
    def from_key(cls, key: str, app: Any = None) -> Any:
        """Read it. Raises ``KeyError`` if it does not exist or cannot be read."""
        try:
            return super().from_key(key, app=app)
        except (ValueError, TypeError, AttributeError, schedulers.redis.exceptions.ResponseError) as error:
            log.warning("beat.entry_rewritten", entry=key, reason=str(error))
            schedulers.get_redis(app).delete(key)
            raise KeyError(key) from error


class Scheduler(schedulers.RedBeatScheduler):
    """``beat_scheduler``. Without Redis it ends with an error, and its supervisor restarts it."""

    Entry = Entry
    lock: Any = None
    #: Returns the time now, in seconds since 1970.
    clock = staticmethod(time.time)
    #: Ends this process.
    end = staticmethod(os._exit)
    #: Returns the time since some fixed moment; setting the clock does not change it.
    steady = staticmethod(time.monotonic)

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._looked_up_to = 0
        #: The interval of each entry that was read since the start, and the shortest one.
        self._intervals: dict[bytes, float] = {}
        self._shortest = 0.0
        self._canary_due = 0.0
        self._phases: dict[str, float] = {}
        self._first_cohorts: frozenset[str] = frozenset()
        self._phases_at = float("-inf")
        self._changes = changes.ScheduleChanges(lambda: self._redis)
        #: Waits until an entry is added to the schedule, up to so many seconds. Returns ``False`` at once if it cannot.
        self.wait: Callable[[float], bool] = self._changes.wait
        self._worked_at = self.steady()
        # A hanging tick ends the process with the same code as a minute of failures.
        self._watchdog = watchdog.Watchdog(MAX_FAILING, lambda: self.end(errors.RedisUnavailable.exit_code))
        # RedBeat writes as soon as it is created, before any of beat's signals.
        broker.refuse(schedulers.get_redis(app), "Redis (schedule)")
        super().__init__(app, *args, **kwargs)

    @property
    def _redis(self) -> Any:
        return schedulers.get_redis(self.app)

    @functools.cached_property
    def _kept(self) -> lua.KeptConnections:
        """The connection of its ticks. RedBeat's own function looks every setting up each time."""
        return lua.KeptConnections(self._redis)

    @property
    def _schedule_key(self) -> str:
        return str(self.app.redbeat_conf.schedule_key)

    @property
    def _prefix(self) -> str:
        return str(self.app.redbeat_conf.key_prefix)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due and wait for the next tick; return the seconds that are left to wait.

        If Redis fails, it tries again with new connections, because the address may lead to another server by now.
        After a minute of failures it ends.
        """
        try:
            with self._watchdog.watching("beat's tick"):
                pause = wrong_types.mended(self.app, self._tick)
        except schedulers.redis.exceptions.RedisError as error:
            return self._failed(error)
        self._worked_at = self.steady()
        return 0.0 if self.wait(pause) else min(pause, float(self.max_interval))

    def _failed(self, error: Exception) -> float:
        """Drop the connections; end the process if it has failed for too long. Return seconds to the next try."""
        failed_for = self.steady() - self._worked_at
        if failed_for > MAX_FAILING:
            log.error("beat.gave_up", reason=schedule.reason(error), failed_for=round(failed_for))
            logging.shutdown()
            # Celery would log a traceback, and exit with code 0 on a request to stop.
            self.end(errors.RedisUnavailable.exit_code)
        log.warning("beat.failed", reason=schedule.reason(error), failed_for=round(failed_for))
        self._changes.close()
        self._redis.connection_pool.disconnect()
        try:
            # The lock may have expired meanwhile. If another beat holds it, this one waits.
            self.lock.acquire(blocking=False)
        except schedulers.redis.exceptions.RedisError:
            log.debug("beat.lock_not_taken", lasts=self.lock_timeout)
        return float(min(1.0, self.max_interval))

    def _tick(self) -> float:
        now = self.clock()
        look = self._look(now)
        if look.due:
            self._load_phases(now)
        runs = [score for _, score in look.next]
        for number, chunk in enumerate(schedule.chunks(look.due, CHUNK)):
            if number:
                self._hold()
            runs += self._dispatch(chunk, now)
        runs += self._mend(look, now)
        if now >= self._canary_due:
            self._send_canary(now)
        ahead = [run - self.clock() for run in runs]
        return max(0.0, min([*ahead, IDLE_INTERVAL - self.steady() % IDLE_INTERVAL]))

    def _look(self, now: float) -> _Look:
        """Return the due entries, the next one, and some to check; extend the lock.

        Most ticks find nothing due, and each round trip wakes beat and server, so all of it is one step.
        """
        lock = self._own_lock()
        looking = LookAtSchedule(
            schedule=self._schedule_key,
            tick=settings.SCHEDULE_TICK,
            locks=[self.lock_key] if lock else [],
            token=lock.local.token if lock else "",
            milliseconds=int(self.lock_timeout) * 1000,
            now=f"{now:.6f}",
            ahead_of=f"{now + self._shortest + REPAIR_TOLERANCE:.6f}",
            offset=self._looked_up_to,
            limit=CHECKED_EACH_TICK,
        )
        answers = looking.run(self._kept, NEVER_DECODE=True)
        if not answers:
            raise schedulers.redis.exceptions.LockNotOwnedError("another beat has the lock")
        due, following, far, entries = answers
        return _Look(_scored(due), _scored(following), _scored(far), int(entries))

    def close(self) -> None:
        """Release the lock. Redis may be unreachable."""
        self._changes.close()
        try:
            super().close()
        except schedulers.redis.exceptions.RedisError as error:
            log.warning("beat.lock_not_released", reason=type(error).__name__, lasts=self.lock_timeout)
            self.lock = None

    def _own_lock(self) -> Any:
        """Return the lock that it holds; ``None`` if it is configured without one."""
        if self.lock_key and self.lock is None:
            raise errors.RedisUnavailable("beat", "it could not take its lock in Redis", "check that Redis runs")
        return self.lock if self.lock_key else None

    def _hold(self) -> None:
        if lock := self._own_lock():
            lock.extend(int(self.lock_timeout))

    # --- reading -------------------------------------------------------------------------------------------------

    def _read(self, members: Sequence[tuple[bytes, float]]) -> list[StoredEntry]:
        """Return the valid entries; quarantine those that cannot be read."""
        if not members:
            return []
        answers = ReadEntries(entries=[key for key, _ in members]).run(self._kept, NEVER_DECODE=True)
        read: list[StoredEntry] = []
        for (key, score), fields in zip(members, zip(answers[::2], answers[1::2], strict=True), strict=True):
            try:
                stored = entry.parse(key, score, fields, self._prefix)
            except entry.MalformedEntry as error:
                self._quarantine(key, str(error))
                continue
            if stored is None:
                self._redis.zrem(self._schedule_key, key)
                continue
            read.append(stored)
            if stored.regular:
                self._intervals[key] = interval = stored.interval
                self._shortest = min(self._shortest or interval, interval)
        return read

    def _quarantine(self, key: bytes, reason: str) -> None:
        name = schedule.text(key).removeprefix(self._prefix)
        quarantine = QuarantineEntry(
            schedule=self._schedule_key,
            quarantine=settings.SCHEDULE_QUARANTINE,
            entry=key,
            name=name,
            record=json.dumps({"reason": reason, "at": round(self.clock(), 3)}),
        )
        quarantine.run(self._redis)
        log.error("beat.entry_quarantined", entry=name, reason=reason)

    # --- sending -------------------------------------------------------------------------------------------------

    def _dispatch(self, members: Sequence[tuple[bytes, float]], now: float) -> list[float]:
        """Send the messages of entries; return when beat has to look at these entries again."""
        batchable: list[StoredEntry] = []
        runs: list[float] = []
        for due in self._read(members):
            if not due.definition["enabled"]:
                continue
            if due.batchable:
                batchable.append(due)
            else:
                runs += self._dispatch_stock(due, now)
        batchable, postponed = self._postpone(batchable, now)
        runs += postponed
        sent: list[StoredEntry] = []
        for message in coalescing.coalesce(batchable):
            if self._send(message):
                sent += message.entries
        if len(sent) < len(batchable):
            runs.append(now + float(self.max_interval))
        return runs + self._mark_run(sent, now)

    def _postpone(self, due: Sequence[StoredEntry], now: float) -> tuple[list[StoredEntry], list[float]]:
        """Move first cohorts whose place is later by now to it, in the same slot; return the others, and the new runs.

        A first cohort that tried too early would try the same place again. Other cohorts run once more at their old
        places, because CloudWatch may have been slow for a minute only.
        """
        at_once: list[StoredEntry] = []
        runs: list[Any] = []
        postponed: list[float] = []
        for stored in due:
            later = None
            if stored.cohort in self._first_cohorts:
                phase = stored.phase(self._phases)
                if stored.score % stored.interval < phase - PLACE_TOLERANCE:
                    later = schedule.later_in_slot(stored.score, now, phase, stored.interval)
            if later is None:
                at_once.append(stored)
            else:
                runs += [stored.key, repr(stored.score), f"{later:.6f}", ""]
                postponed.append(later)
        if runs:
            MarkRun(schedule=self._schedule_key, runs=runs).run(self._kept)
        return at_once, postponed

    def _send(self, message: coalescing.Collect) -> bool:
        """Send the collection of a cohort, or of a part of it; return whether it went out."""
        workers, options = len(message.worker_ids), message.options
        kwargs = {"worker_ids": message.worker_ids}
        try:
            all_options = {**dispatcher.shown(kwargs), "producer": self.producer, **options}
            self.app.send_task(schedule.TASK, kwargs=kwargs, **all_options)
        except (ValueError, TypeError, LookupError, EncodeError) as error:
            # It can never be sent: an unknown queue, or an unreadable 'expires'.
            for due in message.entries:
                self._quarantine(due.key, f"its message cannot be made: {error!r}")
            return False
        except Exception as error:
            # It is not marked as run, so the next tick tries again. The other messages must go out whatever happened.
            log.error("beat.not_sent", workers=workers, cohort=options["headers"].get("cohort"), reason=repr(error))
            return False
        log.debug("beat.sent", workers=workers, cohort=options["headers"].get("cohort"))
        return True

    def _mark_run(self, sent: Sequence[StoredEntry], now: float) -> list[float]:
        """Give entries that ran their next run; return the earliest of these, if there is one."""
        if not sent:
            return []
        runs: list[Any] = []
        written: dict[tuple[Any, ...], tuple[str, str]] = {}  # a cohort's members share it
        first = float("inf")
        for due in sent:
            count = due.meta.get("total_run_count")
            alike = (id(due.definition["options"]), id(due.definition["schedule"]), due.score, count)
            if alike not in written:
                upcoming = self._upcoming(due, now)
                first = min(first, upcoming)
                # The place on the grid, not the moment of sending, so that stock RedBeat keeps the rhythm too.
                ran_at = datetime.fromtimestamp(upcoming - due.interval, UTC)
                meta = {"last_run_at": ran_at, "total_run_count": (count if isinstance(count, int) else 0) + 1}
                written[alike] = f"{upcoming:.6f}", json.dumps(meta, cls=RedBeatJSONEncoder)
            runs += [due.key, repr(due.score), *written[alike]]
        MarkRun(schedule=self._schedule_key, runs=runs).run(self._kept)
        return [first]

    def _upcoming(self, due: StoredEntry, now: float) -> float:
        """Return the next run of an entry that ran now. A cohort that was moved continues at its new place."""
        phase = due.phase(self._phases)
        follows = schedule.next_run if abs(due.score % due.interval - phase) > PLACE_TOLERANCE else schedule.following
        return follows(now, phase, due.interval)

    def _load_phases(self, now: float) -> None:
        """Read from time to time which cohorts have a place of their own."""
        if 0 <= now - self._phases_at < PHASES_EVERY:
            return
        try:
            answer = self._kept.execute_command("HGETALL", settings.SCHEDULE_PHASES, NEVER_DECODE=True)
        except schedulers.redis.exceptions.ResponseError as error:
            log.warning("beat.phases_unreadable", reason=str(error))
            answer = {}
        self._phases = {}
        for cohort, phase in answer.items():
            place = schedule.finite(phase)
            if place is None:
                log.warning("beat.phase_unreadable", cohort=schedule.text(cohort))
            else:
                self._phases[schedule.text(cohort)] = place
        self._first_cohorts = schedule.first_cohorts(self._phases)
        self._phases_at = now

    def _dispatch_stock(self, due: StoredEntry, now: float) -> list[float]:
        """Run an entry as RedBeat does; return when it is due next."""
        try:
            stock = self.Entry(app=self.app, **due.definition)
            stock.last_run_at = _past(due.meta.get("last_run_at"), self.app.now())
            stock.total_run_count = due.meta.get("total_run_count") or 0
            stock.is_due()
        except Exception as error:
            # Whatever somebody's schedule raises, it must not stop the others.
            self._quarantine(due.key, f"it cannot be scheduled: {error!r}")
            return []
        return [now + (self.maybe_due(stock, **self._maybe_due_kwargs) or 0.0)]

    def _send_canary(self, now: float) -> None:
        """Send a canary each minute, across restarts too; the first one a minute after the first start.

        It is not an entry, because entries are for workers only.
        """
        last, number = self._last_canary()
        if last is None or not last <= now:  # the clock was wrong
            self._note_canary(now, number)
            last = now
        self._canary_due = last + models.CANARY_EVERY
        if now < self._canary_due:
            return
        self._canary_due = now + models.CANARY_EVERY
        try:
            self.app.send_task(
                "workermon.canary",
                kwargs={"stages": ["collect"]},
                queue=schedule.QUEUE,
                expires=models.CANARY_EVERY,
                producer=self.producer,
            )
        except Exception as error:
            # Whatever it raises, the collections must continue.
            log.error("beat.canary_not_sent", reason=repr(error))
            return
        self._note_canary(now, number + 1)

    def _last_canary(self) -> tuple[float | None, int]:
        """Return when the last canary was sent and how many were sent. If that cannot be read, it is written again."""
        try:
            at, times = self._redis.hmget(settings.SCHEDULE_CANARY, "at", "times")
            return schedule.finite(at), int(times or 0)
        except (ValueError, schedulers.redis.exceptions.ResponseError):
            self._redis.delete(settings.SCHEDULE_CANARY)
            return None, 0

    def _note_canary(self, at: float, times: int) -> None:
        self._redis.hset(settings.SCHEDULE_CANARY, mapping={"at": f"{at:.3f}", "times": times})

    # --- mending -------------------------------------------------------------------------------------------------

    def _mend(self, look: _Look, now: float) -> list[float]:
        """Check some entries, others at each tick: a next run too far ahead (the clock was wrong) would never come.

        Entries that run within the shortest interval are not checked. Returns the new next runs.
        """
        if look.entries < len(self._intervals) / 2:
            self._intervals.clear()  # most of them are gone
            self._shortest = 0.0
        self._looked_up_to = self._looked_up_to + CHECKED_EACH_TICK if len(look.far) == CHECKED_EACH_TICK else 0
        # An entry whose last known interval covers its next run need not be read again.
        suspects = [
            (key, score) for key, score in look.far if score > now + self._intervals.get(key, 0.0) + REPAIR_TOLERANCE
        ]
        mended: list[float] = []
        runs: list[Any] = []
        for stored in self._read(suspects):
            # An entry that moves to later in the interval is up to two of them away. Its cohort may have another place
            # again by now.
            if stored.regular and stored.score > now + 2 * stored.interval + REPAIR_TOLERANCE:
                upcoming = schedule.following(now, stored.phase(self._phases), stored.interval)
                runs += [stored.key, repr(stored.score), f"{upcoming:.6f}", ""]
                mended.append(upcoming)
                log.warning("beat.entry_repaired", entry=schedule.text(stored.key), was=stored.score, due=upcoming)
        if runs:
            MarkRun(schedule=self._schedule_key, runs=runs).run(self._kept)
        return mended


def _scored(answer: Sequence[Any]) -> list[tuple[bytes, float]]:
    """Return ``ZRANGE … WITHSCORES`` as pairs. RESP3 gives pairs, RESP2 a flat list."""
    if answer and isinstance(answer[0], (list, tuple)):
        return [(member, float(score)) for member, score in answer]
    return [(member, float(score)) for member, score in zip(answer[::2], answer[1::2], strict=True)]


def _past(at: Any, now: datetime) -> Any:
    # If the last run is in the future, beat would wait until then.
    return None if isinstance(at, datetime) and at > now else at
