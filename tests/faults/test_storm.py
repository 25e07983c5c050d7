"""A minute of all faults at once: everything notifies once, and no alert stays open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults import plain, roles, storm

pytestmark = pytest.mark.integration


def test_a_storm_loses_nothing_and_pages_nobody_twice(tmp_path: Path) -> None:
    """With 300 workers, and processes, Redis, AWS and receivers failing, the notifications are correct."""
    raged = storm.Storm(tmp_path, workers=300, seconds=60, seed=1)
    outcome = raged.run()
    sys.stdout.write("\n".join([*raged.strikes, *outcome.table]))
    assert outcome.well, outcome._replace(table=[])
    # Which of them strikes is drawn, from a seed that brings them all.
    struck = {strike.rpartition("  ")[2] for strike in raged.strikes}
    assert {"kill redis", "kill beat", "kill collect", "kill alerts"} <= struck
    assert {"freeze alerts", "freeze beat", "freeze redis"} <= struck
    assert raged.pager.mistreated > 10
    # Each kind of rule had an alert that no outage could hide, and both of those were acknowledged that could be.
    assert {
        roles.rule_of(expectation.episode.key) for expectation in raged.expected if expectation.must
    } == roles.COMPARED
    assert {key for key, _ in raged.on_call.acknowledged} == raged.roles.acknowledged


def test_the_truth_is_read_off_the_trace() -> None:
    """Three in a row above fire at the third, two in a row below clear at the second, two above do nothing."""
    values = [10, 95, 95, 10, 91, 92, 93, 90, 94, 90, 80, 95, 10]
    (episode,) = plain.truth("key", [(2 * place, value) for place, value in enumerate(values)])
    assert episode == plain.Episode("key", 12, 20)


def test_the_truth_of_groups_and_of_rules_about_rules() -> None:
    """Members count while they fire, ``when`` needs both rules, and an inhibited alert begins after the other."""
    first, second, third = (plain.Episode("m", *span) for span in ((0, 20), (10, 30), (12, 14)))
    assert plain.counted("g", ([first], [second], [third]), 2) == [plain.Episode("g", 10, 20)]
    assert plain.overlap("w", [first], [second]) == [plain.Episode("w", 10, 20)]
    assert plain.overlap("w", [first], []) == []
    inhibited = plain.uninhibited([plain.Episode("i", 0, 30), plain.Episode("i", 40, 50)], [first])
    assert list(inhibited.values()) == [20, 40]
    assert plain.uninhibited([first], [first]) == {first: None}


def test_the_truth_of_values_of_groups() -> None:
    """The plain loop computes each slot's mean, and a value's distance from the median in scaled MADs."""
    traces = [[(0, value)] for value in (10.0, 11.0, 12.0, 13.0, 42.0)]
    assert plain.mean(traces) == [(0, 17.6)]
    [(_, far)], [(_, at_median)] = plain.distances(traces[4], traces), plain.distances(traces[2], traces)
    assert far == pytest.approx(30 / 1.4826)
    assert at_median == 0
