"""What is known, read and put into the contract's JSON documents: the fleet, one worker, its history, the alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workermon import errors, models, ports
from workermon.alerts import silences as silencing
from workermon.config import catalogue as metrics
from workermon.rules import event as scheduled
from workermon.rules import state

#: Entries of the alert history that ``alerts --all`` looks at.
HISTORY = 1000

Document = dict[str, Any]


def fleet(
    *,
    status: str | None = None,
    labels: Mapping[str, str] | None = None,
    workers: ports.Workers,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
) -> Document:
    """Return ``{"workers": […]}``: those of a status and with these labels, by name."""
    configuration = configurations.load()
    open_alerts = _by_worker(alerts.open())
    wanted = (labels or {}).items()
    rows = [
        _row(record, open_alerts.get(record.worker.id, ()), configuration)
        for record in workers.every()
        if (status is None or record.condition.status == status) and wanted <= record.worker.labels.items()
    ]
    return {"workers": sorted(rows, key=lambda row: (row["name"], row["id"]))}


def worker(
    record: ports.Record,
    *,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    schedule: ports.Schedule,
    now: ports.Clock,
) -> Document:
    """Return all that is known of one worker: its row in the fleet, and what only concerns it."""
    found = record.worker
    basis = alerts.load([found.id]).get(found.id)
    fires = [alert for alert in basis.alerts.values() if alert.open] if basis else []
    next_run = schedule.next_runs([found.id]).get(found.id)
    row = _row(record, fires, configurations.load())
    at = now()
    for reading in row["metrics"].values():
        if reading is not None:
            reading["age"] = round(at - models.moment(reading["at"]))
    return {
        **row,
        "account": found.account,
        "origin": found.origin,
        "added_at": models.rfc3339(found.added_at),
        "detailed_monitoring": found.detailed,
        "status_reason": _reason(record.condition),
        "events": [scheduled.document(event) for event in record.condition.events],
        "next_run": None if next_run is None else models.rfc3339(next_run),
    }


def _reason(condition: models.Condition) -> Document | None:
    """Return why EC2 says that a worker does not run any more, and since when, where it says so."""
    last = condition.changes[-1] if condition.changes else None
    if last is None or last.reason is None or last.status != condition.status or condition.status not in state.DOWN:
        return None
    return {
        "code": errors.printable(last.reason.code),
        "message": errors.printable(last.reason.message),
        "since": models.rfc3339(last.at),
    }


def history(
    record: ports.Record,
    metric: str | None,
    since: float,
    *,
    samples: ports.Samples,
    configurations: ports.Configurations,
    now: ports.Clock,
) -> Document:
    """Return the datapoints of a worker's metric (or of all) since a time, by CloudWatch's timestamps.

    Raises ``errors.NotFound`` for a metric that is not known.
    """
    configuration = configurations.load()
    known = (*configuration.metrics, models.STATUS_CHECK_FAILED)
    if metric is not None and metric not in known:
        raise errors.NotFound(f"metric {metric}", "is not known", f"one of {', '.join(known)}")
    until = now() + models.DAY  # a datapoint may be ahead of this machine's clock
    points: list[Document] = []
    for name in known if metric is None else (metric,):
        unit = configuration.unit_of(name)
        points += [
            {"at": models.rfc3339(point.at), "value": point.value, "metric": name, "unit": unit}
            for point in _points(record.worker.id, name, since, until, samples)
        ]
    points.sort(key=lambda point: point["at"])
    return {
        "worker": {"id": record.worker.id, "name": record.worker.name},
        "metric": metric,
        "unit": None if metric is None else configuration.unit_of(metric),
        "datapoints": points,
    }


def _points(worker_id: str, name: str, since: float, until: float, samples: ports.Samples) -> list[models.Datapoint]:
    """Return a metric's datapoints over all periods that it was kept at; the shorter one counts at the same time."""
    found: dict[int, float] = {}
    for period in sorted(samples.periods(worker_id, name, since, until), reverse=True):
        series = samples.read([(worker_id, name, period)], since, until)[worker_id, name]
        found.update({point.at: point.value for point in series.points})
    return [models.Datapoint(at, found[at]) for at in sorted(found)]


