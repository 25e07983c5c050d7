"""Pure: the episode of an alert: since when it fires, and since when its condition holds."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import models


def times(
    alert: models.Alert, rule_state: models.RuleState, transitions: Sequence[models.Transition]
) -> dict[str, int | None]:
    """Return the fields of an alert for the start of the present episode and of its condition."""
    since = _since(alert, rule_state, transitions)
    if since is None:
        return {"since": None, "condition_since": None}
    began = [
        transition.condition_since
        for transition in transitions
        if transition.before is None and transition.after and transition.at == since
    ]
    starts = [*began, alert.condition_since if alert.since == since else None]
    return {"since": since, "condition_since": next((at for at in starts if at is not None), since)}


def _since(alert: models.Alert, rule_state: models.RuleState, transitions: Sequence[models.Transition]) -> int | None:
    """Return when the present episode began; ``None`` if there is none."""
    if rule_state.severity is None:
        return None
    for place in range(len(rule_state.trail) - 1, -1, -1):
        if rule_state.trail[place].severity is None:
            return rule_state.trail[place + 1].at
    began = [transition.at for transition in transitions if transition.before is None and transition.after is not None]
    if began:
        return max(began)
    return rule_state.trail[0].at if alert.since is None else alert.since
