"""Workers, samples and verdicts with the few words that a test cares for."""

from __future__ import annotations

import dataclasses
from typing import Any

from workermon import models, ports

#: The time of most tests; whole hours make the ledger's keys easy to see.
NOW = 1_700_000_000 // 3600 * 3600

A, B, C = "i-0aaaaaaa", "i-0bbbbbbb", "i-0ccccccc"


def worker(worker_id: str = A, incarnation: str = "first", **other: Any) -> models.Worker:
    """Set a worker up."""
    return models.Worker(
        **{"name": worker_id, "region": "us-east-1", "added_at": NOW, **other}, id=worker_id, incarnation=incarnation
    )


def points(*pairs: tuple[int, float]) -> tuple[models.Datapoint, ...]:
    """Write datapoints as (seconds after NOW, value)."""
    return tuple(models.Datapoint(NOW + after, value) for after, value in pairs)


def sample(
    of: models.Worker, *pairs: tuple[int, float], after: float = 600.0, period: int = 60, **other: Any
) -> models.Sample:
    """Collect cpu_utilization ``after`` seconds from NOW."""
    series = {"cpu_utilization": models.Series(period, points(*pairs))} if pairs else {}
    return models.Sample(worker=of, collected_at=NOW + after, status="running", **{"series": series, **other})


def condition(of: models.Sample, **other: Any) -> models.Condition:
    """Return what a sample makes known."""
    return models.Condition(status=of.status, checks=of.checks, slot=of.slot, collected_at=of.collected_at, **other)


def write(samples: ports.Samples, of: models.Sample, *, force: bool = False, event: str = '{"schema": 1}') -> str:
    """Write a sample and return the outcome."""
    return samples.write(of, condition(of), event, force=force).outcome


def notification(alert_id: str, version: int = 1, status: str = "firing", **other: Any) -> models.Notification:
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
        "worker": models.WorkerSummary(id=worker_id, name=worker_id, region="us-east-1"),
        "summary": f"{alert_id} {status}",
        **other,
    }
    known = {name: value for name, value in values.items() if name in models.Notification.model_fields}
    return models.Notification(version=version, dedup_key=alert_id, status=status, kind="threshold", rule=rule, **known)


@dataclasses.dataclass(frozen=True)
class Turn:
    """A transition of one rule and whether it is told, where to; ``since`` is when its episode began."""

    status: str = "firing"
    rule: str = "cpu-high"
    channels: tuple[str, ...] = ("log",)
    told: bool = True
    silenced_by: str | None = None
    version: int = 1
    at: int = NOW
    since: int | None = None


def verdict(basis: ports.Basis[Any], *turns: Turn, at: float = NOW) -> ports.Verdict:
    """Judge: each turn changes its alert, the others only go on."""
    subject = basis.subject.id
    alerts = dict(basis.alerts)
    transitions, channels = [], {}
    for turn in turns:
        firing = turn.status == "firing"
        times = {} if turn.since is None else {"at": models.rfc3339(turn.at), "since": models.rfc3339(turn.since)}
        told = notification(f"{subject}/{turn.rule}", turn.version, turn.status, **times) if turn.told else None
        before = alerts.get(turn.rule, models.Alert(rule=turn.rule))
        alerts[turn.rule] = before.model_copy(
            update={
                "rule_state": models.RuleState(cursor=turn.at, trail=(models.SeverityChange(turn.at, None, 0),)),
                "version": turn.version,
                "since": (turn.since or turn.at) if firing else None,
                "notified_severity": "critical" if firing else None,
                "last": told or before.last,
            }
        )
        transition = models.Transition(
            at=turn.at,
            before=None if firing else "critical",
            after="critical" if firing else None,
            value=97.5,
            threshold=90.0,
            points=points((0, 97.5)),
            silenced_by=turn.silenced_by,
        )
        transitions.append(ports.RecordedTransition(turn.rule, transition, told))
        channels[turn.rule] = turn.channels
    return ports.Verdict(basis, alerts, tuple(transitions), channels, at)
