"""Pure: coalesces due entries of one cohort into few messages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from workermon.on_celery import schedule
from workermon.on_celery.entry import StoredEntry

#: Identifiers in one message.
BATCH: Final = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Collect:
    """One message: the collection of the workers of these entries, and the options to send it with."""

    entries: Sequence[StoredEntry]
    worker_ids: list[str]
    options: Mapping[str, Any]


def coalesce(due: Iterable[StoredEntry]) -> list[Collect]:
    """Return the messages for due entries: entries with the same options share messages of at most ``BATCH``."""
    cohorts: dict[str, list[StoredEntry]] = {}
    texts: dict[int, str] = {}  # by identity: members of a cohort share their options
    for stored in due:
        options = stored.definition["options"]
        text = texts.get(id(options))
        if text is None:
            text = texts[id(options)] = json.dumps(options, sort_keys=True)
        cohorts.setdefault(text, []).append(stored)
    return [_collect(chunk) for cohort in cohorts.values() for chunk in schedule.chunks(cohort, BATCH)]


def _collect(entries: Sequence[StoredEntry]) -> Collect:
    options = dict(entries[0].definition["options"])
    options["headers"] = {**(options.get("headers") or {}), "celery_beat_task": True}
    worker_ids = dict.fromkeys(i for stored in entries for i in stored.definition["kwargs"]["worker_ids"])
    return Collect(entries, list(worker_ids), options)
