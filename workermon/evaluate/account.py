"""Pure: when collection in an account and region counts as in trouble, and what is told and held back then.

Beside it, what is told of the budget: that metrics are asked less often for its sake, and that it is not kept.

One alert of the kind ``collector`` for the account and region says what would else be said once for each worker: its
workers' ``no-data`` alerts are judged and recorded as ever, but told only if they still hold when it is over.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from workermon import models, ports, rules
from workermon.alerts import message
from workermon.alerts import silences as silencing
from workermon.rules import wording

#: The name of the rule, which always holds.
RULE = "collector"

#: Intervals without a success, the shortest of that account and region, after which it fires.
INTERVALS = 3

#: Seconds. A collection is noted at the latest that long after it began (it ends with its task's time limit).
LONGEST = 100

#: Intervals of a worker that it has, once the alert is over, to be collected itself before its silence is told.
GRACE = 1.5

_LESS = "metrics are asked less often"


def judge(
    basis: ports.AccountBasis,
    configuration: models.Configuration,
    *,
    monitoring_since: float | None,
    now: float,
    silences: Sequence[models.Silence] = (),
) -> ports.AccountVerdict | None:
    """Return what has turned, ``None`` where nothing has.

    Under one of ``silences`` it is recorded and told nobody; what still holds when that is over is told then.

    It fires three intervals after the last success, or after the monitor's own start where that was later, and
    resolves with the next success. While the monitor's start is unknown it does not fire.
    """
    state = basis.state
    alert = basis.alerts.get(RULE) or models.Alert(rule=RULE)
    if state.failing_since is None or state.last_error is None:
        if not alert.open:
            return None
        ended = state.recovered_at or state.succeeded_at or now
        return _verdict(basis, alert, None, max(math.floor(ended), alert.since or 0), configuration, now)
    silence = silencing.muting(silences, None, RULE, now)
    if alert.open and alert.silenced_by is not None and silence is None and alert.last is not None:
        return _belated(basis, alert, configuration, now)
    # One failure says nothing, nor does one after which nobody collects there any more.
    lasts = state.at > state.failing_since and _is_fresh(state, now)
    if alert.open or monitoring_since is None or not lasts:
        return None
    at = math.ceil(max(state.failing_since - state.interval, monitoring_since) + INTERVALS * state.interval)
    return _verdict(basis, alert, "critical", at, configuration, now, silence=silence) if now > at else None


def _belated(
    basis: ports.AccountBasis, alert: models.Alert, configuration: models.Configuration, now: float
) -> ports.AccountVerdict:
    """Tell what nobody heard of while it was silenced; its id names the turn, so it is the same one."""
    assert alert.last is not None
    said = message.unsilenced(alert)
    version = message.next_version(basis, alert.rule)
    told = alert.last.model_copy(update={"version": version, "created_at": models.rfc3339(now)})
    transition = models.Transition(
        at=math.floor(now), before=alert.notified_severity, after=alert.notified_severity, reason=said
    )
    channels = _channels(configuration)
    heard = tuple(dict.fromkeys((*alert.channels, *channels)))
    changed = alert.model_copy(update={"version": version, "last": told, "channels": heard, "silenced_by": None})
    rule = alert.rule
    return ports.AccountVerdict(basis, {rule: changed}, ((rule, transition, told),), {rule: channels}, now)


def budget(
    basis: ports.AccountBasis,
    budget_decision: models.BudgetDecision,
    configuration: models.Configuration,
    *,
    now: float,
    silences: Sequence[models.Silence] = (),
) -> ports.AccountVerdict | None:
    """Return what has turned of the budget, ``None`` where nothing has; ``basis`` is that of ``models.EVERYWHERE``.

    It is a warning from when metrics are asked less often, critical from when that is not enough, and resolves when
    all are asked at their own periods again. Further steps to and fro are shown by ``status`` alone.
    """
    alert = basis.alerts.get(models.BUDGET) or models.Alert(rule=models.BUDGET)
    if not budget_decision.period_multipliers or budget_decision.budget is None:
        if not alert.open:
            return None
        ended = max(math.floor(budget_decision.since or now), alert.since or 0)
        summary = "budget: metrics are asked at their own periods again"
        return _made(basis, alert, None, ended, summary, None, summary, configuration, now)
    silence = silencing.muting(silences, None, models.BUDGET, now)
    if alert.open and alert.silenced_by is not None and silence is None and alert.last is not None:
        return _belated(basis, alert, configuration, now)
    over = budget_decision.projected > budget_decision.budget
    after: models.Severity = "critical" if over else "warning"
    if alert.notified_severity in ("critical", after):
        return None
    at = math.floor(budget_decision.at if alert.open else budget_decision.since or budget_decision.at)
    less = ", ".join(
        f"{name} each {factor} periods" for name, factor in sorted(budget_decision.period_multipliers.items())
    )
    said = f"${budget_decision.projected:.2f} are expected today, of ${budget_decision.budget:.2f}"
    summary = f"budget: {said} though metrics are asked less often" if over else f"budget: {_LESS} to keep to it"
    return _made(basis, alert, after, at, summary, f"{said}; {less}", summary, configuration, now, silence)


def closing(
    basis: ports.AccountBasis, configuration: models.Configuration, reason: str, now: float
) -> ports.AccountVerdict | None:
    """Return the verdict that ends an open alert with a reason, ``None`` where none is open."""
    alert = basis.alerts.get(RULE)
    if alert is None or not alert.open:
        return None
    return _verdict(basis, alert, None, max(math.floor(now), alert.since or 0), configuration, now, reason)


def held(basis: ports.AccountBasis | None, interval: int, now: float) -> str | None:
    """Return why the silence of a worker there is not told now, ``None`` where it is to be told.

    ``interval`` is the worker's, in seconds.
    """
    if basis is None:
        return None
    state = basis.state
    alert = basis.alerts.get(RULE)
    told = alert is not None and alert.open
    # Where nobody collects any more silence has another reason, which must not be kept quiet.
    if state.failing_since is not None and state.last_error is not None and (told or _is_fresh(state, now)):
        return f"held back: collection fails in all of {state.key} ({state.last_error.kind})"
    last = alert.last if alert else None
    if last is not None and last.status == "resolved" and now < models.moment(last.at) + GRACE * interval:
        return f"held back: collection in {state.key} has only just recovered"
    return None


def _is_fresh(state: models.AccountState, now: float) -> bool:
    """Tell whether collections go on there."""
    return now - state.at <= 2 * state.interval + LONGEST


def _verdict(
    basis: ports.AccountBasis,
    alert: models.Alert,
    after: models.Severity | None,
    at: int,
    configuration: models.Configuration,
    now: float,
    reason: str | None = None,
    silence: models.Silence | None = None,
) -> ports.AccountVerdict:
    state = basis.state
    if after:
        last_error = state.last_error
        said = f"no successful collection for {INTERVALS} intervals ({INTERVALS * state.interval} s)"
        why = wording.collection_error(last_error) if last_error else None
        said += f": {last_error.kind}" if last_error else ""
    else:
        why = reason
        said = f"collection resolved: {reason}" if reason else "collected again"
    summary = f"account {state.account} in {state.region}: {said}"
    return _made(basis, alert, after, at, summary, why, why or said, configuration, now, silence)


def _made(
    basis: ports.AccountBasis,
    alert: models.Alert,
    after: models.Severity | None,
    at: int,
    summary: str,
    why: str | None,
    recorded: str,
    configuration: models.Configuration,
    now: float,
    silence: models.Silence | None = None,
) -> ports.AccountVerdict:
    state, rule = basis.state, alert.rule
    version = message.next_version(basis, rule)
    since = alert.since if alert.open and alert.since is not None else at
    told = models.Notification(
        id=_identity(state.key, rule, after, at),
        version=version,
        dedup_key=message.dedup_key(state.key, rule),
        kind="collector",
        status="firing" if after else "resolved",
        severity=after or alert.notified_severity or "critical",
        rule=rule,
        metric=None,
        value=None,
        threshold=None,
        since=models.rfc3339(since),
        at=models.rfc3339(at),
        created_at=models.rfc3339(now),
        worker=None,
        scope={"account": state.account, "region": state.region},
        summary=summary,
        reason=why,
    )
    channels = () if silence is not None else _channels(configuration)
    if after:
        heard, untold = tuple(dict.fromkeys((*alert.channels, *channels))), silence.id if silence is not None else None
    elif alert.silenced_by is not None:
        heard, untold = alert.channels, None if alert.channels else alert.silenced_by
    else:
        heard, untold = alert.channels or channels, None
    transition = models.Transition(
        at=at, before=alert.notified_severity, after=after, reason=recorded, silenced_by=untold
    )
    changed = alert.model_copy(
        update={
            "version": version,
            "since": since if after else None,
            "notified_severity": after,
            "last": told,
            "channels": heard if after else (),
            "silenced_by": untold if after else None,
        }
    )
    return ports.AccountVerdict(basis, {rule: changed}, ((rule, transition, told),), {rule: heard}, now)


def _channels(configuration: models.Configuration) -> tuple[str, ...]:
    """Who hears of silence hears of this; without such a rule everybody who hears of anything does."""
    about = [rule for rule in configuration.rules if rules.KINDS[rule.kind].about_collection]
    chosen = about or list(configuration.rules)
    return tuple(dict.fromkeys(channel for rule in chosen for channel in rule.channels("critical"))) or ("log",)


def _identity(key: str, rule: str, state: models.Severity | None, at: int) -> str:
    text = "\n".join(("scope", key, rule, state or "ok", str(at)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
