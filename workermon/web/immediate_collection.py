"""How the API and the page collect: both do what the commands do."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import collect, errors, fleet, logs

log = logs.get(__name__)


def collect_now(collection: collect.Collection, worker_ids: Sequence[str]) -> None:
    """Take a sample at once. A failure is not an error here, because the next interval tries again."""
    try:
        collection.collect(worker_ids, force=True)
    except errors.WorkermonError as error:
        log.warning("web.not_collected", reason=str(error))


def refresh(collection: collect.Collection, lookup: fleet.Lookup, name: str) -> str:
    """Collect a worker now, by its name or id, and return its id. Raises the reason if that failed."""
    [record] = lookup.resolve([name])
    for error in collection.collect([record.worker.id], force=True).failed.values():
        raise error
    return record.worker.id
