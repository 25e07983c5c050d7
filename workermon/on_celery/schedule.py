"""The RedBeat entries: one for each worker, with identifiers only, so that stock RedBeat can run them too.

Workers that run together are a *cohort*: up to a hundred with the same account, region and interval. Cohorts spread
over the interval until workermon has learned when their datapoints arrive. Then each has a phase of its own
(``collect/placement.py``), to which it moves with its next run. ``on_redis/keys.py`` lists the keys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from redbeat import schedulers

from workermon import errors, lua, models, settings
from workermon.on_celery import wrong_types

T = TypeVar("T")

TASK: Final = "workermon.collect"
QUEUE: Final = "workermon.collect"
#: Workers in a cohort: the limit of one DescribeInstanceStatus call.
COHORT_SIZE: Final = 100
#: The fractional parts of its consecutive multiples spread evenly, however many there are (the golden ratio).
GOLDEN: Final = 0.6180339887498949
#: Part of the interval over which cohorts spread. The rest is left free, so that a late run stays in its slot.
SPREAD: Final = 0.9
#: Workers in one script call, which takes the server about 3 ms.
CHUNK: Final = 200

#: Seconds that a collection may at least wait for a node. With a shorter interval a node that is a little late would
#: drop every message and never catch up. A repeated collection changes nothing.
MIN_EXPIRES: Final = 10


class PutEntries(lua.Script[int], shared="choose_cohort"):
    """Write the entries of workers and put each into a cohort; ``entries``: six parts of each (see the script)."""

    schedule: lua.Key
    cohorts: lua.Key
    quarantine: lua.Key
    phases: lua.Key
    now: lua.Argument
    cohort_prefix: lua.Argument
    cohort_size: lua.Argument
    golden: lua.Argument
    spread: lua.Argument
    changed: lua.Argument
    entries: lua.Arguments


class DeleteEntries(lua.Script[int], shared="choose_cohort"):
    """Delete the entries of workers; ``entries``: key, name and worker id of each."""

    schedule: lua.Key
    cohorts: lua.Key
    quarantine: lua.Key
    cohort_prefix: lua.Argument
    entries: lua.Arguments


def phase(number: int, interval: float) -> float:
    """Return how many seconds after each multiple of ``interval`` a cohort is due that has no place of its own."""
    return (number * GOLDEN % 1) * SPREAD * interval


def following(now: float, after: float, interval: float) -> float:
    """Return the first time later than ``now`` on the grid of ``interval`` seconds with phase ``after``."""
    return (math.floor((now - after) / interval) + 1) * interval + after


def next_run(now: float, after: float, interval: float) -> float:
    """Return the run that follows one at ``now``: with phase ``after``, in the next slot of ``interval`` seconds.

    So an entry whose phase changes still runs once in each slot: it skips none and repeats none.

    >>> next_run(607.0, 7.0, 60.0), next_run(607.0, 50.0, 60.0), next_run(650.0, 7.0, 60.0)
    (667.0, 710.0, 667.0)
    """
    return (math.floor(now / interval) + 1) * interval + after


def later_in_slot(run: float, now: float, after: float, interval: float) -> float | None:
    """Return the time with phase ``after`` in the slot of a due ``run``; ``None`` if it is not later than ``now``.

    >>> later_in_slot(607.0, 607.1, 50.0, 60.0), later_in_slot(650.0, 650.1, 7.0, 60.0)
    (650.0, None)
    """
    later = math.floor(run / interval) * interval + after
    return later if later > now else None


def first_cohorts(cohorts: Iterable[str]) -> frozenset[str]:
    """Return the cohort of each group that tries earlier places: the one with the least number."""
    first: dict[str, int] = {}
    for cohort in cohorts:
        group, _, number = cohort.rpartition("#")
        if number.isdecimal():
            first[group] = min(int(number), first.get(group, int(number)))
    return frozenset(f"{group}#{number}" for group, number in first.items())


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def reaching() -> Iterator[None]:
    """Turn redis-py's errors into ``errors.RedisUnavailable``; redis-py is imported through RedBeat."""
    try:
        yield
    except schedulers.redis.exceptions.RedisError as error:
        raise errors.RedisUnavailable(
            "Redis (schedule)", reason(error), "check that it runs and accepts the password"
        ) from None


def reason(error: Exception) -> str:
    """Return the meaning of a redis-py error in one line, without credentials."""
    return "it refuses the password" if "auth" in type(error).__name__.lower() else type(error).__name__


def definition(worker: models.Worker) -> str:
    """Return the JSON of a worker's entry, with ``@number@`` in place of its cohort's number."""
    return json.dumps(
        {
            "name": settings.ENTRY_PREFIX + worker.id,
            "task": TASK,
            "args": [],
            "kwargs": {"worker_ids": [worker.id]},
            "options": {
                "queue": QUEUE,
                "expires": max(worker.interval, MIN_EXPIRES),
                "headers": {"cohort": f"{_group(worker)}#@number@"},
            },
            "schedule": {"__type__": "interval", "every": float(worker.interval), "relative": False},
            "enabled": True,
        }
    )


def _group(worker: models.Worker) -> str:
    return worker.scope.group(worker.interval)


