"""Pure: the life of the alert about the delivery to a channel."""

from __future__ import annotations

import math

from workermon import errors, models, ports
from workermon.alerts import builtin_rules, lifecycle, verdict

#: Characters of an error that an alert repeats.
MAX_CAUSE = 300


def gave_up(
    builder: verdict.VerdictBuilder,
    configuration: models.Configuration,
    claimed: models.ClaimedNotification,
    error: errors.WorkermonError,
) -> None:
    """Fire, because a notification was given up. No effect if the alert already fires."""
    transition = None
    if _alert(builder).rule_state.severity is None:
        transition = models.Transition(
            at=math.floor(builder.at),
            before=None,
            after="critical",
            reason=f"given up: {claimed.notification.summary}",
            cause=str(error)[:MAX_CAUSE],
            key=models.rfc3339(builder.at),
        )
    _apply(builder, configuration, transition)


def accepted(builder: verdict.VerdictBuilder, configuration: models.Configuration) -> None:
    """Resolve, because the channel accepted a notification. No effect if the alert does not fire."""
    alert = _alert(builder)
    if alert.rule_state.severity is None:
        return
    transition = models.Transition(
        at=max(math.floor(builder.at), alert.since or 0),
        before=alert.rule_state.severity,
        after=None,
        reason="it delivers again",
        key=models.rfc3339(builder.at),
    )
    _apply(builder, configuration, transition)


def review(
    builder: verdict.VerdictBuilder, configuration: models.Configuration, failing: ports.FailingChannel | None
) -> None:
    """Review the alert: the channel may have been removed, or the silence that muted the alert may have ended.

    It fires if the channel has accepted nothing for too long; ``failing`` has the details, otherwise ``None``.
    """
    alert = _alert(builder)
    if _channel(builder) in configuration.channels:
        fires = failing is not None and alert.rule_state.severity is None
        _apply(builder, configuration, _dead(builder.at, failing) if fires and failing is not None else None)
    elif alert.open:
        lifecycle.resolve(builder, alert, _rule(builder, configuration), "the channel was removed", builder.at)


def _dead(at: float, failing: ports.FailingChannel) -> models.Transition:
    return models.Transition(
        at=math.floor(at),
        before=None,
        after="critical",
        reason=f"it has accepted nothing since {models.rfc3339(math.floor(failing.since))}",
        cause=failing.error[:MAX_CAUSE],
        key=models.rfc3339(at),
    )


def _channel(builder: verdict.VerdictBuilder) -> str:
    return models.channel_of(builder.basis.subject.id)


def _rule(builder: verdict.VerdictBuilder, configuration: models.Configuration) -> models.Rule:
    return builtin_rules.delivery(configuration, _channel(builder))


def _alert(builder: verdict.VerdictBuilder) -> models.Alert:
    return builder.basis.alert(models.DELIVERY)


def _apply(
    builder: verdict.VerdictBuilder,
    configuration: models.Configuration,
    transition: models.Transition | None = None,
) -> None:
    lifecycle.apply_present(builder, _rule(builder, configuration), _alert(builder), transition)
