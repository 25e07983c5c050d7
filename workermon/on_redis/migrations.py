"""The steps from each schema to the next. ``schema.Migration`` lists what each step must tolerate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from workermon import models
from workermon.on_redis import client, history, keys, unreadable_records

#: Histories moved between two extensions of the lease.
_CHUNK = 100


def to_2(connection: redis.Redis, renew: Callable[[], None]) -> None:
    """Move the history of each alert, a list, into the one timeline of all alerts."""
    names = client.texts(connection.scan_iter(match=keys.OLD_HISTORY + "*", count=1000))
    for place, name in enumerate(names):
        if place % _CHUNK == 0:
            renew()
        alert_id = name.removeprefix(keys.OLD_HISTORY)
        texts: Any = connection.lrange(name, 0, -1)
        entries = []
        for raw in reversed(texts):
            at, _, entry = raw.partition(b" ")
            recorded = unreadable_records.number(connection, name, at)
            read = unreadable_records.parsed(connection, name, models.HistoryEntry, entry)
            if recorded is not None and read is not None:
                entries.append((alert_id, recorded, read))
        after = int(connection.incrby(keys.HISTORY_NUMBERS, len(entries))) - len(entries)
        with connection.pipeline(transaction=True) as pipe:
            history.adding(pipe, entries, models.ALERT_HISTORY, after)
            pipe.delete(name)
            pipe.execute()
    connection.delete(keys.OLD_INDEX)
