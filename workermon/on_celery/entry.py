"""RedBeat's entries as stored in Redis, read strictly, so that no malformed entry can stop beat."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from celery import schedules
from redbeat.decoder import RedBeatJSONDecoder

from workermon import settings
from workermon.on_celery import schedule

#: Fields that a definition may have.
_FIELDS: Final = frozenset({"name", "task", "args", "kwargs", "options", "schedule", "enabled"})
#: Defaults for missing fields of a definition.
_DEFAULTS: Final[Mapping[str, Any]] = {"args": [], "kwargs": {}, "options": {}, "enabled": True}
#: RedBeat makes one for each entry that it reads, which doubles the time of reading.
_DECODER: Final = RedBeatJSONDecoder()
#: Schedules that are run. One of another kind, such as an rrule by the second since 1970, can stop beat for hours.
_KINDS: Final = frozenset({"interval", "crontab"})
_TYPED: Final = '"__type__"'


class MalformedEntry(Exception):
    """An entry cannot be read; the message says why."""


class StoredEntry(NamedTuple):
    """An entry as read from Redis: its key, its next run, and the parsed contents of its two fields."""

    key: bytes
    score: float
    definition: dict[str, Any]
    meta: dict[str, Any]

    @property
    def regular(self) -> bool:
        """Return whether it runs at an interval."""
        return type(self.definition["schedule"]) is schedules.schedule

    @property
    def batchable(self) -> bool:
        """Return whether it may be coalesced: a collection at an interval, with identifiers only."""
        kwargs = self.definition["kwargs"] or {}
        worker_ids = kwargs.get("worker_ids")
        return (
            self.regular
            and self.definition["task"] == schedule.TASK
            and not self.definition["args"]
            and set(kwargs) == {"worker_ids"}
            and isinstance(worker_ids, list)
            and all(isinstance(worker_id, str) for worker_id in worker_ids)
        )

    @property
    def interval(self) -> float:
        """Return the seconds between two runs. Only for a regular entry."""
        return float(self.definition["schedule"].run_every.total_seconds())

    @property
    def cohort(self) -> str:
        """Return the name of its cohort, empty if it has none."""
        return str((self.definition["options"].get("headers") or {}).get("cohort", ""))

    def phase(self, placed: Mapping[str, float]) -> float:
        """Return its place on the grid of its interval, in seconds. Only for a regular entry.

        ``placed`` holds the phases of cohorts with a place of their own.
        """
        cohort_phase = placed.get(self.cohort)
        if cohort_phase is not None and 0 <= cohort_phase < self.interval:
            return cohort_phase
        number = self.cohort.rpartition("#")[2]
        if number.isdecimal():
            return schedule.phase(int(number), self.interval)
        return self.score % self.interval


def parse(key: bytes, score: float, fields: tuple[bytes | None, bytes | None], prefix: str) -> StoredEntry | None:
    """Read an entry from its two fields; ``None`` if it is gone. Raises ``MalformedEntry`` with the reason.

    ``prefix`` is RedBeat's prefix of an entry's key, before the entry's name.
    """
    written, meta = fields
    if written == b"" and meta:
        raise MalformedEntry(f"its key holds no entry: {schedule.text(meta)}")
    if written is None:
        return None
    if (ours := _definition_of_a_worker(written, key, prefix)) is not None:
        return StoredEntry(key, score, ours, _meta(meta or b""))
    definition = _definition(written)
    if definition.get("name") is None or prefix + str(definition["name"]) != schedule.text(key):
        raise MalformedEntry(f"its name {definition.get('name')!r} is not that of its key")
    _check_types(definition)
    _check_schedule(definition.get("schedule"))
    return StoredEntry(key, score, definition, _meta(meta or b""))


#: Stands for a worker's id in a definition that others share but for the id.
_ID: Final = "@id@"
#: Bytes of a definition that is kept. Ours have about 400.
_MAX_TEMPLATE: Final = 2000


def _definition_of_a_worker(written: bytes, key: bytes, prefix: str) -> dict[str, Any] | None:
    """Return the definition of a worker's collection; ``None`` if it is not as ``schedule.definition`` writes it.

    The members of a cohort differ by their ids only, so the rest is parsed once, and they share the same objects.
    """
    start = (prefix + settings.ENTRY_PREFIX).encode()
    worker_id = key[len(start) :]
    # Letters, digits and hyphens are the same in JSON as in a key.
    if not key.startswith(start) or not worker_id.replace(b"-", b"").isalnum() or len(written) > _MAX_TEMPLATE:
        return None
    if _ID.encode() in written:
        return None
    template = _template(written.replace(worker_id, _ID.encode()))
    if template is None:
        return None
    text = worker_id.decode()
    return {**template, "name": settings.ENTRY_PREFIX + text, "kwargs": {"worker_ids": [text]}}


@functools.lru_cache(1000)
def _template(written: bytes) -> dict[str, Any] | None:
    """Return a definition with ``_ID`` in the places of a worker's id and nowhere else; ``None`` if it is none."""
    try:
        definition = _definition(written)
        _check_types(definition)
        _check_schedule(definition.get("schedule"))
    except MalformedEntry:
        return None
    names_it = definition.get("name") == settings.ENTRY_PREFIX + _ID and definition["kwargs"] == {"worker_ids": [_ID]}
    collects = StoredEntry(b"", 0.0, definition, {}).batchable
    return definition if names_it and collects and written.count(_ID.encode()) == 2 else None