class RedBeatSchedule:
    """``ports.Schedule`` in RedBeat's keys, written in bulk (RedBeat's own ``save`` takes ten times as long)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def _redis(self) -> Any:
        # RedBeat connects, so that Sentinel and TLS are configured once. The application holds the client.
        return getattr(self._app, schedulers.REDBEAT_REDIS_KEY, None) or schedulers.get_redis(self._app)

    @property
    def _schedule_key(self) -> str:
        schedulers.ensure_conf(self._app)
        return str(self._app.redbeat_conf.schedule_key)

    def _entry(self, worker_id: str) -> str:
        schedulers.ensure_conf(self._app)
        return str(self._app.redbeat_conf.key_prefix) + settings.ENTRY_PREFIX + worker_id

    @reaching()
    @wrong_types.mending
    def put(self, workers: Sequence[models.Worker], now: float) -> None:
        """Schedule workers, or change how they are scheduled. Keeps a valid next run, and repairs broken entries."""
        for chunk in chunks(workers, CHUNK):
            entries: list[lua.Value] = []
            for worker in chunk:
                name = settings.ENTRY_PREFIX + worker.id
                entries += [self._entry(worker.id), name, worker.id]
                entries += [_group(worker), worker.interval, definition(worker)]
            put = PutEntries(
                schedule=self._schedule_key,
                cohorts=settings.SCHEDULE_COHORTS,
                quarantine=settings.SCHEDULE_QUARANTINE,
                phases=settings.SCHEDULE_PHASES,
                now=f"{now:.6f}",
                cohort_prefix=settings.SCHEDULE_COHORT,
                cohort_size=COHORT_SIZE,
                golden=GOLDEN,
                spread=SPREAD,
                changed=settings.SCHEDULE_CHANGED,
                entries=entries,
            )
            put.run(self._redis)

    @reaching()
    @wrong_types.mending
    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule workers, and verify it: no entry is left when this returns.

        A stock RedBeat that is dispatching an entry at this moment writes its ``meta`` again, hence the second check.
        """
        remaining = list(worker_ids)
        for _ in range(3):
            for chunk in chunks(remaining, CHUNK):
                entries: list[lua.Value] = []
                for worker_id in chunk:
                    entries += [self._entry(worker_id), settings.ENTRY_PREFIX + worker_id, worker_id]
                delete = DeleteEntries(
                    schedule=self._schedule_key,
                    cohorts=settings.SCHEDULE_COHORTS,
                    quarantine=settings.SCHEDULE_QUARANTINE,
                    cohort_prefix=settings.SCHEDULE_COHORT,
                    entries=entries,
                )
                delete.run(self._redis)
            remaining = self._existing(remaining)
            if not remaining:
                return
        raise errors.WorkermonError(
            f"schedule of {remaining[0]}",
            "its entry comes back after it was deleted",
            "stop the other beat, then try again",
        )

    def _existing(self, worker_ids: Sequence[str]) -> list[str]:
        scheduled_ids: list[str] = []
        for chunk in chunks(worker_ids, CHUNK):
            pipe = self._redis.pipeline(transaction=False)
            for worker_id in chunk:
                pipe.exists(self._entry(worker_id))
                pipe.zscore(self._schedule_key, self._entry(worker_id))
            answers = pipe.execute()
            scheduled_ids += [
                worker_id
                for worker_id, exists, score in zip(chunk, answers[::2], answers[1::2], strict=True)
                if exists or score is not None
            ]
        return scheduled_ids

    @reaching()
    @wrong_types.mending
    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each of these workers that is scheduled is next due."""
        runs: dict[str, float] = {}
        for chunk in chunks(worker_ids, CHUNK):
            scores = self._redis.zmscore(self._schedule_key, [self._entry(worker_id) for worker_id in chunk])
            runs |= {worker_id: score for worker_id, score in zip(chunk, scores, strict=True) if score is not None}
        return runs

    @reaching()
    @wrong_types.mending
    def ids(self) -> set[str]:
        """Return the ids of the workers that have an entry, valid or broken."""
        return self._scheduled() | self._hashes() | set(self._set_aside())

    @reaching()
    @wrong_types.mending
    def quarantined(self) -> dict[str, str]:
        """Return the workers whose entry does not run, by id with the reason: unreadable, or not in the schedule.

        Entries of other tasks are not ours to repair. If one is quarantined, the log reports it.
        """
        # In this order an entry that is created meanwhile does not look broken.
        orphans = self._hashes() - self._scheduled()
        return dict.fromkeys(sorted(orphans), "it is in no schedule") | self._set_aside()

    def _scheduled(self) -> set[str]:
        answer = self._redis.execute_command("ZRANGE", self._schedule_key, 0, -1, NEVER_DECODE=True)
        return self._ids_of(answer)

    def _hashes(self) -> set[str]:
        # A dispatch during a removal leaves a hash that is in no schedule.
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._entry("")) + "*"
        hash_names: set[str] = set()
        cursor = "0"
        while True:
            answer = self._redis.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, NEVER_DECODE=True)
            cursor = answer[0].decode() if isinstance(answer[0], bytes) else str(answer[0])
            hash_names |= self._ids_of(answer[1])
            if cursor == "0":
                return hash_names

    def _ids_of(self, names: Sequence[bytes]) -> set[str]:
        start = self._entry("").encode()
        return {text(name[len(start) :]) for name in names if name.startswith(start)}

    def _set_aside(self) -> dict[str, str]:
        quarantined_entries = self._redis.hgetall(settings.SCHEDULE_QUARANTINE)
        return {
            name.removeprefix(settings.ENTRY_PREFIX): str(json.loads(value)["reason"])
            for name, value in sorted(quarantined_entries.items())
            if name.startswith(settings.ENTRY_PREFIX)
        }


def finite(raw: bytes | str | None) -> float | None:
    """Return a number; ``None`` for anything else, and for one that is not finite. Whoever wrote it writes it again."""
    try:
        value = math.nan if raw is None else float(raw)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def text(raw: bytes) -> str:
    """Return bytes from Redis as text, invalid UTF-8 as escapes."""
    return raw.decode("utf-8", "backslashreplace")
