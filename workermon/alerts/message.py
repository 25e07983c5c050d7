"""Pure: from a worker, a rule and a transition to what people and machines are told of it."""

from __future__ import annotations

import hashlib
import math

from workermon import models, ports, rules
from workermon.rules import flapping, wording

#: Hexadecimal digits of an id: 160 bits, so that no two transitions ever share one.
_ID_LENGTH = 40


def dedup_key(subject: str, rule: str) -> str:
    """Name an alert of a worker, or of an account and region, over its life; it is the alert's id too."""
    return f"{subject}/{rule}"


def identity(worker: models.Worker, rule: str, state: str | None, at: int | str) -> str:
    """Name a transition: the same after a replay, another one for a new incident or a worker that was added anew.

    ``at`` is its time, or what else it is known by.
    """
    text = "\n".join((worker.incarnation, worker.id, rule, state or "ok", str(at)))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def notification(
    worker: models.Worker,
    rule: models.Rule,
    transition: models.Transition,
    *,
    version: int,
    since: float,
    created_at: float,
    unit: str,
    told: models.Severity | None = None,
    last_error: models.CollectionError | None = None,
) -> models.Notification:
    """Tell a transition of a rule.

    ``since`` is when the episode began, ``told`` the severity that was told before, which a resolved alert repeats;
    ``unit`` is the metric's, ``trouble`` why collections fail (of ``no-data``). Times in seconds.
    """
    severity = transition.after or told or transition.before or rule.severity
    kind = rules.KINDS[rule.kind]
    said = kind.summary(rule, transition, unit, worker.interval)
    reason = kind.reason(transition, last_error)
    return models.Notification(
        # What is scheduled is known by what it is and when: the same set of events may come again, as another version.
        id=identity(
            worker,
            rule.name,
            transition.after,
            transition.at if transition.key is None else f"{transition.key} {version}",
        ),
        version=version,
        dedup_key=dedup_key(worker.id, rule.name),
        kind=rule.kind,
        status="firing" if transition.after else "resolved",
        severity=severity,
        rule=rule.name,
        metric=rule.metric,
        value=transition.value,
        threshold=transition.threshold,
        since=models.rfc3339(since),
        at=models.rfc3339(transition.at),
        created_at=models.rfc3339(created_at),
        worker=_subject(worker),
        summary=f"{worker.name}: {said}",
        reason=reason,
        points=transition.points,
    )


def of_flapping(
    told: models.Notification,
    worker: models.Worker,
    rule: models.Rule,
    transition: models.Transition,
    stand: flapping.Stand,
    *,
    begins: bool,
) -> models.Notification:
    """Have a notification say that the alert flaps, or no longer does; ``begins``: it is told for the first time.

    Its id is another one than that of the turn by itself, which may have been told before.
    """
    state = f"{transition.after or 'ok'} flapping {'on' if begins else 'off'}"
    changes: dict[str, object] = {}
    if begins and rule.flapping is not None:
        still = wording.duration(rule.flapping.within)
        said = f"{rule.name} is flapping: {stand.turns} turns within {still}; told again when"
        changes = {
            "id": identity(worker, rule.name, state, transition.at),
            "summary": f"{worker.name}: {said} it has held still for {still}",
            "reason": told.summary.removeprefix(f"{worker.name}: "),
        }
    elif stand.flaps:
        changes = {"summary": f"{told.summary} (it is flapping)"}
    elif transition.count is None and transition.value is None:
        said = f"{worker.name}: {rule.name} {transition.after or 'resolved'}: {transition.reason}"
        changes = {"id": identity(worker, rule.name, state, transition.at), "summary": said}
    return told.model_copy(update=changes)


def closed(
    worker: models.Worker, alert: models.Alert, reason: str, at: float, *, version: int, created_at: float
) -> tuple[models.Alert, models.Transition, models.Notification | None]:
    """End an alert without a datapoint: its state begins anew at ``at``, and who was told of it hears the reason.

    There is no notification where nobody was told that it fires.
    """
    when = math.floor(at)
    before = alert.notified_severity or alert.rule_state.severity
    transition = models.Transition(at=when, before=before, after=None, reason=reason)
    told = None
    if alert.notified_severity is not None:
        last = alert.last
        told = models.Notification(
            id=identity(worker, alert.rule, None, when),
            version=version,
            dedup_key=dedup_key(worker.id, alert.rule),
            kind=last.kind if last else "threshold",
            status="resolved",
            severity=alert.notified_severity,
            rule=alert.rule,
            metric=last.metric if last else None,
            value=None,
            threshold=last.threshold if last else None,
            since=models.rfc3339(when if alert.since is None else alert.since),
            at=models.rfc3339(when),
            created_at=models.rfc3339(created_at),
            worker=_subject(worker),
            summary=f"{worker.name}: {(last.metric if last else None) or alert.rule} resolved: {reason}",
            reason=reason,
        )
    after = models.Alert(
        rule=alert.rule,
        rule_state=models.RuleState(start=when),
        version=version if told else alert.version,
        last=told or alert.last,
    )
    return after, transition, told


def channels_for(alert: models.Alert, rule: models.Rule, severity: models.Severity) -> tuple[str, ...]:
    """Return the channels that are told of a severity; with ``routes`` those too that heard of another one before."""
    channels = rule.channels(severity)
    return channels if rule.routes is None else tuple(dict.fromkeys((*channels, *alert.channels)))


def channels_for_end(alert: models.Alert, rule: models.Rule | None) -> tuple[str, ...]:
    """Return the channels that are told that an alert is over: who heard of it, under a silence nobody else."""
    if alert.silenced_by is not None or alert.channels:
        return alert.channels
    return rule.notify if rule is not None and rule.routes is None else ()


def next_version(basis: ports.Basis | ports.AccountBasis, rule: str) -> int:
    """Return the version of an alert's next notification; it grows on when a worker is removed and added again."""
    alert = basis.alerts.get(rule)
    return max(alert.version if alert else 0, basis.last_versions.get(rule, 0)) + 1


def unsilenced(alert: models.Alert) -> str:
    """Say why people hear only now of an alert that was silenced."""
    return f"the silence {alert.silenced_by} is over, and it still fires"


def _subject(worker: models.Worker) -> models.Subject:
    return models.Subject(
        id=worker.id, name=worker.name, region=worker.region, account=worker.account, labels=worker.labels
    )