def _definition(written: bytes) -> dict[str, Any]:
    try:
        definition = _decode(written.decode())
    except MalformedEntry:
        raise
    except Exception as error:
        # RedBeat's decoder builds schedules from its input, so it may raise anything.
        raise MalformedEntry(f"its definition cannot be read: {error!r}") from None
    if not isinstance(definition, dict):
        raise MalformedEntry("its definition is not a JSON object")
    if unknown := set(definition) - _FIELDS:
        raise MalformedEntry(f"its definition has the unknown field {min(unknown)!r}")
    return {**_DEFAULTS, **definition}


def _check_types(definition: dict[str, Any]) -> None:
    if not isinstance(definition.get("task"), str):
        raise MalformedEntry("it names no task")
    for field, kind in (("args", list), ("kwargs", dict), ("options", dict)):
        if not isinstance(definition[field], kind | None):
            raise MalformedEntry(f"its {field} are of the wrong type")
    definition["options"] = definition["options"] or {}
    if not isinstance(definition["options"].get("headers") or {}, dict):
        raise MalformedEntry("its headers are of the wrong type")


def _check_schedule(plan: Any) -> None:
    if not hasattr(plan, "is_due"):
        raise MalformedEntry("its schedule is of an unknown type")
    at_interval = isinstance(plan, schedules.schedule) and hasattr(plan, "run_every")
    if at_interval and not plan.run_every.total_seconds() > 0:
        raise MalformedEntry("its interval is not above zero")


def _decode(written: str) -> Any:
    """Parse a definition as RedBeat does. Intervals skip RedBeat's hooks, because nearly all entries are intervals."""
    if written.count(_TYPED) == 1:
        definition = json.loads(written)
        plan = definition.get("schedule") if isinstance(definition, dict) else None
        if isinstance(plan, dict) and plan.get("__type__") == "interval" and type(plan.get("every")) in (int, float):
            definition["schedule"] = _interval(plan["every"], plan["relative"])
            return definition
    _check_kind(json.loads(written))
    return _DECODER.decode(written)


def _check_kind(definition: Any) -> None:
    """Refuse, before it is created, a schedule whose next run may take for ever to compute."""
    plan = definition.get("schedule") if isinstance(definition, dict) else None
    kind = plan.get("__type__") if isinstance(plan, dict) else None
    if kind is not None and kind not in _KINDS:
        raise MalformedEntry(f"its schedule is of an unknown type, {str(kind)[:32]!r}")


@functools.lru_cache(1000)
def _interval(seconds: float, relative: object) -> Any:
    return schedules.schedule(run_every=seconds, relative=relative)


@functools.lru_cache(1000)  # the members of a cohort share one
def _decoded_meta(written: bytes) -> Any:
    return _DECODER.decode(written.decode())


def _meta(written: bytes) -> dict[str, Any]:
    try:
        meta = _decoded_meta(written)
    except Exception:
        return {}
    return meta if isinstance(meta, dict) else {"last_run_at": None}