def alerts(
    *,
    every: bool = False,
    alerts: ports.Alerts,
    silences: ports.Silences | None = None,
    configurations: ports.Configurations | None = None,
    now: ports.Clock | None = None,
) -> Document:
    """Return ``{"alerts": […]}``: those that fire, the oldest first; ``every``: with those that are over.

    Each is its newest notification; of one that is over there is one for each episode. With ``every`` each has its
    ``deliveries`` too: the attempts for all notifications of the episode, the oldest first.
    """
    opened = [alert for alert in alerts.open() if alert.last is not None]
    fires = [
        {**_alert(alert.last, firing=True), "flapping": alert.flapping} for alert in opened if alert.last is not None
    ]
    if silences is not None:
        windows = () if configurations is None else configurations.load().silences
        _seen(opened, fires, silences, windows, None if now is None else now())
    if not every:
        return {"alerts": fires}
    shown = {(one["dedup_key"], one["since"]): one for one in fires}
    for one in fires:
        one["deliveries"] = []
    for recorded in alerts.history(limit=HISTORY):
        told = recorded.notification
        if told is None:
            continue
        one = shown.setdefault((told.dedup_key, told.since), {**_alert(told, firing=False), "deliveries": []})
        one["deliveries"][:0] = [
            {"channel": it.channel, "at": models.rfc3339(it.at), "error": it.error, "notification": told.id}
            for it in recorded.attempts
        ]
    return {"alerts": list(shown.values())}


def _seen(
    opened: Sequence[models.Alert],
    fires: Sequence[Document],
    silences: ports.Silences,
    windows: Sequence[models.Maintenance],
    now: float | None,
) -> None:
    """Add who has seen each alert, and the silence that it is under."""
    seen = silences.acknowledged([one["dedup_key"] for one in fires])
    active_silences = [] if now is None else silencing.in_force(silences.every(), windows, now)
    for alert, one in zip(opened, fires, strict=True):
        by = seen.get(one["dedup_key"])
        one["acked_by"] = by.by if by is not None and by.since == alert.since else None
        worker = alert.last.worker if alert.last else None
        if now is not None:
            silence = silencing.muting(active_silences, worker, alert.rule, now)
            one["silenced_by"] = silence.id if silence else alert.silenced_by


def _alert(notification: models.Notification, *, firing: bool) -> Document:
    return {**models.to_json(notification), "open": firing, "acked_by": None, "silenced_by": None, "flapping": False}


def _by_worker(alerts: Iterable[models.Alert]) -> dict[str, list[models.Alert]]:
    found: dict[str, list[models.Alert]] = {}
    for alert in alerts:
        if alert.last is not None and alert.last.worker is not None:
            found.setdefault(alert.last.worker.id, []).append(alert)
    return found


def _row(record: ports.Record, alerts: Sequence[models.Alert], configuration: models.Configuration) -> Document:
    worker, condition = record.worker, record.condition
    readings = metrics.readings(worker, condition, configuration.collect, configuration.metrics)
    return {
        "id": worker.id,
        "name": worker.name,
        "region": worker.region,
        "status": condition.status,
        "monitoring": worker.monitoring,
        "interval": worker.interval,
        "labels": worker.labels,
        "status_checks": None if condition.checks is None else models.to_json(condition.checks),
        "last_collected_at": None if condition.collected_at is None else models.rfc3339(condition.collected_at),
        "metrics": {name: None if reading is None else models.to_json(reading) for name, reading in readings.items()},
        "alerts": [
            {
                "dedup_key": f"{worker.id}/{alert.rule}",
                "rule": alert.rule,
                "severity": alert.notified_severity,
                "since": None if alert.since is None else models.rfc3339(alert.since),
                "summary": None if alert.last is None else alert.last.summary,
            }
            for alert in sorted(alerts, key=lambda alert: alert.rule)
        ],
        "trouble": None
        if condition.last_error is None
        else {
            "kind": condition.last_error.kind,
            "message": errors.printable(condition.last_error.message),
            "at": models.rfc3339(condition.last_error.at),
        },
    }
