"""The kind ``no-data``: since when silence counts, and when it fires and resolves."""

from __future__ import annotations

from typing import Any

import pytest

from workermon import models
from workermon.models import RuleState
from workermon.rules import Facts, no_data

QUIET = no_data.KIND.rule(name="no-data", intervals=3)


def silence(state: RuleState, now: float, **more_facts: float | None) -> tuple[RuleState, list[tuple[int, str | None]]]:
    """Evaluate a worker of 60 s that was added at 1,000 and is monitored since 0, with overridden facts."""
    condition = models.Condition(succeeded_at=more_facts.pop("succeeded_at", None))
    facts: dict[str, Any] = {"condition": condition, "added_at": 1000.0, "monitoring_since": 0.0, **more_facts}
    state, transitions = no_data.KIND.judge(QUIET, state, Facts(at=now, interval=60, **facts), None)
    return state, [(transition.at, transition.after) for transition in transitions]


def test_it_fires_at_its_own_time() -> None:
    """It fires with the time at which three intervals are over, however late it is evaluated."""
    assert silence(RuleState(), 1180)[1] == []
    assert silence(RuleState(), 1181)[1] == silence(RuleState(), 99_000)[1] == [(1180, "critical")]


@pytest.mark.parametrize(
    ("facts", "at"),
    [({"succeeded_at": 2000.0}, 2180), ({"succeeded_at": 2000.5}, 2181), ({"monitoring_since": 5000.0}, 5180)],
    ids=["the last success", "a part of a second", "the monitor's own start"],
)
def test_when_silence_begins(facts: dict[str, float], at: int) -> None:
    """Silence counts from the latest of last success, addition and the monitor's own start."""
    assert silence(RuleState(), at, **facts)[1] == []
    assert silence(RuleState(), at + 0.1, **facts)[1] == [(at, "critical")]


def test_it_waits_for_the_monitor() -> None:
    """While the monitor's start is unknown nothing fires."""
    assert silence(RuleState(), 99_000, monitoring_since=None)[1] == []


def test_it_resolves_with_the_next_success() -> None:
    """It resolves at the time of the next success, and not at a restart of the monitor."""
    state, _ = silence(RuleState(), 1500)
    state, changes = silence(state, 1600, monitoring_since=1550.0)
    assert (changes, state.severity) == ([], "critical")
    state, changes = silence(state, 1700, succeeded_at=1650.2)
    assert (changes, state.severity) == ([(1650, None)], None)
    assert silence(state, 1700, succeeded_at=1650.2)[1] == []


def test_two_changes_between_evaluations() -> None:
    """A success and a new silence between two evaluations are both recorded, with their own times."""
    state, _ = silence(RuleState(), 1500)
    _, changes = silence(state, 9000, succeeded_at=2000.0)
    assert changes == [(2000, None), (2180, "critical")]
