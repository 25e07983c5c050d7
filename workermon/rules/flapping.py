"""Pure: when an alert flaps, so that its turns are damped, and when it has held still again.

It is part of the fold: what is said of a time depends on the turns up to then, never on when somebody looked. An alert
begins to flap by firing, so that it is open while it flaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workermon import models


class Stand(NamedTuple):
    """How it stands with an alert: whether it flaps, its turns within the time looked at, the last of them.

    ``still`` is the time at which it had held still, where it flapped and has not turned since.
    """

    flaps: bool
    turns: int = 0
    last: int | None = None
    still: int | None = None


CALM = Stand(flaps=False)


def after(damping: models.FlapState, turn: models.SeverityChange, option: models.Flapping) -> models.FlapState:
    """Return the state after one more turn; a change of severity alone is none."""
    fires = turn.severity is not None
    if fires == damping.fires:
        return damping
    recent = tuple(at for at in damping.recent if at > turn.at - option.within)
    # Without a turn for that long it has held still.
    flaps = damping.flaps and bool(recent)
    recent = (*recent, turn.at)[-option.turns :]
    return models.FlapState(fires=fires, recent=recent, flaps=flaps or (fires and len(recent) >= option.turns))


def settled(
    rule: models.Rule, damping: models.FlapState | None, turns: Iterable[models.SeverityChange]
) -> models.FlapState | None:
    """Return the state after these turns; ``None`` where the rule damps nothing or nothing is known yet."""
    if rule.flapping is None:
        return None
    for turn in turns:
        damping = after(damping or models.FlapState(), turn, rule.flapping)
    return damping


def among(
    rule: models.Rule, damping: models.FlapState | None, turns: Sequence[models.SeverityChange]
) -> frozenset[int]:
    """Return the times of those turns during which the alert flapped."""
    found = []
    if rule.flapping is not None:
        state = damping or models.FlapState()
        for turn in turns:
            state = after(state, turn, rule.flapping)
            if state.flaps:
                found.append(turn.at)
    return frozenset(found)


def stand(rule: models.Rule, rule_state: models.RuleState, until: int | None) -> Stand:
    """Return how it stands at ``until``, the time up to which the rule is judged."""
    option = rule.flapping
    state = settled(rule, rule_state.damping, rule_state.trail)
    if option is None or state is None or not state.recent or until is None:
        return CALM
    last = state.recent[-1]
    still = last + option.within
    if not state.flaps:
        return Stand(False, sum(at > until - option.within for at in state.recent), last)
    if until >= still:
        return Stand(False, 0, last, still)
    return Stand(True, sum(at > last - option.within for at in state.recent), last)


def is_told(told: models.Alert, severity: models.Severity | None) -> bool:
    """Tell whether people hear of a severity of an alert that flaps: once that it flaps, and of critical always."""
    if severity is None:
        return False
    return not told.flapping_told or (severity == "critical" and told.notified_severity != "critical")
