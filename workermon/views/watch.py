"""The live feed: subscribe first, then snapshot, then drop what is older, so that nothing is missed or shown twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

import pydantic

from workermon import logs, models, ports
from workermon.config import catalogue

log = logs.get(__name__)

#: Characters. A message that is longer is none of ours.
LONGEST = 65_536

Shown = models.Event | models.Notification


def watch(
    worker_ids: Collection[str] | None,
    *,
    feed: ports.Feed,
    workers: ports.Workers,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    timeout: float = 1.0,
) -> Iterator[Shown | None]:
    """Yield how it stands, then each sample and alert as it comes; ``None`` when nothing came for ``timeout`` seconds.

    ``worker_ids``: only these workers. What is no message of ours is dropped, and logged.
    """
    messages = feed.listen(alerts=True, timeout=timeout)
    next(messages)  # the subscription stands, so that nothing falls between it and the snapshot
    seen: dict[str, float] = {}
    for event in _snapshot(worker_ids, workers, configurations):
        seen[event.worker_id] = models.moment(event.collected_at)
        yield event
    told: dict[str, int] = {}
    for alert in alerts.open():
        if alert.last is not None and _wanted(alert.last, worker_ids):
            told[alert.last.dedup_key] = alert.last.version
            yield alert.last
    yield None  # this was the snapshot
    for text in messages:
        shown = None if text is None else read(text)
        if isinstance(shown, models.Event):
            at = models.moment(shown.collected_at)
            if not _wanted(shown, worker_ids) or at <= seen.get(shown.worker_id, 0):
                continue
            seen[shown.worker_id] = at
        elif isinstance(shown, models.Notification):
            if not _wanted(shown, worker_ids) or shown.version <= told.get(shown.dedup_key, 0):
                continue
            told[shown.dedup_key] = shown.version
        elif text is not None:
            continue
        yield shown


def read(text: str) -> Shown | None:
    """Return a message of the channel, ``None`` for what is none of ours: no JSON, too long, another schema."""
    if len(text) > LONGEST:
        log.warning("watch.dropped", reason="longer than 64 KiB")
        return None
    try:
        document = json.loads(text)
        kind = models.Notification if isinstance(document, dict) and "dedup_key" in document else models.Event
        shown = kind.model_validate(document)
        if isinstance(shown, models.Event):
            models.moment(shown.collected_at)
        return shown
    except (ValueError, RecursionError) as why:
        short = why.errors()[0]["msg"] if isinstance(why, pydantic.ValidationError) else type(why).__name__
        log.warning("watch.dropped", reason=short)
        return None


def _snapshot(
    worker_ids: Collection[str] | None, workers: ports.Workers, configurations: ports.Configurations
) -> Iterator[models.Event]:
    configuration = configurations.load()
    records = workers.every() if worker_ids is None else iter(workers.get(sorted(worker_ids)).values())
    for record in records:
        worker, condition = record.worker, record.condition
        if condition.collected_at is None:
            continue
        yield models.Event(
            id=f"{worker.id}:{int(condition.collected_at // worker.interval)}",
            worker_id=worker.id,
            worker_name=worker.name,
            region=worker.region,
            collected_at=models.rfc3339(condition.collected_at),
            status=condition.status,
            status_checks=condition.checks,
            metrics=catalogue.readings(worker, condition, configuration.collect, configuration.metrics),
        )


def _wanted(shown: Shown, worker_ids: Collection[str] | None) -> bool:
    if worker_ids is None:
        return True
    if isinstance(shown, models.Event):
        return shown.worker_id in worker_ids
    return shown.worker is not None and shown.worker.id in worker_ids
