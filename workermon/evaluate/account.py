"""Pure: evaluates whether anything can be collected in an account and region.

One alert about the account and region replaces one for each worker. Its workers' alerts about missing data are
evaluated and recorded as usual, but notify only if they still fire when the account's alert has resolved.
"""

from __future__ import annotations

import math

from workermon import models, ports
from workermon.alerts import builtin_rules, lifecycle, verdict
from workermon.rules import wording

#: Seconds. A collection is recorded at the latest so long after it began (it ends with its task's time limit).
MAX_COLLECTION = 100

#: Intervals within which a worker has to be collected after the alert resolved, before its missing data notifies.
GRACE = 1.5


def judge(
    builder: verdict.VerdictBuilder,
    state: models.AccountState,
    configuration: models.Configuration,
    monitoring_since: float | None,
) -> None:
    """Evaluate an account and region.

    The alert fires three intervals after the last success, or after the monitor's own start if that was later. It
    resolves with the next success. While the monitor's start is unknown it does not fire.
    """
    alert = builder.basis.alert(builtin_rules.COLLECTOR)
    transition = _transition(state, alert, monitoring_since, builder.at)
    if transition is None and alert.rule_state.severity is None:
        return
    lifecycle.apply_present(builder, builtin_rules.collector(configuration, builder.kinds), alert, transition)


def held_back(basis: ports.Basis[models.AccountState] | None, interval: int, now: float) -> str | None:
    """Return why a worker's missing data does not notify now; ``None`` if it does.

    ``basis`` is that of its account and region, ``interval`` is the worker's, in seconds.
    """
    if basis is None:
        return None
    state = basis.record
    alert = basis.alerts.get(builtin_rules.COLLECTOR)
    fires = alert is not None and alert.open
    # If nobody collects there any more, data is missing for another reason, which has to notify.
    if state.failing_since is not None and state.last_error is not None and (fires or _is_fresh(state, now)):
        return f"held back: collection fails in all of {state.key} ({state.last_error.kind})"
    last = alert.last if alert else None
    resolved_at = models.moment(last.at) if last is not None and last.status == "resolved" else None
    if resolved_at is not None and now < resolved_at + GRACE * interval and not models.leads(resolved_at, now):
        return f"held back: collection in {state.key} has only just recovered"
    return None


def _transition(
    state: models.AccountState, alert: models.Alert, monitoring_since: float | None, now: float
) -> models.Transition | None:
    """Return the changes; ``None`` if there are none."""
    severity, failing_since, last_error = alert.rule_state.severity, state.failing_since, state.last_error
    if failing_since is None or last_error is None:
        if severity is None:
            return None
        recovered_at = min(state.recovered_at or state.succeeded_at or now, now)
        at = max(math.floor(recovered_at), alert.since or 0)
        return models.Transition(at=at, before=severity, after=None, reason=_recovered_reason(state.key))
    # A single failure is no proof, nor is one after which nobody collects there any more.
    lasts = state.at > failing_since and _is_fresh(state, now)
    if severity is not None or monitoring_since is None or not lasts:
        return None
    intervals = builtin_rules.COLLECTOR_INTERVALS
    patience = intervals * state.interval
    began = max(failing_since - state.interval, monitoring_since)
    at = math.ceil(began + patience)
    if now <= at:
        return None
    return models.Transition(
        at=at,
        before=None,
        after="critical",
        reason=f"{_failing(state.key, intervals)} ({patience} s): {last_error.kind}",
        cause=wording.collection_error(last_error),
        condition_since=math.floor(began),
    )


def _recovered_reason(key: str) -> str:
    if models.queue_of(key) is not None:
        return "the event queue is read again"
    return "collected again" if models.searched_of(key) is None else "[discover] searches there again"


def _failing(key: str, intervals: int) -> str:
    queue = models.queue_of(key)
    if models.searched_of(key) is not None:
        return "[discover] cannot search there, so new instances are not found"
    if queue is None:
        return f"no successful collection for {intervals} intervals"
    return f"the event queue {queue} cannot be read, so changes are seen later, by the next collection"


def _is_fresh(state: models.AccountState, now: float) -> bool:
    """Return whether collections continue there."""
    return now - state.at <= 2 * state.interval + MAX_COLLECTION
