"""The transitions of all alerts. Each has a number and its text; a timeline and each alert's list hold the numbers.

The script that commits a verdict adds transitions and removes the oldest (scripts/commit_verdict.lua).
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import client, keys, unreadable_records

#: Transitions in the first read, and in each further one.
_FIRST_READ, _NEXT_READ = 20, 200


def text(at: float, entry: models.HistoryEntry) -> str:
    """Return an entry in its stored form; ``at`` is the time of recording."""
    return f"{at!r} {entry.model_dump_json(by_alias=True, exclude_defaults=True)}"


def member(number: int, alert_id: str) -> str:
    """Return an entry's member of the timeline. Entries of the same time sort by number."""
    return f"{number:015d} {alert_id}"


def timeline(connection: redis.Redis, since: float, until: float) -> Iterator[ports.Recorded]:
    """Yield the transitions of all alerts by time, newest first."""
    skip, size = 0, _FIRST_READ
    while True:
        with client.guard(connection):
            members: Any = connection.zrange(
                keys.TIMELINE, repr(until), repr(since), desc=True, byscore=True, offset=skip, num=size, withscores=True
            )  # fmt: skip
        numbers = (_number(connection, recorded_member) for recorded_member, _ in members)
        yield from _read(connection, [number for number in numbers if number is not None])
        if len(members) < size:
            return
        # The next ones may share the last one's time.
        last = members[-1][1]
        skip = sum(at == last for _, at in members) + (skip if last == until else 0)
        until, size = last, _NEXT_READ


def recorded(connection: redis.Redis, alert_id: str, number: int | None) -> Iterator[ports.Recorded]:
    """Yield the transitions of an alert in the order of recording, newest first, starting at a given one."""
    last, size = "+inf" if number is None else str(number), _FIRST_READ
    while True:
        with client.guard(connection):
            numbers: Any = connection.zrange(
                keys.numbers_of(alert_id), last, "-inf", desc=True, byscore=True, offset=0, num=size
            )
        known = [int(number) for number in numbers if number.isdigit()]
        if len(known) < len(numbers):
            unreadable_records.note(connection, keys.numbers_of(alert_id), "a member is not a number")
        yield from _read(connection, known)
        if len(numbers) < size or not known:
            return
        last, size = f"({known[-1]}", _NEXT_READ


def _number(connection: redis.Redis, raw: bytes) -> int | None:
    """Return the number in a member of the timeline. If there is none, record that and return ``None``."""
    if raw[:15].isdigit():
        return int(raw[:15])
    unreadable_records.note(connection, keys.TIMELINE, "a member has no number")
    return None


def _read(connection: redis.Redis, numbers: Sequence[int]) -> Iterator[ports.Recorded]:
    """Yield those of these transitions that still exist and can be read."""
    if not numbers:
        return
    with client.guard(connection):
        texts: Any = connection.hmget(keys.HISTORY_ENTRIES, [str(number) for number in numbers])
    numbered: list[tuple[int, models.HistoryEntry]] = []
    for number, raw in zip(numbers, texts, strict=True):
        if raw is None:
            continue
        name = f"{keys.HISTORY_ENTRIES} {number}"
        entry = unreadable_records.parsed(connection, name, models.HistoryEntry, raw.partition(b" ")[2])
        if entry is not None:
            numbered.append((number, entry))
    joined = _joined(connection, [entry for _, entry in numbered])
    for (number, _), entry in zip(numbered, joined, strict=True):
        yield ports.Recorded(number, entry)


def _joined(connection: redis.Redis, entries: Sequence[models.HistoryEntry]) -> list[models.HistoryEntry]:
    """Return entries with the attempts to deliver their notifications."""
    alert_ids = list(dict.fromkeys(entry.alert_id for entry in entries if entry.notification))
    with client.guard(connection), connection.pipeline(transaction=False) as pipe:
        for alert_id in alert_ids:
            pipe.zrange(keys.attempts(alert_id), 0, -1)
        replies = pipe.execute()
    tried: dict[tuple[str, str], list[models.Attempt]] = {}
    for alert_id, members in zip(alert_ids, replies, strict=True):
        for member in members:
            name, raw = keys.attempts(alert_id), member.partition(b" ")[2]
            attempt = unreadable_records.parsed(connection, name, models.Attempt, raw)
            if attempt is not None:
                tried.setdefault((alert_id, attempt.notification_id), []).append(attempt)
    return [
        entry.model_copy(update={"attempts": tuple(tried.get((entry.alert_id, notification.id), ()))})
        if (notification := entry.notification)
        else entry
        for entry in entries
    ]


def adding(pipe: Any, entries: Sequence[tuple[str, float, models.HistoryEntry]], lifetime: int, after: int = 0) -> None:
    """Add entries of alerts, oldest first, to a transaction; ``after`` is the highest number already used."""
    if not entries:
        return
    numbers: dict[str, dict[str, int]] = collections.defaultdict(dict)
    texts, times = {}, {}
    for number, (alert_id, at, entry) in enumerate(entries, after + 1):
        numbers[alert_id][str(number)] = number
        texts[str(number)] = text(at, entry)
        times[member(number, alert_id)] = entry.at
    pipe.hset(keys.HISTORY_ENTRIES, mapping=texts)
    pipe.zadd(keys.TIMELINE, times)
    pipe.incrby(keys.HISTORY_SIZE, sum(len(document.encode()) for document in texts.values()))
    for alert_id, of_alert in numbers.items():
        pipe.zadd(keys.numbers_of(alert_id), of_alert)
        pipe.expire(keys.numbers_of(alert_id), lifetime)
    for name in (keys.TIMELINE, keys.HISTORY_ENTRIES, keys.HISTORY_SIZE, keys.HISTORY_NUMBERS):
        pipe.expire(name, lifetime)
