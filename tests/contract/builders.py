"""Workers, samples and verdicts with the few words that a test cares for."""

from __future__ import annotations

import dataclasses
from typing import Any

from workermon import models, ports

#: The time of most tests; whole hours make the ledger's keys easy to see.
NOW = 1_700_000_000 // 3600 * 3600

A, B, C = "i-0aaaaaaa", "i-0bbbbbbb", "i-0ccccccc"


def worker(worker_id: str = A, incarnation: str = "first", **fields: Any) -> models.Worker:
    """Set a worker up."""
    return models.Worker(
        **{"name": worker_id, "region": "us-east-1", "added_at": NOW, **fields}, id=worker_id, incarnation=incarnation
    )


def points(*pairs: tuple[int, float]) -> tuple[models.Datapoint, ...]:
    """Write datapoints as (seconds after NOW, value)."""
    return tuple(models.Datapoint(NOW + after, value) for after, value in pairs)


def sample(
    of: models.Worker, *pairs: tuple[int, float], after: float = 600.0, period: int = 60, **fields: Any
) -> models.Sample:
    """Collect cpu_utilization ``after`` seconds from NOW."""
    series = {"cpu_utilization": models.Series(period, points(*pairs))} if pairs else {}
    return models.Sample(worker=of, collected_at=NOW + after, status="running", **{"series": series, **fields})


def condition(of: models.Sample, **fields: Any) -> models.Condition:
    """Return the condition that a sample gives."""
    return models.Condition(status=of.status, checks=of.checks, slot=of.slot, collected_at=of.collected_at, **fields)


def write(samples: ports.Samples, of: models.Sample, *, force: bool = False, event: str = '{"schema": 1}') -> str:
    """Write a sample and return the outcome."""
    return samples.write(of, condition(of), event, force=force).outcome


def notification(alert_id: str, version: int = 1, status: str = "firing", **fields: Any) -> models.Notification:
    """Write a notification of an alert."""
    worker_id, _, rule = alert_id.partition("/")
    values = {
        "id": f"{alert_id}#{version}",
        "severity": "critical",
        "metric": "cpu_utilization",
        "value": 97.5,
        "threshold": 90.0,
        "since": models.rfc3339(NOW),
        "at": models.rfc3339(NOW),
        "created_at": models.rfc3339(NOW),
        "worker": models.NotifiedWorker(id=worker_id, name=worker_id, region="us-east-1"),
        "summary": f"{alert_id} {status}",
        **fields,
    }
    known_fields = {name: value for name, value in values.items() if name in models.Notification.model_fields}
    return models.Notification(
        version=version, dedup_key=alert_id, status=status, kind="threshold", rule=rule, **known_fields
    )


@dataclasses.dataclass(frozen=True)
class AlertChange:
    """A transition of one rule, with its notification and channels. ``since`` is the begin of its episode."""

    status: str = "firing"
    rule: str = "cpu-high"
    channels: tuple[str, ...] = ("log",)
    notified: bool = True
    silenced_by: str | None = None
    version: int = 1
    at: int = NOW
    since: int | None = None


def verdict(basis: ports.Basis[Any], *changes: AlertChange, at: float = NOW) -> ports.Verdict:
    """Return a verdict with these changes of alerts. The other alerts stay unchanged."""
    subject = basis.subject.id
    alerts = dict(basis.alerts)
    transitions, channels = [], {}
    for change in changes:
        firing = change.status == "firing"
        times = {} if change.since is None else {"at": models.rfc3339(change.at), "since": models.rfc3339(change.since)}
        new_notification = (
            notification(f"{subject}/{change.rule}", change.version, change.status, **times)
            if change.notified
            else None
        )
        before = alerts.get(change.rule, models.Alert(rule=change.rule))
        alerts[change.rule] = before.model_copy(
            update={
                "rule_state": models.RuleState(cursor=change.at, trail=(models.SeverityChange(change.at, None, 0),)),
                "version": change.version,
                "since": (change.since or change.at) if firing else None,
                "notified_severity": "critical" if firing else None,
                "last": new_notification or before.last,
            }
        )
        transition = models.Transition(
            at=change.at,
            before=None if firing else "critical",
            after="critical" if firing else None,
            value=97.5,
            threshold=90.0,
            points=points((0, 97.5)),
            silenced_by=change.silenced_by,
        )
        transitions.append(ports.RecordedTransition(change.rule, transition, new_notification))
        channels[change.rule] = change.channels
    return ports.Verdict(basis, alerts, tuple(transitions), channels, at)
