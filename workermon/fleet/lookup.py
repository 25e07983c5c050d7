"""Finds the workers that a user names, by instance id or by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import errors, models, ports


@dataclasses.dataclass(frozen=True, slots=True)
class Matches:
    """The workers with these names, each once and in order, and the names that no worker has."""

    records: list[ports.Record]
    unknown: list[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Finds workers in the repository."""

    workers: ports.Workers

    def resolve(self, names: Sequence[str]) -> list[ports.Record]:
        """Return the workers of these instance ids or names, each once, in order.

        Raises ``errors.UnknownWorker`` naming all that are not monitored, ``errors.InvalidInput`` for a name that
        several workers share.
        """
        matches = match(self.workers, names)
        if matches.unknown:
            raise unknown_error(self.workers, matches.unknown)
        return matches.records


def match(workers: ports.Workers, names: Sequence[str]) -> Matches:
    """Return the workers of these instance ids or names. Raises ``errors.InvalidInput`` for a shared name."""
    unique_names = list(dict.fromkeys(names))
    by_id = workers.get([name for name in unique_names if models.INSTANCE_ID.fullmatch(name)])
    by_name = _by_name(workers, {name for name in unique_names if name not in by_id})
    matched: dict[str, ports.Record] = {}
    unknown = []
    for name in unique_names:
        records = [by_id[name]] if name in by_id else by_name.get(name, [])
        if len(records) > 1:
            ids = ", ".join(record.worker.id for record in records)
            raise errors.InvalidInput(f"worker {name}", f"is the name of {len(records)} workers", f"use an id: {ids}")
        if records:
            matched.setdefault(records[0].worker.id, records[0])
        else:
            unknown.append(name)
    return Matches(list(matched.values()), unknown)


def unknown_error(workers: ports.Workers, names: Sequence[str]) -> errors.UnknownWorker:
    """Return the error for names that no worker has, with the nearest names, or whose record cannot be read."""
    if unreadable := workers.monitored(names):
        subject = f"worker{'s' if len(unreadable) > 1 else ''} {', '.join(sorted(unreadable))}"
        return errors.UnknownWorker(
            subject, "monitored, but the record cannot be read", "remove and add it again; see 'workermon status'"
        )
    return errors.unknown_worker(names, (record.worker.name for record in workers.every()))


def _by_name(workers: ports.Workers, names: set[str]) -> dict[str, list[ports.Record]]:
    by_name: dict[str, list[ports.Record]] = {}
    for record in workers.every() if names else ():
        if record.worker.name in names:
            by_name.setdefault(record.worker.name, []).append(record)
    return by_name
