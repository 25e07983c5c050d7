"""Work that can wait begins when few collections are due."""

from __future__ import annotations

import math

import hypothesis
import pytest
from hypothesis import strategies

from workermon import collect, testing
from workermon.collect import quiet_time
from workermon.pipeline import reconciling

GROUP = "default/us-east-1/60"
#: On a whole minute.
T0 = 1_700_002_800.0


def burst(number: int, begin: float, apart: float, group: str = GROUP) -> dict[str, float]:
    """Return the phases of a group's cohorts, one after the other."""
    interval = int(group.rpartition("/")[2])
    return {f"{group}#{place}": (begin + place * apart) % interval for place in range(number)}


@pytest.mark.parametrize(
    ("second", "waits"),
    [(0.0, 36.0), (12.0, 24.0), (25.9, 10.1), (36.0, 0.0), (45.9, 0.0), (46.1, 49.9), (59.0, 37.0)],
)
def test_it_begins_when_the_last_cohorts_have_been_collected(second: float, waits: float) -> None:
    """A burst from second 6 to 26 leaves 40 s. Work begins in their second quarter, or waits for the next minute's."""
    assert quiet_time.wait_for_gap(burst(201, 6.0, 0.1), T0 + second) == pytest.approx(waits, abs=0.01)


def test_the_free_time_may_begin_in_one_minute_and_end_in_the_next() -> None:
    """A burst around the end of a minute leaves the middle of it."""
    phases = burst(21, 50.0, 1.0)
    assert quiet_time.wait_for_gap(phases, T0) == pytest.approx(20.0)
    assert quiet_time.wait_for_gap(phases, T0 + 20) == 0.0


def test_cohorts_with_other_intervals_count_as_often_as_they_are_due() -> None:
    """One each 20 s leaves no more than 20 s, wherever the others are. One each five minutes counts then."""
    assert quiet_time.wait_for_gap(burst(1, 0.0, 0.0, "lab/us-east-1/20"), T0) == pytest.approx(5.0)
    hourly = burst(1, 30.0, 0.0, "lab/us-east-1/300") | burst(1, 0.0, 0.0)
    slot = math.ceil(T0 / 300) * 300.0
    assert quiet_time.wait_for_gap(hourly, slot + 20) == pytest.approx(17.5)
    assert quiet_time.wait_for_gap(hourly, slot + 80) == 0.0


@pytest.mark.parametrize("phases", [{}, {"strange": 3.0}, {"default/us-east-1/x#1": 3.0}])
def test_nothing_is_put_off_where_no_cohort_has_a_place(phases: dict[str, float]) -> None:
    """A new fleet, and names that are no cohort's, make nobody wait."""
    assert quiet_time.wait_for_gap(phases, T0) == 0.0


@hypothesis.given(
    phases=strategies.dictionaries(
        strategies.builds(
            "default/us-east-1/{}#{}".format, strategies.sampled_from([1, 10, 60, 90, 300]), strategies.integers(0, 9)
        ),
        strategies.floats(0, 59, allow_nan=False),
    ),
    now=strategies.floats(T0, T0 + 600),
)
def test_the_wait_is_bounded(phases: dict[str, float], now: float) -> None:
    """Whatever the schedule is, work waits for less than a minute."""
    assert 0.0 <= quiet_time.wait_for_gap(phases, now) < quiet_time.PERIOD


def test_the_listener_reconciles_in_the_free_time_after_five_minutes() -> None:
    """It waits for the burst's end once, and then every five minutes finds itself there."""
    monitor = testing.Monitor(now=T0)
    monitor.cohorts.place(burst(201, 6.0, 0.1))
    reconciliations = reconciling.Reconciling(monitor.dispatcher, monitor.get(collect.QuietTime), began=0.0)
    begun = []
    for second in range(1_600):
        before = monitor.dispatcher.reconciliations
        reconciliations.check(float(second))
        if monitor.dispatcher.reconciliations > before:
            begun.append(second)
        monitor.clock.advance(1)
    assert begun == [336, 636, 936, 1236, 1536]


def test_the_listener_reconciles_at_once_without_placed_cohorts() -> None:
    """A fleet whose cohorts have no places yet is compared every five minutes."""
    monitor = testing.Monitor(now=T0)
    reconciliations = reconciling.Reconciling(monitor.dispatcher, monitor.get(collect.QuietTime), began=0.0)
    for second in range(301):
        assert monitor.dispatcher.reconciliations == 0
        reconciliations.check(float(second))
    assert monitor.dispatcher.reconciliations == 1
