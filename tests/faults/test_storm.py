"""A minute of everything going wrong at once: what has to be notified is notified, once, and nothing stays open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults import storm

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_storm_loses_nothing_and_pages_nobody_twice(tmp_path: Path) -> None:
    """300 workers, every kind of process killed, frozen, without Redis, AWS or receiver: told is what is true."""
    raged = storm.Storm(tmp_path, workers=300, seconds=60, seed=1)
    outcome = raged.run()
    sys.stdout.write("\n".join([*raged.done, *outcome.table]))
    assert outcome.well, outcome._replace(table=[])
    # Which of them strikes is drawn, from a seed that brings them all.
    struck = {each.rpartition("  ")[2] for each in raged.done}
    assert {"kill redis", "kill beat", "kill collect", "kill alerts"} <= struck
    assert {"freeze alerts", "freeze beat", "freeze redis"} <= struck
    assert raged.pager.mistreated > 10
    assert any(each.long for each in raged.episodes)


def test_the_truth_is_read_off_the_trace() -> None:
    """Three in a row above fire at the third; two in a row not above clear at the second; two above are nothing."""
    values = [10, 95, 95, 10, 91, 92, 93, 90, 94, 90, 80, 95, 10]
    (episode,) = storm.truth("key", [(2 * place, value) for place, value in enumerate(values)])
    assert episode == storm.Episode("key", 12, 20)
