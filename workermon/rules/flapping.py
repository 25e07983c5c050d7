"""When an alert flaps, so that its changes are not notified, and when it has been stable for long enough.

This is part of the fold: the result for a time depends on the changes up to then, never on the time of evaluation. An
alert begins to flap by firing, so it is open while it flaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workermon import models


class FlapStatus(NamedTuple):
    """Whether an alert flaps at a time, how often it changed within the relevant span, and when it last changed.

    ``settled_at`` is the time at which it stopped flapping, if it has not changed since.
    """

    flaps: bool
    transitions: int = 0
    last: int | None = None
    settled_at: int | None = None


STABLE = FlapStatus(flaps=False)


def after(flap_state: models.FlapState, change: models.SeverityChange, option: models.Flapping) -> models.FlapState:
    """Return the state after one more change; only firing and resolving count, not a change of severity."""
    fires = change.severity is not None
    if fires == flap_state.fires:
        return flap_state
    recent = tuple(at for at in flap_state.recent if at > change.at - option.within)
    # After so long without a change it stopped flapping.
    flaps = flap_state.flaps and bool(recent)
    recent = (*recent, change.at)[-option.turns :]
    return models.FlapState(fires=fires, recent=recent, flaps=flaps or (fires and len(recent) >= option.turns))


def settled(
    rule: models.Rule, flap_state: models.FlapState | None, changes: Iterable[models.SeverityChange]
) -> models.FlapState | None:
    """Return the state after these changes; ``None`` if the rule has no ``flapping``, or nothing is known yet."""
    if rule.flapping is None:
        return None
    for change in changes:
        flap_state = after(flap_state or models.FlapState(), change, rule.flapping)
    return flap_state


def among(
    rule: models.Rule, flap_state: models.FlapState | None, changes: Sequence[models.SeverityChange]
) -> frozenset[int]:
    """Return the times of those changes during which the alert flapped."""
    if rule.flapping is None:
        return frozenset()
    times, state = set(), flap_state or models.FlapState()
    for change in changes:
        state = after(state, change, rule.flapping)
        if state.flaps:
            times.add(change.at)
    return frozenset(times)


def status_at(rule: models.Rule, rule_state: models.RuleState, until: int | None) -> FlapStatus:
    """Return whether an alert flaps at ``until``, the time up to which the rule is evaluated."""
    option = rule.flapping
    state = settled(rule, rule_state.flap_state, rule_state.trail)
    if option is None or state is None or not state.recent or until is None:
        return STABLE
    last = state.recent[-1]
    settled_at = last + option.within
    if not state.flaps:
        return FlapStatus(False, sum(at > until - option.within for at in state.recent), last)
    if until >= settled_at:
        return FlapStatus(False, 0, last, settled_at)
    return FlapStatus(True, sum(at > last - option.within for at in state.recent), last)


def notifies(alert: models.Alert, severity: models.Severity | None) -> bool:
    """Return whether a severity of a flapping alert notifies: once that it flaps, and critical always."""
    if severity is None:
        return False
    return not alert.flapping_notified or (severity == "critical" and alert.notified_severity != "critical")
